//! Traces as functions, callers and an OTLP receiver see them.

use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::Signal;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse},
    trace::v1::span::SpanKind,
};
use prost::Message;
use serde_json::{Value, json};

use crate::support::{
    Gateway, Upstream,
    collector::{Collector, Span},
    eventually,
    gateway::field,
    provider::{Answer, ScriptedProvider},
    soon,
    upstream::{echoed, text},
    wire::Wire,
};

const TRACES: [&str; 2] = ["4bf92f3577b34da6a3ce929d0e0e4736", "0af7651916cd43dd8448eb211c80319c"];
const CALLER: &str = "00f067aa0ba902b7";

/// What a caller of this trace sends.
fn parent(trace: &str, flags: &str) -> String {
    format!("00-{trace}-{CALLER}-{flags}")
}

/// A gateway before `echo` that exports, with further lines of `[tracing]`.
async fn exporting(collector: &Collector, tracing: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start().await;
    let setup = Gateway::before(&upstream.url()).config(&collector.config(tracing));
    let gateway = setup.start().await;
    (upstream, gateway)
}

/// What `echo` got of a call with these headers.
async fn echo(gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> Value {
    let mut request = gateway.get(path);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    answer.json().await.expect("an echo")
}

fn of(spans: &[Span], kind: SpanKind) -> Vec<&Span> {
    spans.iter().filter(|span| span.kind == kind).collect()
}

fn only(spans: &[Span], kind: SpanKind) -> &Span {
    let found = of(spans, kind);
    assert_eq!(found.len(), 1, "{spans:#?}");
    found[0]
}

#[track_caller]
fn says(span: &Span, attributes: &[(&str, &str)]) {
    for (name, value) in attributes {
        assert_eq!(span.get(name), *value, "{name} of {span:#?}");
    }
}

#[tokio::test]
async fn a_callers_trace_goes_on_below_the_gateways_spans() {
    let collector = Collector::start().await;
    let more = "sample = 0\nresource = { \"deployment.environment.name\" = \"test\" }";
    let (upstream, gateway) = exporting(&collector, more).await;
    // Only the second call takes the fast lane, where there is one.
    for (number, trace) in TRACES.iter().enumerate() {
        let path = format!("/function/echo/{number}");
        let headers = [
            ("traceparent", &*parent(trace, "01")),
            ("tracestate", "vendor=1"),
            ("x-call-id", "mine"),
            ("host", "gw.test:81"),
        ];
        let seen = echo(&gateway, &format!("{path}?secret=1"), &headers).await;
        let spans = collector.trace(2, |span| span.trace == *trace).await;
        let (server, client) = (only(&spans, SpanKind::Server), only(&spans, SpanKind::Client));
        assert_eq!(echoed(&seen, "traceparent"), [format!("00-{trace}-{}-01", client.id)]);
        assert_eq!(echoed(&seen, "tracestate"), ["vendor=1"]);
        assert_eq!((&*server.parent, &client.parent), (CALLER, &server.id));
        assert_eq!((&*server.name, &*client.name), ("GET /function/echo", "GET"));
        assert_eq!(
            (&*server.state, server.failed, client.failed),
            ("vendor=1", false, false)
        );
        says(
            server,
            &[
                ("http.request.method", "GET"),
                ("http.response.status_code", "200"),
                ("http.route", "/function/echo"),
                ("url.path", &path),
                ("url.scheme", "http"),
                ("network.peer.address", "127.0.0.1"),
                ("server.address", "gw.test"),
                ("server.port", "81"),
                ("faas.trigger", "http"),
                ("faas.invoked_name", "echo"),
                ("faas.invocation_id", "mine"),
                ("error.type", ""),
            ],
        );
        says(
            client,
            &[
                ("server.address", "127.0.0.1"),
                ("url.full", &format!("{}{path}", upstream.url())),
                ("http.response.status_code", "200"),
                ("http.request.resend_count", ""),
                ("faas.invoked_name", "echo"),
            ],
        );
        assert_eq!(server.resource("service.name"), "faas-gateway");
        assert_eq!(server.resource("deployment.environment.name"), "test");
        let line = gateway.logged(&path, |line| field(line, "path") == &*path).await;
        assert_eq!(field(&line, "trace_id"), trace);
    }
    assert!(
        !format!("{:?}", collector.spans()).contains("secret"),
        "queries are the caller's"
    );
}

#[tokio::test]
async fn what_the_caller_did_not_sample_passes_and_leaves_no_span() {
    let collector = Collector::start().await;
    let (_upstream, gateway) = exporting(&collector, "sample = 1").await;
    for flags in ["00", "02"] {
        let given = parent(TRACES[0], flags);
        let seen = echo(&gateway, "/function/echo", &[("traceparent", &given)]).await;
        assert_eq!(echoed(&seen, "traceparent"), [given]);
    }
    // What comes after it has arrived.
    echo(&gateway, "/function/echo", &[("traceparent", &parent(TRACES[1], "01"))]).await;
    collector.trace(2, |span| span.trace == TRACES[1]).await;
    assert!(collector.spans().iter().all(|span| span.trace != TRACES[0]));
}

#[tokio::test]
async fn a_call_without_a_valid_trace_begins_one() {
    let collector = Collector::start().await;
    let (_upstream, gateway) = exporting(&collector, "sample = \"100%\"").await;
    let invalid = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
    for headers in [&[][..], &[], &[("traceparent", invalid), ("tracestate", "theirs=1")]] {
        let seen = echo(&gateway, "/function/echo", headers).await;
        let parent = echoed(&seen, "traceparent").remove(0);
        let (trace, below) = (&parent[3..35], &parent[36..52]);
        assert!(parent.ends_with("-01") && trace != &invalid[3..35], "{parent}");
        assert!(echoed(&seen, "tracestate").is_empty());
        let spans = collector.trace(2, |span| span.trace == trace).await;
        assert_eq!(only(&spans, SpanKind::Server).parent, "");
        assert_eq!(only(&spans, SpanKind::Client).id, below);
    }
    // Two of them are none, as nobody can say which counts.
    let twice = format!("traceparent: {0}\r\ntraceparent: {0}", parent(TRACES[0], "01"));
    let request = format!("GET /function/echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{twice}\r\n\r\n");
    let answer = Wire::exchange(gateway.address(), &request).await;
    assert_eq!(answer.matches("traceparent").count(), 1, "{answer}");
    assert!(!answer.contains(TRACES[0]), "{answer}");
}

#[tokio::test]
async fn only_the_share_that_is_asked_for_is_sampled() {
    let collector = Collector::start().await;
    let (_upstream, gateway) = exporting(&collector, "sample = 0.5").await;
    let mut sampled = Vec::new();
    for _ in 0..60 {
        let seen = echo(&gateway, "/function/echo", &[]).await;
        let parent = echoed(&seen, "traceparent").remove(0);
        if parent.ends_with("-01") {
            sampled.push(parent[3..35].to_owned());
        }
    }
    // One in 10^18 runs has none or all.
    assert!((1..60).contains(&sampled.len()), "{}", sampled.len());
    collector
        .trace(2, |span| span.trace == sampled[sampled.len() - 1])
        .await;
    let mut seen: Vec<_> = collector.spans().into_iter().map(|span| span.trace).collect();
    seen.dedup();
    assert_eq!(seen, sampled);
}

#[tokio::test]
async fn with_everything_off_headers_pass_untouched() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream.url()).start().await;
    let given = parent(TRACES[0], "ff");
    for (number, headers) in [
        &[("traceparent", "nonsense"), ("tracestate", "theirs=1")][..],
        &[("traceparent", &given), ("tracestate", "theirs=1")],
        &[],
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/function/echo/{number}");
        let seen = echo(&gateway, &path, headers).await;
        for (name, value) in [("traceparent", headers.first()), ("tracestate", headers.get(1))] {
            let value: Vec<_> = value.iter().map(|(_, value)| (*value).to_owned()).collect();
            assert_eq!(echoed(&seen, name), value);
        }
        // It is known in the log all the same.
        let line = gateway.logged(&path, |line| field(line, "path") == &*path).await;
        let expected = if number == 1 { json!(TRACES[0]) } else { Value::Null };
        assert_eq!(*field(&line, "trace_id"), expected);
    }
}

