//! HTTP/2 on the listener: what streams carry, how they end, and what one may
//! do to the others. Functions speak HTTP/1.1.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use h2::{Reason, RecvStream, SendStream, client::SendRequest};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};

use crate::support::{
    Gateway, Upstream, eventually,
    gateway::field,
    soon,
    upstream::{body, echoed, text},
    wire::{Wire, frames},
};

type Caller = SendRequest<Bytes>;

/// A connection whose windows are the caller's to open.
async fn caller(gateway: &Gateway) -> Caller {
    frames(gateway.address(), &h2::client::Builder::new()).await.0
}

fn post(path: &str) -> http::request::Builder {
    Request::post(format!("http://gw.test{path}"))
}

fn grpc(path: &str) -> Request<()> {
    let request = post(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    request.body(()).expect("a request")
}

async fn opened(caller: &Caller, request: Request<()>, end: bool) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
    let mut ready = caller.clone().ready().await.expect("open");
    ready.send_request(request, end).expect("open")
}

/// Sends a request without a body and returns its answer.
async fn asked(caller: &Caller, request: Request<()>) -> Response<RecvStream> {
    let (answer, _) = opened(caller, request, true).await;
    soon("an answer", answer).await.expect("an answer")
}

/// The next piece of a body.
async fn piece(body: &mut RecvStream) -> Option<Result<Bytes, h2::Error>> {
    let data = soon("a piece", body.data()).await?;
    if let Ok(data) = &data {
        body.flow_control().release_capacity(data.len()).expect("received");
    }
    Some(data)
}

async fn whole(mut body: RecvStream) -> Result<(Bytes, Option<HeaderMap>), h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = piece(&mut body).await {
        all.extend_from_slice(&data?);
    }
    Ok((all.into(), body.trailers().await?))
}

/// A provider that speaks bytes: answers each call with these, then closes.
async fn raw(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                let mut chunk = [0; 4096];
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    match stream.read(&mut chunk).await {
                        Ok(count @ 1..) => head.extend_from_slice(&chunk[..count]),
                        _ => return,
                    }
                }
                let answer = if head.starts_with(b"POST /function/") {
                    answer
                } else {
                    b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                };
                stream.write_all(answer).await.expect("the gateway reads");
            });
        }
    });
    url
}

#[tokio::test]
async fn a_call_of_grpc_has_its_trailers_though_nobody_announced_them() {
    let url = raw(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n\
                    7\r\n\0\0\0\0\x02hi\r\n0\r\ngrpc-status: 0\r\ngrpc-message: fine\r\n\r\n",
    )
    .await;
    let gateway = Gateway::before(&url).start().await;
    let answer = asked(&caller(&gateway).await, grpc("/function/greeter/pkg.Greeter/Hello")).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/grpc");
    assert!(!answer.headers().contains_key("transfer-encoding"));
    let (data, trailers) = whole(answer.into_body()).await.expect("a body");
    assert_eq!(data, &b"\0\0\0\0\x02hi"[..]);
    let trailers = trailers.expect("trailers");
    assert_eq!(
        (&trailers["grpc-status"], &trailers["grpc-message"]),
        (&"0".parse().expect("a value"), &"fine".parse().expect("a value"))
    );
}

#[tokio::test]
async fn both_directions_of_a_call_flow_at_once() {
    let upstream = Upstream::start().await.function("chat", |request| async move {
        assert_eq!(request.headers()["te"], "trailers");
        let trailers = stream::once(async {
            let status = ("grpc-status".parse().expect("a name"), "0".parse().expect("a value"));
            Ok(Frame::trailers(HeaderMap::from_iter([status])))
        });
        let incoming = request
            .into_body()
            .into_data_stream()
            .map(|data| data.map(Frame::data).map_err(std::io::Error::other));
        let mut answer = body(200, StreamBody::new(incoming.chain(trailers)));
        answer
            .headers_mut()
            .insert("trailer", "grpc-status".parse().expect("a value"));
        answer
    });
    let gateway = Gateway::before(&upstream.url()).start().await;
    let caller = caller(&gateway).await;
    for _ in 0..2 {
        let (answer, mut request) = opened(&caller, grpc("/function/chat"), false).await;
        request.send_data(Bytes::from_static(b"one"), false).expect("open");
        let mut answer = soon("the head", answer).await.expect("an answer").into_body();
        assert_eq!(piece(&mut answer).await.expect("open").expect("data"), "one");
        for word in ["two", "three"] {
            request.send_data(Bytes::from(word), false).expect("open");
            assert_eq!(piece(&mut answer).await.expect("open").expect("data"), word);
        }
        request.send_data(Bytes::new(), true).expect("open");
        let (rest, trailers) = whole(answer).await.expect("a body");
        assert!(rest.is_empty());
        assert_eq!(trailers.expect("trailers")["grpc-status"], "0");
    }
}

