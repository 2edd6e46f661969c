//! Bodies flow as they come, in both directions, and end when either side does.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::mpsc;

use crate::support::{
    Gateway, Upstream, soon,
    upstream::{Body, body, text},
    wire::{Wire, h2c},
};

fn frames(receiver: mpsc::Receiver<&'static str>) -> impl http_body::Body<Data = Bytes, Error = std::io::Error> + Send {
    StreamBody::new(stream::unfold(receiver, |mut receiver| async {
        let text = receiver.recv().await?;
        Some((Ok(Frame::data(Bytes::from_static(text.as_bytes()))), receiver))
    }))
}

/// A function whose answer the test writes piece by piece.
async fn dictated() -> (Gateway, mpsc::Sender<&'static str>) {
    let (sender, receiver) = mpsc::channel(1);
    let receiver = std::sync::Mutex::new(Some(receiver));
    let upstream = Upstream::start().await.function("dictated", move |_| {
        let receiver = receiver.lock().expect("no panic").take().expect("called once");
        async { body(200, frames(receiver)) }
    });
    (Gateway::before(&upstream.url()).start().await, sender)
}

#[tokio::test]
async fn every_chunk_of_an_answer_is_flushed_at_once() {
    let (gateway, function) = dictated().await;
    let mut wire = Wire::connect(gateway.address()).await;
    wire.send("GET /function/dictated HTTP/1.1\r\nHost: x\r\n\r\n").await;
    for event in ["data: one\n\n", "{\"two\":2}\n", "3"] {
        function.send(event).await.expect("the gateway listens");
        wire.until(event).await;
    }
    drop(function);
    wire.until("0\r\n\r\n").await;
}

#[tokio::test]
async fn every_chunk_of_a_request_is_passed_at_once() {
    let (seen, mut arrived) = mpsc::channel::<Bytes>(1);
    let upstream = Upstream::start().await.function("listens", move |request| {
        let seen = seen.clone();
        async move {
            let mut incoming = request.into_body();
            while let Some(Ok(frame)) = incoming.frame().await {
                if let Ok(data) = frame.into_data() {
                    seen.send(data).await.expect("the test listens");
                }
            }
            text(200, "heard")
        }
    });
    let gateway = Gateway::before(&upstream.url()).start().await;
    let mut wire = Wire::connect(gateway.address()).await;
    wire.send("POST /function/listens HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    for chunk in ["one", "two"] {
        wire.send(format!("3\r\n{chunk}\r\n")).await;
        assert_eq!(soon("the chunk", arrived.recv()).await.expect("a chunk"), chunk);
    }
    wire.send("0\r\n\r\n").await;
    wire.until("heard").await;
}

#[tokio::test]
async fn large_bodies_cross_whole() {
    let upstream = Upstream::start().await.function("mirror", |request| async {
        body(200, request.into_body().map_err(std::io::Error::other))
    });
    let gateway = Gateway::before(&upstream.url()).start().await;
    let sent: Vec<u8> = (0..8 << 20).map(|at: u32| at.to_le_bytes()[1]).collect();
    let answer = gateway
        .post("/function/mirror")
        .body(sent.clone())
        .send()
        .await
        .expect("an answer");
    assert!(
        answer.bytes().await.expect("a body") == sent,
        "the body changed on its way"
    );
}

/// Tells when it is dropped.
struct Notice(mpsc::UnboundedSender<()>);

impl Drop for Notice {
    fn drop(&mut self) {
        // Nobody may be listening any more.
        let _ = self.0.send(());
    }
}

