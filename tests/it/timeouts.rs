//! Which bound fired, and that the answer says so.

use std::time::Duration;

use crate::support::{
    Gateway, Upstream, eventually,
    upstream::{body, text},
    wire::Wire,
};

#[tokio::test]
async fn a_slow_function_gets_504_that_names_the_setting() {
    let upstream = Upstream::start().await.function("slow", |_| std::future::pending());
    let gateway = Gateway::before(&upstream.url())
        .env("upstream_timeout", "100ms")
        .start()
        .await;
    let answer = gateway.get("/function/slow").send().await.expect("an answer");
    assert_eq!(answer.status(), 504);
    assert_eq!(answer.headers()["x-openfaas-internal"], "gateway");
    assert!(answer.headers().contains_key("x-call-id"));
    let problem: serde_json::Value = answer.json().await.expect("a problem");
    assert_eq!(problem["setting"], "invoke.upstream_timeout");
    assert_eq!(problem["component"], "function");
}

#[tokio::test]
async fn the_file_gives_a_function_its_own_bound() {
    let upstream = Upstream::start()
        .await
        .function("slow", |_| std::future::pending())
        .function("late", |_| async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            text(200, "made it")
        });
    let gateway = Gateway::before(&upstream.url())
        .env("upstream_timeout", "150ms")
        .config("[functions.late]\ntimeouts.total = \"10s\"")
        .start()
        .await;
    assert_eq!(gateway.invoke("/function/late", "").await, "made it");
    assert_eq!(
        gateway.get("/function/slow").send().await.expect("an answer").status(),
        504
    );
}

#[tokio::test]
async fn write_timeout_bounds_the_whole_answer() {
    let upstream = Upstream::start().await.function("slow", |_| std::future::pending());
    let gateway = Gateway::before(&upstream.url())
        .env("write_timeout", "100ms")
        .start()
        .await;
    let answer = gateway.get("/function/slow").send().await.expect("an answer");
    assert_eq!(answer.status(), 504);
    assert!(answer.text().await.expect("text").contains("server.write_timeout"));
}

#[tokio::test]
async fn an_unreachable_function_gets_502() {
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("bound").port()
    };
    let gateway = Gateway::before(&format!("http://127.0.0.1:{port}")).start().await;
    let answer = gateway.get("/function/echo").send().await.expect("an answer");
    assert_eq!(answer.status(), 502);
    assert!(answer.text().await.expect("text").contains("cannot connect"));
}

#[tokio::test]
async fn half_a_head_is_dropped_after_read_timeout() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream.url())
        .env("read_timeout", "200ms")
        .start()
        .await;
    let mut wire = Wire::connect(gateway.address()).await;
    wire.send("GET /function/echo HTTP/1.1\r\nHos").await;
    let answer = wire.rest().await;
    assert!(!answer.contains("200 OK"), "{answer}");
}

#[tokio::test]
async fn half_a_body_gets_408_after_read_timeout() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream.url())
        .env("read_timeout", "200ms")
        .start()
        .await;
    let mut wire = Wire::connect(gateway.address()).await;
    wire.send("POST /function/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
        .await;
    let answer = wire.until("read_timeout").await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test]
async fn a_head_that_is_too_large_gets_431() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream.url())
        .config("[server]\nmax_header_bytes = \"16KiB\"")
        .start()
        .await;
    let large = "x".repeat(20_000);
    let answer = Wire::exchange(
        gateway.address(),
        &format!("GET /function/echo HTTP/1.1\r\nHost: x\r\nX-Large: {large}\r\n\r\n"),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn a_function_at_zero_is_started_when_it_is_called() {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };
    let gateway = Gateway::new().start().await;
    gateway
        .deploy(&serde_json::json!({"service": "cat", "image": "local", "envProcess": "cat"}))
        .await;
    let zero = serde_json::json!({"serviceName": "cat", "replicas": 0});
    let (status, text) = gateway
        .send(http::Method::POST, "/system/scale-function/cat", &zero)
        .await;
    assert_eq!(status, 202, "{text}");
    eventually("no replica", || async {
        (gateway.status("cat", "").await?["availableReplicas"] == 0).then_some(())
    })
    .await;
    let answers = Arc::new(AtomicU64::new(0));
    let calls = (0..8).map(|_| async {
        assert_eq!(gateway.invoke("/function/cat", "hello").await, "hello");
        answers.fetch_add(1, Ordering::Relaxed);
    });
    futures_util::future::join_all(calls).await;
    assert_eq!(answers.load(Ordering::Relaxed), 8);
    assert_eq!(gateway.status("cat", "").await.expect("deployed")["replicas"], 1);
}