#[tokio::test]
async fn trailers_of_a_request_reach_the_function() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream.url()).start().await;
    let request = post("/function/echo")
        .header("trailer", "x-sum")
        .body(())
        .expect("a request");
    let (answer, mut stream) = opened(&caller(&gateway).await, request, false).await;
    stream.send_data(Bytes::from_static(b"abc"), false).expect("open");
    let sum = ("x-sum".parse().expect("a name"), "17".parse().expect("a value"));
    stream.send_trailers(HeaderMap::from_iter([sum])).expect("open");
    let (seen, _) = whole(answer.await.expect("an answer").into_body())
        .await
        .expect("a body");
    let seen: serde_json::Value = serde_json::from_slice(&seen).expect("JSON");
    assert_eq!(
        (&seen["body"], &seen["trailers"]),
        (&"abc".into(), &serde_json::json!([["x-sum", "17"]]))
    );
}

#[tokio::test]
async fn errors_are_told_as_grpc_tells_them() {
    let upstream = Upstream::start()
        .await
        .function("slow", |_| std::future::pending())
        .function("refuses", |_| async {
            let mut answer = text(200, "");
            for (name, value) in [("grpc-status", "5"), ("content-type", "application/grpc")] {
                answer.headers_mut().insert(name, value.parse().expect("a value"));
            }
            answer
        });
    let gateway = Gateway::before(&upstream.url())
        .config("[scaling]\nfrom_zero = true\n[functions.slow]\ntimeouts.total = \"100ms\"\n[functions.echo]\nbody.max_request = 1")
        .start()
        .await;
    let caller = caller(&gateway).await;
    for (path, status, message, ours) in [
        ("/function/nobody", "12", "nobody not found", true),
        ("/function/slow", "14", "timeouts.total", true),
        ("/pkg.Service/Method", "12", "", true),
        ("/function/refuses", "5", "", false),
    ] {
        let answer = asked(&caller, grpc(path)).await;
        assert_eq!(answer.status(), 200, "{path}");
        let value = |name: &str| {
            answer
                .headers()
                .get(name)
                .map(|value| value.to_str().expect("text").to_owned())
        };
        assert_eq!(value("grpc-status").as_deref(), Some(status), "{path}: {answer:?}");
        assert!(
            value("grpc-message").unwrap_or_default().contains(message),
            "{path}: {answer:?}"
        );
        assert_eq!(value("x-openfaas-internal").is_some(), ours);
        assert!(
            answer.body().is_end_stream(),
            "{path}: there is nothing behind the head"
        );
    }
    let request = post("/function/echo")
        .header("content-type", "application/grpc")
        .header("content-length", 4);
    let (answer, _stream) = opened(&caller, request.body(()).expect("a request"), false).await;
    assert_eq!(
        soon("an answer", answer).await.expect("an answer").headers()["grpc-status"],
        "8"
    );
    // What is counted and logged is what went wrong.
    let series = r#"gateway_function_invocation_total{code="504",function_name="slow"}"#;
    assert_eq!(gateway.metric(series).await, Some(1.0));
    let line = gateway
        .logged("the 404", |line| field(line, "path") == "/pkg.Service/Method")
        .await;
    assert_eq!(field(&line, "status"), 404);
    // Others are told as ever.
    let plain = asked(&caller, post("/function/nobody").body(()).expect("a request")).await;
    assert_eq!(plain.status(), 404);
}

