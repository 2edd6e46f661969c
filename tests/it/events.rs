//! `GET /system/events`: whoever follows hears what happens when it happens, and
//! after a break what was missed.

use std::sync::Arc;

use faas_gateway::{
    model::{FunctionDeployment, from_json},
    provider::{Provider, memory::MemoryProvider},
};
use http::Method;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{Gateway, Upstream, eventually, nats::Nats, provider::ScriptedProvider, soon, upstream};

const EVENTS: &str = "/system/events";

/// An event as it came.
#[derive(Debug, Clone)]
struct Event {
    id: Option<String>,
    kind: String,
    data: Value,
}

/// A stream that is read.
struct Stream {
    response: reqwest::Response,
    read: String,
    /// The id of the last event that had one.
    last: Option<String>,
}

impl Stream {
    async fn open(gateway: &Gateway, path: &str, last: Option<&str>) -> Self {
        let request = gateway.get(path);
        let request = match last {
            Some(last) => request.header("last-event-id", last),
            None => request,
        };
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert!(!response.headers().contains_key("content-encoding"));
        Self {
            response,
            read: String::new(),
            last: last.map(str::to_owned),
        }
    }

    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<Event> {
        soon("the next event", async {
            loop {
                if let Some((block, rest)) = self.read.split_once("\n\n") {
                    let event = parse(block);
                    let read = self.read.len() - rest.len();
                    self.read.drain(..read);
                    if let Some(event) = event {
                        if let Some(id) = &event.id {
                            self.last = Some(id.clone());
                        }
                        return Some(event);
                    }
                    continue;
                }
                let chunk = self.response.chunk().await.expect("a whole stream")?;
                self.read.push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
            }
        })
        .await
    }

    /// The next event of a kind that `matches`; others are passed over.
    async fn find(&mut self, kind: &str, matches: impl Fn(&Value) -> bool) -> Event {
        loop {
            let event = self.next().await.expect("no end");
            if event.kind == kind && matches(&event.data) {
                return event;
            }
        }
    }

    /// Reads what a stream begins with: the reason, and what there is.
    async fn begins(&mut self) -> (String, Value) {
        let reset = self.next().await.expect("no end");
        assert_eq!((reset.kind.as_str(), &reset.id), ("reset", &None));
        let snapshot = self.next().await.expect("no end");
        assert_eq!(snapshot.kind, "snapshot");
        assert!(snapshot.id.is_some());
        (text(&reset.data, "reason"), snapshot.data)
    }

    /// All that is left, of a stream that ends.
    async fn rest(mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}

fn text(value: &Value, key: &str) -> String {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} in {value}"))
        .to_owned()
}

fn parse(block: &str) -> Option<Event> {
    let field = |name: &str| {
        let mut lines = block.lines();
        lines.find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(": ")?.to_owned()))
    };
    let data: Value = serde_json::from_str(&field("data")?).expect("JSON on one line");
    assert!(text(&data, "time").ends_with('Z'), "{data}");
    Some(Event {
        id: field("id"),
        kind: field("event").expect("a kind"),
        data,
    })
}

fn is_of(name: &'static str) -> impl Fn(&Value) -> bool {
    move |data| data["name"] == name
}

/// Whether an event says that a function has a replica: this may be how it is first seen.
fn is_ready(event: &Event, name: &str) -> bool {
    let ready = match event.kind.as_str() {
        "replicas" => &event.data["availableReplicas"],
        "function" => &event.data["function"]["availableReplicas"],
        _ => return false,
    };
    event.data["name"] == name && ready.as_u64() > Some(0)
}

async fn deploy(gateway: &Gateway, name: &str) {
    let deployment = json!({ "service": name, "image": "local", "envProcess": "cat" });
    let (status, text) = gateway.send(Method::POST, "/system/functions", &deployment).await;
    assert_eq!(status, 202, "{text}");
}

/// A long interval, so that what comes soon does not come by the regular look.
const RARELY: &str = "[scaling]\ninterval = \"1m\"\n[metrics]\nrefresh_interval = \"1m\"\n";

