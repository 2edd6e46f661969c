//! Starting, stopping, and what is kept in between.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use tokio::sync::mpsc;

use crate::support::{Gateway, Upstream, soon, upstream::text, wire::Wire};

/// A function that answers when the test says so.
async fn held() -> (Upstream, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (began, begun) = mpsc::channel(8);
    let (release, released) = mpsc::channel::<()>(8);
    let released = std::sync::Arc::new(tokio::sync::Mutex::new(released));
    let upstream = Upstream::start().await.function("held", move |_| {
        let (began, released) = (began.clone(), released.clone());
        async move {
            began.send(()).await.expect("the test listens");
            released.lock().await.recv().await;
            text(200, "finished")
        }
    });
    (upstream, begun, release)
}

#[tokio::test]
async fn sigterm_lets_calls_finish_and_exits_0() {
    let (upstream, mut begun, release) = held().await;
    let mut gateway = Gateway::before(&upstream.url()).start().await;
    let mut wire = Wire::connect(gateway.address()).await;
    wire.send("GET /function/held HTTP/1.1\r\nHost: x\r\n\r\n").await;
    soon("the call", begun.recv()).await;
    gateway.signal(Signal::SIGTERM);
    gateway
        .logged("stopping", |line| line.to_string().contains("stopping"))
        .await;
    release.send(()).await.expect("the function waits");
    let answer = wire.rest().await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("finished"),
        "{answer}"
    );
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn readiness_goes_before_the_listener() {
    let upstream = Upstream::start().await;
    let mut gateway = Gateway::before(&upstream.url())
        .config("[server]\ndrain_delay = \"1s\"")
        .start()
        .await;
    assert_eq!(gateway.get("/healthz").send().await.expect("an answer").status(), 200);
    gateway.signal(Signal::SIGTERM);
    gateway
        .logged("stopping", |line| line.to_string().contains("stopping"))
        .await;
    assert_eq!(gateway.get("/healthz").send().await.expect("an answer").status(), 503);
    assert_eq!(
        gateway.get("/function/echo").send().await.expect("an answer").status(),
        200
    );
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let (upstream, mut begun, _release) = held().await;
    let mut gateway = Gateway::before(&upstream.url()).start().await;
    let mut wire = Wire::connect(gateway.address()).await;
    wire.send("GET /function/held HTTP/1.1\r\nHost: x\r\n\r\n").await;
    soon("the call", begun.recv()).await;
    gateway.signal(Signal::SIGTERM);
    gateway
        .logged("stopping", |line| line.to_string().contains("stopping"))
        .await;
    gateway.signal(Signal::SIGINT);
    assert_eq!(gateway.ended().await.code(), Some(1));
}

#[tokio::test]
async fn the_drain_is_bounded() {
    let (upstream, mut begun, _release) = held().await;
    let mut gateway = Gateway::before(&upstream.url())
        .config("[server]\ndrain_timeout = \"200ms\"")
        .start()
        .await;
    let mut wire = Wire::connect(gateway.address()).await;
    wire.send("GET /function/held HTTP/1.1\r\nHost: x\r\n\r\n").await;
    soon("the call", begun.recv()).await;
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.ended().await.code(), Some(1));
}

#[tokio::test]
async fn three_functions_answer_again_after_kill_9() {
    let gateway = Gateway::new().start().await;
    for (name, command) in [("cat", "cat"), ("rev", "rev"), ("count", "wc -c")] {
        gateway
            .deploy(&json!({"service": name, "image": "local", "envProcess": command}))
            .await;
    }
    let gateway = gateway.crash_and_restart(Gateway::new()).await;
    for (name, answer) in [("cat", "abc"), ("rev", "cba"), ("count", "3")] {
        gateway.ready(name, "").await;
        let text = gateway.invoke(&format!("/function/{name}"), "abc").await;
        assert_eq!(text.trim(), answer, "{name}");
    }
}

#[tokio::test]
async fn functions_stop_with_the_gateway() {
    let mut gateway = Gateway::new().start().await;
    gateway
        .deploy(&json!({"service": "pid", "image": "local", "envProcess": "sh -c 'echo $PPID'"}))
        .await;
    let watchdog: i32 = gateway.invoke("/function/pid", "").await.trim().parse().expect("a pid");
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.ended().await.code(), Some(0));
    let gone = || async {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(watchdog), None)
            .is_err()
            .then_some(())
    };
    crate::support::eventually("the replica's end", gone).await;
}

#[tokio::test]
async fn a_public_address_without_authentication_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let setup = Gateway::new().env("FAAS__SERVER__LISTEN", "0.0.0.0:0");
    let output = tokio::time::timeout(Duration::from_secs(20), setup.command(directory.path()).output())
        .await
        .expect("it ends")
        .expect("it runs");
    assert_eq!(output.status.code(), Some(64));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("FAAS__SERVER__LISTEN") && text.contains("basic_auth"),
        "{text}"
    );
}

#[tokio::test]
async fn one_gateway_is_the_provider_of_another() {
    let provider = Gateway::new().basic_auth("admin", "secret").start().await;
    let front = Gateway::before(&provider.url()).basic_auth("admin", "secret");
    let mut front = front.start().await;
    front.sign_in("admin", "secret");
    front
        .deploy(&json!({"service": "rev", "image": "local", "envProcess": "rev"}))
        .await;
    assert_eq!(front.invoke("/function/rev", "abc").await.trim(), "cba");
    let provider_page = provider.metrics().await;
    assert!(
        provider_page.contains(r#"gateway_function_invocation_total{code="200",function_name="rev.openfaas-fn"} 1"#),
        "{provider_page}"
    );
    let logs = front.get("/system/logs?name=rev").send().await.expect("an answer");
    assert_eq!(logs.status(), 200);
    assert!(logs.text().await.expect("text").contains("Forking fprocess"));
}
