//! When a call is tried again, seen by the function and by the caller.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use http::Method;
use reqwest::Response;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpSocket},
};

use crate::support::{
    Gateway, Upstream, eventually,
    gateway::field,
    provider::{Answer, ScriptedProvider},
    soon,
    upstream::text,
    wire::Wire,
};

/// What an upstream does with a call.
#[derive(Clone, Copy)]
enum Act {
    /// Writes these bytes and waits for the next call.
    Say(&'static str),
    /// Writes these bytes and closes.
    Last(&'static str),
    /// Nothing at all.
    Wait,
}

const OK: Act = Act::Say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
const CLOSE: Act = Act::Last("");
const BUSY: Act = Act::Say("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy");

/// An upstream that does as it is told, call by call.
struct Script {
    url: String,
    bodies: Arc<std::sync::Mutex<Vec<Vec<u8>>>>,
}

impl Script {
    async fn start(acts: &'static [Act]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let bodies = Arc::default();
        tokio::spawn(serve(listener, acts, Arc::clone(&bodies)));
        Self { url, bodies }
    }

    /// How many calls came.
    fn calls(&self) -> usize {
        self.bodies.lock().expect("no panic").len()
    }

    async fn gateway(&self, settings: &str) -> Gateway {
        let config = format!("[functions.\"*\"]\n{settings}");
        Gateway::before(&self.url).config(&config).start().await
    }
}

async fn serve(listener: TcpListener, acts: &'static [Act], bodies: Arc<std::sync::Mutex<Vec<Vec<u8>>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let bodies = Arc::clone(&bodies);
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            while let Some((head, body)) = read_request(&mut stream).await {
                let act = if head.contains(" /function/") {
                    let mut bodies = bodies.lock().expect("no panic");
                    bodies.push(body);
                    acts[(bodies.len() - 1).min(acts.len() - 1)]
                } else {
                    // What the gateway itself asks: there is no API here.
                    Act::Say("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                };
                match act {
                    Act::Say(bytes) => stream.write_all(bytes.as_bytes()).await.expect("the gateway reads"),
                    Act::Last(bytes) => {
                        stream.write_all(bytes.as_bytes()).await.expect("the gateway reads");
                        return;
                    }
                    Act::Wait => {}
                }
            }
        });
    }
}

/// A request's head and body; `None` when the connection ends.
async fn read_request(stream: &mut BufReader<tokio::net::TcpStream>) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let header = |name: &str| {
        head.lines()
            .find_map(|line| Some(line.to_ascii_lowercase().strip_prefix(name)?.trim().to_owned()))
    };
    if header("transfer-encoding:").is_some() {
        let mut chunked = String::new();
        while !chunked.ends_with("0\r\n\r\n") {
            if stream.read_line(&mut chunked).await.ok()? == 0 {
                return None;
            }
        }
        return Some((head, chunked.into_bytes()));
    }
    let length = header("content-length:").map_or(0, |length| length.parse().expect("a length"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((head, body))
}

async fn call(gateway: &Gateway, method: Method, body: impl Into<reqwest::Body>) -> Response {
    let request = gateway.request(method, "/function/f").body(body);
    soon("an answer", request.send()).await.expect("an answer")
}

/// Waits are short, so that tests are.
const TWICE: &str = "retries = { attempts = 2, backoff = \"1ms\", backoff_max = \"5ms\" }";

#[tokio::test]
async fn a_kept_connection_that_closes_upon_the_call_costs_an_idempotent_call_nothing() {
    let upstream = Script::start(&[OK, CLOSE, OK]).await;
    let gateway = Gateway::before(&upstream.url).start().await;
    for calls in [1, 3, 4] {
        assert_eq!(call(&gateway, Method::GET, "").await.status(), 200);
        assert_eq!(upstream.calls(), calls);
    }
}

#[tokio::test]
async fn a_connection_that_closes_upon_the_call_is_tried_once_more_and_not_for_every_call() {
    // A new connection that closes is no race.
    for (method, body, acts, calls) in [
        (Method::GET, "", &[CLOSE] as &'static [Act], 1),
        (Method::GET, "", &[OK, CLOSE], 3),
        (Method::POST, "", &[OK, CLOSE], 2),
        (Method::PUT, "x", &[OK, CLOSE], 2),
    ] {
        let upstream = Script::start(acts).await;
        let gateway = Gateway::before(&upstream.url).start().await;
        if acts.len() > 1 {
            assert_eq!(call(&gateway, Method::GET, "").await.status(), 200);
        }
        assert_eq!(call(&gateway, method.clone(), body).await.status(), 502, "{method}");
        assert_eq!(upstream.calls(), calls, "{method}");
    }
}

#[tokio::test]
async fn a_call_without_answer_is_tried_again_where_the_method_may_be_repeated() {
    for (method, status, calls) in [
        (Method::GET, 200, 3),
        (Method::DELETE, 200, 3),
        (Method::POST, 502, 1),
        (Method::PATCH, 502, 1),
    ] {
        let upstream = Script::start(&[CLOSE, CLOSE, OK]).await;
        let gateway = upstream.gateway(TWICE).await;
        assert_eq!(call(&gateway, method.clone(), "").await.status(), status, "{method}");
        assert_eq!(upstream.calls(), calls, "{method}");
    }
}

#[tokio::test]
async fn the_methods_are_those_of_the_file() {
    let upstream = Script::start(&[CLOSE, OK]).await;
    let gateway = upstream
        .gateway("retries = { attempts = 1, methods = [\"POST\"], backoff = \"1ms\" }")
        .await;
    assert_eq!(call(&gateway, Method::POST, "x").await.status(), 200);
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn a_body_is_sent_again_byte_for_byte() {
    let upstream = Script::start(&[CLOSE, BUSY, OK]).await;
    let gateway = upstream.gateway(TWICE).await;
    let body: Vec<u8> = (0..60_000_u32).map(|number| (number % 251) as u8).collect();
    assert_eq!(call(&gateway, Method::PUT, body.clone()).await.status(), 200);
    let seen = upstream.bodies.lock().expect("no panic");
    assert!(seen.len() == 3 && seen.iter().all(|seen| *seen == body));
}

#[tokio::test]
async fn a_body_that_is_not_kept_is_sent_once() {
    let upstream = Script::start(&[BUSY]).await;
    let small = "retries = { attempts = 2, max_body = \"1KiB\", backoff = \"1ms\" }";
    let gateway = upstream.gateway(small).await;
    assert_eq!(call(&gateway, Method::PUT, vec![b'x'; 1025]).await.status(), 503);
    assert_eq!(upstream.calls(), 1);
    let chunked = "PUT /function/f HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
                   1\r\nx\r\n0\r\n\r\n";
    let answer = Wire::exchange(gateway.address(), chunked).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn a_late_first_byte_is_tried_again() {
    let upstream = Script::start(&[Act::Wait, OK]).await;
    let gateway = upstream
        .gateway(&format!("timeouts.first_byte = \"200ms\"\n{TWICE}"))
        .await;
    assert_eq!(call(&gateway, Method::GET, "").await.status(), 200);
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn an_answer_that_has_begun_is_never_tried_again() {
    let upstream = Script::start(&[Act::Last("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), OK]).await;
    let gateway = upstream.gateway(TWICE).await;
    let answer = call(&gateway, Method::GET, "").await;
    assert_eq!(answer.status(), 200);
    answer.text().await.expect_err("half an answer");
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn statuses_are_tried_again_and_the_last_failure_is_the_answer() {
    const GATEWAY: Act = Act::Say("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\nlast");
    const LEAVING: Act = Act::Last("HTTP/1.1 503 X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    const ERROR: Act = Act::Say("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n");
    for (acts, method, status, calls) in [
        (&[BUSY, OK] as &'static [Act], Method::GET, 200, 2),
        (&[BUSY, BUSY, GATEWAY], Method::GET, 502, 3),
        (&[LEAVING, CLOSE], Method::GET, 502, 3),
        (&[BUSY, OK], Method::POST, 503, 1),
        (&[ERROR, OK], Method::GET, 500, 1),
    ] {
        let upstream = Script::start(acts).await;
        let gateway = upstream.gateway(TWICE).await;
        assert_eq!(call(&gateway, method, "").await.status(), status);
        assert_eq!(upstream.calls(), calls);
    }
}

#[tokio::test]
async fn an_answer_that_asks_for_a_longer_wait_is_passed_on() {
    const SOON: Act = Act::Say("HTTP/1.1 503 X\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n");
    const LATER: Act = Act::Say("HTTP/1.1 503 X\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n");
    for (acts, status, calls) in [(&[SOON, OK] as &'static [Act], 200, 2), (&[LATER, OK], 503, 1)] {
        let upstream = Script::start(acts).await;
        let gateway = upstream.gateway(TWICE).await;
        let answer = call(&gateway, Method::GET, "").await;
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers().contains_key("retry-after"), status == 503);
        assert_eq!(upstream.calls(), calls);
    }
}

#[tokio::test]
async fn no_try_begins_after_the_total_bound() {
    let upstream = Script::start(&[BUSY]).await;
    let gateway = upstream
        .gateway("timeouts.total = \"2s\"\nretries = { attempts = 9, backoff = \"1m\", backoff_max = \"2m\" }")
        .await;
    assert_eq!(call(&gateway, Method::GET, "").await.status(), 503);
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn any_call_is_tried_again_that_never_reached_the_function() {
    // The port is taken but refuses connections until somebody listens.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let url = format!("http://{}", socket.local_addr().expect("bound"));
    let gateway = Gateway::before(&url)
        .config(
            "[logging]\nlevel = \"debug\"\n\
             [functions.f.retries]\nattempts = 3\nbackoff = \"1s\"\nbackoff_max = \"1s\"",
        )
        .start()
        .await;
    let bodies = Arc::default();
    let (answer, ()) = tokio::join!(call(&gateway, Method::POST, "body"), async {
        gateway
            .logged("the beginning of the call", |line| {
                field(line, "message") == "function not confirmed by the provider"
            })
            .await;
        // The first try follows at once; the next after a second.
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        let listener = socket.listen(8).expect("listening");
        tokio::spawn(serve(listener, &[OK], Arc::clone(&bodies)));
    });
    assert_eq!(answer.status(), 200);
    assert_eq!(*bodies.lock().expect("no panic"), [b"body"]);
    let line = gateway
        .logged("the call", |line| field(line, "path") == "/function/f")
        .await;
    assert!(field(&line, "retries").as_u64() > Some(0), "{line}");
}

#[tokio::test]
async fn a_budget_bounds_what_is_tried_again() {
    let calls = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&calls);
    let upstream = Upstream::start().await.function("f", move |_| {
        seen.fetch_add(1, Ordering::SeqCst);
        async { text(503, "busy") }
    });
    let gateway = Gateway::before(&upstream.url())
        .config(
            "[functions.f.retries]\nattempts = 2\nstatuses = [503]\nbudget = \"0%\"\n\
             backoff = \"1ms\"\nbackoff_max = \"1ms\"",
        )
        .start()
        .await;
    for _ in 0..4 {
        assert_eq!(call(&gateway, Method::GET, "").await.status(), 503);
    }
    // Three in ten seconds are free.
    assert_eq!(calls.load(Ordering::SeqCst), 7);
    let series = r#"gateway_function_retries_total{function_name="f"}"#;
    assert_eq!(gateway.metric(series).await, Some(3.0));
    let line = gateway
        .logged("the first call", |line| field(line, "path") == "/function/f")
        .await;
    assert_eq!(field(&line, "retries"), 2);
    let plain = |line: &Value| field(line, "path") == "/function/f" && *field(line, "retries") == Value::Null;
    gateway.logged("a call that was tried once", plain).await;
}

/// A function whose first call fails after each removal of `marker`.
fn fails_first(marker: &std::path::Path, annotations: &Value) -> Value {
    let script = format!("test -e {0} && echo fine || {{ touch {0}; exit 1; }}", marker.display());
    let quoted = format!("sh -c '{script}'");
    json!({ "service": "f", "image": "local", "envProcess": quoted, "annotations": annotations })
}

#[tokio::test]
async fn annotations_say_what_the_file_leaves_out() {
    let gateway = Gateway::new()
        .config("[functions.\"*\".retries]\nannotations = true\nbackoff = \"1ms\"")
        .start()
        .await;
    let marker = gateway.directory().join("marker");
    let annotated = json!({ "com.openfaas.retry.attempts": "2", "com.openfaas.retry.codes": "429, 500" });
    gateway.deploy(&fails_first(&marker, &annotated)).await;
    assert_eq!(call(&gateway, Method::GET, "").await.status(), 200);

    for (annotations, status) in [
        (json!({}), 500),
        (
            json!({ "com.openfaas.retry.attempts": "1", "com.openfaas.retry.codes": "500" }),
            200,
        ),
        (
            json!({ "com.openfaas.retry.attempts": "many", "com.openfaas.retry.codes": "500" }),
            500,
        ),
    ] {
        let (updated, text) = gateway
            .send(Method::PUT, "/system/functions", &fails_first(&marker, &annotations))
            .await;
        assert_eq!(updated, 202, "{text}");
        std::fs::remove_file(&marker).expect("it was called");
        assert_eq!(call(&gateway, Method::GET, "").await.status(), status, "{annotations}");
    }
    gateway
        .logged("the mistake", |line| {
            field(line, "message")
                .as_str()
                .is_some_and(|text| text.contains("'many' is not a number of tries"))
        })
        .await;
}

#[tokio::test]
async fn annotations_that_somebody_else_changes_are_seen_again() {
    let (attempts, looks, calls) = (AtomicU32::new(1), AtomicU32::new(0), AtomicU32::new(0));
    let seen = Arc::new((attempts, looks, calls));
    let scripted = Arc::clone(&seen);
    let provider = ScriptedProvider::start(move |asked| {
        let (attempts, looks, calls) = &*scripted;
        let annotation = attempts.load(Ordering::SeqCst).to_string();
        let status = json!({ "name": "f", "image": "i", "replicas": 1, "availableReplicas": 1,
                             "annotations": { "com.openfaas.retry.attempts": annotation } });
        match asked.path.as_str() {
            "/function/f" => {
                calls.fetch_add(1, Ordering::SeqCst);
                Answer::text(503, "busy")
            }
            "/system/functions" => Answer::json(200, &json!([status])),
            // The first look finds the function, the second does not find its annotations.
            "/system/function/f" if looks.fetch_add(1, Ordering::SeqCst) == 1 => Answer::text(500, "boom"),
            "/system/function/f" => Answer::json(200, &status),
            _ => Answer::text(404, "not found"),
        }
    })
    .await;
    let gateway = Gateway::before(provider.url.as_str())
        .config(
            "[metrics]\nrefresh_interval = \"50ms\"\n\
             [functions.f.retries]\nannotations = true\nbudget = \"100%\"\nbackoff = \"1ms\"\nbackoff_max = \"1ms\"",
        )
        .start()
        .await;
    let (attempts, looks, calls) = &*seen;
    for tries in [2, 4] {
        attempts.store(tries - 1, Ordering::SeqCst);
        eventually(&format!("{tries} tries"), || async {
            calls.store(0, Ordering::SeqCst);
            assert_eq!(call(&gateway, Method::GET, "").await.status(), 503);
            (calls.load(Ordering::SeqCst) == tries).then_some(())
        })
        .await;
    }
    let before = looks.load(Ordering::SeqCst);
    for _ in 0..5 {
        call(&gateway, Method::GET, "").await;
    }
    assert_eq!(looks.load(Ordering::SeqCst), before, "calls read nothing");
}

#[tokio::test]
async fn a_single_failing_replica_is_left_out() {
    let gateway = Gateway::new()
        .config(
            "[functions.f]\n\
             breaker = { failures = 2, statuses = [500], open = \"1h\", open_max = \"1h\" }\n\
             retries = { attempts = 4, statuses = [500], budget = \"100%\", backoff = \"1ms\", backoff_max = \"1ms\" }",
        )
        .start()
        .await;
    let failures = gateway.directory().join("failures");
    // The first replica that is called is the one that fails from then on.
    let script = format!(
        "set -o noclobber; {{ echo $PPID > {0}.bad; }} 2> /dev/null; set +o noclobber; \
         test $(cat {0}.bad) = $PPID || exec echo fine; echo >> {0}; exit 1",
        failures.display()
    );
    let quoted = format!("bash -c '{script}'");
    gateway
        .deploy(&json!({ "service": "f", "image": "local", "envProcess": quoted }))
        .await;
    gateway.scale("f", 2).await;
    eventually("two replicas", || async {
        (gateway.status("f", "").await?.available_replicas == 2).then_some(())
    })
    .await;
    for _ in 0..20 {
        assert_eq!(call(&gateway, Method::GET, "").await.status(), 200);
    }
    let failed = std::fs::read_to_string(&failures).expect("one failed");
    assert_eq!(failed.lines().count(), 2);
}
