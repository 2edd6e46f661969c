//! Changing the configuration of a running gateway: real files, real process.

use std::time::Duration;

use http::Method;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{Gateway, Upstream, eventually, gateway::field, upstream::text, wire::Wire};

fn logged(message: &'static str) -> impl Fn(&Value) -> bool {
    move |line| {
        field(line, "message")
            .as_str()
            .is_some_and(|text| text.contains(message))
    }
}

async fn status(gateway: &Gateway, path: &str) -> u16 {
    gateway.get(path).send().await.expect("an answer").status().as_u16()
}

/// A gateway before an upstream with a function that takes its time.
async fn with_slow_function() -> (Gateway, Upstream) {
    let upstream = Upstream::start().await.function("slow", |_| async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        text(200, "done")
    });
    let gateway = Gateway::before(&upstream.url()).start().await;
    (gateway, upstream)
}

async fn write(gateway: &Gateway, toml: &str) {
    tokio::fs::write(gateway.config_file(), toml).await.expect("writable");
}

#[tokio::test]
async fn an_edited_file_is_live_without_a_restart() {
    let (gateway, _upstream) = with_slow_function().await;
    assert_eq!(status(&gateway, "/function/slow").await, 200);
    write(&gateway, "[invoke]\nupstream_timeout = \"50ms\"\n").await;
    eventually("the shorter timeout", || async {
        (status(&gateway, "/function/slow").await == 504).then_some(())
    })
    .await;
    assert_eq!(gateway.metric("gateway_config_last_reload_successful").await, Some(1.0));
}

#[tokio::test]
async fn a_file_renamed_into_place_is_noticed() {
    let (gateway, _upstream) = with_slow_function().await;
    let draft = gateway.directory().join("draft");
    std::fs::write(&draft, "[invoke]\nupstream_timeout = \"50ms\"\n").expect("writable");
    std::fs::rename(&draft, gateway.config_file()).expect("renamed");
    eventually("the shorter timeout", || async {
        (status(&gateway, "/function/slow").await == 504).then_some(())
    })
    .await;
}

