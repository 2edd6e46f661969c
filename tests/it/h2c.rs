//! Functions that are called in HTTP/2: what gRPC needs, shared connections,
//! and what becomes of calls when either side goes away.

use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, client::conn::http2::SendRequest, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};

use crate::support::{Gateway, eventually, fixture, soon, wire::Wire};

type Body = UnsyncBoxBody<Bytes, std::io::Error>;
type Sent = mpsc::UnboundedSender<Frame<Bytes>>;

/// What a test's function `f` does with a call.
type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// A provider with the function `f`, which takes its calls in HTTP/2.
struct Function {
    address: SocketAddr,
    /// Connections that carried calls.
    connections: Arc<AtomicUsize>,
}

impl Function {
    async fn start<A>(streams: Option<u32>, answer: impl Fn(Request<Incoming>) -> A + Send + Sync + 'static) -> Self
    where
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let function = Self {
            address: listener.local_addr().expect("bound"),
            connections: Arc::default(),
        };
        let connections = Arc::clone(&function.connections);
        let answer: Arc<dyn Fn(Request<Incoming>) -> Answer + Send + Sync> =
            Arc::new(move |request| Box::pin(answer(request)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, connections, first) = (Arc::clone(&answer), Arc::clone(&connections), AtomicUsize::new(0));
                let service = service_fn(move |request: Request<Incoming>| {
                    let called = request.uri().path().starts_with("/function/");
                    if called && first.swap(1, Ordering::Relaxed) == 0 {
                        connections.fetch_add(1, Ordering::Relaxed);
                    }
                    let answer = Arc::clone(&answer);
                    async move {
                        Ok::<_, std::convert::Infallible>(if called {
                            answer(request).await
                        } else {
                            text(200, &status())
                        })
                    }
                });
                tokio::spawn(async move {
                    let mut builder = auto::Builder::new(TokioExecutor::new());
                    builder.http2().max_concurrent_streams(streams);
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        function
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

fn status() -> String {
    json!({"name": "f", "image": "scripted", "replicas": 1, "availableReplicas": 1}).to_string()
}

async fn before(address: SocketAddr, config: &str) -> Gateway {
    Gateway::before(&format!("http://{address}"))
        .config(&format!(
            "[reload]\nwatch = \"off\"\n[metrics]\nrefresh_interval = \"1h\"\n[functions.f]\nupstream_protocol = \
             \"h2c\"\n{config}"
        ))
        .start()
        .await
}

fn text(status: u16, text: &str) -> Response<Body> {
    let mut response = Response::new(full(text));
    *response.status_mut() = http::StatusCode::from_u16(status).expect("a status");
    response
}

fn full(text: &str) -> Body {
    http_body_util::Full::new(Bytes::from(text.to_owned()))
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn data(text: &'static str) -> Frame<Bytes> {
    Frame::data(Bytes::from_static(text.as_bytes()))
}

fn grpc_status(status: &'static str) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    Frame::trailers(trailers)
}

/// A body that is written piece by piece.
fn written() -> (Sent, Body) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let frames = futures_util::stream::unfold(receiver, |mut receiver: mpsc::UnboundedReceiver<_>| async {
        Some((Ok(receiver.recv().await?), receiver))
    });
    (sender, StreamBody::new(frames).boxed_unsync())
}

/// Answers each piece with the same piece, and ends with trailers.
async fn echo(request: Request<Incoming>) -> Response<Body> {
    assert_eq!(request.version(), Version::HTTP_2);
    let (sender, body) = written();
    let mut response = Response::new(body);
    let seen = json!({
        "authority": request.uri().authority().map(ToString::to_string),
        "path": request.uri().path(),
        "host": request.headers().get("host").is_some(),
        "te": request.headers().get("te").map(|te| te.to_str().expect("text")),
        "upgrade": request.headers().get("upgrade").is_some(),
    });
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    // Callers of HTTP/1.1 get the trailers that are announced.
    headers.insert("trailer", HeaderValue::from_static("grpc-status"));
    headers.insert("x-seen", HeaderValue::try_from(seen.to_string()).expect("text"));
    tokio::spawn(async move {
        let mut incoming = request.into_body();
        while let Some(Ok(frame)) = incoming.frame().await {
            if let Ok(data) = frame.into_data() {
                let _ = sender.send(Frame::data(data));
            }
        }
        let _ = sender.send(grpc_status("0"));
    });
    response
}

/// A caller's HTTP/2 connection.
async fn caller(address: SocketAddr) -> SendRequest<Body> {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .expect("h2c");
    tokio::spawn(connection);
    sender
}

fn call(name: &str, body: Body) -> Request<Body> {
    Request::post(format!("http://caller.example/function/{name}/pkg.Service/Method"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .expect("a request")
}

/// The next piece of an answer, as text.
async fn next(body: &mut Incoming) -> String {
    let frame = soon("a piece", body.frame()).await.expect("more").expect("no failure");
    String::from_utf8_lossy(&frame.into_data().expect("data")).into_owned()
}

/// The code that a stream was reset with.
fn reset(error: &hyper::Error) -> Option<h2::Reason> {
    let cause = std::error::Error::source(error)?;
    cause.downcast_ref::<h2::Error>()?.reason()
}

#[tokio::test]
async fn a_unary_call_has_its_trailers() {
    let function = Function::start(None, echo).await;
    let gateway = before(function.address, "").await;
    let mut caller = caller(gateway.address()).await;
    let answer = soon("an answer", caller.send_request(call("f", full("message"))))
        .await
        .expect("answered");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/grpc");
    let seen: serde_json::Value = serde_json::from_slice(answer.headers()["x-seen"].as_bytes()).expect("JSON");
    let expected = json!({
        "authority": function.address.to_string(), "path": "/function/f/pkg.Service/Method",
        "host": false, "te": "trailers", "upgrade": false,
    });
    assert_eq!(seen, expected);
    let whole = answer.into_body().collect().await.expect("a body");
    assert_eq!(whole.trailers().expect("trailers")["grpc-status"], "0");
    assert_eq!(whole.to_bytes(), "message");
}

#[tokio::test]
async fn both_directions_stream_at_once() {
    let function = Function::start(None, echo).await;
    let gateway = before(function.address, "").await;
    let mut caller = caller(gateway.address()).await;
    let (sender, body) = written();
    let answer = soon("a head", caller.send_request(call("f", body)))
        .await
        .expect("answered");
    let mut answer = answer.into_body();
    for message in ["one", "two", "three"] {
        sender.send(data(message)).expect("under way");
        assert_eq!(next(&mut answer).await, message);
    }
    drop(sender);
    let end = soon("trailers", answer.frame())
        .await
        .expect("trailers")
        .expect("no failure");
    assert_eq!(end.trailers_ref().expect("trailers")["grpc-status"], "0");
}

#[tokio::test]
async fn callers_of_http1_reach_it_too() {
    let function = Function::start(None, echo).await;
    let gateway = before(function.address, "").await;
    let answer = Wire::exchange(
        gateway.address(),
        "POST /function/f HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nConnection: close, upgrade\r\nUpgrade: \
         websocket\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("hello") && answer.contains("Grpc-Status: 0"),
        "{answer}"
    );
    assert!(answer.contains("\"upgrade\":false"), "{answer}");
    // Also when it is known, and plain.
    assert_eq!(gateway.invoke("/function/f", "again").await, "again");
}

#[tokio::test]
async fn large_bodies_cross_whole() {
    let function = Function::start(None, echo).await;
    let gateway = before(function.address, "").await;
    let sent: Vec<u8> = (0..8 << 20).map(|at: u32| at.to_le_bytes()[1]).collect();
    let answer = gateway.post("/function/f").body(sent.clone()).send().await;
    let answer = answer.expect("an answer").bytes().await.expect("a body");
    assert!(answer == sent, "the body changed on its way");
}

#[tokio::test]
async fn many_calls_share_a_few_connections() {
    let go = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&go);
    for (streams, invoke, connections) in [
        (None, "", 1),
        (Some(25), "", 4),
        (
            Some(10),
            "[invoke]\nmax_conns_per_host = 3\nconnect_timeout = \"1m\"\n",
            2,
        ),
    ] {
        let gate = Arc::clone(&gate);
        let function = Function::start(streams, move |_| {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.expect("open").forget();
                text(200, "done")
            }
        })
        .await;
        let gateway = before(function.address, invoke).await;
        let mut caller = caller(gateway.address()).await;
        soon("room for all", caller.ready()).await.expect("open");
        let calls: Vec<_> = (0..100).map(|_| caller.send_request(call("f", full("x")))).collect();
        let calls = tokio::spawn(join_all(calls));
        let inflight = "gateway_function_invocation_inflight{function_name=\"f\"}";
        eventually("all calls", || async {
            (gateway.metric(inflight).await? >= 100.0).then_some(())
        })
        .await;
        go.add_permits(100);
        let answers = soon("all answers", calls).await.expect("no panic");
        assert!(
            answers
                .iter()
                .all(|answer| answer.as_ref().expect("answered").status() == 200)
        );
        drop(answers);
        let opened = function.connections();
        // On a slow machine one more is opened before the first has said what it takes,
        // or after one said that it takes no more.
        assert!(opened >= 1 && opened <= connections + 2, "{opened} for {streams:?}");
    }
}

#[tokio::test]
async fn a_connection_ends_when_it_is_idle_or_old() {
    let function = Function::start(None, |_| async { text(200, "done") }).await;
    let gateway = before(function.address, "[invoke]\nidle_conn_timeout = \"50ms\"\n").await;
    gateway.invoke("/function/f", "").await;
    eventually("its end", || async {
        let open = "gateway_upstream_connections{state=\"idle\"}";
        (gateway.metric(open).await? == 0.0).then_some(())
    })
    .await;
    gateway.invoke("/function/f", "").await;
    assert_eq!(function.connections(), 2);

    let gateway = before(function.address, "[invoke]\nmax_conn_age = \"50ms\"\n").await;
    gateway.invoke("/function/f", "").await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    gateway.invoke("/function/f", "").await;
    assert_eq!(function.connections(), 4);
}

/// One connection of a function that is told each frame to send.
struct Frames(TcpStream);

const HEADERS: u8 = 1;
const DATA: u8 = 0;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END: u8 = 1;
const END_HEADERS: u8 = 4;

impl Frames {
    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        // The gateway may have gone.
        let _ = self.0.write_all(&frame).await;
    }

    /// Answers 200, with nothing more when `end`.
    async fn answer(&mut self, stream: u32, end: bool) {
        let flags = END_HEADERS | if end { END } else { 0 };
        // HPACK: `:status: 200` of the static table.
        self.send(HEADERS, flags, stream, &[0x88]).await;
    }

    /// The next frame of a kind, and its stream; `None` when there is none.
    async fn next(&mut self, kind: u8) -> Option<(u32, Vec<u8>)> {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.0.read_exact(&mut payload).await.ok()?;
            if head[3] == SETTINGS && head[4] == 0 {
                self.send(SETTINGS, 1, 0, &[]).await;
            }
            if head[3] == kind {
                return Some((u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload));
            }
        }
    }
}

/// A provider whose function's connections are a test's, in the order in which
/// they come.
async fn frames() -> (SocketAddr, mpsc::UnboundedReceiver<Frames>) {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut first = vec![0; PREFACE.len()];
                while stream.peek(&mut first).await.is_ok_and(|length| length < 3) {}
                if first.starts_with(b"PRI") {
                    stream.read_exact(&mut first).await.expect("a preface");
                    let mut frames = Frames(stream);
                    frames.send(SETTINGS, 0, 0, &[]).await;
                    let _ = sender.send(frames);
                    return;
                }
                let status = service_fn(|_| async { Ok::<_, std::convert::Infallible>(text(200, &status())) });
                let connection = hyper::server::conn::http1::Builder::new();
                let _ = connection.serve_connection(TokioIo::new(stream), status).await;
            });
        }
    });
    (address, receiver)
}

