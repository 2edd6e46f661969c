//! Which bound fired, and that the answer says so.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};

use crate::support::{
    Gateway, Upstream, eventually,
    gateway::field,
    soon,
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
    gateway.scale("cat", 0).await;
    eventually("no replica", || async {
        (gateway.status("cat", "").await?.available_replicas == 0).then_some(())
    })
    .await;
    let answers = Arc::new(AtomicU64::new(0));
    let calls = (0..8).map(|_| async {
        assert_eq!(gateway.invoke("/function/cat", "hello").await, "hello");
        answers.fetch_add(1, Ordering::Relaxed);
    });
    futures_util::future::join_all(calls).await;
    assert_eq!(answers.load(Ordering::Relaxed), 8);
    assert_eq!(gateway.status("cat", "").await.expect("deployed").replicas, 1);
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
    soon("the close", close.recv()).await.expect("closed");
}

/// A function that answers with these chunks and then says nothing more.
fn stalls(chunks: &'static [&'static str]) -> http::Response<crate::support::upstream::Body> {
    let frame = |chunk: &'static str| Ok(http_body::Frame::data(bytes::Bytes::from_static(chunk.as_bytes())));
    let chunks = futures_util::stream::iter(chunks.iter().copied().map(frame));
    body(
        200,
        http_body_util::StreamBody::new(chunks.chain(futures_util::stream::pending())),
    )
}

#[tokio::test]
async fn a_late_first_byte_gets_504_that_names_the_setting() {
    let upstream = Upstream::start()
        .await
        .function("slow", |_| std::future::pending())
        .function("stalls", |_| async { stalls(&["half"]) });
    let gateway = Gateway::before(&upstream.url())
        .config("[functions.\"*\"]\ntimeouts.first_byte = \"200ms\"")
        .start()
        .await;
    let answer = gateway.get("/function/slow").send().await.expect("an answer");
    assert_eq!(answer.status(), 504);
    let problem: serde_json::Value = answer.json().await.expect("a problem");
    assert_eq!(problem["setting"], "functions.\"*\".timeouts.first_byte");

    // An answer that has begun is not bounded by it.
    let mut wire = Wire::connect(gateway.address()).await;
    wire.send("GET /function/stalls HTTP/1.1\r\nHost: x\r\n\r\n").await;
    wire.until("half\r\n").await;
    let more = tokio::time::timeout(Duration::from_millis(400), wire.until("more"));
    more.await.expect_err("the answer is still open");
}

/// Half of a request for `/function/NAME`, whose caller then says nothing.
async fn half_a_call(gateway: &Gateway, head: &str) -> String {
    let mut wire = Wire::connect(gateway.address()).await;
    wire.send(format!("{head} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf"))
        .await;
    wire.until("has passed").await
}

#[tokio::test]
async fn a_caller_that_sends_too_slowly_gets_408_and_opens_no_breaker() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream.url())
        .config(
            "[functions.\"*\"]\ntimeouts = { first_byte = \"500ms\", total = \"1s\" }\n\
             breaker = { failures = 1, open = \"1h\", open_max = \"1h\" }\n\
             retries = { attempts = 2, backoff = \"1ms\" }",
        )
        .start()
        .await;
    // The second is kept for further tries, so it never gets to the function.
    for head in ["POST /function/echo", "PUT /function/echo"] {
        let answer = half_a_call(&gateway, head).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(answer.contains("functions.\"*\".timeouts.total (1s)"), "{answer}");
        gateway.invoke("/function/echo", "whole").await;
    }
    let retries = r#"gateway_function_retries_total{function_name="echo"}"#;
    assert_eq!(gateway.metric(retries).await, Some(0.0));
}