#[tokio::test]
async fn a_function_that_breaks_off_resets_its_stream_and_no_other() {
    let (breaks, broken) = tokio::sync::oneshot::channel::<()>();
    let broken = Mutex::new(Some(broken));
    let upstream = Upstream::start().await.function("breaks", move |_| {
        let broken = broken.lock().expect("no panic").take().expect("called once");
        let first = stream::once(async { Ok(Frame::data(Bytes::from_static(b"half"))) });
        let second = stream::once(async move {
            broken.await.expect("the test says when");
            Err(std::io::Error::other("gone"))
        });
        async { body(200, StreamBody::new(Box::pin(first.chain(second)))) }
    });
    let gateway = Gateway::before(&upstream.url()).start().await;
    let caller = caller(&gateway).await;
    let mut answer = asked(&caller, post("/function/breaks").body(()).expect("a request"))
        .await
        .into_body();
    assert_eq!(piece(&mut answer).await.expect("open").expect("data"), "half");
    breaks.send(()).expect("the function waits");
    let error = piece(&mut answer).await.expect("no end").expect_err("a reset");
    assert!(error.is_reset() && error.is_remote(), "{error:?}");
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
    let answer = asked(&caller, post("/function/echo").body(()).expect("a request")).await;
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_reset_while_the_answer_flows_cancels_the_call() {
    let (gone, mut noticed) = mpsc::channel::<()>(1);
    let gone = Mutex::new(Some(gone));
    let upstream = Upstream::start().await.function("streams", move |_| {
        let held = gone.lock().expect("no panic").take();
        async move {
            let endless = stream::unfold(held, |held| async {
                tokio::task::yield_now().await;
                Some((Ok(Frame::data(Bytes::from_static(b"more"))), held))
            });
            body(200, StreamBody::new(endless))
        }
    });
    let gateway = Gateway::before(&upstream.url()).start().await;
    let (answer, mut stream) = opened(
        &caller(&gateway).await,
        post("/function/streams").body(()).expect("a request"),
        false,
    )
    .await;
    let mut answer = soon("the head", answer).await.expect("an answer").into_body();
    piece(&mut answer).await.expect("open").expect("data");
    stream.send_reset(Reason::CANCEL);
    assert!(
        soon("the end of the call", noticed.recv()).await.is_none(),
        "nobody sends"
    );
    gateway
        .logged("the call", |line| {
            field(line, "path") == "/function/streams" && field(line, "aborted") == true
        })
        .await;
}

#[tokio::test]
async fn an_early_answer_is_whole_and_the_rest_of_the_request_is_not_wanted() {
    let upstream = Upstream::start()
        .await
        .function("knows", |_| async { text(403, "no need to read that") });
    let gateway = Gateway::before(&upstream.url()).start().await;
    let (answer, mut request) = opened(
        &caller(&gateway).await,
        post("/function/knows").body(()).expect("a request"),
        false,
    )
    .await;
    request
        .send_data(Bytes::from_static(b"the beginning"), false)
        .expect("open");
    let answer = soon("the answer", answer).await.expect("an answer");
    assert_eq!(answer.status(), 403);
    let (data, _) = whole(answer.into_body()).await.expect("a whole answer");
    assert_eq!(data, "no need to read that");
    let reason = soon("a reset", std::future::poll_fn(|cx| request.poll_reset(cx))).await;
    assert_eq!(reason.expect("a reason"), Reason::NO_ERROR);
}

#[tokio::test]
async fn lengths_are_kept_and_held_to() {
    let upstream = Upstream::start()
        .await
        .function("sized", |_| async { text(200, "12345") });
    let gateway = Gateway::before(&upstream.url()).start().await;
    let caller = caller(&gateway).await;
    let answer = asked(&caller, post("/function/sized").body(()).expect("a request")).await;
    assert_eq!(answer.headers()["content-length"], "5");
    for (length, sent, expected) in [(3, "abc", Some("abc")), (4, "abc", None), (2, "abc", None)] {
        let request = post("/function/echo")
            .header("content-length", length)
            .body(())
            .expect("a request");
        let (answer, mut stream) = opened(&caller, request, false).await;
        stream.send_data(Bytes::from(sent), true).expect("open");
        let Some(expected) = expected else {
            let refused = match soon("an end", answer).await {
                Ok(answer) => answer.status() == 400,
                Err(error) => error.reason() == Some(Reason::PROTOCOL_ERROR),
            };
            assert!(refused, "{length} for {sent}");
            continue;
        };
        let (seen, _) = whole(answer.await.expect("an answer").into_body())
            .await
            .expect("a body");
        let seen: serde_json::Value = serde_json::from_slice(&seen).expect("JSON");
        assert_eq!(
            (&seen["body"], echoed(&seen, "content-length")),
            (&expected.into(), vec!["3".to_owned()])
        );
        assert!(echoed(&seen, "transfer-encoding").is_empty());
    }
    let (answer, mut stream) = opened(&caller, post("/function/echo").body(()).expect("a request"), false).await;
    stream.send_data(Bytes::from_static(b"abc"), true).expect("open");
    let (seen, _) = whole(answer.await.expect("an answer").into_body())
        .await
        .expect("a body");
    let seen: serde_json::Value = serde_json::from_slice(&seen).expect("JSON");
    assert_eq!(echoed(&seen, "transfer-encoding"), ["chunked"]);
}

/// An endless answer.
fn flood() -> Response<crate::support::upstream::Body> {
    let chunk = || Ok(Frame::data(Bytes::from_static(&[b'x'; 1 << 14])));
    body(200, StreamBody::new(stream::repeat_with(chunk)))
}

#[tokio::test]
async fn a_stream_that_waits_holds_up_no_other() {
    let upstream = Upstream::start()
        .await
        .function("deaf", |request| async move {
            let _unread = request;
            std::future::pending::<()>().await;
            text(200, "")
        })
        .function("floods", |_| async { flood() });
    let gateway = Gateway::before(&upstream.url()).start().await;
    let caller = caller(&gateway).await;
    // Functions that read nothing, with as much as the windows take, and
    // answers that are not read.
    let mut held = Vec::new();
    for _ in 0..8 {
        let (_, mut stream) = opened(&caller, post("/function/deaf").body(()).expect("a request"), false).await;
        stream.send_data(vec![0; 1 << 20].into(), false).expect("open");
        let unread = asked(&caller, post("/function/floods").body(()).expect("a request")).await;
        held.push((stream, unread));
    }
    let sent = vec![b'x'; 1 << 18];
    let (answer, mut stream) = opened(&caller, post("/function/echo").body(()).expect("a request"), false).await;
    stream.send_data(sent.clone().into(), true).expect("open");
    let answer = soon("the answer", answer).await.expect("an answer");
    // The caller's own window for all is full of what it does not read.
    drop(held);
    let (seen, _) = whole(answer.into_body()).await.expect("a body");
    assert!(seen.len() > sent.len());
}

#[tokio::test]
async fn a_caller_that_takes_nothing_of_a_stream_loses_it_and_no_other() {
    let upstream = Upstream::start()
        .await
        .function("floods", |_| async { flood() })
        .function("long", |_| async { text(200, &"y".repeat(100_000)) });
    let gateway = Gateway::before(&upstream.url())
        .env("write_timeout", "1s")
        .start()
        .await;
    let mut builder = h2::client::Builder::new();
    builder.initial_connection_window_size(1 << 24);
    let (caller, _connection) = frames(gateway.address(), &builder).await;
    // Nothing of these is taken beyond the window of 64 KiB.
    let (first, _) = opened(&caller, post("/function/floods").body(()).expect("a request"), true).await;
    let (second, _) = opened(&caller, post("/function/long").body(()).expect("a request"), true).await;
    let stalled = [first.await.expect("an answer"), second.await.expect("an answer")];
    for answer in stalled {
        let mut body = answer.into_body();
        let series = "gateway_function_invocation_inflight";
        eventually("the end of the call", || async {
            let page = gateway.metrics().await;
            let under_way = page
                .lines()
                .filter(|line| line.starts_with(series) && !line.ends_with(" 0"));
            (under_way.count() == 0).then_some(())
        })
        .await;
        let error = loop {
            match body.data().await.expect("no end") {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!((error.is_remote(), error.reason()), (true, Some(Reason::CANCEL)));
    }
    let answer = asked(&caller, post("/function/echo").body(()).expect("a request")).await;
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn settings_say_what_a_connection_may_do() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream.url())
        .config("[server]\nmax_header_bytes = \"16KiB\"\n[server.http2]\nmax_concurrent_streams = 7\nstream_window = \"32KiB\"")
        .start()
        .await;
    let caller = caller(&gateway).await;
    asked(&caller, post("/function/echo").body(()).expect("a request")).await;
    assert_eq!(caller.current_max_send_streams(), 7);
    assert!(caller.is_extended_connect_protocol_enabled());
    let large = post("/function/echo")
        .header("x-large", "x".repeat(20_000))
        .body(())
        .expect("a request");
    let (answer, _) = opened(&caller, large, true).await;
    match soon("a refusal", answer).await {
        Ok(answer) => assert_eq!(answer.status(), 431),
        // The caller knew, and did not send it.
        Err(error) => assert!(!error.is_io(), "{error:?}"),
    }
}

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_dropped() {
    let upstream = Upstream::start().await.function("waits", |_| std::future::pending());
    let gateway = Gateway::before(&upstream.url())
        .config("[server.http2]\nkeep_alive_interval = \"200ms\"\nkeep_alive_timeout = \"300ms\"")
        .start()
        .await;
    let mut wire = Wire::connect(gateway.address()).await;
    wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    // GET /function/waits, with indexed names and plain values.
    let path = b"/function/waits";
    let mut head = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).expect("short")];
    head.extend_from_slice(path);
    head.extend_from_slice(b"\x01\x01x");
    let mut frame = vec![0, 0, u8::try_from(head.len()).expect("short"), 1, 5, 0, 0, 0, 1];
    frame.extend_from_slice(&head);
    wire.send(frame).await;
    eventually("the call", || async {
        (gateway
            .metric("gateway_function_invocation_inflight{function_name=\"waits\"}")
            .await?
            > 0.0)
            .then_some(())
    })
    .await;
    wire.rest().await;
    eventually("its end", || async {
        (gateway
            .metric("gateway_function_invocation_inflight{function_name=\"waits\"}")
            .await?
            < 1.0)
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn curl_speaks_it_without_tls() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream.url()).start().await;
    let url = format!("{}/function/echo/x", gateway.url());
    for (arguments, expected) in [
        (&["--data", "hello", "--write-out", " %{http_version}"][..], " 2"),
        (&["--head"], "HTTP/2 200"),
        (&["--http1.1", "--write-out", " %{http_version}"], " 1.1"),
    ] {
        let mut curl = tokio::process::Command::new("curl");
        let curl = curl.args(["--silent", "--show-error", "--http2-prior-knowledge"]);
        let output = curl
            .args(arguments)
            .arg(&url)
            .output()
            .await
            .expect("curl is installed");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains(expected), "{arguments:?}: '{said}'");
    }
}