#[tokio::test]
async fn a_connection_that_its_server_closes_loses_no_call() {
    let (address, mut connections) = frames().await;
    let gateway = before(address, "").await;
    let mut caller = caller(gateway.address()).await;
    soon("room", caller.ready()).await.expect("open");
    let calls: Vec<_> = (0..5)
        .map(|_| caller.send_request(call("f", full("message"))))
        .collect();
    let calls = tokio::spawn(join_all(calls));
    let mut closing = soon("a connection", connections.recv()).await.expect("one");
    for _ in 0..5 {
        soon("a call", closing.next(DATA)).await.expect("whole");
    }
    // It will answer the first two, and has not looked at the others.
    closing.send(GOAWAY, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 0]).await;
    let mut fresh = soon("another connection", connections.recv()).await.expect("one");
    for _ in 0..3 {
        let (stream, body) = soon("a call again", fresh.next(DATA)).await.expect("whole");
        assert_eq!(body, b"message");
        fresh.answer(stream, true).await;
    }
    for stream in [1, 3] {
        closing.answer(stream, true).await;
    }
    let answers = soon("all answers", calls).await.expect("no panic");
    assert!(
        answers
            .iter()
            .all(|answer| answer.as_ref().is_ok_and(|answer| answer.status() == 200))
    );
    let later = tokio::spawn(caller.send_request(call("f", full("later"))));
    let (stream, _) = soon("a call on the open one", fresh.next(DATA)).await.expect("whole");
    fresh.answer(stream, true).await;
    assert_eq!(later.await.expect("no panic").expect("answered").status(), 200);
}

