//! Requests and answers that mean one thing to one reader and something else to
//! the next: the gateway settles what they mean, or refuses them.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::support::{Gateway, Upstream, gateway::field, soon, upstream::echoed, wire::Wire};

/// A function's raw answer, whatever is asked, and the request heads that it saw.
async fn raw(answer: &'static str) -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let (saw, seen) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let saw = saw.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                let mut chunk = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut chunk).await {
                    head.extend_from_slice(&chunk[..count]);
                    if !head.ends_with(b"\r\n\r\n") {
                        continue;
                    }
                    let text = String::from_utf8(std::mem::take(&mut head)).expect("text");
                    let answer = if text.starts_with("GET /system/") {
                        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
                    } else {
                        // The test may have seen enough.
                        let _ = saw.send(text.to_ascii_lowercase());
                        answer
                    };
                    stream.write_all(answer.as_bytes()).await.expect("the gateway reads");
                }
            });
        }
    });
    (address, seen)
}

async fn before(address: SocketAddr) -> Gateway {
    Gateway::before(&format!("http://{address}")).start().await
}

#[tokio::test]
async fn ambiguous_requests_are_refused() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream.url()).start().await;
    for (ambiguous, status) in [
        ("Host: a\r\nHost: b\r\n\r\n", 400),
        ("\r\n", 400),
        ("Host: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
        ("Host: a\r\nContent-Length: +3\r\n\r\nabc", 400),
        ("Host: a\r\nContent-Length: 3, 3\r\n\r\nabc", 400),
        (
            "Host: a\r\nTransfer-Encoding : chunked\r\nContent-Length: 3\r\n\r\nabc",
            400,
        ),
        (
            "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("Host: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        ("Host: a\r\nX-Folded: a\r\n b\r\n\r\n", 400),
        (
            "Host: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
            400,
        ),
    ] {
        let mut wire = Wire::connect(gateway.address()).await;
        wire.send(format!("POST /function/echo HTTP/1.1\r\n{ambiguous}")).await;
        let answer = wire.until("\r\n\r\n").await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{ambiguous}: {answer}"
        );
    }
    let total = r#"gateway_function_invocation_total{code="502",function_name="echo"}"#;
    assert_eq!(gateway.metric(total).await, None, "the function is blamed");
}

#[tokio::test]
async fn chunks_rule_over_a_length() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream.url()).start().await;
    let answer = Wire::exchange(
        gateway.address(),
        "POST /function/echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    )
    .await;
    let json = answer.lines().find(|line| line.starts_with('{')).expect("JSON");
    let seen: Value = serde_json::from_str(json).expect("JSON");
    assert_eq!(seen["body"], "abc");
    assert!(echoed(&seen, "content-length").is_empty(), "{seen}");

    let (address, _seen) = raw(
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n\
                                5\r\nhello\r\n0\r\n\r\n",
    )
    .await;
    let gateway = before(address).await;
    let answer = gateway.get("/function/f").send().await.expect("an answer");
    assert_eq!(answer.text().await.expect("a body"), "hello");
}

#[tokio::test]
async fn what_follows_an_answer_is_not_the_next_one() {
    let (address, _seen) = raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi\
                                HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled")
    .await;
    let gateway = before(address).await;
    for _ in 0..5 {
        let answer = gateway.get("/function/f").send().await.expect("an answer");
        assert_eq!(answer.text().await.expect("a body"), "hi");
    }
}

#[tokio::test]
async fn a_body_in_an_answer_that_has_none_is_not_the_next_answer() {
    for (method, answer, status) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200),
        ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", 204),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello",
            304,
        ),
    ] {
        let (address, _seen) = raw(answer).await;
        let gateway = before(address).await;
        let mut wire = Wire::connect(gateway.address()).await;
        for _ in 0..3 {
            wire.send(format!("{method} /function/f HTTP/1.1\r\nHost: x\r\n\r\n"))
                .await;
            let head = wire.until("\r\n\r\n").await;
            assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
        }
    }
}

#[tokio::test]
async fn no_tunnel_that_nobody_asked_for() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\nConnection: Upgrade\r\n\r\n";
    let (address, mut seen) = raw(switch).await;
    let gateway = before(address).await;
    for request in [
        "GET /function/f HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /function/f HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n",
        "GET /function/f HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
    ] {
        let mut wire = Wire::connect(gateway.address()).await;
        wire.send(request).await;
        let answer = wire.until("\r\n\r\n").await;
        assert_eq!(answer.split(' ').nth(1), Some("502"), "{request}: {answer}");
        let head = soon("the request", seen.recv()).await.expect("a request");
        assert!(!head.contains("upgrade"), "{head}");
    }
}

#[tokio::test]
async fn connect_is_refused() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream.url()).start().await;
    for target in ["/function/echo", "echo.example:443"] {
        let mut wire = Wire::connect(gateway.address()).await;
        wire.send(format!("CONNECT {target} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        let answer = wire.until("\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 501"), "{answer}");
    }
}

#[tokio::test]
async fn the_host_of_an_absolute_target_counts() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream.url()).start().await;
    let answer = Wire::exchange(
        gateway.address(),
        "GET http://me:secret@target.test/function/echo?q HTTP/1.1\r\nHost: header.test\r\nConnection: close\r\n\r\n",
    )
    .await;
    let json = answer.lines().find(|line| line.starts_with('{')).expect("JSON");
    let seen: Value = serde_json::from_str(json).expect("JSON");
    assert_eq!(echoed(&seen, "x-forwarded-host"), ["target.test"]);
    assert_eq!(seen["target"], "/function/echo?q");
    let line = gateway
        .logged("the call", |line| field(line, "path") == "/function/echo")
        .await;
    assert!(
        !line.to_string().contains("secret") && !line.to_string().contains("?q"),
        "{line}"
    );
}

#[tokio::test]
async fn a_caller_that_breaks_off_is_not_the_functions_failure() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream.url()).start().await;
    let mut wire = Wire::connect(gateway.address()).await;
    wire.send("POST /function/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
        .await;
    drop(wire);
    let line = gateway
        .logged("the call", |line| field(line, "path") == "/function/echo")
        .await;
    let status = field(&line, "status").as_u64().expect("a status");
    assert!([400, 499].contains(&status), "{line}");
}
