//! Much, long and slow: a gibibyte each way, ten thousand connections, a
//! WebSocket that outlives every bound, and callers that send a byte at a time.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    CROWDED, Gateway, PATIENCE, Upstream, eventually, script::Script, soon, upstream::text, wire::Wire,
};

/// Bytes that cross in one body.
const SIZE: usize = 1 << 30;

/// How much larger the gateway may be meanwhile than it was before, in KiB.
const GROWTH: u64 = 32 << 10;

/// How long that may take; the slowest machine needs a fraction.
const TAKES: Duration = Duration::from_secs(120);

/// Connections that wait at once, as far as the system allows them.
const CONNECTIONS: u64 = 10_000;

/// Most bytes of memory that one of them may take.
const EACH: u64 = 48 << 10;

/// Files that other tests of this process may have open meanwhile.
const OTHERS: u64 = 4_000;

/// A line of what the system knows of the gateway's memory, in KiB.
fn memory(gateway: &Gateway, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with(name)).expect("a line");
    let number = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok());
    number.expect("KiB")
}

/// Sends and receives this many bytes after what was sent and received already.
async fn crosses(from: Wire, to: Wire, framing: &str) {
    const PIECE: usize = 1 << 16;
    let ((mut from, _), (mut to, early)) = (from.into_parts(), to.into_parts());
    let (piece, size) = match framing {
        "chunked" => {
            let chunk = [format!("{PIECE:x}\r\n").as_bytes(), &vec![b'x'; PIECE], b"\r\n"].concat();
            (chunk, SIZE / PIECE * (PIECE + 9))
        }
        _ => (vec![b'x'; PIECE], SIZE),
    };
    let write = async move {
        for _ in 0..SIZE / PIECE {
            from.write_all(&piece).await.expect("it is taken");
        }
        from
    };
    let read = async move {
        let (mut got, mut space) = (early.len(), vec![0; 1 << 18]);
        // Chunks may be others than were sent, but hardly smaller.
        while got < size / 100 * 99 {
            got += match to.read(&mut space).await.expect("it goes on") {
                0 => panic!("it ended after {got} of {size} bytes"),
                count => count,
            };
        }
        let mut got_all = async || {
            while got < SIZE {
                got += to.read(&mut space).await.expect("it goes on");
            }
        };
        got_all().await;
        to
    };
    let both = async { tokio::join!(write, read) };
    tokio::time::timeout(TAKES, both).await.expect("it takes too long");
}