#[tokio::test]
async fn the_time_for_the_first_byte_begins_when_the_request_has_ended() {
    use http_body_util::BodyExt;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let upstream = Upstream::start().await.function("reads", move |request| {
        let tell = tell.clone();
        async move {
            let mut body = request.into_body();
            body.frame().await.expect("some").expect("a frame");
            tell.send(()).expect("the test listens");
            let rest = body.collect().await.expect("a whole body").to_bytes();
            if rest == "slow." {
                std::future::pending::<()>().await;
            }
            text(200, "read")
        }
    });
    let gateway = Gateway::before(&upstream.url())
        .config("[functions.reads]\ntimeouts.first_byte = \"500ms\"")
        .start()
        .await;
    for (rest, status) in [("fast.", "HTTP/1.1 200"), ("slow.", "HTTP/1.1 504")] {
        let mut wire = Wire::connect(gateway.address()).await;
        wire.send("POST /function/reads HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nfirst")
            .await;
        soon("the first half", told.recv()).await.expect("open");
        // Longer than the function may take.
        tokio::time::sleep(Duration::from_millis(700)).await;
        wire.send(rest).await;
        let head = wire.until("\r\n\r\n").await;
        assert!(head.starts_with(status), "{head}");
    }
}

#[tokio::test]
async fn a_function_that_does_not_take_the_request_is_late_itself() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let upstream = Upstream::start().await.function("deaf", |_| std::future::pending());
    let gateway = Gateway::before(&upstream.url())
        .config("[functions.deaf]\ntimeouts.total = \"500ms\"\nbreaker = { failures = 1, open = \"1h\", open_max = \"1h\" }")
        .start()
        .await;
    let (mut answer, mut request) = tokio::net::TcpStream::connect(gateway.address())
        .await
        .expect("a connection")
        .into_split();
    // More than all buffers on the way hold, until the gateway has enough of it.
    let sending = tokio::spawn(async move {
        let head = "POST /function/deaf HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n\r\n";
        let chunk = vec![b'x'; 1 << 16];
        let mut sent = request.write_all(head.as_bytes()).await;
        while sent.is_ok() {
            sent = request.write_all(&chunk).await;
        }
    });
    let mut status = [0; 12];
    soon("an answer", answer.read_exact(&mut status))
        .await
        .expect("an answer");
    assert_eq!(&status, b"HTTP/1.1 504");
    sending.abort();
    let refused = gateway.get("/function/deaf").send().await.expect("an answer");
    assert_eq!(refused.status(), 503, "its failure counts");
}

#[tokio::test]
async fn an_answer_that_falls_silent_is_broken_off_after_idle() {
    let upstream = Upstream::start()
        .await
        .function("stalls", |_| async { stalls(&["half"]) })
        .function("drips", |_| async {
            let drip = |number: u32| async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Ok(http_body::Frame::data(bytes::Bytes::from(number.to_string())))
            };
            let drips = futures_util::stream::iter(0..8).then(drip);
            body(200, http_body_util::StreamBody::new(Box::pin(drips)))
        });
    let gateway = Gateway::before(&upstream.url())
        .config("[functions.\"*\"]\ntimeouts.idle = \"500ms\"")
        .start()
        .await;
    assert_eq!(gateway.invoke("/function/drips", "").await, "01234567");
    let mut wire = Wire::connect(gateway.address()).await;
    wire.send("GET /function/stalls HTTP/1.1\r\nHost: x\r\n\r\n").await;
    wire.until("half\r\n").await;
    assert_eq!(wire.rest().await, "", "broken off, not ended");
    let line = gateway
        .logged("the call", |line| field(line, "path") == "/function/stalls")
        .await;
    assert_eq!(field(&line, "aborted"), true);
}

#[tokio::test]
async fn a_silent_tunnel_ends_after_idle() {
    let upstream = Upstream::start().await.function("shout", crate::streaming::shout);
    let gateway = Gateway::before(&upstream.url())
        .config("[functions.shout]\ntimeouts.idle = \"500ms\"")
        .start()
        .await;
    let url = format!("ws://{}/function/shout", gateway.address());
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("switched");
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        socket.send("hello".into()).await.expect("sent");
        let heard = soon("an echo", socket.next()).await.expect("open").expect("a message");
        assert_eq!(heard.to_text().expect("text"), "HELLO");
    }
    let end = soon("the end", socket.next()).await;
    assert!(!matches!(end, Some(Ok(_))), "{end:?}");
}

