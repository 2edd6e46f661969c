//! WebSocket over HTTP/2 (RFC 8441): streams that become tunnels to functions
//! that know HTTP/1.1 only.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use hyper::{body::Incoming, client::conn::http2::SendRequest, ext::Protocol};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};

use crate::support::{
    Gateway, Upstream, eventually,
    gateway::field,
    soon,
    upstream::{body, text},
    wire::h2c,
};

async fn connect(sender: &mut SendRequest<String>, protocol: Option<&'static str>, target: &str) -> Response<Incoming> {
    let mut request = Request::builder().method(Method::CONNECT).uri(target);
    if let Some(protocol) = protocol {
        request = request
            .extension(Protocol::from_static(protocol))
            .header("sec-websocket-version", "13")
            .header("sec-websocket-protocol", "chat");
    }
    let request = request.body(String::new()).expect("a request");
    soon("an answer", sender.send_request(request))
        .await
        .expect("an answer")
}

/// A connection that has seen the gateway's settings.
async fn sender(gateway: &Gateway) -> SendRequest<String> {
    let mut sender = h2c(gateway.address()).await;
    let request = Request::get(format!("{}/healthz", gateway.url()))
        .body(String::new())
        .expect("a request");
    sender.send_request(request).await.expect("an answer");
    sender
}

async fn socket(answer: Response<Incoming>) -> WebSocketStream<TokioIo<hyper::upgrade::Upgraded>> {
    assert_eq!(answer.status(), 200);
    for gone in ["upgrade", "connection", "sec-websocket-accept", "content-length"] {
        assert!(!answer.headers().contains_key(gone), "{gone}: {answer:?}");
    }
    let upgraded = hyper::upgrade::on(answer).await.expect("a tunnel");
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await
}

