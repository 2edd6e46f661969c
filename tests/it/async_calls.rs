//! Asynchronous calls: kept, made, tried again, remembered.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use faas_gateway_client::types;
use futures_util::{StreamExt, future::join_all, stream};
use http::{HeaderMap, Method};
use http_body_util::BodyExt;
use reqwest::Response;
use serde_json::{Value, json};
use tokio::sync::{Mutex as AsyncMutex, mpsc};

use crate::support::{
    Gateway, Upstream, eventually,
    gateway::{Setup, can_mount},
    soon,
    typed::{done, refused},
    upstream::text,
    wire::Wire,
};

// With their paths, as this file is read twice.
#[path = "async_calls/callbacks.rs"]
mod callbacks;
#[path = "async_calls/cron.rs"]
mod cron;
#[path = "async_calls/destinations.rs"]
mod destinations;
#[path = "async_calls/roles.rs"]
mod roles;

/// Waits that a test can wait for.
pub(crate) const QUICK: &str = "[queue]\nmin_wait = \"20ms\"\nmax_wait = \"100ms\"\njitter = \"none\"\nattempts = 3\n";

fn before(upstream: &Upstream, more: &str) -> Setup {
    Gateway::before(&upstream.url()).config(&format!("{QUICK}{more}"))
}

pub(crate) async fn call(gateway: &Gateway, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
    let request = gateway.post(&format!("/async-function/{path}")).body(body.to_owned());
    let request = headers
        .iter()
        .fold(request, |request, (name, value)| request.header(name, *value));
    request.send().await.expect("an answer")
}

/// Keeps a call; its id.
pub(crate) async fn kept(gateway: &Gateway, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let answer = call(gateway, path, headers, body).await;
    assert_eq!(answer.status(), 202);
    answer.headers()["x-call-id"].to_str().expect("text").to_owned()
}

pub(crate) async fn told(gateway: &Gateway, id: &str) -> types::AsyncCall {
    done(gateway.client().get_async_call().id(id).send().await)
}

pub(crate) async fn becomes(gateway: &Gateway, id: &str, state: &str) -> types::AsyncCall {
    eventually(&format!("call {id} {state}"), || async {
        let told = told(gateway, id).await;
        let reached = told.state == state;
        let has_ended = ["succeeded", "failed", "dead", "cancelled"].contains(&&*told.state);
        assert!(reached || !has_ended, "call {id} is not {state}: {told:?}");
        reached.then_some(told)
    })
    .await
}

/// The job whose id begins so, when it is in this state.
async fn following(gateway: &Gateway, beginning: &str, state: &str) -> Value {
    eventually(&format!("{beginning}… {state}"), || async {
        let list = gateway.get("/system/async").send().await.expect("an answer");
        let list: Value = list.json().await.expect("JSON");
        let is_it = |call: &&Value| call["id"].as_str().is_some_and(|id| id.starts_with(beginning));
        let found = list["calls"].as_array().expect("a list").iter().find(is_it)?;
        (found["state"] == state).then(|| found.clone())
    })
    .await
}

/// Somebody who is told of calls.
pub(crate) struct Receiver {
    upstream: Upstream,
    status: Arc<AtomicU16>,
    received: AsyncMutex<mpsc::UnboundedReceiver<(HeaderMap, Bytes)>>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        Self::answering(200).await
    }

    /// One that answers with this status.
    async fn answering(status: u16) -> Self {
        let status = Arc::new(AtomicU16::new(status));
        let (sender, received) = mpsc::unbounded_channel();
        let now = Arc::clone(&status);
        let upstream = Upstream::start().await.function("done", move |request| {
            let (sender, status) = (sender.clone(), now.load(Ordering::SeqCst));
            let headers = request.headers().clone();
            async move {
                let body = request.into_body().collect().await.expect("a body").to_bytes();
                sender.send((headers, body)).expect("the test listens");
                text(status, "")
            }
        });
        Self {
            upstream,
            status,
            received: AsyncMutex::new(received),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/function/done", self.upstream.url())
    }

    /// Answers with this status from now on.
    fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// What comes next.
    pub(crate) async fn next(&self) -> (HeaderMap, Bytes) {
        let mut received = self.received.lock().await;
        soon("a callback", received.recv()).await.expect("it listens")
    }
}

