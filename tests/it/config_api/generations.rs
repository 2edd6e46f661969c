//! Which configuration an answer comes from, and that old ones go when nobody
//! needs them any more.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::Method;
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::sync::Semaphore;

use super::{reload, status, with_own_state, write};
use crate::support::{
    Gateway, Upstream, eventually, soon,
    upstream::{body, text},
    wire::Wire,
};

#[tokio::test]
async fn old_generations_live_until_their_last_call_has_ended() {
    let open = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&open);
    let upstream = Upstream::start().await.function("held", move |_| {
        let gate = Arc::clone(&gate);
        async move {
            let _passed = gate.acquire().await.expect("open");
            text(200, "done")
        }
    });
    let gateway = Gateway::before(&upstream.url()).start().await;
    let calls = async { gateway.invoke("/function/held", "").await };
    let changes = async {
        eventually("the call is under way", || async {
            let series = "gateway_function_invocation_inflight{function_name=\"held\"}";
            (gateway.metric(series).await? > 0.0).then_some(())
        })
        .await;
        for seconds in 1..=5 {
            write(&gateway, &format!("[server]\nread_timeout = \"{seconds}0s\"\n"));
            reload(&gateway).await;
        }
        // The live one, and the one that the call began with.
        eventually("two generations", || async {
            (gateway.metric("gateway_config_live_generations").await == Some(2.0)).then_some(())
        })
        .await;
        open.add_permits(1);
    };
    let (answer, ()) = tokio::join!(calls, changes);
    assert_eq!(answer, "done");
    eventually("one generation", || async {
        (gateway.metric("gateway_config_live_generations").await == Some(1.0)).then_some(())
    })
    .await;
}

/// An idle connection, a tunnel and a stream need nothing of the snapshot they
/// began with, so that what it holds goes while they stay.
#[tokio::test]
async fn point_18_connections_streams_and_tunnels_keep_no_old_generation() {
    let open = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&open);
    let upstream = Upstream::start()
        .await
        .function("chat", crate::streaming::shout)
        .function("stream", move |_| {
            let gate = Arc::clone(&gate);
            async move {
                let chunks = futures_util::stream::iter([false, true]).then(move |wait| {
                    let gate = Arc::clone(&gate);
                    async move {
                        if wait {
                            let _passed = gate.acquire().await.expect("open");
                        }
                        Ok(Frame::data(Bytes::from_static(b"part ")))
                    }
                });
                body(200, StreamBody::new(chunks))
            }
        });
    let gateway = Gateway::before(&upstream.url()).start().await;
    let mut idle = Wire::connect(gateway.address()).await;
    idle.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
    idle.until("OK").await;
    let url = format!("ws://{}/function/chat", gateway.address());
    let (mut socket, _) = soon("the handshake", tokio_tungstenite::connect_async(url))
        .await
        .expect("switched");
    let mut stream = gateway.get("/function/stream").send().await.expect("an answer");
    assert_eq!(stream.chunk().await.expect("a part").expect("a part"), "part ");

    for seconds in 1..=3 {
        write(&gateway, &format!("[server]\nread_timeout = \"{seconds}0s\"\n"));
        reload(&gateway).await;
    }
    eventually("one generation", || async {
        (gateway.metric("gateway_config_live_generations").await == Some(1.0)).then_some(())
    })
    .await;
    let series = "gateway_function_invocation_inflight{function_name=\"chat\"}";
    assert_eq!(gateway.metric(series).await, Some(1.0), "still counted");
    socket.send("still here".into()).await.expect("sent");
    let heard = soon("an echo", socket.next()).await.expect("open").expect("a message");
    assert_eq!(heard.to_text().expect("text"), "STILL HERE");
    idle.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
    idle.until("OK").await;
    open.add_permits(1);
    assert_eq!(stream.text().await.expect("the rest"), "part ");
}

#[tokio::test]
async fn point_32_every_answer_below_system_tells_the_generation() {
    let mut gateway = Gateway::new()
        .basic_auth("admin", "secret")
        .config("server.base_path = \"/faas\"")
        .start()
        .await;
    let generation = async |gateway: &Gateway, method: Method, path: &str| {
        let answer = gateway.request(method, path).send().await.expect("an answer");
        let header = answer.headers().get("x-config-generation");
        (
            answer.status().as_u16(),
            header.map(|value| value.to_str().expect("text").to_owned()),
        )
    };
    let one = Some("1".to_owned());
    for path in ["/faas/system/functions", "/faas/system/config"] {
        assert_eq!(
            generation(&gateway, Method::GET, path).await,
            (401, one.clone()),
            "{path}"
        );
    }
    gateway.sign_in("admin", "secret");
    for (method, path, status) in [
        (Method::GET, "/faas/system/functions", 200),
        (Method::GET, "/faas/system/nope", 404),
        (Method::GET, "/faas/system/function/nope", 404),
        (Method::GET, "/faas/system", 404),
        (Method::PUT, "/faas/system/config", 405),
        (Method::POST, "/faas/system/config/validate", 400),
    ] {
        assert_eq!(
            generation(&gateway, method, path).await,
            (status, one.clone()),
            "{path}"
        );
    }
    for path in ["/faas/function/nope", "/healthz", "/system/functions", "/faas/systems"] {
        assert_eq!(generation(&gateway, Method::GET, path).await.1, None, "{path}");
    }
}

#[tokio::test]
async fn point_32_replicas_with_different_files_can_be_told_apart() {
    // Variables are a part of what is hashed.
    let start = || with_own_state().env("FAAS__RELOAD__WATCH", "off").start();
    let (old, new) = tokio::join!(start(), start());
    let seen = async |gateway: &Gateway| {
        let answer = gateway.get("/system/functions").send().await.expect("an answer");
        let header = answer.headers()["x-config-generation"]
            .to_str()
            .expect("text")
            .to_owned();
        let page = gateway.metrics().await;
        let info = page.lines().find(|line| line.starts_with("gateway_config_info{"));
        let hash = status(gateway).await.hash;
        assert_eq!(info, Some(format!("gateway_config_info{{hash=\"{hash}\"}} 1").as_str()));
        (header, hash)
    };
    assert_eq!(seen(&old).await, seen(&new).await, "the same file, the same hash");
    write(&new, "[server]\nread_timeout = \"7s\"\n");
    reload(&new).await;
    let ((generation, hash), (next, other)) = (seen(&old).await, seen(&new).await);
    assert_eq!((generation.as_str(), next.as_str()), ("1", "2"));
    assert_ne!(hash, other);
}
