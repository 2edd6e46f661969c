//! Starting, stopping, and what is kept in between.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use tokio::sync::mpsc;

use crate::support::{Gateway, Upstream, eventually, soon, upstream::text, wire::Wire};

/// A function that answers when the test says so.
async fn held() -> (Upstream, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (start, started) = mpsc::channel(8);
    let (release, released) = mpsc::channel::<()>(8);
    let released = std::sync::Arc::new(tokio::sync::Mutex::new(released));
    let upstream = Upstream::start().await.function("held", move |_| {
        let (start, released) = (start.clone(), released.clone());
        async move {
            start.send(()).await.expect("the test listens");
            released.lock().await.recv().await;
            text(200, "finished")
        }
    });
    (upstream, started, release)
}

/// Calls the function and returns once it runs.
async fn begin(gateway: &Gateway, started: &mut mpsc::Receiver<()>) -> Wire {
    let mut wire = Wire::connect(gateway.address()).await;
    wire.send("GET /function/held HTTP/1.1\r\nHost: x\r\n\r\n").await;
    soon("the call", started.recv()).await;
    wire
}

/// Asks the gateway to stop and returns once it has begun to.
async fn terminate(gateway: &Gateway) {
    gateway.signal(Signal::SIGTERM);
    gateway
        .logged("stopping", |line| line.to_string().contains("stopping"))
        .await;
}

#[tokio::test]
async fn sigterm_lets_calls_finish_and_exits_0() {
    let (upstream, mut started, release) = held().await;
    let mut gateway = Gateway::before(&upstream.url()).start().await;
    let mut wire = begin(&gateway, &mut started).await;
    terminate(&gateway).await;
    release.send(()).await.expect("the function waits");
    let answer = wire.rest().await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("finished"),
        "{answer}"
    );
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn the_usual_limit_on_open_files_is_raised_to_what_is_allowed() {
    let directory = tempfile::tempdir().expect("temp dir");
    let mut gateway = tokio::process::Command::new("sh")
        .args(["-c", "ulimit -Sn 64 && exec \"$0\" serve --state-dir \"$1\""])
        .arg(env!("CARGO_BIN_EXE_faas-gateway"))
        .arg(directory.path())
        .envs(["FAAS__SERVER__LISTEN", "FAAS__METRICS__LISTEN"].map(|name| (name, "127.0.0.1:0")))
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    let about = format!("/proc/{}", gateway.id().expect("it runs"));
    let raised = || async {
        // Not the shell any more, whose limit was not lowered at first.
        let name = std::fs::read_to_string(format!("{about}/comm")).ok()?;
        (name.trim() == "faas-gateway").then_some(())?;
        let text = std::fs::read_to_string(format!("{about}/limits")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
        let mut words = line.split_ascii_whitespace();
        let (soft, hard) = (words.next()?, words.next()?);
        (soft != "64" && soft == hard).then_some(())
    };
    eventually("the limit is raised", raised).await;
    gateway.kill().await.expect("killed");
}

#[tokio::test]
async fn readiness_goes_before_the_listener() {
    let upstream = Upstream::start().await;
    let mut gateway = Gateway::before(&upstream.url())
        .config("[server]\ndrain_delay = \"1s\"")
        .start()
        .await;
    assert_eq!(gateway.get("/healthz").send().await.expect("an answer").status(), 200);
    terminate(&gateway).await;
    let draining = gateway.get("/healthz").send().await.expect("an answer");
    assert_eq!(draining.status(), 503);
    assert_eq!(draining.headers()["retry-after"], "1");
    assert_eq!(
        gateway.get("/function/echo").send().await.expect("an answer").status(),
        200
    );
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let (upstream, mut started, _release) = held().await;
    let mut gateway = Gateway::before(&upstream.url()).start().await;
    let _wire = begin(&gateway, &mut started).await;
    terminate(&gateway).await;
    gateway.signal(Signal::SIGINT);
    assert_eq!(gateway.ended().await.code(), Some(1));
}

#[tokio::test]
async fn the_drain_is_bounded() {
    let (upstream, mut started, _release) = held().await;
    let mut gateway = Gateway::before(&upstream.url())
        .config("[server]\ndrain_timeout = \"200ms\"")
        .start()
        .await;
    let mut wire = begin(&gateway, &mut started).await;
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.ended().await.code(), Some(0));
    assert!(!wire.rest().await.contains("200 OK"), "the call was not cut off");
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
    eventually("the replica's end", gone).await;
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
    eventually("the function's log", || async {
        let logs = front.get("/system/logs?name=rev").send().await.expect("an answer");
        assert_eq!(logs.status(), 200);
        let text = logs.text().await.expect("text");
        text.contains("Forking fprocess").then_some(())
    })
    .await;
}