#[tokio::test]
async fn a_call_is_kept_made_and_its_result_can_be_asked_for() {
    let gateway = Gateway::new().start().await;
    gateway
        .deploy(&json!({ "service": "shasum", "image": "local", "envProcess": "sha512sum" }))
        .await;
    let answer = call(&gateway, "shasum/a?b=c", &[], "hello").await;
    assert_eq!(answer.status(), 202);
    for header in ["x-call-id", "x-start-time", "location"] {
        assert!(answer.headers().contains_key(header), "{header}");
    }
    let location = answer.headers()["location"].to_str().expect("text").to_owned();
    let id = answer.headers()["x-call-id"].to_str().expect("text").to_owned();
    assert_eq!(location.replace("%2D", "-"), format!("/system/async/{id}"));
    let told = becomes(&gateway, &id, "succeeded").await;
    assert_eq!((&*told.function, &*told.path, &*told.query), ("shasum", "/a", "b=c"));
    assert_eq!(told.attempts[0].status, Some(200));
    let body = told.result.and_then(|result| result.body).expect("text");
    assert!(body.starts_with("9b71d224bd62f3785d96d46ad3ea3d73319bfbc2"), "{body}");
    let counted = gateway.metric(r#"gateway_async_calls_total{state="succeeded"}"#).await;
    assert_eq!(counted, Some(1.0));
}

#[tokio::test]
async fn what_cannot_be_kept_is_refused() {
    let gateway = Gateway::new().config("[queue]\nmax_body = 10\n").start().await;
    gateway
        .deploy(&json!({ "service": "f", "image": "local", "envProcess": "cat" }))
        .await;
    for (path, headers, body, status) in [
        ("nobody", &[][..], "", 404),
        ("f", &[], "more than ten", 413),
        ("f", &[("x-callback-url", "nowhere")], "", 400),
        ("f", &[("x-callback-url", "ftp://host/")], "", 400),
        ("f", &[("x-delay", "soon")], "", 400),
        ("f", &[("x-not-before", "soon")], "", 400),
    ] {
        let answer = call(&gateway, path, headers, body).await;
        assert_eq!(answer.status(), status, "{path} {headers:?} {body}");
    }
    let answer = gateway.get("/async-function/f").send().await.expect("an answer");
    assert_eq!(answer.status(), 405);
    let off = Gateway::new().config("[queue]\nkind = \"off\"\n").start().await;
    off.deploy(&json!({ "service": "f", "image": "local", "envProcess": "cat" }))
        .await;
    let answer = call(&off, "f", &[], "").await;
    assert_eq!(
        (answer.status().as_u16(), answer.headers().contains_key("retry-after")),
        (503, true)
    );
}

#[tokio::test]
async fn failures_are_tried_again_until_they_are_dead_and_can_be_driven_again() {
    let tries = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&tries);
    let upstream = Upstream::start().await.function("f", move |request| {
        let number = seen.fetch_add(1, Ordering::SeqCst) + 1;
        let header = |name: &str| {
            request
                .headers()
                .get(name)
                .map(|value| value.to_str().expect("text").to_owned())
        };
        let told = format!(
            "{} of {}",
            header("x-retry").expect("a number"),
            header("x-retry-max").expect("a number")
        );
        async move { text(if number < 4 { 500 } else { 200 }, &told) }
    });
    let gateway = before(&upstream, "").start().await;
    let id = kept(&gateway, "f", &[], "").await;
    let dead = becomes(&gateway, &id, "dead").await;
    let result = dead.result.expect("a result");
    assert_eq!(
        (dead.attempts.len(), result.status, result.body.as_deref()),
        (3, 500, Some("3 of 3"))
    );
    let client = gateway.client();
    let list = done(client.list_async_calls().state("dead").send().await).calls;
    assert_eq!(list[0].id, id);
    assert_eq!(list[0].result.as_ref().and_then(|result| result.body.as_deref()), None);

    done(client.redrive_async_calls().send().await);
    let told = becomes(&gateway, &id, "succeeded").await;
    assert_eq!(told.attempts.len(), 1);
    let refusal = refused(client.redrive_async_call().id(&id).send().await);
    assert_eq!(refusal.status, 409, "it is not dead");
    assert_eq!(done(client.purge_async_calls().send().await).calls, 1);
    assert_eq!(refused(client.get_async_call().id(&id).send().await).status, 404);
}