#[tokio::test]
async fn a_request_that_grows_too_large_gets_413_and_the_function_an_abort() {
    use http_body_util::BodyExt;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let upstream = Upstream::start().await.function("reads", move |request| {
        let tell = tell.clone();
        async move {
            let mut body = request.into_body();
            let first = body.frame().await.is_some_and(|frame| frame.is_ok());
            tell.send(first).expect("the test listens");
            tell.send(body.collect().await.is_ok()).expect("the test listens");
            text(200, "")
        }
    });
    let gateway = Gateway::before(&upstream.url())
        .config("[functions.reads]\nbody.max_request = \"10B\"")
        .start()
        .await;
    let request = "POST /function/reads HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n";
    let mut wire = Wire::connect(gateway.address()).await;
    wire.send(format!("{request}Transfer-Encoding: chunked\r\n\r\n6\r\nsix...\r\n"))
        .await;
    // Else nothing of it might be sent.
    assert_eq!(soon("the first chunk", told.recv()).await, Some(true));
    wire.send("5\r\nfive.\r\n").await;
    let answer = wire.until("}").await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("body.max_request (10 bytes)"), "{answer}");
    assert_eq!(soon("the abort", told.recv()).await, Some(false));

    let mut wire = Wire::connect(gateway.address()).await;
    wire.send(format!("{request}Content-Length: 11\r\n\r\n")).await;
    let answer = wire.until("}").await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert_eq!(gateway.invoke("/function/reads", "ten bytes.").await, "");
    assert_eq!(
        soon("the third call", told.recv()).await,
        Some(true),
        "the second never came"
    );
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_502_or_broken_off() {
    let upstream = Upstream::start()
        .await
        .function("declares", |_| async { text(200, "eleven byte") })
        .function("fits", |_| async { text(200, "ten bytes.") })
        .function("grows", |_| async { stalls(&["six...", "five."]) });
    let gateway = Gateway::before(&upstream.url())
        .config("[functions.\"*\"]\nbody.max_response = \"10B\"")
        .start()
        .await;
    let answer = gateway.get("/function/declares").send().await.expect("an answer");
    assert_eq!(answer.status(), 502);
    let problem: serde_json::Value = answer.json().await.expect("a problem");
    assert_eq!(problem["setting"], "functions.\"*\".body.max_response");
    assert_eq!(problem["component"], "function");
    let head = gateway
        .request(http::Method::HEAD, "/function/declares")
        .send()
        .await
        .expect("an answer");
    assert_eq!(head.status(), 200, "it has no body");
    assert_eq!(gateway.invoke("/function/fits", "").await, "ten bytes.");

    let request = "GET /function/grows HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut wire = Wire::connect(gateway.address()).await;
    wire.send(request).await;
    let answer = wire.rest().await;
    assert!(!answer.contains("five.") && !answer.contains("0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_function_that_does_not_start_names_its_own_bound() {
    use crate::support::provider::{Answer, ScriptedProvider};
    let provider = ScriptedProvider::start(|asked| match asked.line().as_str() {
        "GET /system/function/f" => {
            let status = serde_json::json!({ "name": "f", "image": "i", "replicas": 1, "availableReplicas": 0 });
            Answer::json(200, &status)
        }
        _ => Answer::text(404, ""),
    })
    .await;
    let gateway = Gateway::before(provider.url.as_str())
        .env("scale_from_zero", "true")
        .config("[functions.f]\ntimeouts.activation = \"200ms\"")
        .start()
        .await;
    let answer = gateway.get("/function/f").send().await.expect("an answer");
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    let told: serde_json::Value = answer.json().await.expect("a problem");
    let key = "functions.\"NAME\".timeouts.activation";
    assert_eq!(told["setting"], key);
    let detail = told["detail"].as_str().expect("a detail");
    assert!(detail.contains(&format!("{key} (200ms)")), "{told}");
}
