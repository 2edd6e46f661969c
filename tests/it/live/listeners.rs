//! Listeners that move, change places and come back while calls run.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering},
    },
    time::Duration,
};

use http::Method;
use serde_json::Value;
use tokio::{net::TcpStream, sync::Notify};

use super::{says, write};
use crate::support::{
    Gateway, Upstream, eventually, free_port,
    gateway::{field, logged_address},
    soon,
    upstream::text,
    wire::Wire,
};

const CALL: &str = "GET /function/echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

fn here(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Reloads only when asked; the metrics are anywhere.
fn file(server: &str) -> String {
    format!("[reload]\nwatch = \"off\"\n[metrics]\nlisten = \"127.0.0.1:0\"\n[server]\n{server}\n")
}

async fn start(upstream: &Upstream, toml: &str) -> Gateway {
    Gateway::before(&upstream.url())
        .listens_by_file()
        .config(toml)
        .start()
        .await
}

/// Asks one of the addresses to read the file that is written now.
async fn reload(gateway: &Gateway, at: SocketAddr, toml: &str) -> (u16, Value) {
    write(gateway.config_file(), toml);
    let url = format!("http://{at}/system/config/reload");
    let answer = crate::support::gateway::client()
        .request(Method::POST, url)
        .send()
        .await;
    let answer = answer.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

async fn applied(gateway: &Gateway, at: SocketAddr, toml: &str) {
    let (status, outcome) = reload(gateway, at, toml).await;
    assert_eq!((status, &outcome["result"]), (200, &"applied".into()), "{outcome}");
    assert_eq!(outcome["pending_restart"], Value::Array(Vec::new()), "{outcome}");
}

/// Calls until `done`, each time on a new connection; every call must be answered.
async fn call(port: &AtomicU16, done: &AtomicBool, calls: &AtomicU32) {
    while !done.load(Ordering::Relaxed) {
        let answer = Wire::exchange(here(port.load(Ordering::Relaxed)), CALL).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        calls.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits until there are so many more of these calls.
async fn more(calls: &AtomicU32, count: u32) {
    let wanted = calls.load(Ordering::Relaxed) + count;
    eventually("more calls", || async {
        (calls.load(Ordering::Relaxed) >= wanted).then_some(())
    })
    .await;
}

#[tokio::test]
async fn point_16_a_listener_moves_under_load_and_nothing_is_refused() {
    let upstream = Upstream::start().await;
    let (first, second) = (free_port(), free_port());
    let at = |port: u16| file(&format!("listen = \"127.0.0.1:{port}\"\ndrain_delay = \"3s\""));
    let gateway = start(&upstream, &at(first)).await;
    let mut kept_alive = Wire::connect(here(first)).await;
    kept_alive.send(CALL.replace("Connection: close\r\n", "")).await;
    kept_alive.until("null}").await;

    // Some notice at once that it moved, others late, as load balancers do.
    let (early, late) = (AtomicU16::new(first), AtomicU16::new(first));
    let (early_calls, late_calls) = (AtomicU32::new(0), AtomicU32::new(0));
    let done = AtomicBool::new(false);
    let move_it = async {
        more(&early_calls, 20).await;
        applied(&gateway, here(first), &at(second)).await;
        early.store(second, Ordering::Relaxed);
        more(&early_calls, 50).await;
        more(&late_calls, 50).await;
        TcpStream::connect(here(first)).await.expect("the old one drains still");
        late.store(second, Ordering::Relaxed);
        eventually("the old address closed", || async {
            TcpStream::connect(here(first)).await.is_err().then_some(())
        })
        .await;
        more(&early_calls, 20).await;
        more(&late_calls, 20).await;
        done.store(true, Ordering::Relaxed);
    };
    futures_util::join!(
        call(&early, &done, &early_calls),
        call(&early, &done, &early_calls),
        call(&late, &done, &late_calls),
        call(&late, &done, &late_calls),
        move_it
    );
    assert_eq!(kept_alive.rest().await, "", "the old connection is closed in peace");
    let (early, late) = (early_calls.into_inner(), late_calls.into_inner());
    eprintln!("{} calls while it moved, none refused", early + late);
}

#[tokio::test]
async fn point_16_an_address_that_overlaps_with_its_own_is_moved_to_under_load() {
    let upstream = Upstream::start().await;
    let port = free_port();
    let gateway = start(&upstream, &file(&format!("listen = \"127.0.0.1:{port}\""))).await;
    let (done, calls, same) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU16::new(port));
    let elsewhere = || TcpStream::connect((Ipv4Addr::new(127, 0, 0, 2), port));
    let moves = async {
        let mut addresses = vec!["0.0.0.0", "[::]", "0.0.0.0", "127.0.0.1", "[::]", "127.0.0.1"];
        // Containers are often without IPv6.
        addresses.retain(|address| std::net::TcpListener::bind((address.trim_matches(['[', ']']), 0)).is_ok());
        for address in addresses {
            more(&calls, 20).await;
            applied(&gateway, here(port), &file(&format!("listen = \"{address}:{port}\""))).await;
            let everywhere = address != "127.0.0.1";
            eventually(address, || async {
                (elsewhere().await.is_ok() == everywhere).then_some(())
            })
            .await;
        }
        more(&calls, 20).await;
        done.store(true, Ordering::Relaxed);
    };
    futures_util::join!(call(&same, &done, &calls), call(&same, &done, &calls), moves);

    // Nobody else gets in beside it, not even a gateway of the same user.
    let directory = tempfile::tempdir().expect("directory");
    let mut second = Gateway::before(&upstream.url())
        .listens_by_file()
        .config(&file(&format!("listen = \"0.0.0.0:{port}\"")))
        .command(directory.path());
    let output = soon("the second gateway's end", second.output())
        .await
        .expect("started");
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(
        log.contains("gateway.toml:7:1: server.listen: cannot listen on 0.0.0.0:"),
        "{log}"
    );
}

#[tokio::test]
async fn point_16_two_listeners_change_places_under_load() {
    let upstream = Upstream::start()
        .await
        .function("inside", |_| async { text(200, "inside") });
    let (one, other) = (free_port(), free_port());
    let at = |main: u16, internal: u16| {
        let server =
            format!("listen = \"127.0.0.1:{main}\"\ninternal_listen = \"127.0.0.1:{internal}\"\ndrain_delay = \"1m\"");
        file(&format!("{server}\n[functions.inside]\nvisibility = \"internal\""))
    };
    let gateway = start(&upstream, &at(one, other)).await;
    let inside = async |port: u16| {
        let answer = Wire::exchange(here(port), &CALL.replace("echo", "inside")).await;
        answer.starts_with("HTTP/1.1 200")
    };
    let (done, calls) = (AtomicBool::new(false), AtomicU32::new(0));
    let ports = [one, other].map(AtomicU16::new);
    let swaps = async {
        let (mut main, mut internal) = (one, other);
        for _ in 0..5 {
            assert_eq!((inside(main).await, inside(internal).await), (false, true));
            more(&calls, 20).await;
            (main, internal) = (internal, main);
            applied(&gateway, here(one), &at(main, internal)).await;
            // From the answer on: nobody is let in who is not inside.
            assert_eq!((inside(main).await, inside(internal).await), (false, true));
        }
        more(&calls, 20).await;
        done.store(true, Ordering::Relaxed);
    };
    futures_util::join!(call(&ports[0], &done, &calls), call(&ports[1], &done, &calls), swaps);

    // The metrics' address is one like the others.
    let metrics = |listen: u16, metrics: u16| {
        let server = format!("listen = \"127.0.0.1:{listen}\"");
        file(&server).replacen("127.0.0.1:0", &format!("127.0.0.1:{metrics}"), 1)
    };
    applied(&gateway, here(one), &metrics(one, other)).await;
    applied(&gateway, here(one), &metrics(other, one)).await;
    let page = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert!(
        Wire::exchange(here(one), page)
            .await
            .contains("gateway_config_generation")
    );
    assert!(Wire::exchange(here(other), CALL).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn point_16_a_listener_comes_back_before_its_old_address_has_drained() {
    let upstream = Upstream::start().await;
    let (first, second) = (free_port(), free_port());
    let at = |port: u16| file(&format!("listen = \"127.0.0.1:{port}\"\ndrain_delay = \"1m\""));
    let gateway = start(&upstream, &at(first)).await;
    applied(&gateway, here(first), &at(second)).await;
    applied(&gateway, here(second), &at(first)).await;
    for port in [first, second] {
        assert!(
            Wire::exchange(here(port), CALL).await.starts_with("HTTP/1.1 200"),
            "{port}"
        );
    }
}

#[tokio::test]
async fn point_16_an_address_that_is_taken_cancels_the_reload_and_is_tried_again() {
    let upstream = Upstream::start().await;
    let toml = "[reload]\npoll_interval = \"100ms\"\n[server]\nlisten = \"127.0.0.1:0\"\n[metrics]\nlisten = \"127.0.0.1:0\"\n";
    let gateway = start(&upstream, toml).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound");
    let (head, _) = toml.rsplit_once("\"127.0.0.1:0\"").expect("an address");
    write(
        gateway.config_file(),
        &format!("{head}\"{address}\"\n[ui]\nenabled = false\n"),
    );
    let mistake = format!("gateway.toml:6:1: metrics.listen: cannot listen on {address}: Address already in use");
    gateway.logged("the reason, with its place", says(&mistake)).await;
    let ui = async || gateway.get("/ui/").send().await.expect("an answer").status();
    assert_eq!(ui().await, 200, "nothing of the file is live");
    drop(taken);
    eventually("the rest of the file", || async { (ui().await == 404).then_some(()) }).await;
    assert_eq!(
        gateway.log_count(|line| says(&mistake)(line) && line["level"] == "ERROR"),
        1
    );
}

#[tokio::test]
async fn point_12_a_provider_that_still_ends_is_not_in_the_way_for_long() {
    // process -> memory -> process, with a call under way on the first one.
    let quick = "[reload]\ndebounce = \"20ms\"\npoll_interval = \"200ms\"\n";
    let gateway = Gateway::new().config(quick).start().await;
    let release = gateway.directory().join("release");
    let script = format!(
        "sh -c 'echo begun; while [ ! -e {} ]; do sleep 0.05; done; echo ended'",
        release.display()
    );
    gateway
        .deploy(&serde_json::json!({"service": "slow", "image": "local", "envProcess": script}))
        .await;
    let begun = Arc::new(Notify::new());
    let calling = async {
        let call = gateway.invoke("/function/slow", "");
        let mut call = std::pin::pin!(call);
        let under_way = eventually("the call", || async {
            let series = "gateway_function_invocation_inflight{function_name=\"slow.openfaas-fn\"}";
            (gateway.metric(series).await? > 0.0).then_some(())
        });
        tokio::select! {
            answer = &mut call => panic!("ended early: {answer}"),
            () = under_way => begun.notify_one(),
        }
        call.await
    };
    let changing = async {
        begun.notified().await;
        write(
            gateway.config_file(),
            &format!("{quick}[provider]\nkind = \"memory\"\n"),
        );
        gateway.logged("memory", super::is_reload).await;
        write(gateway.config_file(), quick);
        let line = gateway.logged("in use", says("in use by another gateway")).await;
        assert!(says("provider.process.state_dir: state directory")(&line), "{line}");
        write(&release, "");
        let back = |line: &Value| super::is_reload(line) && field(line, "to") == 3;
        gateway.logged("process again", back).await;
    };
    let (answer, ()) = tokio::join!(calling, changing);
    assert_eq!(answer, "begun\nended\n");
    gateway.ready("slow", "").await;
}

#[tokio::test]
async fn addresses_of_a_start_overlap_with_nothing() {
    let upstream = Upstream::start().await;
    let directory = tempfile::tempdir().expect("directory");
    let port = free_port();
    let server = format!("listen = \"0.0.0.0:{port}\"\ninternal_listen = \"127.0.0.1:{port}\"");
    let setup = Gateway::before(&upstream.url())
        .listens_by_file()
        .config(&file(&server));
    let output = soon("the end", setup.command(directory.path()).output())
        .await
        .expect("started");
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{log}");
    assert!(
        log.contains(&format!(
            "gateway.toml:8:1: server.internal_listen: 127.0.0.1:{port} overlaps with 0.0.0.0:{port}"
        )),
        "{log}"
    );
}

#[tokio::test]
async fn an_address_of_the_system_can_be_written_down() {
    let upstream = Upstream::start().await;
    let gateway = start(&upstream, &file("listen = \"127.0.0.1:0\"")).await;
    let line = gateway
        .logged("listening", |line| field(line, "message") == "listening")
        .await;
    let address = logged_address(&line, "address");
    assert_eq!(address.ip(), IpAddr::from(Ipv4Addr::LOCALHOST));
    applied(&gateway, address, &file(&format!("listen = \"{address}\""))).await;
    assert_eq!(gateway.log_count(says("listener moved")), 0);
    tokio::time::timeout(Duration::from_secs(5), Wire::exchange(address, CALL))
        .await
        .expect("an answer");
}