#[tokio::test]
async fn a_status_that_is_not_tried_again_has_failed() {
    let upstream = Upstream::start().await.function("f", |_| async { text(422, "no") });
    let gateway = before(&upstream, "").start().await;
    let id = kept(&gateway, "f", &[], "").await;
    let told = becomes(&gateway, &id, "failed").await;
    assert_eq!(
        (told.attempts.len(), told.result.map(|result| result.status)),
        (1, Some(422))
    );
}

#[tokio::test]
async fn the_same_key_is_the_same_call_and_a_later_call_waits() {
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&calls);
    let upstream = Upstream::start().await.function("f", move |_| {
        seen.fetch_add(1, Ordering::SeqCst);
        async { text(200, "done") }
    });
    let gateway = before(&upstream, "").start().await;
    let key = [("idempotency-key", "order 1")];
    let first = kept(&gateway, "f", &key, "").await;
    assert_eq!(kept(&gateway, "f", &key, "").await, first);
    becomes(&gateway, &first, "succeeded").await;
    assert_eq!(kept(&gateway, "f", &key, "").await, first);
    let later = kept(&gateway, "f", &[("x-delay", "1h")], "").await;
    let soon = kept(&gateway, "f", &[("x-delay", "300ms")], "").await;
    becomes(&gateway, &soon, "succeeded").await;
    assert_eq!(told(&gateway, &later).await.state, "queued");
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn calls_are_taken_back_before_and_while_they_run() {
    let upstream = Upstream::start().await.function("f", |_| async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        text(200, "late")
    });
    let gateway = before(&upstream, "").start().await;
    let waiting = kept(&gateway, "f", &[("x-delay", "1h")], "").await;
    let running = kept(&gateway, "f", &[], "").await;
    becomes(&gateway, &running, "running").await;
    let client = gateway.client();
    for id in [&waiting, &running] {
        done(client.cancel_async_call().name(id).send().await);
        becomes(&gateway, id, "cancelled").await;
    }
    // The function's place is free again.
    eventually("the end of the call", || async {
        told(&gateway, &running).await.attempts.first()?.error.clone()
    })
    .await;
    for (id, status) in [(&*waiting, 409), ("nobody", 404)] {
        let refusal = refused(client.cancel_async_call().name(id).send().await);
        assert_eq!(refusal.status, status, "{id}");
    }
}

#[tokio::test]
async fn a_call_that_is_driven_again_while_it_is_taken_back_is_made_again() {
    let answers = Arc::new(AtomicUsize::new(usize::MAX));
    let seen = Arc::clone(&answers);
    let upstream = Upstream::start().await.function("f", move |_| {
        let seen = Arc::clone(&seen);
        async move {
            while seen.load(Ordering::SeqCst) != 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            text(200, "done")
        }
    });
    let gateway = before(&upstream, "").start().await;
    let id = kept(&gateway, "f", &[], "").await;
    for _ in 0..10 {
        becomes(&gateway, &id, "running").await;
        let taken_back = gateway
            .request(Method::DELETE, &format!("/async-function/{id}"))
            .send()
            .await;
        assert_eq!(taken_back.expect("an answer").status(), 202);
        let (status, text) = gateway
            .send(Method::POST, &format!("/system/async/{id}/redrive"), &json!({}))
            .await;
        assert_eq!(status, 202, "{text}");
    }
    answers.store(0, Ordering::SeqCst);
    let told = becomes(&gateway, &id, "succeeded").await;
    assert_eq!(told.result.and_then(|result| result.body).as_deref(), Some("done"));
    // Its function has as much room as before.
    for _ in 0..8 {
        let more = kept(&gateway, "f", &[], "").await;
        becomes(&gateway, &more, "succeeded").await;
    }
}