#[tokio::test]
async fn streams_under_way_survive_the_end_of_their_gateway_and_no_new_ones_begin() {
    let (release, held) = tokio::sync::oneshot::channel::<()>();
    let held = Arc::new(Mutex::new(Some(held)));
    let upstream = Upstream::start().await.function("holds", move |_| {
        let held = held.lock().expect("no panic").take().expect("called once");
        async move {
            held.await.expect("the test says when");
            text(200, "after all")
        }
    });
    let mut gateway = Gateway::before(&upstream.url()).start().await;
    let (caller, connection) = frames(gateway.address(), &h2::client::Builder::new()).await;
    let (answer, _) = opened(&caller, post("/function/holds").body(()).expect("a request"), true).await;
    eventually("the call", || async {
        (gateway
            .metric("gateway_function_invocation_inflight{function_name=\"holds\"}")
            .await?
            > 0.0)
            .then_some(())
    })
    .await;
    gateway.signal(nix::sys::signal::Signal::SIGTERM);
    gateway
        .logged("the stop", |line| field(line, "message") == "stopping")
        .await;
    release.send(()).expect("the function waits");
    let (data, _) = whole(answer.await.expect("an answer").into_body())
        .await
        .expect("a body");
    assert_eq!(data, "after all");
    drop(caller);
    let ended = soon("the end", connection).await.expect("no panic");
    assert!(ended.is_ok(), "{ended:?}");
    assert!(gateway.ended().await.success());
}