#[tokio::test]
async fn a_refused_call_is_sent_once_more() {
    let (address, mut connections) = frames().await;
    let gateway = before(address, "").await;
    let mut caller = caller(gateway.address()).await;
    let mut frames = None;
    for (refusals, failed) in [(1, None), (2, Some("14"))] {
        let answer = tokio::spawn(caller.send_request(call("f", full("message"))));
        let frames = match &mut frames {
            None => frames.insert(soon("a connection", connections.recv()).await.expect("one")),
            Some(frames) => frames,
        };
        for _ in 0..refusals {
            let (stream, body) = soon("a call", frames.next(DATA)).await.expect("whole");
            assert_eq!(body, b"message");
            frames.send(RST_STREAM, 0, stream, &[0, 0, 0, 7]).await;
        }
        if refusals == 1 {
            let (stream, body) = soon("the call again", frames.next(DATA)).await.expect("whole");
            assert_eq!(body, b"message");
            frames.answer(stream, true).await;
        }
        let answer = answer.await.expect("no panic").expect("answered");
        let status = answer.headers().get("grpc-status");
        assert_eq!(status.map(HeaderValue::as_bytes), failed.map(str::as_bytes));
    }
}

#[tokio::test]
async fn a_caller_that_resets_its_call_cancels_the_functions_and_no_other() {
    const CANCEL: [u8; 4] = [0, 0, 0, 8];
    let (address, mut connections) = frames().await;
    let gateway = before(address, "").await;
    let mut caller = caller(gateway.address()).await;
    // Before its head, and in the middle of both bodies.
    let waiting = tokio::spawn(caller.send_request(call("f", full("message"))));
    let mut frames = soon("a connection", connections.recv()).await.expect("one");
    let (first, _) = soon("a call", frames.next(DATA)).await.expect("whole");
    let (sender, body) = written();
    let streaming = tokio::spawn(caller.send_request(call("f", body)));
    let (second, _) = soon("another call", frames.next(HEADERS)).await.expect("a head");
    sender.send(data("part")).expect("under way");
    soon("its body", frames.next(DATA)).await.expect("a part");
    frames.answer(second, false).await;
    let streaming = streaming.await.expect("no panic").expect("a head");
    waiting.abort();
    assert_eq!(
        soon("a reset", frames.next(RST_STREAM)).await,
        Some((first, CANCEL.to_vec()))
    );
    drop(streaming);
    drop(sender);
    let (stream, _) = soon("a reset", frames.next(RST_STREAM)).await.expect("one");
    assert_eq!(stream, second);
    let last = tokio::spawn(caller.send_request(call("f", full("message"))));
    let (stream, _) = soon("a call", frames.next(DATA)).await.expect("the connection is open");
    frames.answer(stream, true).await;
    assert_eq!(last.await.expect("no panic").expect("answered").status(), 200);
}

