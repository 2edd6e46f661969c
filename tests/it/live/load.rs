//! Reloads while calls run: nothing fails, nothing is mixed, nothing piles up.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::{SinkExt, StreamExt};
use http::Method;
use serde_json::Value;

use crate::support::{Gateway, Upstream, eventually, soon, upstream::body, wire::Wire};

const RELOADS: u64 = 200;

/// Two values that always change together, and a listener that stays.
fn file(turn: u64) -> String {
    let seconds = 30 + turn % 20;
    format!(
        "[reload]\nwatch = \"off\"\n[server]\nread_timeout = \"{seconds}s\"\n[invoke]\nconnect_timeout = \"{seconds}s\"\n\
         [logging]\naccess = {}\n",
        turn.is_multiple_of(50)
    )
}

/// What a turn writes: mostly another valid file, at times the same one or a wrong one.
fn edit(turn: u64) -> (String, u16) {
    match turn % 10 {
        3 => ("[invoke]\nconnect_timeout = \"soon\"\n".to_owned(), 422),
        7 => ("not = [toml".to_owned(), 422),
        5 => (file(turn - 1), 200),
        _ => (file(turn), 200),
    }
}

async fn resident(gateway: &Gateway) -> u64 {
    let status = tokio::fs::read_to_string(format!("/proc/{}/status", gateway.pid()))
        .await
        .expect("the gateway runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .expect("KiB")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn point_33_reloads_under_load_lose_nothing() {
    let upstream = Upstream::start().await.function("mirror", |request| async {
        use http_body_util::BodyExt;
        body(200, request.into_body().map_err(std::io::Error::other))
    });
    let upstream = upstream.function("chat", crate::streaming::shout);
    let gateway = Gateway::before(&upstream.url()).config(&file(0)).start().await;
    let url = format!("ws://{}/function/chat", gateway.address());
    let (mut socket, _) = soon("the handshake", tokio_tungstenite::connect_async(url))
        .await
        .expect("switched");
    let mut long = Wire::connect(gateway.address()).await;
    long.send("POST /function/mirror HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nopen\r\n")
        .await;
    long.until("open").await;
    let before = resident(&gateway).await;

    let (done, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    let caller = || async {
        let mut wire = Wire::connect(gateway.address()).await;
        while !done.load(Ordering::Relaxed) {
            wire.send("POST /function/mirror HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
                .await;
            let answer = wire.until("hello").await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            calls.fetch_add(1, Ordering::Relaxed);
        }
    };
    // Asks for two values that always change together: one answer, one generation.
    let witness = async {
        while !done.load(Ordering::Relaxed) {
            let answer = gateway.get("/system/config").send().await.expect("an answer");
            let config: Value = answer.json().await.expect("JSON");
            let value = |key: &str| {
                let entries = config["values"].as_array().expect("a list");
                let entry = entries.iter().find(|entry| entry["key"] == key).expect("a key");
                entry["value"].clone()
            };
            assert_eq!(value("server.read_timeout"), value("invoke.connect_timeout"));
        }
    };
    let editor = async {
        for turn in 1..=RELOADS {
            let (content, expected) = edit(turn);
            tokio::fs::write(gateway.config_file(), content)
                .await
                .expect("writable");
            let answer = gateway
                .request(Method::POST, "/system/config/reload")
                .send()
                .await
                .expect("an answer");
            assert_eq!(
                answer.status(),
                expected,
                "turn {turn}: {}",
                answer.text().await.expect("text")
            );
        }
        done.store(true, Ordering::Relaxed);
    };
    futures_util::join!(caller(), caller(), caller(), witness, editor);

    // What began before all of it is still there, and on.
    socket.send("still here".into()).await.expect("sent");
    let heard = soon("an echo", socket.next()).await.expect("open").expect("a message");
    assert_eq!(heard.to_text().expect("text"), "STILL HERE");
    long.send("5\r\nclose\r\n0\r\n\r\n").await;
    long.until("close").await;
    drop((socket, long));
    eventually("old generations gone", || async {
        (gateway.metric("gateway_config_live_generations").await? <= 1.0).then_some(())
    })
    .await;
    let (after, calls) = (resident(&gateway).await, calls.into_inner());
    eprintln!("{RELOADS} reloads, {calls} calls, no failure; resident {before} KiB before, {after} KiB after");
    assert!(calls > RELOADS, "{calls} calls are no load");
    assert!(
        after < before + 32 * 1024,
        "resident {before} KiB before, {after} KiB after"
    );
}