#[tokio::test]
async fn traces_can_begin_here_though_nothing_is_exported() {
    let upstream = Upstream::start().await;
    let setup = Gateway::before(&upstream.url()).config("[tracing]\npropagate = true\nsample = 1");
    let gateway = setup.start().await;
    for path in ["/function/echo/a", "/function/echo/b"] {
        let seen = echo(&gateway, path, &[("tracestate", "theirs=1")]).await;
        let parent = echoed(&seen, "traceparent").remove(0);
        assert!(parent.starts_with("00-") && parent.ends_with("-01"), "{parent}");
        assert!(echoed(&seen, "tracestate").is_empty());
        let line = gateway.logged(path, |line| field(line, "path") == path).await;
        assert_eq!(field(&line, "trace_id"), &parent[3..35]);
        let given = self::parent(TRACES[0], "01");
        let seen = echo(&gateway, path, &[("traceparent", &given)]).await;
        assert_eq!(echoed(&seen, "traceparent"), [given]);
    }
}

#[tokio::test]
async fn each_try_is_a_span_and_tells_the_function_its_own() {
    let collector = Collector::start().await;
    let calls = AtomicU32::new(0);
    let parents = std::sync::Arc::<std::sync::Mutex<Vec<String>>>::default();
    let told = std::sync::Arc::clone(&parents);
    let upstream = Upstream::start().await.function("shaky", move |request| {
        let parent = request.headers()["traceparent"].to_str().expect("text").to_owned();
        told.lock().expect("no panic").push(parent);
        let call = calls.fetch_add(1, Ordering::SeqCst);
        async move { text(if call < 2 { 503 } else { 200 }, "") }
    });
    let config = collector.config("") + "[functions.shaky]\nretries = { attempts = 2, backoff = \"1ms\" }\n";
    let gateway = Gateway::before(&upstream.url()).config(&config).start().await;
    let answer = gateway
        .get("/function/shaky")
        .header("traceparent", parent(TRACES[0], "01"));
    assert_eq!(answer.send().await.expect("an answer").status(), 200);
    let spans = collector.trace(4, |span| span.trace == TRACES[0]).await;
    let tries = of(&spans, SpanKind::Client);
    let seen = |name| tries.iter().map(|span| span.get(name)).collect::<Vec<_>>();
    assert_eq!(seen("http.response.status_code"), ["503", "503", "200"]);
    assert_eq!(seen("error.type"), ["503", "503", ""]);
    assert_eq!(seen("http.request.resend_count"), ["", "1", "2"]);
    let expected: Vec<_> = tries
        .iter()
        .map(|span| format!("00-{}-{}-01", TRACES[0], span.id))
        .collect();
    assert_eq!(*parents.lock().expect("no panic"), expected);
    assert!(!only(&spans, SpanKind::Server).failed);
}