#[tokio::test]
async fn point_13_a_wrong_file_changes_nothing_and_says_why() {
    let (gateway, _upstream) = with_slow_function().await;
    write(&gateway, "[invoke]\nupstream_timeout = \"soon\"\nupstream_timout = 1\n").await;
    let mistakes = ["expected a duration", "upstream_timeout'?"];
    for mistake in mistakes {
        gateway.logged(mistake, |line| line.to_string().contains(mistake)).await;
    }
    eventually("the gauge", || async {
        (gateway.metric("gateway_config_last_reload_successful").await? < 1.0).then_some(())
    })
    .await;
    assert_eq!(status(&gateway, "/function/slow").await, 200);

    write(&gateway, "[invoke]\nupstream_timeout = \"30s\"\n").await;
    eventually("the gauge", || async {
        (gateway.metric("gateway_config_last_reload_successful").await? > 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn point_31_a_bad_reload_does_not_fail_readiness() {
    let (gateway, _upstream) = with_slow_function().await;
    let ready = async || {
        let page = gateway
            .request(Method::GET, "/healthz")
            .send()
            .await
            .expect("an answer");
        (page.status().as_u16(), gateway.health_of_metrics().await)
    };
    assert_eq!(ready().await, (200, 200));
    for wrong in [
        "wrong = true\n",
        "not = [toml",
        "",
        "[auth]\nbasic = true\nsecret_path = \"/no/such\"\n",
    ] {
        write(&gateway, wrong).await;
        let answer = gateway.post("/system/config/reload").send().await.expect("an answer");
        assert_eq!(answer.status(), 422, "{wrong}");
        assert_eq!(ready().await, (200, 200), "{wrong}");
        assert_eq!(gateway.metric("gateway_config_last_reload_successful").await, Some(0.0));
    }
}

#[tokio::test]
async fn sighup_reloads_and_never_kills() {
    let (gateway, _upstream) = with_slow_function().await;
    gateway.signal(Signal::SIGHUP);
    write(&gateway, "[invoke]\nupstream_timeout = \"50ms\"\n").await;
    gateway.signal(Signal::SIGHUP);
    eventually("the shorter timeout", || async {
        (status(&gateway, "/function/slow").await == 504).then_some(())
    })
    .await;
}

#[tokio::test]
async fn rotated_credentials_are_live() {
    let mut gateway = Gateway::new().basic_auth("admin", "old").start().await;
    gateway.sign_in("admin", "old");
    assert_eq!(status(&gateway, "/system/functions").await, 200);
    std::fs::write(gateway.directory().join("auth/basic-auth-password"), "new").expect("writable");
    gateway.sign_in("admin", "new");
    eventually("the new password", || async {
        (status(&gateway, "/system/functions").await == 200).then_some(())
    })
    .await;
    gateway.sign_in("admin", "old");
    assert_eq!(status(&gateway, "/system/functions").await, 401);
}

#[tokio::test]
async fn authentication_turns_on_and_a_missing_secret_keeps_it_as_it_was() {
    let gateway = Gateway::new().start().await;
    let secrets = gateway.directory().join("secrets");
    let toml = format!("\n[auth]\nbasic = true\nsecret_path = \"{}\"\n", secrets.display());
    write(&gateway, &toml).await;
    let place = format!(
        "{}:4:1: auth.secret_path: {}/basic-auth-user: cannot be read",
        gateway.config_file().display(),
        secrets.display()
    );
    gateway
        .logged("the missing file", |line| line.to_string().contains(&place))
        .await;
    assert_eq!(status(&gateway, "/system/functions").await, 200);
    std::fs::create_dir(&secrets).expect("a directory");
    std::fs::write(secrets.join("basic-auth-user"), "admin").expect("a file");
    std::fs::write(secrets.join("basic-auth-password"), "x").expect("a file");
    gateway.signal(Signal::SIGHUP);
    eventually("a challenge", || async {
        (status(&gateway, "/system/functions").await == 401).then_some(())
    })
    .await;
}

#[tokio::test]
async fn another_provider_takes_over_and_functions_of_the_old_one_stop() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::new().start().await;
    gateway
        .deploy(&json!({"service": "pid", "image": "local", "envProcess": "sh -c 'echo $PPID'"}))
        .await;
    let watchdog: i32 = gateway.invoke("/function/pid", "").await.trim().parse().expect("a pid");
    write(
        &gateway,
        &format!("[provider]\nkind = \"http\"\nurl = \"{}\"\n", upstream.url()),
    )
    .await;
    eventually("the other provider", || async {
        (status(&gateway, "/function/echo").await == 200).then_some(())
    })
    .await;
    eventually("the old function's end", || async {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(watchdog), None)
            .is_err()
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn log_level_and_scaling_follow_the_file() {
    let gateway = Gateway::new().config("[scaling]\nfrom_zero = false").start().await;
    gateway
        .deploy(&json!({"service": "cat", "image": "local", "envProcess": "cat"}))
        .await;
    gateway.scale("cat", 0).await;
    eventually("no replica", || async {
        (status(&gateway, "/function/cat").await == 503).then_some(())
    })
    .await;
    write(&gateway, "[scaling]\nfrom_zero = true\n[logging]\nlevel = \"debug\"\n").await;
    eventually("a start from zero", || async {
        (status(&gateway, "/function/cat").await == 200).then_some(())
    })
    .await;
    Wire::exchange(gateway.address(), "no request\r\n\r\n").await;
    gateway
        .logged("connection ended", |line| line["level"] == "DEBUG")
        .await;
}

#[tokio::test]
async fn a_change_that_needs_a_restart_is_named_and_the_rest_applied() {
    let gateway = Gateway::new()
        .without_env("FAAS__PROVIDER__PROCESS__STATE_DIR")
        .start()
        .await;
    gateway
        .deploy(&json!({"service": "slow", "image": "local", "envProcess": "sleep 0.4"}))
        .await;
    assert_eq!(status(&gateway, "/function/slow").await, 200);
    write(
        &gateway,
        "[provider.process]\nstate_dir = \"/elsewhere\"\n[invoke]\nupstream_timeout = \"50ms\"\n",
    )
    .await;
    let line = gateway.logged("the key", logged("keeps its running value")).await;
    assert_eq!(
        (field(&line, "key"), &line["level"]),
        (&json!("provider.process.state_dir"), &json!("WARN"))
    );
    let line = gateway.logged("the reload", logged("reloaded")).await;
    assert_eq!(field(&line, "pending_restart"), "provider.process.state_dir");
    assert_eq!(gateway.metric("gateway_config_pending_restart").await, Some(1.0));
    assert_eq!(
        status(&gateway, "/function/slow").await,
        504,
        "the rest, and the function is still there"
    );
}

#[tokio::test]
async fn point_17_what_a_reload_does_not_change_is_carried_over() {
    let gateway = Gateway::new().start().await;
    let script = "sh -c 'echo $PPID'";
    for name in ["pid", "gone"] {
        gateway
            .deploy(&json!({"service": name, "image": "local", "envProcess": script}))
            .await;
        gateway.invoke(&format!("/function/{name}"), "").await;
    }
    let watchdog = gateway.invoke("/function/pid", "").await;
    let calls =
        |name: &str| format!("gateway_function_invocation_total{{code=\"200\",function_name=\"{name}.openfaas-fn\"}}");
    assert_eq!(gateway.metric(&calls("pid")).await, Some(2.0));

    // The process provider's own settings change, and the limits of its connections.
    let changed = "[provider.process]\nrestart_backoff = \"1s\"\n[invoke]\nmax_idle_conns_per_host = 7\n\
                   [metrics]\nrefresh_interval = \"50ms\"\n";
    write(&gateway, changed).await;
    gateway.logged("the reload", logged("reloaded")).await;
    assert_eq!(gateway.invoke("/function/pid", "").await, watchdog, "the same replica");
    assert_eq!(gateway.metric(&calls("pid")).await, Some(3.0), "and the same counters");

    // What is gone takes its series with it, whatever generation counted.
    gateway.remove("gone").await;
    eventually("the series gone", || async {
        gateway.metric(&calls("gone")).await.is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn point_17_changed_bounds_on_calls_close_no_connection() {
    let (gateway, upstream) = with_slow_function().await;
    for _ in 0..3 {
        assert_eq!(status(&gateway, "/function/slow").await, 200);
    }
    let before = upstream.connections();
    let bounds = "[invoke]\nupstream_timeout = \"50ms\"\nidle_conn_timeout = \"20s\"\nmax_idle_conns_per_host = 7\n";
    write(&gateway, bounds).await;
    gateway.logged("the reload", logged("reloaded")).await;
    assert_eq!(status(&gateway, "/function/echo").await, 200);
    assert_eq!(status(&gateway, "/function/slow").await, 504, "the new bound");
    assert_eq!(upstream.connections(), before, "on the connections there were");
}
