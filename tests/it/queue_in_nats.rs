//! The tests of asynchronous calls once more, with their queue in NATS: both queues
//! have to pass the same ones. And what only a queue that is shared can do.
//!
//! A gateway knows that it belongs here by the name of its test's thread, as in
//! [`crate::base_lane`].

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use serde_json::json;

use crate::support::{Gateway, Upstream, eventually, gateway::Setup, nats::Nats, runs_in, upstream::text};

#[path = "async_calls.rs"]
mod async_calls;

use async_calls::{QUICK, Receiver, becomes, call, kept, told};

/// Whether the test that runs on this thread has its queue in NATS.
pub(crate) fn is_wanted() -> bool {
    runs_in(&format!("{}::async_calls", module_path!()))
}

/// A function that counts the calls of each id.
struct Counting {
    upstream: Upstream,
    runs: Arc<Mutex<HashMap<String, usize>>>,
}

impl Counting {
    async fn start(pause: Duration) -> Self {
        let runs = Arc::<Mutex<HashMap<String, usize>>>::default();
        let seen = Arc::clone(&runs);
        let upstream = Upstream::start().await.function("f", move |request| {
            let id = request.headers()["x-call-id"].to_str().expect("text").to_owned();
            *seen.lock().expect("no panic").entry(id).or_default() += 1;
            async move {
                tokio::time::sleep(pause).await;
                text(200, "done")
            }
        });
        Self { upstream, runs }
    }

    /// How often this call was made.
    fn of(&self, id: &str) -> usize {
        self.runs.lock().expect("no panic").get(id).copied().unwrap_or_default()
    }

    fn setup(&self, nats: &Nats, more: &str) -> Setup {
        let port = nats.port();
        let config = format!("{QUICK}nats_address = \"127.0.0.1\"\nnats_port = {port}\n{more}");
        Gateway::before(&self.upstream.url()).config(&config)
    }
}

/// Keeps a call as soon as that can be; its id.
async fn taken(gateway: &Gateway) -> String {
    eventually("202", || async {
        let answer = call(gateway, "f", &[], "").await;
        let id = answer.headers().get("x-call-id")?.to_str().ok()?.to_owned();
        (answer.status() == 202).then_some(id)
    })
    .await
}