#[tokio::test]
async fn websockets_pass_over_http2_on_functions_and_on_routes() {
    let upstream = Upstream::start().await.function("shout", crate::streaming::shout);
    let gateway = Gateway::before(&upstream.url())
        .config("[server]\nidle_timeout = \"200ms\"\n[[routes]]\npath = \"/room\"\nmethods = [\"GET\"]\nfunction = \"shout\"")
        .start()
        .await;
    let mut sender = sender(&gateway).await;
    let mut sockets = Vec::new();
    for path in ["/function/shout/x", "/room"] {
        let answer = connect(&mut sender, Some("websocket"), &format!("{}{path}", gateway.url())).await;
        sockets.push(socket(answer).await);
    }
    // Longer than a connection without requests may live.
    for pause in [0, 600] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        for socket in &mut sockets {
            socket.send("hello".into()).await.expect("sent");
            let heard = soon("an echo", socket.next()).await.expect("open").expect("a message");
            assert_eq!(heard.to_text().expect("text"), "HELLO");
        }
    }
    let series = "gateway_function_invocation_inflight{function_name=\"shout\"}";
    assert_eq!(gateway.metric(series).await, Some(2.0));
    // A large message crosses the windows.
    let long = "x".repeat(1 << 20);
    sockets[0].send(long.clone().into()).await.expect("sent");
    let heard = soon("an echo", sockets[0].next())
        .await
        .expect("open")
        .expect("a message");
    assert!(heard.to_text().expect("text") == long.to_uppercase());
    for mut socket in sockets {
        socket.close(None).await.expect("closed");
    }
    let line = gateway
        .logged("the tunnel's end", |line| field(line, "status") == 101)
        .await;
    assert_eq!(field(&line, "method"), "GET");
    eventually("no call left", || async {
        (gateway.metric(series).await? < 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_function_that_does_not_switch_opens_no_tunnel() {
    let upstream = Upstream::start()
        .await
        .function("refuses", |_| async { text(404, "no such room") })
        .function("answers", |_| async { text(200, "hello") })
        .function("lies", |request| async move {
            assert_eq!(echo_key(&request).len(), 24);
            let mut answer = text(101, "");
            for (name, value) in [
                ("upgrade", "websocket"),
                ("connection", "upgrade"),
                ("sec-websocket-accept", "x"),
            ] {
                answer.headers_mut().insert(name, value.parse().expect("a value"));
            }
            answer
        });
    let gateway = Gateway::before(&upstream.url()).start().await;
    let mut sender = sender(&gateway).await;
    for (name, status, says) in [
        ("refuses", 404, "no such room"),
        ("answers", 502, "did not switch protocols"),
        ("lies", 502, "Sec-WebSocket-Accept"),
        ("nobody", 404, ""),
    ] {
        let answer = connect(
            &mut sender,
            Some("websocket"),
            &format!("{}/function/{name}", gateway.url()),
        )
        .await;
        assert_eq!(answer.status(), status, "{name}");
        let body = soon("a body", answer.into_body().collect())
            .await
            .expect("a body")
            .to_bytes();
        assert!(String::from_utf8_lossy(&body).contains(says), "{name}: {body:?}");
    }
    let series = "gateway_function_invocation_inflight{function_name=\"lies\"}";
    eventually("no call left", || async {
        (gateway.metric(series).await? < 1.0).then_some(())
    })
    .await;
}

fn echo_key(request: &Request<Incoming>) -> String {
    request.headers()["sec-websocket-key"]
        .to_str()
        .expect("text")
        .to_owned()
}

#[tokio::test]
async fn other_tunnels_are_refused_over_http2() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream.url()).start().await;
    let mut sender = sender(&gateway).await;
    let path = format!("{}/function/echo", gateway.url());
    for (protocol, target) in [
        (None, "echo.example:443"),
        (Some("connect-udp"), &*path),
        (Some("connect-ip"), &path),
    ] {
        let answer = connect(&mut sender, protocol, target).await;
        assert_eq!(answer.status(), 501, "{protocol:?}");
    }
    let request = Request::get(&path).body(String::new()).expect("a request");
    assert_eq!(sender.send_request(request).await.expect("an answer").status(), 200);
}

#[tokio::test]
async fn each_direction_of_a_tunnel_in_a_stream_closes_by_itself() {
    let (say, mut heard) = tokio::sync::mpsc::channel(1);
    let upstream = Upstream::start().await.function("listens", move |mut request| {
        let say = say.clone();
        let key = request.headers()["sec-websocket-key"].clone();
        let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
        tokio::spawn(async move {
            let mut stream = TokioIo::new(hyper::upgrade::on(&mut request).await.expect("upgraded"));
            stream.write_all(b"bye").await.expect("sent");
            stream.shutdown().await.expect("half closed");
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.expect("readable");
            say.send(rest.len()).await.expect("the test listens");
        });
        let mut answer = text(101, "");
        for (name, value) in [
            ("upgrade", "websocket"),
            ("connection", "upgrade"),
            ("sec-websocket-accept", &*accept),
        ] {
            answer.headers_mut().insert(
                http::HeaderName::from_bytes(name.as_bytes()).expect("a name"),
                value.parse().expect("a value"),
            );
        }
        async { answer }
    });
    let gateway = Gateway::before(&upstream.url()).start().await;
    let mut sender = sender(&gateway).await;
    let answer = connect(
        &mut sender,
        Some("websocket"),
        &format!("{}/function/listens", gateway.url()),
    )
    .await;
    let mut stream = TokioIo::new(hyper::upgrade::on(answer).await.expect("a tunnel"));
    let mut said = String::new();
    soon("the end", stream.read_to_string(&mut said))
        .await
        .expect("readable");
    assert_eq!(said, "bye");
    let sent = vec![b'x'; 1 << 20];
    stream.write_all(&sent).await.expect("sent");
    stream.shutdown().await.expect("half closed");
    assert_eq!(soon("the bytes", heard.recv()).await, Some(sent.len()));
}

#[tokio::test]
async fn a_silent_tunnel_in_a_stream_ends_after_its_functions_bound() {
    let upstream = Upstream::start().await.function("shout", crate::streaming::shout);
    let gateway = Gateway::before(&upstream.url())
        .config("[functions.shout]\ntimeouts.idle = \"300ms\"")
        .start()
        .await;
    let mut sender = sender(&gateway).await;
    let answer = connect(
        &mut sender,
        Some("websocket"),
        &format!("{}/function/shout", gateway.url()),
    )
    .await;
    let mut socket = socket(answer).await;
    let ended = soon("the end", socket.next()).await;
    assert!(ended.is_none_or(|message| message.is_err()), "nobody said anything");
}

#[tokio::test]
async fn a_mirror_gets_no_copy_of_a_websocket() {
    let upstream = Upstream::start()
        .await
        .function("shout", crate::streaming::shout)
        .function("shadow", |request| async move {
            body(200, request.into_body().map_err(std::io::Error::other))
        });
    let gateway = Gateway::before(&upstream.url())
        .config("[[routes]]\npath = \"/room\"\nfunction = \"shout\"\nmirror = { function = \"shadow\" }")
        .start()
        .await;
    let mut sender = sender(&gateway).await;
    let answer = connect(&mut sender, Some("websocket"), &format!("{}/room", gateway.url())).await;
    let mut socket = socket(answer).await;
    socket.send("hello".into()).await.expect("sent");
    soon("an echo", socket.next()).await.expect("open").expect("a message");
    let series = "gateway_function_invocation_started{function_name=\"shadow\"}";
    assert_eq!(gateway.metric(series).await, None);
}