#[tokio::test]
async fn a_burst_for_one_function_does_not_hold_up_another() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let note = |name: &'static str| {
        let order = Arc::clone(&order);
        move |_| {
            order.lock().expect("no panic").push(name);
            async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                text(200, "done")
            }
        }
    };
    let upstream = Upstream::start()
        .await
        .function("a", note("a"))
        .function("b", note("b"));
    let gateway = before(&upstream, "concurrency = 2\n").start().await;
    let client = gateway.client();
    done(client.pause_async_calls().send().await);
    join_all((0..40).map(|_| kept(&gateway, "a", &[], ""))).await;
    let last = kept(&gateway, "b", &[], "").await;
    done(client.resume_async_calls().send().await);
    becomes(&gateway, &last, "succeeded").await;
    let order = order.lock().expect("no panic").clone();
    let place = order.iter().position(|name| *name == "b").expect("it ran");
    assert!(place < 4, "{order:?}");
}

#[tokio::test]
async fn a_full_disk_is_503_and_nothing_that_was_kept_is_lost() {
    if !can_mount("a queue on a full disk") {
        return;
    }
    let upstream = Upstream::start().await.function("f", |_| async { text(200, "done") });
    let directory = tempfile::tempdir().expect("a directory");
    let disk = directory.path().to_owned();
    let gateway = before(&upstream, &format!("kind = \"embedded\"\npath = {disk:?}\n"))
        .disk(disk.clone(), 2048)
        .start()
        .await;
    let ballast = gateway.inside(&disk).join("ballast");
    std::fs::write(&ballast, vec![0; 1024 * 1024]).expect("room for it");
    done(gateway.client().pause_async_calls().send().await);
    let body = "x".repeat(20_000);
    let mut ids = Vec::new();
    let full = loop {
        let answer = call(&gateway, "f", &[], &body).await;
        if answer.status() != 202 {
            break answer;
        }
        ids.push(answer.headers()["x-call-id"].to_str().expect("text").to_owned());
        assert!(ids.len() < 200, "a disk without an end");
    };
    assert_eq!(
        (full.status().as_u16(), full.headers().contains_key("retry-after")),
        (503, true)
    );
    std::fs::remove_file(ballast).expect("it was there");
    ids.push(
        eventually("room", || async {
            let answer = call(&gateway, "f", &[], &body).await;
            let id = answer.headers().get("x-call-id")?.to_str().ok()?.to_owned();
            (answer.status() == 202).then_some(id)
        })
        .await,
    );
    done(gateway.client().resume_async_calls().send().await);
    for id in &ids {
        becomes(&gateway, id, "succeeded").await;
    }
}

#[tokio::test]
async fn what_is_kept_is_made_though_its_caller_left_before_it_was_told() {
    let upstream = Upstream::start().await.function("f", |_| async { text(200, "done") });
    let gateway = before(&upstream, "").start().await;
    let request = "POST /async-function/f HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
    for _ in 0..100 {
        let mut wire = Wire::connect(gateway.address()).await;
        wire.send(request).await;
        wire.reset();
    }
    let last = kept(&gateway, "f", &[], "").await;
    becomes(&gateway, &last, "succeeded").await;
    eventually("no call that waits", || async {
        let waiting = done(gateway.client().list_async_calls().state("queued").send().await);
        waiting.calls.is_empty().then_some(())
    })
    .await;
}

