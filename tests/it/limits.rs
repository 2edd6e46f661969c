//! What one caller may take: heads, connections, requests, time. Both lanes
//! hold all of it.

use std::time::Duration;

use http::Request;

use crate::support::{
    Gateway, Upstream, eventually, soon,
    wire::{Wire, frames},
};

const CALL: &str = "GET /function/echo HTTP/1.1\r\nHost: x\r\n\r\n";

async fn call(wire: &mut Wire) -> String {
    wire.send(CALL).await;
    let head = wire.until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    wire.until("null}").await;
    head
}

/// A gateway with this in `[server]`, which knows the function.
async fn limited(upstream: &Upstream, server: &str) -> Gateway {
    let toml = format!("[reload]\nwatch = \"off\"\n[server]\n{server}\n");
    let gateway = Gateway::before(&upstream.url()).config(&toml).start().await;
    gateway.invoke("/function/echo", "").await;
    gateway
}

async fn reload(gateway: &Gateway, server: &str) {
    let toml = format!("[reload]\nwatch = \"off\"\n[server]\n{server}\n");
    gateway.configure(&toml).await;
}

/// The answer to a call with so many header fields and a target so long.
async fn large(gateway: &Gateway, fields: usize, target: usize) -> String {
    let target = format!("/function/echo?{}", "q".repeat(target - "/function/echo?".len()));
    let more = "X-More: 1\r\n".repeat(fields - 3);
    let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nAccept: */*\r\nConnection: close\r\n{more}\r\n");
    Wire::exchange(gateway.address(), &request).await
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused_with_the_setting() {
    let upstream = Upstream::start().await;
    let gateway = limited(&upstream, "max_headers = 20\nmax_uri_bytes = 100").await;
    for (fields, target, status, setting) in [
        (20, 100, "200", ""),
        (21, 100, "431", "server.max_headers"),
        (150, 100, "431", "server.max_headers"),
        (20, 101, "414", "server.max_uri_bytes"),
    ] {
        let answer = large(&gateway, fields, target).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{fields} {target}: {answer}"
        );
        assert!(answer.contains(setting), "{answer}");
    }
    assert!(large(&gateway, 5000, 100).await.starts_with("HTTP/1.1 431 "));

    let (mut sender, _connection) = frames(gateway.address(), &h2::client::Builder::new()).await;
    for (fields, target, status) in [(18, 100, 200), (21, 100, 431), (1, 101, 414)] {
        let path = format!("/function/echo?{}", "q".repeat(target - 15));
        let mut request = Request::get(format!("http://x{path}"));
        for _ in 0..fields {
            request = request.header("x-more", "1");
        }
        let request = request.body(()).expect("a request");
        let (answer, _) = sender.send_request(request, true).expect("open");
        assert_eq!(answer.await.expect("an answer").status(), status, "{fields} {target}");
    }

    reload(&gateway, "max_headers = 0\nmax_uri_bytes = 0").await;
    for (fields, target) in [(90, 100), (20, 60_000)] {
        let answer = large(&gateway, fields, target).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{fields} {target}: {answer:.300}");
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_and_none_is_refused() {
    let upstream = Upstream::start().await;
    let gateway = limited(&upstream, "max_connections = 3").await;
    let open = "gateway_connections_open{listener=\"main\"}";
    let before = gateway
        .metric("gateway_connections_accepted_total{listener=\"main\"}")
        .await;
    // One is the harness's own.
    eventually("one connection", || async {
        (gateway.metric(open).await? <= 1.0).then_some(())
    })
    .await;
    let (mut first, mut second) = (
        Wire::connect(gateway.address()).await,
        Wire::connect(gateway.address()).await,
    );
    call(&mut first).await;
    call(&mut second).await;
    assert_eq!(gateway.metric(open).await, Some(3.0));
    let (mut third, mut fourth) = (
        Wire::connect(gateway.address()).await,
        Wire::connect(gateway.address()).await,
    );
    third.send(CALL).await;
    fourth.send(CALL).await;
    let answered = tokio::time::timeout(Duration::from_millis(300), third.until("200"));
    answered.await.expect_err("the limit is reached");
    gateway
        .logged("the limit", |line| {
            line.to_string().contains("server.max_connections is reached")
        })
        .await;
    assert_eq!(gateway.metric(open).await, Some(3.0));
    drop(first);
    third.until("null}").await;
    // A higher limit lets those in that wait.
    reload(&gateway, "max_connections = 0").await;
    fourth.until("null}").await;
    let accepted = gateway
        .metric("gateway_connections_accepted_total{listener=\"main\"}")
        .await;
    assert_eq!(accepted, before.map(|before| before + 4.0));
    call(&mut second).await;
}

#[tokio::test]
async fn the_last_request_of_a_connection_is_answered_with_notice() {
    let upstream = Upstream::start().await;
    let gateway = limited(&upstream, "max_requests_per_connection = 4").await;
    let info = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    for last_is_call in [true, false] {
        let mut wire = Wire::connect(gateway.address()).await;
        assert!(!call(&mut wire).await.contains("close"));
        wire.send(info).await;
        wire.until("\r\n\r\nOK").await;
        assert!(!call(&mut wire).await.contains("close"));
        let last = if last_is_call {
            call(&mut wire).await
        } else {
            wire.send(info).await;
            wire.until("\r\n\r\n").await
        };
        assert!(last.contains("\r\nConnection: close\r\n"), "{last}");
        wire.rest().await;
    }
    // Nobody is told more than there is to tell.
    reload(&gateway, "max_requests_per_connection = 0").await;
    let mut wire = Wire::connect(gateway.address()).await;
    for _ in 0..10 {
        assert!(!call(&mut wire).await.contains("close"));
    }
}

#[tokio::test]
async fn an_http2_connection_says_goodbye_after_its_last_request() {
    let upstream = Upstream::start().await;
    let gateway = limited(&upstream, "max_requests_per_connection = 3").await;
    let (mut sender, connection) = frames(gateway.address(), &h2::client::Builder::new()).await;
    for _ in 0..3 {
        let request = Request::get("http://x/function/echo").body(()).expect("a request");
        let (answer, _) = sender.send_request(request, true).expect("open");
        let mut body = answer.await.expect("an answer").into_body();
        while let Some(data) = body.data().await {
            data.expect("data");
        }
    }
    let ended = soon("the end", connection).await.expect("no panic");
    assert!(ended.is_ok(), "an orderly end: {ended:?}");
}

#[tokio::test]
async fn who_opens_streams_only_to_reset_them_is_cut_off() {
    let upstream = Upstream::start().await.function("waits", |_| std::future::pending());
    let gateway = limited(&upstream, "").await;
    let (sender, connection) = frames(gateway.address(), &h2::client::Builder::new()).await;
    let mut opened = 0;
    soon("the end", async {
        while let Ok(mut ready) = sender.clone().ready().await {
            let request = Request::get("http://x/function/waits").body(()).expect("a request");
            let Ok((answer, mut stream)) = ready.send_request(request, true) else {
                break;
            };
            opened += 1;
            // The gateway must have seen it as a request.
            tokio::task::yield_now().await;
            stream.send_reset(h2::Reason::CANCEL);
            drop(answer);
        }
    })
    .await;
    drop(sender);
    let _ended = soon("the connection's end", connection).await;
    assert!(opened < 5000, "{opened} streams");
    let series = "gateway_function_invocation_inflight{function_name=\"waits\"}";
    eventually("no call left", || async {
        (gateway.metric(series).await.unwrap_or_default() < 1.0).then_some(())
    })
    .await;
    gateway.invoke("/function/echo", "").await;
}

#[tokio::test]
async fn waiting_for_a_request_and_for_its_head_have_bounds_of_their_own() {
    let upstream = Upstream::start().await;
    let gateway = limited(&upstream, "read_timeout = \"10m\"\nidle_timeout = \"300ms\"").await;
    let mut idle = Wire::connect(gateway.address()).await;
    call(&mut idle).await;
    assert_eq!(idle.rest().await, "");
    let mut late = Wire::connect(gateway.address()).await;
    late.send("GET /function/ec").await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    late.send("ho HTTP/1.1\r\nHost: x\r\n\r\n").await;
    late.until("null}").await;

    reload(&gateway, "read_timeout = \"10m\"\nheader_timeout = \"300ms\"").await;
    let mut wire = Wire::connect(gateway.address()).await;
    call(&mut wire).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    call(&mut wire).await;
    wire.send("GET /function/ec").await;
    assert!(!wire.rest().await.contains("200 OK"));
    Wire::connect(gateway.address()).await.rest().await;
}

#[tokio::test]
async fn an_idle_http2_connection_is_closed_and_a_busy_one_is_not() {
    let (release, held) = tokio::sync::oneshot::channel::<()>();
    let held = std::sync::Mutex::new(Some(held));
    let upstream = Upstream::start().await.function("holds", move |_| {
        let held = held.lock().expect("no panic").take().expect("called once");
        async move {
            held.await.expect("the test says when");
            crate::support::upstream::text(200, "")
        }
    });
    let gateway = limited(&upstream, "idle_timeout = \"300ms\"").await;
    let (mut sender, connection) = frames(gateway.address(), &h2::client::Builder::new()).await;
    let request = Request::get("http://x/function/holds").body(()).expect("a request");
    let (answer, _) = sender.send_request(request, true).expect("open");
    tokio::time::sleep(Duration::from_millis(900)).await;
    release.send(()).expect("the function waits");
    assert_eq!(soon("the answer", answer).await.expect("an answer").status(), 200);
    let ended = soon("the end", connection).await.expect("no panic");
    assert!(ended.is_ok(), "{ended:?}");
}
