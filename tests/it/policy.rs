//! What applies to the calls of one function, on the real program: each setting,
//! changed while the gateway runs. The number in a name is the point of the
//! checklist of live configuration.

use std::sync::{
    Arc,
    atomic::{AtomicU16, AtomicU32, Ordering},
};

use http::{Method, StatusCode};
use reqwest::Response;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::support::{
    Gateway, Upstream, eventually,
    gateway::field,
    hold::Hold,
    provider::{Answer, ScriptedProvider},
    soon,
    upstream::{echoed, text},
    wire::Wire,
};

/// Reloads only when told to; the functions of the provider are looked at often.
const QUIET: &str = "[reload]\nwatch = \"off\"\n[metrics]\nrefresh_interval = \"50ms\"\n[logging]\naccess = false\n";

fn file(settings: &str) -> String {
    format!("{QUIET}[functions.\"*\"]\n{settings}\n")
}

async fn start(upstream: &Upstream, settings: &str) -> Gateway {
    Gateway::before(&upstream.url()).config(&file(settings)).start().await
}

/// Makes these settings of all functions live.
async fn change(gateway: &Gateway, settings: &str) {
    gateway.configure(&file(settings)).await;
}

async fn get(gateway: &Gateway, path: &str) -> Response {
    gateway.get(path).send().await.expect("an answer")
}

async fn status(gateway: &Gateway, path: &str) -> u16 {
    get(gateway, path).await.status().as_u16()
}

/// Checks a refusal: its status, its key, and whether it says when to come back.
async fn refused(answer: Response, status: u16, key: &str) -> Value {
    let retry_after = answer.headers().get("retry-after").cloned();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["x-openfaas-internal"]),
        (status, &http::HeaderValue::from_static("gateway"))
    );
    let problem: Value = answer.json().await.expect("a problem");
    assert_eq!(problem["setting"], format!("functions.\"*\".{key}"), "{problem}");
    let seconds = retry_after.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    assert_eq!(seconds.is_some_and(|seconds| seconds > 0), status != 413, "{problem}");
    assert_eq!(problem["retry_after"].as_u64(), seconds);
    problem
}

fn call(gateway: &Gateway, path: &str) -> tokio::task::JoinHandle<u16> {
    let request = gateway.get(path);
    tokio::spawn(async move { request.send().await.expect("an answer").status().as_u16() })
}

async fn queued(gateway: &Gateway, function: &str, count: f64) {
    let series = format!("gateway_function_queued{{function_name=\"{function}\"}}");
    eventually(&format!("{count} waiting"), || async {
        (gateway.metric(&series).await == Some(count)).then_some(())
    })
    .await;
}

async fn count(gateway: &Gateway, reason: &str) -> Option<f64> {
    let series = format!("gateway_function_refused_total{{function_name=\"hold\",reason=\"{reason}\"}}");
    gateway.metric(&series).await
}