/// How many calls flow while the gateway is killed: 300, or what the variable says.
fn calls() -> usize {
    let wanted = std::env::var("FAAS_TEST_CALLS");
    wanted.map_or(300, |text| text.parse().expect("a number"))
}

#[tokio::test]
async fn no_kept_call_is_lost_when_the_gateway_is_killed() {
    let runs = Arc::new(Mutex::new(std::collections::HashMap::<String, usize>::new()));
    let seen = Arc::clone(&runs);
    let upstream = Upstream::start().await.function("f", move |request| {
        let id = request.headers()["x-call-id"].to_str().expect("text").to_owned();
        *seen.lock().expect("no panic").entry(id).or_default() += 1;
        async {
            tokio::time::sleep(Duration::from_millis(3)).await;
            text(200, "done")
        }
    });
    let directory = Arc::new(tempfile::tempdir().expect("a directory"));
    let setup = || before(&upstream, "").directory(Arc::clone(&directory));
    let mut gateway = setup().start().await;
    let mut ids = Vec::new();
    for round in 0..6 {
        let part = stream::iter(0..calls() / 6).map(|_| kept(&gateway, "f", &[], "body"));
        ids.extend(part.buffer_unordered(100).collect::<Vec<_>>().await);
        if round < 5 {
            gateway = gateway.crash_and_restart(setup()).await;
        }
    }
    let mut twice = 0;
    for id in &ids {
        becomes(&gateway, id, "succeeded").await;
        twice += usize::from(runs.lock().expect("no panic")[id] > 1);
    }
    assert_eq!(runs.lock().expect("no panic").len(), calls() / 6 * 6);
    // No more than what ran when it was killed: function_concurrency, five times.
    assert!(twice <= 5 * 20, "{twice} calls were made twice");
}

#[tokio::test]
async fn what_the_queue_does_is_counted() {
    let upstream = Upstream::start()
        .await
        .function("bad", |_| async { text(500, "") })
        .function("slow", |_| async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            text(200, "late")
        });
    let gateway = before(&upstream, "").start().await;
    let dead = kept(&gateway, "bad", &[], "").await;
    becomes(&gateway, &dead, "dead").await;
    let running = kept(&gateway, "slow", &[], "").await;
    becomes(&gateway, &running, "running").await;
    // The queue is named differently where the tests share one server.
    let worker = async |metric: &str, function: &str| {
        let start = format!("queue_worker_{metric}{{function_name=\"{function}\",queue_name=");
        let page = gateway.metrics().await;
        let line = page.lines().find(|line| line.starts_with(&start));
        line.and_then(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
    };
    // Whoever runs it says so before it begins.
    eventually("the call in flight", || async {
        let in_flight = worker("function_invocation_inflight", "slow").await;
        (in_flight == Some(1.0)).then_some(())
    })
    .await;
    done(gateway.client().pause_async_calls().send().await);
    kept(&gateway, "bad", &[], "").await;
    assert_eq!(worker("pending_messages", "bad").await, Some(1.0));
    let oldest = r#"gateway_async_oldest_seconds{function_name="bad"}"#;
    assert!(
        gateway
            .metric(oldest)
            .await
            .is_some_and(|age| (0.0..20.0).contains(&age))
    );
    for (function, state) in [("bad", "dead"), ("bad", "queued"), ("slow", "running")] {
        let series = format!(r#"gateway_async_jobs{{function_name="{function}",state="{state}"}}"#);
        eventually(&series, || async {
            gateway.metric(&series).await.filter(|count| *count >= 1.0)
        })
        .await;
    }
    let page = gateway.metrics().await;
    for (name, count) in [("processed", "3"), ("submitted", "3")] {
        let name = format!("queue_worker_messages_{name}_total{{");
        let line = page.lines().find(|line| line.starts_with(&name)).expect("a series");
        assert!(line.ends_with(&format!(" {count}")), "{line}");
    }
}