#[tokio::test]
async fn functions_show_when_they_are_deployed_scaled_called_and_removed() {
    let gateway = Gateway::new().config(RARELY).start().await;
    let mut stream = Stream::open(&gateway, EVENTS, None).await;
    let (reason, snapshot) = stream.begins().await;
    assert_eq!(reason, "connected");
    assert_eq!(snapshot["functions"], json!([]));
    assert_eq!(snapshot["configuration"]["generation"], 1);

    deploy(&gateway, "echo").await;
    let added = stream.find("function", is_of("echo")).await.data;
    assert_eq!(
        (&added["action"], &added["namespace"]),
        (&json!("added"), &json!("openfaas-fn"))
    );
    assert_eq!(added["function"]["envProcess"], "cat");
    gateway.scale("echo", 2).await;
    let scaled = stream.find("scaling", is_of("echo")).await.data;
    assert_eq!((&scaled["to"], &scaled["reason"]), (&json!(2), &json!("manual")));
    stream
        .find("replicas", |data| {
            data["name"] == "echo" && data["availableReplicas"] == 2
        })
        .await;

    gateway.invoke("/function/echo", "hello").await;
    let load = stream
        .find("load", |data| data["functions"][0]["calls"] == 1)
        .await
        .data;
    let load = &load["functions"][0];
    assert_eq!(
        (&load["name"], &load["errors"], &load["inFlight"]),
        (&json!("echo"), &json!(0), &json!(0))
    );
    // Measured in another interval than it was made in, perhaps.
    if load["rate"].as_f64().expect("a number") > 0.0 {
        assert!(load["p50"].as_f64().expect("a number") <= load["p99"].as_f64().expect("a number"));
    }

    let change = json!({ "service": "echo", "image": "local", "envProcess": "wc" });
    let (status, _) = gateway.send(Method::PUT, "/system/functions", &change).await;
    assert_eq!(status, 202);
    let updated = stream.find("function", is_of("echo")).await.data;
    assert_eq!(
        (&updated["action"], &updated["function"]["envProcess"]),
        (&json!("updated"), &json!("wc"))
    );
    gateway.remove("echo").await;
    let removed = stream.find("function", |data| data["action"] == "removed").await.data;
    assert_eq!((&removed["name"], removed.get("function")), (&json!("echo"), None));
}

#[tokio::test]
async fn after_a_break_comes_exactly_what_was_missed() {
    let gateway = Gateway::new().config(RARELY).start().await;
    let mut stream = Stream::open(&gateway, EVENTS, None).await;
    stream.begins().await;
    deploy(&gateway, "one").await;
    while !is_ready(&stream.next().await.expect("no end"), "one") {}
    let last = stream.last.clone().expect("an id");
    drop(stream);

    // While nobody reads.
    for name in ["two", "three"] {
        deploy(&gateway, name).await;
        gateway.ready(name, "").await;
    }
    let path = format!("{EVENTS}?follow=false");
    let missed = async || Stream::open(&gateway, &path, Some(&last)).await.rest().await;
    let told = eventually("all that was missed", || async {
        let told = missed().await;
        told.iter().any(|event| is_ready(event, "three")).then_some(told)
    })
    .await;
    let added: Vec<_> = told
        .iter()
        .filter(|event| event.kind == "function")
        .map(|event| text(&event.data, "name"))
        .collect();
    // In what order depends on whether one look saw both.
    assert_eq!(added.len(), 2, "{told:?}");
    assert!(
        added.contains(&"two".to_owned()) && added.contains(&"three".to_owned()),
        "{told:?}"
    );
    assert!(told.iter().all(|event| event.data["name"] != "one"), "{told:?}");
    let number = |id: &str| -> u64 { id.split_once('-').expect("a number").1.parse().expect("a number") };
    let numbers: Vec<u64> = told
        .iter()
        .map(|event| number(event.id.as_ref().expect("an id")))
        .collect();
    let expected: Vec<u64> = (1..).take(told.len()).map(|more| number(&last) + more).collect();
    assert_eq!(numbers, expected);

    // The same by the query, which pages can set where they cannot set headers.
    let by_query = format!("{path}&last_event_id={last}");
    let told_again = Stream::open(&gateway, &by_query, None).await.rest().await;
    assert!(told_again.len() >= told.len());
    assert_eq!(told_again[0].data, told[0].data);

    let (reason, snapshot) = Stream::open(&gateway, &path, Some("00000000-1")).await.begins().await;
    assert_eq!(reason, "unknown_id");
    assert_eq!(snapshot["functions"].as_array().expect("functions").len(), 3);
}