#[tokio::test]
async fn gateways_share_the_work_and_know_of_each_other_s_calls() {
    let nats = Nats::start().await;
    let function = Counting::start(Duration::from_millis(5)).await;
    let setup = || function.setup(&nats, "function_concurrency = 2\n");
    let (one, two, three) = tokio::join!(setup().start(), setup().start(), setup().start());
    let gateways = [one, two, three];
    let ids = join_all((0..150).map(|number| kept(&gateways[number % 3], "f", &[], "body"))).await;
    for (number, id) in ids.iter().enumerate() {
        becomes(&gateways[(number + 1) % 3], id, "succeeded").await;
        assert_eq!(function.of(id), 1);
    }
    for gateway in &gateways {
        let made = gateway.metric(r#"gateway_async_calls_total{state="succeeded"}"#).await;
        assert!(made.is_some_and(|made| made >= 10.0), "{made:?} of 150");
    }
}

#[tokio::test]
async fn another_gateway_makes_the_calls_of_one_that_was_killed() {
    let nats = Nats::start().await;
    let function = Counting::start(Duration::from_millis(300)).await;
    let setup = || function.setup(&nats, "ack_wait = \"1s\"\n");
    let mut first = setup().start().await;
    let second = setup().start().await;
    let ids = join_all((0..10).map(|_| kept(&first, "f", &[], ""))).await;
    becomes(&second, &ids[0], "running").await;
    first.signal(nix::sys::signal::Signal::SIGKILL);
    first.ended().await;
    for id in &ids {
        becomes(&second, id, "succeeded").await;
    }
}

#[tokio::test]
async fn a_call_longer_than_the_lease_is_made_once() {
    let nats = Nats::start().await;
    let function = Counting::start(Duration::from_secs(4)).await;
    let setup = || function.setup(&nats, "ack_wait = \"1s\"\n");
    let (one, two) = tokio::join!(setup().start(), setup().start());
    let id = kept(&one, "f", &[], "").await;
    becomes(&two, &id, "succeeded").await;
    assert_eq!(function.of(&id), 1);
}

#[tokio::test]
async fn nothing_is_lost_when_nats_is_killed_and_comes_back() {
    let mut nats = Nats::start().await;
    let function = Counting::start(Duration::from_millis(20)).await;
    let gateway = function.setup(&nats, "ack_wait = \"2s\"\n").start().await;
    let mut ids = join_all((0..100).map(|_| kept(&gateway, "f", &[], "body"))).await;
    nats.kill().await;
    eventually("503", || async {
        let answer = call(&gateway, "f", &[], "").await;
        (answer.status() == 503 && answer.headers().contains_key("retry-after")).then_some(())
    })
    .await;
    nats.restart().await;
    ids.push(taken(&gateway).await);
    for id in &ids {
        becomes(&gateway, id, "succeeded").await;
        assert!(function.of(id) >= 1);
    }
    for name in ["gateway_nats_reconnect_total", "queue_worker_nats_reconnect_total"] {
        let again = gateway.metric(name).await;
        assert!(again.is_some_and(|again| again >= 1.0), "{name}: {again:?}");
    }
}

#[tokio::test]
async fn one_line_for_all_keeps_the_order() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let note = |name: &'static str| {
        let order = Arc::clone(&order);
        move |_| {
            order.lock().expect("no panic").push(name);
            async { text(200, "done") }
        }
    };
    let upstream = Upstream::start()
        .await
        .function("a", note("a"))
        .function("b", note("b"));
    let nats = Nats::start().await;
    let port = nats.port();
    let gateway = Gateway::before(&upstream.url())
        .config(&format!(
            "{QUICK}nats_address = \"127.0.0.1\"\nnats_port = {port}\nnats_order = \"shared\"\nconcurrency = 1\n"
        ))
        .start()
        .await;
    let mut last = String::new();
    for name in ["a", "a", "b", "a", "b", "b"] {
        last = kept(&gateway, name, &[("x-delay", "500ms")], "").await;
    }
    becomes(&gateway, &last, "succeeded").await;
    assert_eq!(*order.lock().expect("no panic"), ["a", "a", "b", "a", "b", "b"]);
}

#[tokio::test]
async fn bodies_and_answers_larger_than_messages_are_kept_whole() {
    let upstream = Upstream::start().await.function("f", |request| async {
        let body = http_body_util::BodyExt::collect(request.into_body())
            .await
            .expect("a body");
        let body = body.to_bytes();
        text(if body.len() == 3_000_000 { 200 } else { 422 }, &"y".repeat(2_000_000))
    });
    let nats = Nats::start().await;
    let port = nats.port();
    let gateway = Gateway::before(&upstream.url())
        .config(&format!(
            "{QUICK}nats_address = \"127.0.0.1\"\nnats_port = {port}\nmax_body = \"4MiB\"\nmax_result = \"4MiB\"\n"
        ))
        .start()
        .await;
    let id = kept(&gateway, "f", &[], &"x".repeat(3_000_000)).await;
    let told = becomes(&gateway, &id, "succeeded").await;
    let body = told.result.and_then(|result| result.body).expect("text");
    assert_eq!(body.len(), 2_000_000);
}

/// The server's streams, as somebody else sees them.
async fn streams(nats: &Nats) -> async_nats::jetstream::Context {
    let client = async_nats::connect(format!("127.0.0.1:{}", nats.port())).await;
    async_nats::jetstream::new(client.expect("connected"))
}

/// Messages in a stream.
async fn messages(context: &async_nats::jetstream::Context, stream: &str) -> u64 {
    let stream = context.get_stream(stream).await.expect("the stream");
    stream.get_info().await.expect("its info").state.messages
}

const BODIES: &str = "OF_faas-request_bodies";