#[tokio::test]
async fn a_caller_that_leaves_cancels_the_call() {
    let (start, mut started) = mpsc::channel(1);
    let (gone, mut noticed) = mpsc::unbounded_channel();
    let upstream = Upstream::start().await.function("waits", move |_| {
        let (start, notice) = (start.clone(), Notice(gone.clone()));
        async move {
            start.send(()).await.expect("the test listens");
            std::future::pending::<()>().await;
            drop(notice);
            text(200, "never")
        }
    });
    let gateway = Gateway::before(&upstream.url()).start().await;
    let mut wire = Wire::connect(gateway.address()).await;
    wire.send("GET /function/waits HTTP/1.1\r\nHost: x\r\n\r\n").await;
    soon("the call", started.recv()).await;
    drop(wire);
    soon("the end of the call upstream", noticed.recv()).await;
    gateway
        .logged("the cancelled call", |line| {
            crate::support::gateway::field(line, "status") == 499
        })
        .await;
    let page = gateway.metrics().await;
    assert!(
        page.contains(r#"gateway_function_invocation_inflight{function_name="waits"} 0"#),
        "{page}"
    );
}

#[tokio::test]
async fn a_function_that_breaks_off_breaks_the_answer_off() {
    let (breaks, broken) = tokio::sync::oneshot::channel::<()>();
    let broken = std::sync::Mutex::new(Some(broken));
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
    let mut wire = Wire::connect(gateway.address()).await;
    wire.send("GET /function/breaks HTTP/1.1\r\nHost: x\r\n\r\n").await;
    wire.until("half\r\n").await;
    breaks.send(()).expect("the function waits");
    let answer = wire.rest().await;
    assert!(!answer.contains("0\r\n"), "the answer looks complete: {answer}");
}

/// A WebSocket function that answers in capitals.
pub(crate) async fn shout(mut request: http::Request<hyper::body::Incoming>) -> http::Response<Body> {
    let key = request.headers()["sec-websocket-key"].clone();
    assert_eq!(request.headers()["upgrade"], "websocket");
    let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
    tokio::spawn(async move {
        let upgraded = hyper::upgrade::on(&mut request).await.expect("upgraded");
        let mut socket = tokio_tungstenite::WebSocketStream::from_raw_socket(
            hyper_util::rt::TokioIo::new(upgraded),
            tokio_tungstenite::tungstenite::protocol::Role::Server,
            None,
        )
        .await;
        while let Some(Ok(message)) = socket.next().await {
            if let Ok(text) = message.to_text()
                && message.is_text()
            {
                socket.send(text.to_uppercase().into()).await.expect("sent");
            }
        }
    });
    let mut response = text(101, "");
    for (name, value) in [
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-accept", &accept),
    ] {
        response.headers_mut().insert(
            http::HeaderName::try_from(name).expect("a name"),
            http::HeaderValue::try_from(value).expect("a value"),
        );
    }
    response
}

#[tokio::test]
async fn websockets_pass() {
    let upstream = Upstream::start().await.function("shout", shout);
    let gateway = Gateway::before(&upstream.url()).start().await;
    let url = format!("ws://{}/function/shout/room", gateway.address());
    let (mut socket, answer) = soon("the handshake", tokio_tungstenite::connect_async(url))
        .await
        .expect("switched");
    assert!(answer.headers().contains_key("x-call-id"));
    for word in ["hello", "again"] {
        socket.send(word.into()).await.expect("sent");
        let heard = soon("an echo", socket.next()).await.expect("open").expect("a message");
        assert_eq!(heard.to_text().expect("text"), word.to_uppercase());
    }
    let page = gateway.metrics().await;
    assert!(
        page.contains(r#"gateway_function_invocation_inflight{function_name="shout"} 1"#),
        "{page}"
    );
    socket.close(None).await.expect("closed");
    drop(socket);
    gateway
        .logged("the end of the tunnel", |line| {
            crate::support::gateway::field(line, "status") == 101
        })
        .await;
}

#[tokio::test]
async fn a_cancelled_http2_stream_cancels_its_call_and_no_other() {
    let (start, mut started) = mpsc::channel(1);
    let (guard, mut gone) = mpsc::channel::<()>(1);
    let once = std::sync::Mutex::new(Some(guard));
    let upstream = Upstream::start().await.function("waits", move |_| {
        // Dropped when the gateway closes the call's connection.
        let held = once.lock().expect("no panic").take();
        let start = start.clone();
        async move {
            start.send(()).await.expect("the test listens");
            std::future::pending::<()>().await;
            drop(held);
            text(200, "")
        }
    });
    let gateway = Gateway::before(&upstream.url()).start().await;
    let mut sender = h2c(gateway.address()).await;
    let request = |name: &str| {
        http::Request::get(format!("{}/function/{name}", gateway.url()))
            .body(String::new())
            .expect("a request")
    };
    let call = tokio::spawn(sender.send_request(request("waits")));
    soon("the call", started.recv()).await;
    call.abort();
    assert!(soon("the cancel", gone.recv()).await.is_none(), "nobody sends");
    gateway
        .logged("the cancelled call", |line| {
            crate::support::gateway::field(line, "status") == 499
        })
        .await;
    let series = r#"gateway_function_invocation_inflight{function_name="waits"}"#;
    assert_eq!(gateway.metric(series).await, Some(0.0));
    let answer = sender.send_request(request("echo")).await.expect("an answer");
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_tunnel_closes_one_direction_at_a_time() {
    let (say, mut heard) = mpsc::channel(1);
    let upstream = Upstream::start().await.function("listens", move |mut request| {
        let say = say.clone();
        tokio::spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let upgraded = hyper::upgrade::on(&mut request).await.expect("upgraded");
            let mut stream = hyper_util::rt::TokioIo::new(upgraded);
            stream.write_all(b"bye").await.expect("sent");
            stream.shutdown().await.expect("half closed");
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.expect("readable");
            say.send(rest.len()).await.expect("the test listens");
        });
        let mut response = text(101, "");
        let upgrade = http::HeaderValue::from_static("foo");
        response.headers_mut().insert("upgrade", upgrade);
        let connection = http::HeaderValue::from_static("upgrade");
        response.headers_mut().insert("connection", connection);
        async { response }
    });
    let gateway = Gateway::before(&upstream.url()).start().await;
    let mut wire = Wire::connect(gateway.address()).await;
    wire.send("GET /function/listens HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n")
        .await;
    wire.until("bye").await;
    let sent = vec![b'x'; 4 << 20];
    wire.send(&sent).await;
    drop(wire);
    assert_eq!(soon("the bytes", heard.recv()).await, Some(sent.len()));
    let line = gateway
        .logged("the end of the tunnel", |line| {
            crate::support::gateway::field(line, "status") == 101
        })
        .await;
    assert_eq!(crate::support::gateway::field(&line, "bytes"), 3);
}