#[tokio::test]
async fn a_function_that_goes_away_ends_its_calls() {
    let (address, mut connections) = frames().await;
    let gateway = before(address, "").await;
    let mut caller = caller(gateway.address()).await;
    let (begun, waiting) = (
        caller.send_request(call("f", full("message"))),
        caller.send_request(call("f", full("message"))),
    );
    let both = tokio::spawn(async move { tokio::join!(begun, waiting) });
    let mut frames = soon("a connection", connections.recv()).await.expect("one");
    let (first, _) = soon("a call", frames.next(DATA)).await.expect("whole");
    soon("another call", frames.next(DATA)).await.expect("whole");
    frames.answer(first, false).await;
    frames.send(DATA, 0, first, b"half").await;
    // Until the half has arrived, so that it is not lost with the connection.
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(frames);
    let (begun, waiting) = both.await.expect("no panic");
    let (begun, waiting) = (begun.expect("a head"), waiting.expect("a head"));
    let mut answers = [begun, waiting];
    // A caller of gRPC is told in its own way (14 is UNAVAILABLE).
    answers.sort_by_key(|answer| answer.headers().contains_key("grpc-status"));
    let [begun, waiting] = answers;
    assert_eq!(begun.headers().get("grpc-status"), None);
    assert_eq!(waiting.headers()["grpc-status"], "14");
    let mut body = begun.into_body();
    assert_eq!(next(&mut body).await, "half");
    let error = soon("a reset", body.frame())
        .await
        .expect("no end")
        .expect_err("a reset");
    assert!(reset(&error).is_some(), "{error:?}");
}