#[tokio::test]
async fn a_call_whose_body_is_gone_ends_and_says_why() {
    let nats = Nats::start().await;
    let (function, receiver) = (Counting::start(Duration::ZERO).await, Receiver::start().await);
    let more = |role: &str| format!("max_body = \"4MiB\"\n[server]\nrole = \"{role}\"\n");
    let taking = function.setup(&nats, &more("gateway")).start().await;
    let callback = receiver.url();
    let headers = [("x-callback-url", callback.as_str())];
    let body = "x".repeat(2_000_000);
    let deleted = kept(&taking, "f", &headers, &body).await;
    let cut = kept(&taking, "f", &[], &body).await;
    let whole = kept(&taking, "f", &[], &body).await;
    let small = kept(&taking, "f", &[], "x").await;

    let context = streams(&nats).await;
    let bodies = context.get_object_store(BODIES).await.expect("the store");
    let object = |id: &str| format!("body.{id}");
    bodies.delete(object(&deleted)).await.expect("deleted");
    let info = bodies.info(object(&cut)).await.expect("the object");
    let store = context.get_stream(format!("OBJ_{BODIES}")).await.expect("the stream");
    let parts = format!("$O.{BODIES}.C.{}", info.nuid);
    store.purge().filter(parts).await.expect("its parts removed");

    let making = function.setup(&nats, &more("worker")).start().await;
    for id in [&small, &whole] {
        becomes(&taking, id, "succeeded").await;
    }
    for id in [&deleted, &cut] {
        let told = becomes(&taking, id, "failed").await;
        let error = told.attempts[0].error.as_deref().expect("a reason");
        assert!(error.contains("is gone") && error.contains(BODIES), "{error}");
        assert_eq!((told.attempts.len(), function.of(id)), (1, 0));
    }
    let (told, _) = receiver.next().await;
    assert_eq!(told["x-call-id"], *deleted);
    assert_eq!(told["x-function-status"], "503");
    let failed = making.metric(r#"gateway_async_calls_total{state="failed"}"#).await;
    assert_eq!(failed, Some(2.0));
    let (status, text) = taking
        .send(
            http::Method::POST,
            &format!("/system/async/{deleted}/redrive"),
            &json!({}),
        )
        .await;
    assert!(status == 409 && text.contains(BODIES), "{status} {text}");
}

#[tokio::test]
async fn nothing_of_a_large_body_stays_when_its_call_was_made() {
    let nats = Nats::start().await;
    let function = Counting::start(Duration::ZERO).await;
    let gateway = function.setup(&nats, "max_body = \"4MiB\"\n").start().await;
    let id = kept(&gateway, "f", &[("x-delay", "500ms")], &"x".repeat(2_000_000)).await;
    let context = streams(&nats).await;
    let work = context.get_stream("OF_faas-request").await.expect("the stream");
    let message = work.get_last_raw_message_by_subject("faas-request.>").await;
    let message = message.expect("the call's message");
    becomes(&gateway, &id, "succeeded").await;
    let store = format!("OBJ_{BODIES}");
    eventually("an empty store", || async {
        (messages(&context, &store).await == 0).then_some(())
    })
    .await;

    // As when the gateway ended before it could acknowledge the message.
    let mut headers = async_nats::HeaderMap::new();
    for (name, values) in message
        .headers
        .iter()
        .filter(|(name, _)| name.to_string().starts_with("Faas-"))
    {
        headers.insert(name.clone(), values[0].clone());
    }
    let sent = context
        .publish_with_headers(message.subject, headers, message.payload)
        .await;
    sent.expect("sent").await.expect("kept");
    // A call that is taken from the same line.
    let next = kept(&gateway, "f", &[], "").await;
    becomes(&gateway, &next, "succeeded").await;
    eventually("no message", || async {
        (messages(&context, "OF_faas-request").await == 0).then_some(())
    })
    .await;
    assert_eq!(function.of(&id), 1);
}

/// Sends a message to a subject, as somebody else.
async fn sent(nats: &Nats, subject: &'static str, payload: String) {
    let client = async_nats::connect(format!("127.0.0.1:{}", nats.port()))
        .await
        .expect("connected");
    client.publish(subject, payload.into()).await.expect("sent");
    client.flush().await.expect("sent");
}

/// A call as OpenFaaS writes it down.
fn theirs() -> String {
    json!({
        "Header": { "X-Call-Id": ["theirs"], "Content-Type": ["text/plain"] }, "Host": "gateway", "Body": "aGk=",
        "Method": "POST", "Path": "/", "QueryString": "", "Function": "f", "QueueName": "", "CallbackUrl": null,
    })
    .to_string()
}

/// Waits until their call is known and was made.
async fn theirs_is_made(gateway: &Gateway, function: &Counting) {
    eventually("the call", || async {
        let answer = gateway.get("/system/async/theirs").send().await.expect("an answer");
        (answer.status() == 200).then_some(())
    })
    .await;
    becomes(gateway, "theirs", "succeeded").await;
    assert_eq!(function.of("theirs"), 1);
}

#[tokio::test]
async fn calls_that_others_send_are_made() {
    let nats = Nats::start().await;
    let function = Counting::start(Duration::ZERO).await;
    let gateway = function.setup(&nats, "").start().await;
    sent(&nats, "faas-request", theirs()).await;
    sent(&nats, "faas-request", "nothing".to_owned()).await;
    theirs_is_made(&gateway, &function).await;
}

#[tokio::test]
async fn a_call_whose_gateway_ended_before_it_wrote_the_record_is_made() {
    let nats = Nats::start().await;
    let function = Counting::start(Duration::ZERO).await;
    let mut gateway = function.setup(&nats, "").start().await;
    gateway.signal(nix::sys::signal::Signal::SIGKILL);
    gateway.ended().await;
    sent(&nats, "faas-request.=.f", theirs()).await;
    let gateway = function.setup(&nats, "").start().await;
    theirs_is_made(&gateway, &function).await;
}

#[tokio::test]
async fn a_gateway_starts_without_nats_and_uses_it_once_it_is_there() {
    let mut nats = Nats::start().await;
    nats.kill().await;
    let function = Counting::start(Duration::ZERO).await;
    let gateway = function.setup(&nats, "").start().await;
    let answer = call(&gateway, "f", &[], "").await;
    assert_eq!(answer.status(), 503);
    nats.restart().await;
    let id = taken(&gateway).await;
    becomes(&gateway, &id, "succeeded").await;
    let result = told(&gateway, &id).await.result.expect("a result");
    assert_eq!(result.body.as_deref(), Some("done"));
}

#[tokio::test]
async fn a_server_that_wants_a_password_gets_it() {
    let nats = Nats::with(&["--user", "gateway", "--pass", "secret"].map(str::to_owned)).await;
    let function = Counting::start(Duration::ZERO).await;
    let gateway = function
        .setup(&nats, "nats_user = \"gateway\"\nnats_password = \"secret\"\n")
        .start()
        .await;
    let id = kept(&gateway, "f", &[], "").await;
    becomes(&gateway, &id, "succeeded").await;
    let refused = function.setup(&nats, "").start().await;
    assert_eq!(call(&refused, "f", &[], "").await.status(), 503);
}

#[tokio::test]
async fn one_process_takes_calls_and_another_makes_them() {
    let nats = Nats::start().await;
    let function = Counting::start(Duration::ZERO).await;
    let taking = function.setup(&nats, "[server]\nrole = \"gateway\"\n").start().await;
    let ids = join_all((0..10).map(|_| kept(&taking, "f", &[], ""))).await;
    assert_eq!(told(&taking, &ids[0]).await.state, "queued", "nobody makes calls yet");
    let making = function.setup(&nats, "[server]\nrole = \"worker\"\n").start().await;
    for id in &ids {
        becomes(&taking, id, "succeeded").await;
    }
    let made = making.metric(r#"gateway_async_calls_total{state="succeeded"}"#).await;
    assert_eq!(made, Some(10.0));
}