#[tokio::test]
async fn a_function_that_cannot_be_reached_shows_in_every_try() {
    let collector = Collector::start().await;
    let provider =
        ScriptedProvider::answering(Answer::json(200, &json!({ "name": "f", "image": "i", "replicas": 1 }))).await;
    let setup = Gateway::before(provider.url.as_str()).config(&collector.config(""));
    let gateway = setup.start().await;
    let call = |trace| {
        gateway
            .get("/function/f")
            .header("traceparent", parent(trace, "01"))
            .send()
    };
    assert_eq!(call(TRACES[1]).await.expect("an answer").status(), 200);
    drop(provider);
    let status = eventually("the provider is gone", || async {
        let status = call(TRACES[0]).await.expect("an answer").status().as_u16();
        (status == 502).then_some(status)
    })
    .await;
    let last = |span: &Span| span.trace == TRACES[0] && span.get("http.response.status_code") == status.to_string();
    let spans = collector.trace(4, last).await;
    let server = spans.iter().find(|span| last(span)).expect("found");
    let tries: Vec<_> = spans.iter().filter(|span| span.parent == server.id).collect();
    assert_eq!(tries.len(), 3, "{spans:#?}");
    for tried in tries {
        says(
            tried,
            &[("error.type", "unreachable"), ("http.response.status_code", "")],
        );
        assert!(tried.failed);
    }
    assert!(server.failed);
    says(server, &[("error.type", "502")]);
}