#[tokio::test]
async fn a_functions_reset_reaches_the_caller() {
    let (address, mut connections) = frames().await;
    let gateway = before(address, "").await;
    let mut caller = caller(gateway.address()).await;
    let answer = tokio::spawn(caller.send_request(call("f", full("message"))));
    let mut frames = soon("a connection", connections.recv()).await.expect("one");
    let (stream, _) = soon("a call", frames.next(DATA)).await.expect("whole");
    frames.answer(stream, false).await;
    let mut body = answer.await.expect("no panic").expect("a head").into_body();
    frames.send(RST_STREAM, 0, stream, &[0, 0, 0, 11]).await;
    let error = soon("a reset", body.frame())
        .await
        .expect("no end")
        .expect_err("a reset");
    assert_eq!(reset(&error), Some(h2::Reason::ENHANCE_YOUR_CALM));
}

#[tokio::test]
async fn a_function_that_does_not_speak_it_is_told_apart() {
    let upstream = crate::support::Upstream::start().await;
    let config = "[functions.echo]\nupstream_protocol = \"h2c\"";
    let gateway = Gateway::before(&upstream.url()).config(config).start().await;
    let answer = gateway.get("/function/echo").send().await.expect("an answer");
    assert_eq!(answer.status(), 502);
    let text = answer.text().await.expect("text");
    assert!(text.contains("HTTP/2"), "{text}");
}

#[tokio::test]
async fn a_local_function_of_grpc_works() {
    let gateway = Gateway::new().start().await;
    gateway
        .deploy(&json!({
            "service": "f", "image": "local", "envProcess": fixture("node", "grpc.js"),
            "envVars": {"mode": "http"}, "annotations": {"com.openfaas.upstream.protocol": "h2c"},
        }))
        .await;
    let mut caller = caller(gateway.address()).await;
    let (sender, body) = written();
    sender.send(data("one")).expect("under way");
    let answer = soon("a head", caller.send_request(call("f", body)))
        .await
        .expect("answered");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["x-te"], "trailers");
    assert_eq!(answer.headers()["x-authority"], "caller.example");
    let mut answer = answer.into_body();
    assert_eq!(next(&mut answer).await, "one");
    sender.send(data("two")).expect("under way");
    assert_eq!(next(&mut answer).await, "two");
    drop(sender);
    let end = soon("trailers", answer.frame())
        .await
        .expect("trailers")
        .expect("no failure");
    assert_eq!(end.trailers_ref().expect("trailers")["grpc-status"], "0");
    assert_eq!(gateway.invoke("/function/f", "plain").await, "plain");
}