#[tokio::test]
async fn calls_wait_for_their_turn_in_order_and_no_more_than_may() {
    let mut hold = Hold::start().await;
    let gateway = start(
        &hold.upstream,
        "max_in_flight = 1\nmax_queued = 2\nqueue_timeout = \"1m\"",
    )
    .await;
    let first = call(&gateway, "/function/hold/1");
    assert_eq!(hold.next().await, "/function/hold/1");
    let second = call(&gateway, "/function/hold/2");
    queued(&gateway, "hold", 1.0).await;
    let third = call(&gateway, "/function/hold/3");
    queued(&gateway, "hold", 2.0).await;
    let problem = refused(get(&gateway, "/function/hold/4").await, 429, "max_queued").await;
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(
        detail.starts_with("function hold: 1 calls are under way and 2 wait"),
        "{detail}"
    );
    hold.go.add_permits(1);
    assert_eq!(hold.next().await, "/function/hold/2");
    hold.go.add_permits(2);
    assert_eq!(hold.next().await, "/function/hold/3");
    for answered in [first, second, third] {
        assert_eq!(answered.await.expect("no panic"), 200);
    }
    queued(&gateway, "hold", 0.0).await;
    assert_eq!(count(&gateway, "queue_full").await, Some(1.0));
    let page = gateway.metrics().await;
    for line in [
        r#"gateway_function_invocation_total{code="429",function_name="hold"} 1"#,
        r#"gateway_function_invocation_total{code="200",function_name="hold"} 3"#,
        r#"gateway_function_invocation_started{function_name="hold"} 3"#,
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
}

#[tokio::test]
async fn a_wait_ends_and_a_caller_that_leaves_frees_its_place() {
    let mut hold = Hold::start().await;
    let gateway = start(
        &hold.upstream,
        "max_in_flight = 1\nmax_queued = 1\nqueue_timeout = \"50ms\"",
    )
    .await;
    let running = call(&gateway, "/function/hold");
    hold.next().await;
    refused(get(&gateway, "/function/hold").await, 429, "queue_timeout").await;
    assert_eq!(count(&gateway, "queue_timeout").await, Some(1.0));
    hold.go.add_permits(1);
    assert_eq!(running.await.expect("no panic"), 200);
    change(&gateway, "max_in_flight = 1\nmax_queued = 1\nqueue_timeout = \"1m\"").await;
    // Known to this configuration from here on, so that the next are plain.
    hold.go.add_permits(1);
    assert_eq!(status(&gateway, "/function/hold").await, 200);
    hold.next().await;
    let running = call(&gateway, "/function/hold");
    hold.next().await;
    let mut leaving = Wire::connect(gateway.address()).await;
    leaving.send("GET /function/hold HTTP/1.1\r\nHost: x\r\n\r\n").await;
    queued(&gateway, "hold", 1.0).await;
    drop(leaving);
    queued(&gateway, "hold", 0.0).await;
    hold.go.add_permits(1);
    assert_eq!(running.await.expect("no panic"), 200);
    change(&gateway, "max_in_flight = 1").await;
    let again = call(&gateway, "/function/hold");
    hold.next().await;
    refused(get(&gateway, "/function/hold").await, 429, "max_in_flight").await;
    hold.go.add_permits(1);
    assert_eq!(again.await.expect("no panic"), 200);
}

#[tokio::test]
async fn a_slot_is_held_until_the_last_byte() {
    let upstream = Upstream::start()
        .await
        .function("chat", crate::streaming::shout)
        .function("slow", |_| async {
            let (sender, frames) = mpsc::channel::<Result<http_body::Frame<bytes::Bytes>, std::io::Error>>(1);
            tokio::spawn(async move {
                let first = http_body::Frame::data(bytes::Bytes::from_static(b"first"));
                sender.send(Ok(first)).await.expect("the gateway reads");
                // The answer never ends by itself.
                sender.closed().await;
            });
            let frames = futures_util::stream::unfold(frames, |mut frames| async {
                frames.recv().await.map(|frame| (frame, frames))
            });
            crate::support::upstream::body(200, http_body_util::StreamBody::new(Box::pin(frames)))
        });
    let gateway = start(&upstream, "max_in_flight = 1").await;
    let free = async |path: &str| {
        Box::pin(eventually("a free slot", || async {
            let mut probe = Wire::connect(gateway.address()).await;
            probe.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
            let head = probe.until("\r\n\r\n").await;
            (!head.starts_with("HTTP/1.1 429")).then_some(())
        }))
        .await;
    };
    let mut slow = Wire::connect(gateway.address()).await;
    slow.send("GET /function/slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
    slow.until("first").await;
    assert_eq!(status(&gateway, "/function/slow").await, 429);
    drop(slow);
    free("/function/slow").await;

    let url = format!("ws://{}/function/chat", gateway.address());
    let (socket, _) = soon("the handshake", tokio_tungstenite::connect_async(url))
        .await
        .expect("switched");
    assert_eq!(status(&gateway, "/function/chat").await, 429);
    drop(socket);
    free("/function/chat").await;
}

#[tokio::test]
async fn point_17_a_raised_limit_releases_the_queue_and_a_lowered_one_ends_no_call() {
    let mut hold = Hold::start().await;
    let waiting = "max_queued = 9\nqueue_timeout = \"1m\"";
    let gateway = start(&hold.upstream, &format!("max_in_flight = 1\n{waiting}")).await;
    let mut calls = vec![call(&gateway, "/function/hold")];
    hold.next().await;
    for place in 1..=3 {
        calls.push(call(&gateway, "/function/hold"));
        queued(&gateway, "hold", f64::from(place)).await;
    }
    change(&gateway, &format!("max_in_flight = 3\n{waiting}")).await;
    hold.next().await;
    hold.next().await;
    queued(&gateway, "hold", 1.0).await;
    change(&gateway, &format!("max_in_flight = 1\n{waiting}")).await;
    hold.go.add_permits(2);
    eventually("two answers", || async {
        (calls.iter().filter(|call| call.is_finished()).count() == 2).then_some(())
    })
    .await;
    queued(&gateway, "hold", 1.0).await;
    assert!(
        hold.began.try_recv().is_err(),
        "one still runs, the most that are allowed"
    );
    change(&gateway, "max_in_flight = 0").await;
    hold.next().await;
    hold.go.add_permits(2);
    for call in calls {
        assert_eq!(call.await.expect("no panic"), 200);
    }
}

#[tokio::test]
async fn point_17_an_unrelated_reload_forgets_no_call_under_way() {
    let mut hold = Hold::start().await;
    let gateway = start(&hold.upstream, "max_in_flight = 1").await;
    let running = call(&gateway, "/function/hold");
    hold.next().await;
    for value in ["1", "2"] {
        change(
            &gateway,
            &format!("max_in_flight = 1\nheaders.response.set = {{ X-Turn = \"{value}\" }}"),
        )
        .await;
        let answer = get(&gateway, "/function/hold").await;
        assert_eq!(answer.headers()["x-turn"], value);
        refused(answer, 429, "max_in_flight").await;
    }
    hold.go.add_permits(1);
    assert_eq!(running.await.expect("no panic"), 200);
}

#[tokio::test]
async fn callers_share_an_allowance_or_have_their_own() {
    let upstream = Upstream::start().await;
    let gateway = start(&upstream, "rate_limit = { requests = 2, per = \"1h\" }").await;
    for expected in [200, 200, 429, 429] {
        assert_eq!(status(&gateway, "/function/echo").await, expected);
    }
    let problem = refused(get(&gateway, "/function/echo").await, 429, "rate_limit").await;
    let seconds = problem["retry_after"].as_u64().expect("seconds");
    assert!((1700..=1800).contains(&seconds), "{problem}");

    let by_key = "rate_limit = { requests = 1, per = \"1h\", by = \"header\", header = \"X-Api-Key\" }";
    change(&gateway, by_key).await;
    for (key, expected) in [("a", 200), ("b", 200), ("a", 429), ("b", 429)] {
        let answer = gateway.get("/function/echo").header("x-api-key", key).send().await;
        assert_eq!(answer.expect("an answer").status(), expected, "{key}");
    }
    change(&gateway, "rate_limit = { requests = 1, per = \"1h\", by = \"client\" }").await;
    for expected in [200, 429] {
        assert_eq!(status(&gateway, "/function/echo").await, expected);
    }
    change(&gateway, "rate_limit = { requests = 0 }").await;
    for _ in 0..5 {
        assert_eq!(status(&gateway, "/function/echo").await, 200);
    }
    let series = r#"gateway_function_refused_total{function_name="echo",reason="rate_limit"}"#;
    assert_eq!(gateway.metric(series).await, Some(6.0));
}

#[tokio::test]
async fn point_17_an_unrelated_reload_refills_no_allowance() {
    let upstream = Upstream::start().await;
    let limit = "rate_limit = { requests = 2, per = \"1h\" }";
    let gateway = start(&upstream, limit).await;
    assert_eq!(status(&gateway, "/function/echo").await, 200);
    change(&gateway, &format!("{limit}\nmax_in_flight = 5")).await;
    assert_eq!(status(&gateway, "/function/echo").await, 200);
    for turn in 0..3 {
        change(&gateway, &format!("{limit}\nmax_in_flight = {}", 10 + turn)).await;
        assert_eq!(status(&gateway, "/function/echo").await, 429, "turn {turn}");
    }
    change(&gateway, "rate_limit = { requests = 3, per = \"1h\" }").await;
    assert_eq!(
        status(&gateway, "/function/echo").await,
        200,
        "another limit, another allowance"
    );
}

#[tokio::test]
async fn no_other_name_of_a_function_gets_around_its_limits() {
    let upstream = Upstream::start().await;
    let limit = "rate_limit = { requests = 1, per = \"1h\" }";
    for table in ["*", "echo", "echo.openfaas-fn"] {
        let config = format!("{QUIET}[functions.\"{table}\"]\n{limit}\n");
        let gateway = Gateway::before(&upstream.url()).config(&config).start().await;
        for (path, expected) in [
            ("/function/echo", 200),
            ("/function/echo.openfaas-fn", 429),
            ("/function/echo", 429),
        ] {
            assert_eq!(status(&gateway, path).await, expected, "{table}: {path}");
        }
    }
}

#[tokio::test]
async fn limits_hold_while_the_provider_says_nothing_about_functions() {
    let provider = ScriptedProvider::start(|asked| {
        if asked.path.starts_with("/function/") {
            Answer::text(200, "called")
        } else {
            Answer::text(500, "boom")
        }
    })
    .await;
    let tables = format!(
        "{QUIET}[functions.\"*\"]\nrate_limit = {{ requests = 1, per = \"1h\" }}\n[functions.named]\n\
         [[routes]]\npath = \"/routed\"\nfunction = \"routed\"\n"
    );
    let gateway = Gateway::before(provider.url.as_str()).config(&tables).start().await;
    for (path, expected) in [
        ("/function/named", 200),
        ("/function/named", 429),
        ("/function/named.any", 429),
        ("/routed", 200),
        ("/function/routed", 429),
        ("/function/one", 200),
        ("/function/one", 429),
        ("/function/other", 429),
    ] {
        assert_eq!(status(&gateway, path).await, expected, "{path}");
    }
    let warned = |line: &Value| {
        field(line, "message") == "function not confirmed by the provider" && field(line, "function") == "named"
    };
    gateway.logged("a warning", warned).await;
    assert_eq!(gateway.log_count(warned), 1, "one for the function, not for the call");
}

/// The function `flaky`, which answers with the status in the first, and counts
/// its calls in the second.
async fn flaky() -> (Upstream, Arc<AtomicU16>, Arc<AtomicU32>) {
    let (answer, calls) = (Arc::new(AtomicU16::new(503)), Arc::new(AtomicU32::new(0)));
    let (said, seen) = (Arc::clone(&answer), Arc::clone(&calls));
    let upstream = Upstream::start().await.function("flaky", move |_| {
        seen.fetch_add(1, Ordering::SeqCst);
        let status = said.load(Ordering::SeqCst);
        async move { text(status, "") }
    });
    (upstream, answer, calls)
}

const OPEN: &str = r#"gateway_function_breaker_open{function_name="flaky"}"#;

#[tokio::test]
async fn a_function_that_fails_is_left_alone_until_a_trial_succeeds() {
    let (upstream, answer, calls) = flaky().await;
    let breaker = "breaker = { failures = 2, open = \"1s\", open_max = \"1s\" }";
    let gateway = start(&upstream, breaker).await;
    for _ in 0..2 {
        assert_eq!(status(&gateway, "/function/flaky").await, 503);
    }
    assert_eq!(gateway.metric(OPEN).await, Some(1.0));
    // However slow the test is, it is refused at some time and tried at another.
    eventually("a refusal", || async {
        let response = get(&gateway, "/function/flaky").await;
        let ours = response.headers().contains_key("x-openfaas-internal");
        if ours {
            refused(response, 503, "breaker").await;
        }
        ours.then_some(())
    })
    .await;
    let before = calls.load(Ordering::SeqCst);
    eventually("a trial", || async {
        status(&gateway, "/function/flaky").await;
        (calls.load(Ordering::SeqCst) > before).then_some(())
    })
    .await;
    assert_eq!(gateway.metric(OPEN).await, Some(1.0), "the trial failed");
    answer.store(200, Ordering::SeqCst);
    eventually("a trial that succeeds", || async {
        (status(&gateway, "/function/flaky").await == 200).then_some(())
    })
    .await;
    assert_eq!(gateway.metric(OPEN).await, Some(0.0));
    let series = r#"gateway_function_refused_total{function_name="flaky",reason="breaker_open"}"#;
    assert!(gateway.metric(series).await >= Some(1.0));
}

#[tokio::test]
async fn no_answer_is_a_failure_and_what_the_status_list_lacks_is_none() {
    let (upstream, answer, _) = flaky().await;
    let upstream = upstream.function("gone", |_| async { panic!("the connection breaks") });
    let gateway = start(
        &upstream,
        "breaker = { failures = 2, open = \"1h\", open_max = \"1h\", statuses = [500] }",
    )
    .await;
    for _ in 0..2 {
        assert_eq!(status(&gateway, "/function/gone").await, 502);
    }
    refused(get(&gateway, "/function/gone").await, 503, "breaker").await;
    for _ in 0..3 {
        assert_eq!(status(&gateway, "/function/flaky").await, 503);
    }
    answer.store(500, Ordering::SeqCst);
    for _ in 0..2 {
        assert_eq!(status(&gateway, "/function/flaky").await, 500);
    }
    refused(get(&gateway, "/function/flaky").await, 503, "breaker").await;
}

#[tokio::test]
async fn point_17_an_unrelated_reload_closes_no_breaker() {
    let (upstream, answer, calls) = flaky().await;
    let breaker = "breaker = { failures = 1, open = \"1h\", open_max = \"1h\" }";
    let gateway = start(&upstream, breaker).await;
    status(&gateway, "/function/flaky").await;
    for limit in [5, 6] {
        change(&gateway, &format!("{breaker}\nmax_in_flight = {limit}")).await;
        refused(get(&gateway, "/function/flaky").await, 503, "breaker").await;
        assert_eq!(gateway.metric(OPEN).await, Some(1.0));
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    answer.store(200, Ordering::SeqCst);
    change(&gateway, "breaker = { failures = 0 }").await;
    assert_eq!(gateway.metric(OPEN).await, None);
    assert_eq!(status(&gateway, "/function/flaky").await, 200);
    change(&gateway, breaker).await;
    assert_eq!(status(&gateway, "/function/flaky").await, 200, "it begins closed");
}

#[tokio::test]
async fn bodies_that_are_too_large_are_refused_before_they_are_sent() {
    let upstream = Upstream::start().await;
    let gateway = start(&upstream, "body.max_request = 4").await;
    assert_eq!(
        gateway.invoke("/function/echo", "four").await.matches("four").count(),
        1
    );
    let large = || gateway.post("/function/echo").body("fives").send();
    let problem = refused(large().await.expect("an answer"), 413, "body.max_request").await;
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(detail.contains("5 bytes is larger than 4 bytes"), "{detail}");
    let unsent = "POST /function/echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    let mut wire = Wire::connect(gateway.address()).await;
    wire.send(unsent).await;
    let head = wire.until("\r\n").await;
    assert!(head.starts_with("HTTP/1.1 413"), "the body is not asked for: {head}");
    change(&gateway, "body.max_request = 0").await;
    assert_eq!(large().await.expect("an answer").status(), 200);
}

#[tokio::test]
async fn a_refusal_names_the_table_that_set_the_key_however_the_body_comes() {
    let upstream = Upstream::start().await;
    let tables = format!(
        "{QUIET}[functions.echo]\nbody.max_request = 4\n\
         [[routes]]\npath = \"/narrow\"\nfunction = \"echo\"\nbody = {{ max_request = 2 }}\n"
    );
    let gateway = Gateway::before(&upstream.url()).config(&tables).start().await;
    for (path, key) in [
        ("/function/echo", "functions.\"NAME\".body.max_request"),
        ("/narrow", "routes.body.max_request"),
    ] {
        let chunks = futures_util::stream::iter(["fi", "ves"].map(Ok::<_, std::io::Error>));
        for body in [reqwest::Body::from("fives"), reqwest::Body::wrap_stream(chunks)] {
            let answer = gateway.post(path).body(body).send().await.expect("an answer");
            assert_eq!(answer.status(), 413);
            let problem: Value = answer.json().await.expect("a problem");
            assert_eq!(problem["setting"], key, "{problem}");
        }
    }
}

#[tokio::test]
async fn what_follows_a_body_that_was_too_large_is_a_request_or_nothing() {
    const NEXT: &str = "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let upstream = Upstream::start().await;
    let gateway = start(&upstream, "body.max_request = 4").await;
    for framed in [
        "Content-Length: 5\r\n\r\nfives",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nfives\r\n0\r\n\r\n",
    ] {
        let mut wire = Wire::connect(gateway.address()).await;
        wire.send(format!("POST /function/echo HTTP/1.1\r\nHost: a\r\n{framed}{NEXT}"))
            .await;
        let answers = wire.rest().await;
        let statuses: Vec<&str> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
        assert!(matches!(statuses[..], ["413"] | ["413", "200"]), "{framed}: {answers}");
    }
}

#[tokio::test]
async fn headers_are_changed_both_ways_but_not_those_that_frame() {
    let upstream = Upstream::start().await;
    let gateway = start(
        &upstream,
        "headers.request = { set = { X-Stage = \"test\", X-Forwarded-For = \"1.1.1.1\" }, remove = [\"Cookie\"] }\n\
         headers.response = { set = { X-Frame-Options = \"DENY\" }, remove = [\"X-Served-By\"] }",
    )
    .await;
    let request = gateway.post("/function/echo").header("cookie", "a=1").body("text");
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.headers()["x-frame-options"], "DENY");
    assert!(!answer.headers().contains_key("x-served-by"));
    let seen: Value = answer.json().await.expect("JSON");
    assert_eq!(echoed(&seen, "x-stage"), ["test"]);
    assert_eq!(echoed(&seen, "x-forwarded-for"), ["1.1.1.1"]);
    assert_eq!(echoed(&seen, "content-length"), ["4"]);
    assert_eq!(echoed(&seen, "cookie"), [""; 0]);
    change(&gateway, "").await;
    let answer = get(&gateway, "/function/echo").await;
    assert!(answer.headers().contains_key("x-served-by"));
}

#[tokio::test]
async fn the_gateway_s_own_retry_after_cannot_be_removed() {
    let upstream = Upstream::start().await.function("busy", |_| async {
        let mut answer = text(503, "busy");
        answer
            .headers_mut()
            .insert("retry-after", http::HeaderValue::from_static("9"));
        answer
    });
    let settings = "headers.response.remove = [\"Retry-After\"]\nrate_limit = { requests = 1, per = \"1h\" }";
    let gateway = start(&upstream, settings).await;
    let answer = get(&gateway, "/function/busy").await;
    assert!(!answer.headers().contains_key("retry-after"), "the function's can");
    refused(get(&gateway, "/function/busy").await, 429, "rate_limit").await;
}

#[tokio::test]
async fn browsers_are_told_who_may_call() {
    let (upstream, _, calls) = flaky().await;
    let cors = "cors = { origins = [\"https://app.test\"], expose = [\"X-Call-Id\"], credentials = true }";
    let gateway = start(
        &upstream,
        &format!("{cors}\nrate_limit = {{ requests = 1, per = \"1h\" }}"),
    )
    .await;
    let preflight = async |origin: &str| {
        let request = gateway
            .request(Method::OPTIONS, "/function/flaky")
            .header("origin", origin)
            .header("access-control-request-method", "PUT");
        request.send().await.expect("an answer")
    };
    for _ in 0..3 {
        let answer = preflight("https://app.test").await;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        assert_eq!(answer.headers()["access-control-allow-methods"], "PUT");
    }
    let other = preflight("https://other.test").await;
    assert_eq!(other.status(), StatusCode::NO_CONTENT);
    assert!(!other.headers().contains_key("access-control-allow-origin"));
    assert_eq!(calls.load(Ordering::SeqCst), 0, "the function sees none of them");
    for ours in [false, true] {
        let request = gateway.get("/function/flaky").header("origin", "https://app.test");
        let answer = request.send().await.expect("an answer");
        let headers = answer.headers();
        assert_eq!(
            headers.contains_key("x-openfaas-internal"),
            ours,
            "the second is refused"
        );
        assert_eq!(headers["access-control-allow-origin"], "https://app.test");
        assert_eq!(headers["access-control-allow-credentials"], "true");
        assert_eq!(headers["access-control-expose-headers"], "x-call-id");
        assert_eq!(headers["vary"], "origin");
    }
    change(&gateway, "cors.origins = []").await;
    preflight("https://app.test").await;
    assert_eq!(calls.load(Ordering::SeqCst), 2, "now the function answers them itself");
}

#[tokio::test]
async fn a_function_that_is_deleted_takes_its_state_along() {
    let gateway = Gateway::new()
        .config(&format!(
            "{QUIET}[functions.f]\nmax_in_flight = 3\nbreaker.failures = 3\nrate_limit = {{ requests = 1, per = \"1h\" }}"
        ))
        .start()
        .await;
    let deployment = serde_json::json!({ "service": "f", "image": "i", "envProcess": "cat" });
    gateway.deploy(&deployment).await;
    assert_eq!(gateway.invoke("/function/f", "hello").await, "hello");
    assert_eq!(status(&gateway, "/function/f").await, 429);
    let mine = |line: &&str| {
        ["refused_total", "queued", "breaker_open"]
            .iter()
            .any(|name| line.starts_with(&format!("gateway_function_{name}")))
    };
    let series = async || gateway.metrics().await.lines().filter(mine).count();
    assert_eq!(series().await, 3);
    gateway.remove("f").await;
    eventually("the end of its series", || async {
        (series().await == 0).then_some(())
    })
    .await;
    gateway.deploy(&deployment).await;
    assert_eq!(gateway.invoke("/function/f", "again").await, "again");
}