#[tokio::test]
async fn what_went_wrong_is_named() {
    let collector = Collector::start().await;
    let (arrive, mut arrived) = tokio::sync::mpsc::channel(1);
    let upstream = Upstream::start()
        .await
        .function("slow", |_| std::future::pending())
        .function("left", move |_| {
            let arrive = arrive.clone();
            async move {
                arrive.send(()).await.expect("the test listens");
                std::future::pending().await
            }
        })
        .function("failing", |_| async { text(500, "no") })
        .function("missing", |_| async { text(404, "no") });
    let config = collector.config("sample = 1") + "[functions.slow.timeouts]\nfirst_byte = \"50ms\"\n";
    let gateway = Gateway::before(&upstream.url()).config(&config).start().await;
    for (name, status, server_error, client_error) in [
        ("slow", "504", "504", "answer_timeout"),
        ("failing", "500", "500", "500"),
        // The function's answer is an error to whoever asked, and none of ours.
        ("missing", "404", "", "404"),
    ] {
        for call in 0..2 {
            let path = format!("/function/{name}/{call}");
            gateway.get(&path).send().await.expect("an answer");
            let spans = collector.trace(2, |span| span.get("url.path") == path).await;
            let (server, client) = (only(&spans, SpanKind::Server), only(&spans, SpanKind::Client));
            says(
                server,
                &[("http.response.status_code", status), ("error.type", server_error)],
            );
            says(client, &[("error.type", client_error)]);
            assert_eq!((server.failed, client.failed), (!server_error.is_empty(), true));
        }
    }
    // The caller leaves when the function has the call, and before there is an answer.
    let mut wire = Wire::connect(gateway.address()).await;
    wire.send("GET /function/left/left HTTP/1.1\r\nHost: x\r\n\r\n").await;
    soon("the call", arrived.recv()).await.expect("it is kept");
    drop(wire);
    let spans = collector
        .trace(2, |span| span.get("url.path") == "/function/left/left")
        .await;
    let server = only(&spans, SpanKind::Server);
    says(server, &[("http.response.status_code", ""), ("error.type", "aborted")]);
    // Names that callers make up are in no span's name.
    gateway.get("/function/made-up").send().await.expect("an answer");
    let spans = collector
        .trace(1, |span| span.get("url.path") == "/function/made-up")
        .await;
    assert_eq!(spans[0].name, "GET");
}

#[tokio::test]
async fn waiting_for_a_replica_is_a_span() {
    let collector = Collector::start().await;
    let gateway = Gateway::new().config(&collector.config("sample = 0")).start().await;
    gateway
        .deploy(&json!({"service": "cat", "image": "local", "envProcess": "cat"}))
        .await;
    for trace in TRACES {
        gateway.scale("cat", 0).await;
        eventually("no replica", || async {
            let status = gateway.status("cat", "").await?;
            (status.available_replicas == 0).then_some(())
        })
        .await;
        let call = gateway.post("/function/cat").header("traceparent", parent(trace, "01"));
        assert_eq!(call.send().await.expect("an answer").status(), 200);
        let spans = collector.trace(3, |span| span.trace == trace).await;
        let (server, client) = (only(&spans, SpanKind::Server), only(&spans, SpanKind::Client));
        let wait = only(&spans, SpanKind::Internal);
        assert_eq!((&*wait.name, &wait.parent), ("activation", &server.id));
        assert!(wait.took_nanos > 0 && server.took_nanos >= wait.took_nanos + client.took_nanos);
        says(client, &[("network.transport", "unix")]);
        says(server, &[("faas.invoked_name", "cat.openfaas-fn")]);
    }
}

#[tokio::test]
async fn requests_to_the_gateway_itself_are_spans_by_their_template() {
    let collector = Collector::start().await;
    let (_upstream, gateway) = exporting(&collector, "sample = 1").await;
    for (path, name) in [
        ("/system/function/echo", "GET /system/function/{name}"),
        ("/healthz", "GET /healthz"),
        ("/nowhere", "GET"),
    ] {
        gateway.get(path).send().await.expect("an answer");
        let spans = collector.trace(1, |span| span.get("url.path") == path).await;
        let server = only(&spans, SpanKind::Server);
        assert_eq!(server.name, name);
        says(server, &[("faas.trigger", ""), ("faas.invoked_name", "")]);
    }
}