#[tokio::test]
async fn a_function_at_zero_says_so_when_it_may_not_be_started() {
    let gateway = Gateway::new().env("scale_from_zero", "false").start().await;
    gateway
        .deploy(&serde_json::json!({"service": "cat", "image": "local", "envProcess": "cat"}))
        .await;
    let zero = serde_json::json!({"serviceName": "cat", "replicas": 0});
    gateway
        .send(http::Method::POST, "/system/scale-function/cat", &zero)
        .await;
    let answer = eventually("no replica", || async {
        let answer = gateway.get("/function/cat").send().await.expect("an answer");
        (answer.status() == 503).then_some(answer)
    })
    .await;
    assert!(answer.headers().contains_key("retry-after"));
    assert!(answer.text().await.expect("text").contains("zero"));
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_dropped_after_read_timeout() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream.url())
        .env("read_timeout", "200ms")
        .start()
        .await;
    // The last two are the beginning, and all, of what opens HTTP/2.
    for said in ["", "P", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut wire = Wire::connect(gateway.address()).await;
        wire.send(said).await;
        wire.rest().await;
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_read_timeout() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream.url()).env("read_timeout", "1s").start().await;
    let mut wire = Wire::connect(gateway.address()).await;
    for _ in 0..3 {
        wire.send("GET /function/echo HTTP/1.1\r\nHost: x\r\n\r\n").await;
        wire.until("null}").await;
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    assert_eq!(wire.rest().await, "");
}

#[tokio::test]
async fn a_caller_that_stops_reading_is_dropped_after_write_timeout() {
    let upstream = Upstream::start().await.function("floods", |_| async {
        let chunk = || Ok(http_body::Frame::data(bytes::Bytes::from_static(&[b'x'; 1 << 14])));
        let endless = futures_util::stream::repeat_with(chunk);
        body(200, http_body_util::StreamBody::new(endless))
    });
    let gateway = Gateway::before(&upstream.url())
        .env("write_timeout", "500ms")
        .start()
        .await;
    let mut stalled = Wire::connect(gateway.address()).await;
    stalled.send("GET /function/floods HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut reading = Wire::connect(gateway.address()).await;
    reading.send("GET /function/floods HTTP/1.1\r\nHost: x\r\n\r\n").await;
    reading.rest().await;
    eventually("the end of both calls", || async {
        let started = r#"gateway_function_invocation_started{function_name="floods"}"#;
        let in_flight = r#"gateway_function_invocation_inflight{function_name="floods"}"#;
        let both = gateway.metric(started).await? >= 2.0 && gateway.metric(in_flight).await? == 0.0;
        both.then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_idle_connection_to_a_function_is_closed_after_idle_conn_timeout() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let (closed, mut close) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let closed = closed.clone();
            tokio::spawn(async move {
                let mut called = false;
                let mut chunk = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut chunk).await {
                    called |= chunk[..count].starts_with(b"GET /function/");
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]";
                    stream.write_all(answer).await.expect("the gateway reads");
                }
                // The gateway's own questions have connections of their own.
                if called {
                    closed.send(()).expect("the test listens");
                }
            });
        }
    });
    let gateway = Gateway::before(&url)
        .config("[invoke]\nidle_conn_timeout = \"200ms\"")
        .start()
        .await;
    let answer = gateway.get("/function/f").send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    crate::support::soon("the close", close.recv()).await.expect("closed");
}