/// How a body of this framing crosses, up or down.
async fn in_constant_memory(framing: &'static str, up: bool) {
    let mut script = Script::start().await;
    let length = match framing {
        "chunked" => "Transfer-Encoding: chunked".to_owned(),
        _ => format!("Content-Length: {SIZE}"),
    };
    let before = memory(&script.gateway, "VmRSS");
    let began = Instant::now();
    if up {
        let request = format!("POST /function/f/x HTTP/1.1\r\nHost: x\r\n{length}\r\n\r\n");
        let caller = script.sends(request).await;
        let call = script.call().await;
        crosses(caller, call.wire, framing).await;
    } else {
        let mut caller = script.sends("GET /function/f/x HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let mut call = script.call().await;
        call.wire.send(format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\n")).await;
        caller.until("\r\n\r\n").await;
        crosses(call.wire, caller, framing).await;
    }
    let (took, peak) = (began.elapsed(), memory(&script.gateway, "VmHWM"));
    let grown = peak.saturating_sub(before);
    println!("{framing}, up: {up}: {took:?}, {before} KiB and {grown} KiB more");
    assert!(grown < GROWTH, "{grown} KiB more than {before} KiB");
    script.idle().await;
    script.answers("after").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_goes_down_in_constant_memory() {
    in_constant_memory("length", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_goes_up_in_constant_memory() {
    in_constant_memory("length", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_in_chunks_goes_down_in_constant_memory() {
    in_constant_memory("chunked", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_in_chunks_goes_up_in_constant_memory() {
    in_constant_memory("chunked", true).await;
}

/// As many connections as may be open here, with room for other tests.
fn connections() -> u64 {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("permitted");
    CONNECTIONS.min(hard.saturating_sub(OTHERS))
}

#[tokio::test]
async fn ten_thousand_idle_connections_hold_nobody_up() {
    let _crowd = CROWDED.lock().await;
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream.url()).start().await;
    gateway.invoke("/function/echo", "").await;
    let (count, before, began) = (connections(), memory(&gateway, "VmRSS"), Instant::now());
    let mut idle = Vec::new();
    for number in 0..count {
        let mut wire = Wire::connect(gateway.address()).await;
        // Some have made a call, some have begun one, some have said nothing.
        match number % 4 {
            0 => {
                wire.send("GET /function/echo HTTP/1.1\r\nHost: x\r\n\r\n").await;
                wire.until("null}").await;
            }
            1 => wire.send("GET /function/echo HTTP/1.1\r\nHo").await,
            _ => {}
        }
        idle.push(wire);
    }
    let took = began.elapsed();
    let mut times = Vec::new();
    for _ in 0..20 {
        let began = Instant::now();
        assert_eq!(
            gateway.get("/function/echo").send().await.expect("an answer").status(),
            200
        );
        times.push(began.elapsed());
    }
    times.sort_unstable();
    let each = memory(&gateway, "VmRSS").saturating_sub(before) * 1024 / count;
    println!(
        "{count} connections in {took:?}, {each} bytes each; a call took {:?}, at most {:?}",
        times[10], times[19]
    );
    assert!(each < EACH, "{each} bytes for each connection");
    assert!(times[10] < Duration::from_millis(500), "{times:?}");
    // They are still there, and go on where they were.
    for (number, wire) in idle.iter_mut().enumerate().step_by(997) {
        let rest = "GET /function/echo HTTP/1.1\r\nHost: x\r\n\r\n";
        wire.send(if number % 4 == 1 { &rest[31..] } else { rest }).await;
        wire.until("null}").await;
    }
}

#[tokio::test]
async fn a_websocket_outlives_every_bound_and_a_reload() {
    let upstream = Upstream::start().await.function("shout", crate::streaming::shout);
    let bounds = "[server]\nread_timeout = \"300ms\"\nwrite_timeout = \"300ms\"\nidle_timeout = \"200ms\"\n\
                  header_timeout = \"200ms\"\n[invoke]\nupstream_timeout = \"300ms\"\nidle_conn_timeout = \"200ms\"\n";
    let gateway = Gateway::before(&upstream.url()).config(bounds).start().await;
    let url = format!("ws://{}/function/shout/room", gateway.address());
    let (mut socket, _) = soon("the handshake", tokio_tungstenite::connect_async(url))
        .await
        .expect("switched");
    for turn in 0..6 {
        // Twice as long as the longest bound.
        tokio::time::sleep(Duration::from_millis(if turn % 2 == 0 { 700 } else { 10 })).await;
        let word = format!("turn {turn}");
        socket.send(word.as_str().into()).await.expect("sent");
        let heard = soon("an echo", socket.next()).await.expect("open").expect("a message");
        assert_eq!(heard.to_text().expect("text"), word.to_uppercase());
        if turn == 2 {
            let changed = bounds.replace("200ms", "150ms");
            gateway.configure(&changed).await;
        }
    }
    socket.close(None).await.expect("closed");
}

/// Sends a byte at a time until the gateway has had enough; what it says, and when.
async fn drips(gateway: &Gateway, first: &str, piece: &str) -> (String, Duration) {
    let began = Instant::now();
    let (mut stream, _) = Wire::connect(gateway.address()).await.into_parts();
    let mut heard = Vec::new();
    stream.write_all(first.as_bytes()).await.expect("it is taken");
    loop {
        let mut space = [0; 1024];
        tokio::select! {
            read = stream.read(&mut space) => match read {
                Ok(count @ 1..) => heard.extend_from_slice(&space[..count]),
                _ => return (String::from_utf8_lossy(&heard).into_owned(), began.elapsed()),
            },
            () = tokio::time::sleep(Duration::from_millis(50)) => {
                // It may be closed meanwhile.
                let _ = stream.write_all(piece.as_bytes()).await;
            }
        }
        assert!(began.elapsed() < PATIENCE, "it goes on");
    }
}

#[tokio::test]
async fn callers_that_drip_their_head_or_body_are_dropped_and_hold_nobody_up() {
    let upstream = Upstream::start().await.function("reads", |request| async {
        // Whoever called may be gone.
        let _ = http_body_util::BodyExt::collect(request.into_body()).await;
        text(200, "read")
    });
    let gateway = Gateway::before(&upstream.url()).env("read_timeout", "1s").start().await;
    assert_eq!(gateway.invoke("/function/reads", "").await, "read");
    let post = "POST /function/reads HTTP/1.1\r\nHost: x\r\n";
    let length = format!("{post}Content-Length: 1000000\r\n\r\n");
    let chunks = format!("{post}Transfer-Encoding: chunked\r\n\r\n");
    let heads = (0..100).map(|_| drips(&gateway, "GET /function/reads HTTP/1.1\r\nHost: x\r\nX-Slow: ", "x"));
    let lines = (0..20).map(|_| drips(&gateway, "GET /function/reads HTTP/1.1\r\nHost: x\r\n", "A: b\r\n"));
    let targets = (0..20).map(|_| drips(&gateway, "GET /function/reads?", "x"));
    let bodies = (0..50).map(|_| drips(&gateway, &length, "x"));
    let chunked = (0..50).map(|_| drips(&gateway, &chunks, "1\r\nx\r\n"));
    let sizes = (0..20).map(|_| drips(&gateway, &chunks, "0"));
    let prompt = async {
        for _ in 0..20 {
            let began = Instant::now();
            assert_eq!(gateway.invoke("/function/reads", "").await, "read");
            assert!(began.elapsed() < Duration::from_millis(700), "{:?}", began.elapsed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let all = |drips| futures_util::future::join_all(drips);
    let (heads, bodies, ()) = tokio::join!(
        all(heads.chain(lines).chain(targets).collect::<Vec<_>>()),
        all(bodies.chain(chunked).chain(sizes).collect::<Vec<_>>()),
        prompt
    );
    for (heard, took) in heads.iter().chain(&bodies) {
        assert!(!heard.starts_with("HTTP/1.1 2"), "{heard}");
        assert!(*took < Duration::from_secs(5), "{took:?}: {heard}");
    }
    eventually("the end of every call", || async {
        let series = r#"gateway_function_invocation_inflight{function_name="reads"}"#;
        (gateway.metric(series).await? == 0.0).then_some(())
    })
    .await;
}