#[tokio::test]
async fn routes_name_the_spans_of_their_calls() {
    let collector = Collector::start().await;
    let upstream = Upstream::start().await;
    let config = collector.config("sample = 1") + "[[routes]]\npath = \"/v1\"\nfunction = \"echo\"\n";
    let gateway = Gateway::before(&upstream.url()).config(&config).start().await;
    // Only the second call takes the fast lane, where there is one.
    for path in ["/v1/a", "/v1/b"] {
        let seen = echo(&gateway, path, &[]).await;
        let spans = collector.trace(2, |span| span.get("url.path") == path).await;
        let (server, client) = (only(&spans, SpanKind::Server), only(&spans, SpanKind::Client));
        assert_eq!(server.name, "GET /v1");
        says(server, &[("http.route", "/v1"), ("faas.invoked_name", "echo")]);
        assert_eq!(
            echoed(&seen, "traceparent"),
            [format!("00-{}-{}-01", client.trace, client.id)]
        );
    }
}

#[tokio::test]
async fn routes_and_their_copies_are_of_one_trace() {
    let collector = Collector::start().await;
    let upstream = Upstream::start().await.function("shadow", |_| async { text(200, "") });
    let route = "[[routes]]\npath = \"/v1\"\nfunction = \"echo\"\nmirror = { function = \"shadow\" }\n";
    let config = collector.config("sample = 1") + route;
    let gateway = Gateway::before(&upstream.url()).config(&config).start().await;
    gateway.get("/v1/x").send().await.expect("an answer");
    let spans = collector.trace(4, |span| span.name == "GET /v1").await;
    let server = only(&spans, SpanKind::Server);
    says(server, &[("http.route", "/v1"), ("faas.invoked_name", "echo")]);
    let copy = only(&spans, SpanKind::Internal);
    says(copy, &[("faas.invoked_name", "shadow")]);
    assert_eq!(copy.parent, server.id);
}

#[tokio::test]
async fn what_the_operator_says_of_the_header_counts() {
    let collector = Collector::start().await;
    let upstream = Upstream::start().await;
    let config = collector.config("sample = 1") + "[functions.echo.headers.request]\nremove = [\"Traceparent\"]\n";
    let gateway = Gateway::before(&upstream.url()).config(&config).start().await;
    let seen = echo(&gateway, "/function/echo", &[("traceparent", &parent(TRACES[0], "01"))]).await;
    assert!(echoed(&seen, "traceparent").is_empty());
    collector.trace(2, |span| span.trace == TRACES[0]).await;
}

