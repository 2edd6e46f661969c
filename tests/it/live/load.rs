//! Reloads while calls run: nothing fails, nothing is mixed, nothing piles up.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{FutureExt, SinkExt, StreamExt, future::BoxFuture};
use http::Method;
use serde_json::Value;

use crate::support::{Gateway, Upstream, eventually, free_port, gateway::client, soon, upstream::body, wire::Wire};

mod edits;

use edits::{Ports, TURNS, WARM_UP, edit};

/// How much larger the process may be after all turns than when it was warm,
/// and than half way, in KiB. What stays of a reload would be there two hundred
/// times, and half of that again.
const GROWTH: (u64, u64) = (10 << 10, 6 << 10);

/// How long calls run before the first reload, to compare with.
const BEFORE: Duration = Duration::from_secs(1);

/// Pause between two signs of life on a stream.
const BEAT: Duration = Duration::from_millis(20);

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

/// What everybody in the test looks at.
struct Stage {
    port: AtomicU16,
    /// The number that is live, as far as anybody was told, and the newest that may be.
    live: AtomicU64,
    written: AtomicU64,
    done: AtomicBool,
    times: Mutex<Vec<Duration>>,
}

impl Stage {
    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.load(Ordering::SeqCst)).into()
    }

    fn is_done(&self) -> bool {
        self.done.load(Ordering::SeqCst)
    }

    /// Calls on a connection of its own, or on one that is kept until the
    /// listener moves, and looks at the three numbers in each answer.
    async fn call(&self, keep_alive: bool) {
        let close = if keep_alive { "" } else { "Connection: close\r\n" };
        let request = format!("GET /app/x HTTP/1.1\r\nHost: x\r\n{close}\r\n");
        let mut kept: Option<(SocketAddr, Wire)> = None;
        while !self.is_done() {
            let (address, live) = (self.address(), self.live.load(Ordering::SeqCst));
            let began = Instant::now();
            let mut wire = match kept.take() {
                Some((same, wire)) if same == address => wire,
                _ => Wire::connect(address).await,
            };
            wire.send(&request).await;
            let answer = wire.until("null}").await;
            self.times.lock().expect("no panic").push(began.elapsed());
            let turn = the_only_turn(&answer);
            let newest = self.written.load(Ordering::SeqCst);
            assert!((live..=newest).contains(&turn), "{turn} is not in {live}..={newest}");
            if keep_alive {
                kept = Some((address, wire));
            }
        }
    }

    /// Uploads and downloads at once.
    async fn stream(&self) {
        while !self.is_done() {
            let mut wire = Wire::connect(self.address()).await;
            wire.send("POST /function/mirror HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
                .await;
            let answer = wire.until("hello").await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
    }

    async fn turn(&self, gateway: &Gateway, turn: u64, ports: &Ports) {
        let edit = edit(turn, ports);
        self.written.fetch_max(edit.live, Ordering::SeqCst);
        tokio::fs::write(gateway.config_file(), edit.content)
            .await
            .expect("writable");
        let url = format!("http://{}/system/config/reload", self.address());
        let answer = client().request(Method::POST, url).send().await.expect("an answer");
        let status = answer.status();
        let outcome: Value = answer.json().await.expect("JSON");
        assert_eq!(status, edit.status, "turn {turn}: {outcome}");
        assert_eq!(
            outcome["result"].as_str().unwrap_or_default(),
            edit.result,
            "turn {turn}: {outcome}"
        );
        self.live.store(edit.live, Ordering::SeqCst);
        self.port.store(edit.port, Ordering::SeqCst);
    }
}

/// The turn that an answer comes from: what the function was sent, what came
/// back and the path that the route made must be of one.
fn the_only_turn(answer: &str) -> u64 {
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    let number = |text: &str, before: &str| -> u64 {
        let digits = text
            .split(before)
            .nth(1)
            .unwrap_or_else(|| panic!("no {before} in {answer}"));
        let end = digits.find(|character: char| !character.is_ascii_digit());
        digits[..end.unwrap_or(digits.len())].parse().expect("a number")
    };
    let turns = [
        number(body, "[\"x-turn\",\""),
        number(head, "X-Turn: "),
        number(body, "/function/echo/turn/"),
    ];
    assert!(
        turns.iter().all(|turn| *turn == turns[0]),
        "several generations in one answer: {turns:?}"
    );
    turns[0]
}

/// The time in which all but one of a hundred were done.
fn p99(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() * 99 / 100).copied().unwrap_or_default()
}

/// A request body and an answer that are open until `end`; `active` ones move.
async fn open_stream(stage: &Stage, end: &AtomicBool, active: bool) {
    let mut wire = Wire::connect(stage.address()).await;
    wire.send("POST /function/mirror HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nopen\r\n")
        .await;
    wire.until("open").await;
    while !end.load(Ordering::SeqCst) {
        if active {
            wire.send("4\r\nbeat\r\n").await;
            wire.until("beat").await;
        }
        tokio::time::sleep(BEAT).await;
    }
    wire.send("5\r\nclose\r\n0\r\n\r\n").await;
    wire.until("close").await;
}