#[tokio::test]
async fn reloads_show_whether_they_are_good_or_bad_and_keep_the_stream() {
    let gateway = Gateway::new().config("logging.level = \"info\"").start().await;
    let mut stream = Stream::open(&gateway, EVENTS, None).await;
    stream.begins().await;
    let mut told = Vec::new();
    for (content, result) in [
        ("server.read_timeout = \"7s\"\n", "applied"),
        ("server.read_timeout = 7q\n", "failed"),
    ] {
        std::fs::write(gateway.config_file(), content).expect("written");
        gateway.post("/system/config/reload").send().await.expect("an answer");
        let data = stream.find("configuration", |_| true).await.data;
        assert_eq!(
            (&data["generation"], &data["last_attempt"]["result"]),
            (&json!(2), &json!(result))
        );
        told.push(data);
    }
    let bad = &told[1];
    assert!(!bad["last_attempt"]["errors"].as_array().expect("errors").is_empty());
}

#[tokio::test]
async fn asynchronous_calls_show_in_the_order_of_their_states() {
    let gateway = Gateway::new().start().await;
    deploy(&gateway, "echo").await;
    let mut stream = Stream::open(&gateway, EVENTS, None).await;
    stream.begins().await;
    let answer = gateway
        .post("/async-function/echo")
        .body("x")
        .send()
        .await
        .expect("an answer");
    let id = answer.headers()["x-call-id"].to_str().expect("text").to_owned();
    let mut states = Vec::new();
    while states.last().is_none_or(|last| last != "succeeded") {
        let event = stream.find("async", |data| data["id"] == id.as_str()).await.data;
        assert_eq!(event["name"], "echo");
        states.push(text(&event, "state"));
    }
    assert_eq!(states, ["queued", "running", "succeeded"]);

    // More than anybody reads are counted.
    for _ in 0..40 {
        let answer = gateway
            .post("/async-function/echo")
            .body("x")
            .send()
            .await
            .expect("an answer");
        assert_eq!(answer.status(), 202);
    }
    let counts = stream.find("async", |data| data.get("counts").is_some()).await.data;
    assert!(counts.get("id").is_none(), "{counts}");
    assert!(counts["counts"]["queued"].as_u64() > Some(0), "{counts}");
}

#[tokio::test]
async fn asynchronous_calls_of_all_gateways_on_one_nats_show_once_in_each() {
    let nats = Nats::start().await;
    let function = Upstream::start().await.function("f", |_| async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        upstream::text(200, "done")
    });
    let config = format!("[queue]\nnats_address = \"127.0.0.1\"\nnats_port = {}\n", nats.port());
    let setup = || Gateway::before(&function.url()).config(&config);
    let first = setup().start().await;
    let keep = async |gateway: &Gateway| {
        let answer = gateway.post("/async-function/f").send().await.expect("an answer");
        assert_eq!(answer.status(), 202);
        answer.headers()["x-call-id"].to_str().expect("text").to_owned()
    };
    let before = keep(&first).await;
    let second = setup().start().await;
    let mut streams = Vec::new();
    for gateway in [&first, &second] {
        let mut stream = Stream::open(gateway, EVENTS, None).await;
        stream.begins().await;
        streams.push(stream);
    }
    let ids = [keep(&first).await, keep(&second).await];
    for stream in &mut streams {
        let mut told: Vec<(String, String)> = Vec::new();
        // More than ten in a second would be counted.
        while told
            .iter()
            .filter(|(id, state)| ids.contains(id) && state == "succeeded")
            .count()
            < 2
        {
            let event = stream.find("async", |data| data.get("id").is_some()).await.data;
            let attempts = u8::from(event["state"] != "queued");
            assert_eq!((&event["name"], &event["attempts"]), (&json!("f"), &json!(attempts)));
            told.push((text(&event, "id"), text(&event, "state")));
        }
        for id in &ids {
            let of_it = told.iter().filter(|(told, _)| told == id);
            let states: Vec<_> = of_it.map(|(_, state)| &**state).collect();
            assert_eq!(states, ["queued", "running", "succeeded"], "{told:?}");
        }
        assert!(told.iter().filter(|(id, _)| *id == before).count() <= 3, "{told:?}");
    }
}

#[tokio::test]
async fn streams_outlast_the_bound_on_answers_and_end_with_the_gateway() {
    let mut gateway = Gateway::new()
        .config("[server]\nwrite_timeout = \"1s\"\ndrain_delay = \"1s\"\n")
        .start()
        .await;
    deploy(&gateway, "echo").await;
    gateway.ready("echo", "").await;
    let mut stream = Stream::open(&gateway, EVENTS, None).await;
    stream.begins().await;
    gateway.invoke("/function/echo", "x").await;
    // Two of them are more than two seconds apart from the beginning.
    stream.find("load", |_| true).await;
    stream.find("load", |_| true).await;
    let readers = "gateway_event_readers";
    assert_eq!(gateway.metric(readers).await, Some(1.0));
    gateway.signal(Signal::SIGTERM);
    while stream.next().await.is_some() {}
    let late = gateway.get(EVENTS).send().await.expect("an answer");
    assert_eq!(late.status(), 503);
    assert!(late.headers().contains_key("retry-after"));
    assert!(gateway.ended().await.success());
}