#[tokio::test]
async fn a_receiver_that_hangs_costs_spans_and_no_call() {
    let collector = Collector::answering(Answer::silence()).await;
    let (_upstream, gateway) = exporting(&collector, "sample = 1\nqueue_size = 4\ntimeout = \"1h\"").await;
    eventually("spans are dropped", || async {
        assert_eq!(
            gateway.get("/function/echo").send().await.expect("an answer").status(),
            200
        );
        let dropped = gateway
            .metric(r#"gateway_traces_dropped_total{reason="queue_full"}"#)
            .await?;
        (dropped > 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_exported_is_tried_again_then_counted_and_told_once() {
    let asked = AtomicU32::new(0);
    let collector = Collector::scripted(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Answer::text(503, "busy").header("retry-after", "0"),
        1 => Answer::empty(200),
        _ => Answer::text(400, "no"),
    })
    .await;
    let (_upstream, gateway) = exporting(&collector, "sample = 1").await;
    let reaches = async |series: &str, least: f64| {
        eventually(series, || async {
            (gateway.metric(series).await? >= least).then_some(())
        })
        .await;
    };
    let failed = r#"gateway_traces_dropped_total{reason="export_failed"}"#;
    echo(&gateway, "/function/echo", &[]).await;
    reaches("gateway_traces_exported_total", 2.0).await;
    assert_eq!(gateway.metric(failed).await, Some(0.0));
    assert_eq!(gateway.metric("gateway_traces_export_failures_total").await, Some(1.0));
    for least in [2.0, 4.0] {
        echo(&gateway, "/function/echo", &[]).await;
        reaches(failed, least).await;
    }
    let about = |line: &Value| line.to_string().contains("spans cannot be exported");
    gateway.logged("the failure", about).await;
    assert_eq!(gateway.log_count(about), 1, "once a minute");
}

#[tokio::test]
async fn spans_that_the_receiver_does_not_take_are_counted() {
    let partial = ExportTraceServiceResponse {
        partial_success: Some(ExportTracePartialSuccess {
            rejected_spans: 1,
            error_message: "too\nold".to_owned(),
        }),
    };
    let body = String::from_utf8(partial.encode_to_vec()).expect("small numbers");
    let collector = Collector::answering(Answer::text(200, &body)).await;
    let (_upstream, gateway) = exporting(&collector, "sample = 1").await;
    echo(&gateway, "/function/echo", &[]).await;
    let series = r#"gateway_traces_dropped_total{reason="rejected"}"#;
    eventually("one is counted", || async {
        (gateway.metric(series).await? >= 1.0).then_some(())
    })
    .await;
    let line = gateway
        .logged("why", |line| line.to_string().contains("rejected"))
        .await;
    assert!(line.to_string().contains("too\\\\nold"), "{line}");
}

#[tokio::test]
async fn export_is_turned_on_and_off_and_moved_while_running() {
    let (first, second) = (Collector::start().await, Collector::start().await);
    let upstream = Upstream::start().await;
    let base = "[reload]\nwatch = \"off\"\n";
    let gateway = Gateway::before(&upstream.url()).config(base).start().await;
    let apply = async |tracing: String| {
        gateway.configure(&format!("{base}{tracing}")).await;
    };
    let traced = async || {
        let seen = echo(&gateway, "/function/echo", &[]).await;
        let parent = echoed(&seen, "traceparent").pop();
        parent.map(|parent| parent[3..35].to_owned())
    };
    assert_eq!(traced().await, None);
    apply(first.config("sample = 1")).await;
    let one = traced().await.expect("a trace");
    // What waits for the first receiver still reaches it.
    apply(second.config("sample = 1")).await;
    let two = traced().await.expect("a trace");
    first.trace(2, |span| span.trace == one).await;
    second.trace(2, |span| span.trace == two).await;
    apply(String::new()).await;
    assert_eq!(traced().await, None);
    assert!(first.spans().iter().all(|span| span.trace != two));
    // Reloads that changed something are told to whoever is live then.
    let reload = second.trace(1, |span| span.name == "reload").await;
    says(
        &reload[0],
        &[
            ("faas_gateway.reload.result", "applied"),
            ("faas_gateway.reload.trigger", "api"),
        ],
    );
}

#[tokio::test]
async fn the_last_spans_are_exported_before_the_end() {
    let collector = Collector::start().await;
    let (_upstream, mut gateway) = exporting(&collector, "").await;
    for trace in TRACES {
        echo(&gateway, "/function/echo", &[("traceparent", &parent(trace, "01"))]).await;
    }
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.ended().await.code(), Some(0));
    for trace in TRACES {
        assert_eq!(collector.spans().iter().filter(|span| span.trace == trace).count(), 2);
    }
}

#[tokio::test]
async fn a_receiver_that_hangs_does_not_hold_up_the_end() {
    let collector = Collector::answering(Answer::silence()).await;
    let upstream = Upstream::start().await;
    let config = collector.config("sample = 1\ntimeout = \"1h\"") + "[server]\ndrain_timeout = \"200ms\"\n";
    let mut gateway = Gateway::before(&upstream.url()).config(&config).start().await;
    echo(&gateway, "/function/echo", &[]).await;
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.ended().await.code(), Some(0));
    gateway
        .logged("what was lost", |line| {
            line.to_string().contains("not exported in time")
        })
        .await;
}

#[tokio::test]
async fn opentelemetrys_variables_count_and_their_secrets_stay_secret() {
    let collector = Collector::start().await;
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream.url())
        .config("[tracing]\nsample = 1\n")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())
        .env(
            "OTEL_EXPORTER_OTLP_HEADERS",
            "authorization=Bearer%20hunter2,x-tenant=a",
        )
        .env("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,service.instance.id=7")
        .env("OTEL_SERVICE_NAME", "edge")
        .start()
        .await;
    echo(&gateway, "/function/echo", &[]).await;
    let spans = collector.trace(2, |span| span.name == "GET /function/echo").await;
    assert_eq!(spans[0].resource("service.name"), "edge");
    assert_eq!(spans[0].resource("service.instance.id"), "7");
    let request = collector.requests().remove(0);
    assert_eq!(request.header("authorization"), Some("Bearer hunter2"));
    assert_eq!(request.header("x-tenant"), Some("a"));
    let config = gateway.get("/system/config").send().await.expect("an answer");
    let config = config.text().await.expect("text");
    assert!(
        config.contains("OTEL_EXPORTER_OTLP_HEADERS") && !config.contains("hunter2"),
        "{config}"
    );
}