/// The same for a WebSocket.
async fn open_socket(stage: &Stage, end: &AtomicBool, active: bool) {
    let url = format!("ws://{}/function/chat", stage.address());
    let (mut socket, _) = soon("the handshake", tokio_tungstenite::connect_async(url))
        .await
        .expect("switched");
    let mut last = false;
    while !last {
        last = end.load(Ordering::SeqCst);
        if active || last {
            socket.send("still here".into()).await.expect("sent");
            let heard = soon("an echo", socket.next()).await.expect("open").expect("a message");
            assert_eq!(heard.to_text().expect("text"), "STILL HERE");
        }
        tokio::time::sleep(BEAT).await;
    }
}

#[test]
fn an_answer_of_two_generations_is_noticed() {
    let answer = |request: u64, response: u64, path: u64| {
        format!(
            "HTTP/1.1 200 OK\r\nX-Turn: {response}\r\n\r\n{{\"headers\":[[\"x-turn\",\"{request}\"]],\"target\":\"/function/echo/turn/{path}/x\"}}"
        )
    };
    assert_eq!(the_only_turn(&answer(7, 7, 7)), 7);
    for mixed in [answer(8, 7, 7), answer(7, 8, 7), answer(7, 7, 8)] {
        let noticed = std::panic::catch_unwind(|| the_only_turn(&mixed));
        assert!(noticed.is_err(), "{mixed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn point_33_reloads_under_load_lose_nothing() {
    let upstream = Upstream::start().await.function("mirror", |request| async {
        use http_body_util::BodyExt;
        body(200, request.into_body().map_err(std::io::Error::other))
    });
    let upstream = upstream.function("chat", crate::streaming::shout);
    let ports = Ports(free_port(), free_port());
    let first = edit(0, &ports);
    let gateway = Gateway::before(&upstream.url())
        .listens_by_file()
        .config(&first.content)
        .start()
        .await;
    let stage = Stage {
        port: first.port.into(),
        live: 0.into(),
        written: 0.into(),
        done: false.into(),
        times: Mutex::default(),
    };
    let taken = || std::mem::take(&mut *stage.times.lock().expect("no panic"));

    let reloads = async {
        tokio::time::sleep(BEFORE).await;
        let mut before = taken();
        for turn in 1..=WARM_UP {
            stage.turn(&gateway, turn, &ports).await;
        }
        let (small, _) = (resident(&gateway).await, taken());
        let (began, mut half) = (Instant::now(), 0);
        for turn in 1..=TURNS {
            stage.turn(&gateway, WARM_UP + turn, &ports).await;
            if turn == TURNS / 2 {
                half = resident(&gateway).await;
            }
        }
        let took = began.elapsed();
        stage.done.store(true, Ordering::SeqCst);
        let mut during = taken();
        let latencies = (before.len(), p99(&mut before), during.len(), p99(&mut during));
        ((small, half), took, latencies)
    };
    // What began before all of it is there to the end, and on.
    let end = AtomicBool::new(false);
    let open: Vec<BoxFuture<()>> = [false, false, true]
        .into_iter()
        .flat_map(|active| {
            [
                open_stream(&stage, &end, active).boxed(),
                open_socket(&stage, &end, active).boxed(),
            ]
        })
        .collect();
    let callers: Vec<BoxFuture<()>> = vec![
        stage.call(true).boxed(),
        stage.call(true).boxed(),
        stage.call(false).boxed(),
        stage.stream().boxed(),
    ];
    let all = async {
        let (figures, _) = tokio::join!(reloads, futures_util::future::join_all(callers));
        end.store(true, Ordering::SeqCst);
        figures
    };
    let (figures, _) = tokio::join!(all, futures_util::future::join_all(open));
    let ((small, half), took, (calls_before, p99_before, calls, p99_during)) = figures;
    eventually("old generations gone", || async {
        (gateway.metric("gateway_config_live_generations").await? <= 1.0).then_some(())
    })
    .await;
    let large = resident(&gateway).await;
    let ended = async |result: &str| {
        let series = format!("gateway_config_reloads_total{{result=\"{result}\",trigger=\"api\"}}");
        gateway.metric(&series).await.unwrap_or_default()
    };
    let (applied, unchanged, failed) = (ended("applied").await, ended("unchanged").await, ended("failed").await);
    println!(
        "{TURNS} reloads in {took:.1?} after {WARM_UP} to warm up (in all {applied} applied, {unchanged} unchanged, {failed} \
         refused), {calls} calls meanwhile, none failed, none mixed; p99 {p99_before:.1?} before ({calls_before} calls) and \
         {p99_during:.1?} during; resident {small} KiB when warm, {half} KiB half way, {large} KiB at the end"
    );
    assert!(calls as u64 > TURNS, "{calls} calls are no load");
    assert!(
        large < small + GROWTH.0 && large < half + GROWTH.1,
        "resident {small} KiB when warm, {half} KiB half way, {large} KiB at the end"
    );
}