#[tokio::test]
async fn readers_sign_in_and_are_counted_out_when_they_leave() {
    let mut gateway = Gateway::new()
        .basic_auth("admin", "s3cret")
        .config("server.base_path = \"/faas\"")
        .start()
        .await;
    let path = format!("/faas{EVENTS}");
    let refused = gateway.get(&path).send().await.expect("an answer");
    assert_eq!(refused.status(), 401);
    gateway.sign_in("admin", "s3cret");
    let mut stream = Stream::open(&gateway, &path, None).await;
    stream.begins().await;
    drop(stream);
    eventually("nobody reads", || async {
        (gateway.metric("gateway_event_readers").await == Some(0.0)).then_some(())
    })
    .await;
    let odd = gateway
        .get(&format!("{path}?namespace=a/b"))
        .send()
        .await
        .expect("an answer");
    assert_eq!(odd.status(), 400);
}

#[tokio::test]
async fn readers_of_a_namespace_hear_of_no_other() {
    let gateway = Gateway::new().config(RARELY).start().await;
    deploy(&gateway, "here").await;
    let path = format!("{EVENTS}?namespace=openfaas-fn&follow=false");
    let known = async |path: &str| {
        let (_, snapshot) = Stream::open(&gateway, path, None).await.begins().await;
        snapshot["functions"].as_array().expect("functions").len()
    };
    eventually("the function is known", || async {
        (known(&path).await == 1).then_some(())
    })
    .await;
    assert_eq!(known(&format!("{EVENTS}?namespace=dev&follow=false")).await, 0);
}

#[tokio::test]
async fn functions_of_a_remote_provider_show_as_well() {
    let provider = ScriptedProvider::over(Arc::new(MemoryProvider::new())).await;
    let gateway = Gateway::before(provider.url.as_str()).config(RARELY).start().await;
    let mut stream = Stream::open(&gateway, EVENTS, None).await;
    stream.begins().await;
    deploy(&gateway, "echo").await;
    let added = stream.find("function", is_of("echo")).await.data;
    assert_eq!(added["action"], "added");
    gateway.scale("echo", 3).await;
    stream
        .find("replicas", |data| data["name"] == "echo" && data["replicas"] == 3)
        .await;
    gateway.remove("echo").await;
    let removed = stream.find("function", is_of("echo")).await.data;
    assert_eq!(removed["action"], "removed");
}

#[tokio::test]
async fn what_became_of_functions_while_nobody_followed_is_told_to_who_comes_back() {
    let functions = Arc::new(MemoryProvider::new());
    let provider = ScriptedProvider::over(Arc::clone(&functions)).await;
    let gateway = Gateway::before(provider.url.as_str())
        .config("[metrics]\nrefresh_interval = \"1s\"\n")
        .start()
        .await;
    let elsewhere = async |name: &str| {
        let text = json!({ "service": name, "image": "i" }).to_string();
        let deployment: FunctionDeployment = from_json(text.as_bytes()).expect("a deployment");
        functions.deploy(deployment).await.expect("deployed");
        let series = format!("gateway_service_min{{function_name=\"{name}");
        eventually("it is listed", || async {
            gateway.metrics().await.contains(&series).then_some(())
        })
        .await;
    };
    elsewhere("before").await;
    let mut stream = Stream::open(&gateway, EVENTS, None).await;
    let (_, snapshot) = stream.begins().await;
    assert_eq!(snapshot["functions"][0]["name"], "before");
    let last = stream.last.clone();
    drop(stream);
    eventually("nobody follows", || async {
        (gateway.metric("gateway_event_readers").await == Some(0.0)).then_some(())
    })
    .await;
    elsewhere("meanwhile").await;
    let mut stream = Stream::open(&gateway, EVENTS, last.as_deref()).await;
    let told = stream.next().await.expect("no end");
    assert_eq!((&*told.kind, &told.data["name"]), ("function", &json!("meanwhile")));
    elsewhere("now").await;
    let told = stream.find("function", is_of("now")).await.data;
    assert_eq!(told["action"], "added");
}
