//! `/system/config`: a running gateway tells which configuration is live, checks
//! and compares candidates, and reads its files again on request.

use faas_gateway_client::types;
use http::Method;
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::net::UnixDatagram;

use crate::support::{
    Gateway,
    gateway::{Setup, field},
    soon,
    typed::{done, refused},
};

mod audit;
mod candidates;
mod generations;

const STATUS: &str = "/system/config/status";
const RELOAD: &str = "/system/config/reload";

async fn status(gateway: &Gateway) -> types::ConfigStatus {
    done(gateway.client().get_config_status().send().await)
}

async fn effective(gateway: &Gateway) -> types::Configuration {
    done(gateway.client().get_config().send().await)
}

async fn reload(gateway: &Gateway) -> types::ConfigReload {
    done(gateway.client().reload_config().send().await)
}

/// What is wrong with the files that a reload finds.
async fn reload_refused(gateway: &Gateway) -> types::Problem {
    let problem = refused(gateway.client().reload_config().send().await);
    assert_eq!(problem.status, 422, "{problem:?}");
    problem
}

/// Sends a document and returns status and JSON.
async fn submit(gateway: &Gateway, path: &str, toml: &str) -> (u16, Value) {
    let request = gateway.post(path).body(toml.to_owned());
    let response = request.send().await.expect("an answer");
    (response.status().as_u16(), response.json().await.expect("JSON"))
}

fn write(gateway: &Gateway, toml: &str) {
    std::fs::write(gateway.config_file(), toml).expect("writable");
}

/// The value of a key as `/system/config` shows it.
fn shown<'v>(effective: &'v types::Configuration, key: &str) -> &'v types::ConfigValue {
    let mut values = effective.values.iter();
    values
        .find(|value| value.key == key)
        .unwrap_or_else(|| panic!("{key} is not there"))
}

/// Where layers are from, and what they say.
fn layers<'l>(layers: impl IntoIterator<Item = &'l types::ConfigLayer>) -> Vec<(&'l str, &'l str)> {
    let layers = layers.into_iter();
    layers.map(|layer| (&*layer.source, &*layer.value)).collect()
}

/// A gateway whose state directory the file may set.
fn with_own_state() -> Setup {
    Gateway::new().without_env("FAAS__PROVIDER__PROCESS__STATE_DIR")
}

#[tokio::test]
async fn point_26_the_effective_configuration_is_shown_with_its_sources_and_without_secrets() {
    let gateway = Gateway::new()
        .config("server.read_timeout = \"5s\"\nprovider.url = \"http://user:hunter2@127.0.0.1:1/\"\nprovider.kind = \"process\"")
        .env("write_timeout", "70")
        .start()
        .await;
    let response = gateway.get("/system/config").send().await.expect("an answer");
    assert_eq!(response.headers()["x-config-generation"], "1");
    let etag = response.headers()["etag"].to_str().expect("text").to_owned();
    let body = response.text().await.expect("a body");
    assert!(!body.contains("hunter2"), "{body}");
    let effective = effective(&gateway).await;
    assert_eq!((etag, effective.generation), (format!("\"{}\"", effective.hash), 1));

    let file = gateway.config_file().display().to_string();
    let read_timeout = shown(&effective, "server.read_timeout");
    assert_eq!(
        (
            read_timeout.value.as_deref(),
            read_timeout.default.as_deref(),
            read_timeout.live
        ),
        (Some("\"5s\""), Some("\"1m\""), true)
    );
    assert!(read_timeout.source.as_ref().expect("a source").starts_with(&file));
    for (key, source) in [
        ("server.write_timeout", "environment variable write_timeout"),
        ("ui.enabled", "default"),
        ("scaling.from_zero", "derived"),
    ] {
        assert_eq!(shown(&effective, key).source.as_deref(), Some(source), "{key}");
    }
    let masked = shown(&effective, "provider.url").value.as_deref();
    assert_eq!(masked, Some("\"http://***@127.0.0.1:1/\""));
    assert!(!shown(&effective, "provider.process.state_dir").live);
    assert!(shown(&effective, "auth.proxy_url").value.is_none());
}

#[tokio::test]
async fn point_22_the_effective_configuration_tells_what_is_overridden_and_what_is_beneath() {
    let file = "[server]\nread_timeout = \"5s\"\n[functions.\"*\"]\nmax_in_flight = 5\ntimeouts.idle = \"30s\"\n\
                [functions.f]\nmax_in_flight = 7\n";
    let gateway = Gateway::new()
        .config(file)
        .env("read_timeout", "6")
        .env("FAAS__SERVER__READ_TIMEOUT", "7s")
        .start()
        .await;
    let effective = effective(&gateway).await;
    let path = gateway.config_file().display().to_string();
    let at = |place: &str| format!("{path}:{place}");
    assert_eq!(
        layers(&shown(&effective, "server.read_timeout").overridden),
        [("environment variable read_timeout", "\"6\""), (&*at("3:1"), "\"5s\"")]
    );
    let own = shown(&effective, "functions.f.max_in_flight");
    assert_eq!(
        (own.value.as_deref(), layers(&own.base)),
        (Some("7"), vec![(&*at("5:1"), "5")])
    );
    let given = shown(&effective, "functions.f.timeouts.idle");
    assert_eq!(
        (given.value.as_deref(), layers(&given.base)),
        (None, vec![(&*at("6:10"), "\"30s\"")])
    );
    // The program says the same.
    let mut config = tokio::process::Command::new(env!("CARGO_BIN_EXE_faas-gateway"));
    config.args(["config", "--config", &path]).env_clear().env("HOME", "/h");
    let printed = String::from_utf8(config.output().await.expect("started").stdout).expect("text");
    let line = format!("# functions.f.timeouts.idle = \"30s\" of functions.\"*\"  # {path}:6:10");
    assert!(printed.lines().any(|found| found == line), "{printed}");
}

#[tokio::test]
async fn point_26_the_status_follows_good_and_bad_reloads() {
    let gateway = Gateway::new().start().await;
    let first = status(&gateway).await;
    assert_eq!(first.last_attempt.trigger, "start");
    assert_eq!(first.sources[0].path, gateway.config_file().display().to_string());
    assert_eq!(first.sources[0].sha256.as_ref().map(String::len), Some(64));
    assert_eq!((first.generation, first.live_generations), (1, 1));

    write(&gateway, "[server]\nread_timeout = \"soon\"\nlisen = \"x\"\n");
    let problem = reload_refused(&gateway).await;
    assert_eq!(
        (problem.errors.len(), problem.detail.lines().count()),
        (2, 2),
        "{problem:?}"
    );
    let failed = status(&gateway).await;
    assert_eq!(failed.last_attempt.result, "failed");
    assert_eq!(failed.last_attempt.errors, problem.errors);
    assert_eq!((failed.generation, &failed.hash), (first.generation, &first.hash));
    write(&gateway, "[server]\nread_timeout = \"7s\"\n");
    let outcome = reload(&gateway).await;
    assert_eq!(outcome.generation, 2, "{outcome:?}");
    let good = status(&gateway).await;
    assert!(good.last_attempt.errors.is_empty());
    assert_eq!(good.hash, outcome.hash);
    assert_ne!(good.hash, first.hash);
    assert_ne!(good.sources[0].sha256, first.sources[0].sha256);
}

#[tokio::test]
async fn a_reload_over_the_api_waits_and_honours_if_match() {
    // Else the file's own event may come first.
    let gateway = Gateway::new().env("FAAS__RELOAD__WATCH", "off").start().await;
    let client = gateway.client();
    let outcome = reload(&gateway).await;
    assert_eq!(outcome.result, "unchanged", "{outcome:?}");

    write(&gateway, "[server]\nread_timeout = \"7s\"\n");
    let refusal = refused(client.reload_config().if_match("\"another\"").send().await);
    assert_eq!(refusal.status, 412);
    let tag = format!("\"{}\"", outcome.hash);
    let answer = client.reload_config().if_match(tag).send().await.expect("reloaded");
    assert_eq!(answer.headers()["x-config-generation"], "2");
    assert_eq!(answer.headers()["etag"], format!("\"{}\"", answer.hash));
    assert_eq!(answer.changed, ["server.read_timeout"], "{answer:?}");
    let effective = effective(&gateway).await;
    assert_eq!(
        shown(&effective, "server.read_timeout").value.as_deref(),
        Some("\"7s\"")
    );
}

#[tokio::test]
async fn point_27_of_two_requests_with_the_same_tag_one_reloads() {
    let gateway = Gateway::new().env("FAAS__RELOAD__WATCH", "off").start().await;
    for generation in 2..=6 {
        let tag = format!("\"{}\"", effective(&gateway).await.hash);
        let seconds = generation * 10;
        write(&gateway, &format!("[server]\nread_timeout = \"{seconds}s\"\n"));
        let client = gateway.client();
        let ask = || client.reload_config().if_match(tag.clone()).send();
        let (outcome, refusal) = match tokio::join!(ask(), ask()) {
            (Ok(first), second) => (first, refused(second)),
            (first, second) => (second.expect("one reloads"), refused(first)),
        };
        assert_eq!((&*outcome.result, outcome.generation), ("applied", generation));
        // The refusal tells what is live, for another look.
        assert_eq!(refusal.status, 412);
        assert!(refusal.detail.contains(&outcome.hash), "{refusal:?}");
    }
}

#[tokio::test]
async fn point_15_strict_refuses_what_needs_a_restart_and_says_where() {
    let strict = "reload.strict = true\n";
    let gateway = with_own_state()
        .config(strict)
        .env("FAAS__RELOAD__WATCH", "off")
        .start()
        .await;
    let file = |seconds: u32, directory: &str| {
        format!(
            "{strict}server.read_timeout = \"{seconds}s\"\nprovider.process.state_dir = \"{directory}\"\nserver.drain_timeout = 9\n"
        )
    };
    write(&gateway, &file(7, "/elsewhere"));
    let problem = reload_refused(&gateway).await;
    assert_eq!(problem.errors.len(), 1, "{problem:?}");
    let place = format!("{}:3:18: provider.process.state_dir: ", gateway.config_file().display());
    assert!(problem.detail.starts_with(&place), "{problem:?}");
    let (refused, problem) = submit(&gateway, "/system/config/validate", &file(7, "/elsewhere")).await;
    assert_eq!(refused, 422, "a candidate is checked as a reload checks it: {problem}");

    let now = status(&gateway).await;
    assert_eq!((now.generation, now.pending_restart.len()), (1, 0));
    assert_eq!(now.last_attempt.result, "failed");
    assert_eq!(gateway.metric("gateway_config_last_reload_successful").await, Some(0.0));
    assert_eq!(gateway.metric("gateway_config_pending_restart").await, Some(0.0));
    let effective = effective(&gateway).await;
    let kept = shown(&effective, "server.read_timeout").value.as_deref();
    assert_eq!(kept, Some("\"1m\""), "nothing of it");

    // By choice, the rest is applied.
    write(&gateway, &file(7, "/elsewhere").replace("true", "false"));
    let outcome = reload(&gateway).await;
    assert_eq!(outcome.pending_restart, ["provider.process.state_dir"], "{outcome:?}");
}

#[tokio::test]
async fn warnings_of_a_reload_are_in_its_answer_and_in_the_status() {
    // Else the file's own event may come first.
    let gateway = Gateway::new().env("FAAS__RELOAD__WATCH", "off").start().await;
    write(
        &gateway,
        "[server]\nwrite_timeout = \"500ms\"\n[auth]\nproxy_pass_body = true\n",
    );
    let outcome = reload(&gateway).await;
    let warnings = outcome.warnings.join("\n");
    assert!(
        warnings.contains("auth.proxy_pass_body is set but has no effect"),
        "{warnings}"
    );
    assert!(
        warnings.contains("server.write_timeout changed from 1m to 500ms"),
        "{warnings}"
    );
    assert_eq!(status(&gateway).await.last_attempt.warnings, outcome.warnings);

    let odd = "auth.proxy_pass_body = true\nserver.read_timeout = \"100ms\"";
    let odd = Gateway::new().config(odd).start().await;
    let start = status(&odd).await.last_attempt;
    assert_eq!(start.warnings.len(), 2, "{start:?}");
    let short = "server.read_timeout is 100ms, shorter than 1s";
    let line = odd
        .logged("the warning of the start", |line| line.to_string().contains(short))
        .await;
    assert_eq!(line["level"], "WARN");
}

#[tokio::test]
async fn what_waits_for_a_restart_is_listed() {
    let gateway = with_own_state().start().await;
    write(
        &gateway,
        "provider.process.state_dir = \"/elsewhere\"\nserver.read_timeout = \"7s\"\n",
    );
    let pending = ["provider.process.state_dir"];
    assert_eq!(reload(&gateway).await.pending_restart, pending);
    assert_eq!(status(&gateway).await.pending_restart, pending);
    let again = reload(&gateway).await;
    assert_eq!(
        (&*again.result, &*again.pending_restart),
        ("unchanged", &pending.map(str::to_owned)[..])
    );
    assert_eq!(gateway.metric("gateway_config_pending_restart").await, Some(1.0));
    let effective = effective(&gateway).await;
    let state = shown(&effective, "provider.process.state_dir");
    let source = state.source.as_deref().expect("a source");
    assert!(source.contains("waits for a restart"), "{source}");
    assert_ne!(state.value.as_deref(), Some("\"/elsewhere\""));
}

#[tokio::test]
async fn point_22_keys_that_the_environment_overrides_are_named() {
    let gateway = Gateway::new().env("read_timeout", "50").start().await;
    assert!(status(&gateway).await.shadowed_by_env.is_empty());
    write(&gateway, "[server]\nread_timeout = \"7s\"\n");
    reload(&gateway).await;
    let line = gateway
        .logged("the shadowed key", |line| {
            field(line, "message")
                .as_str()
                .is_some_and(|text| text.contains("to no effect"))
        })
        .await;
    assert_eq!(field(&line, "key"), "server.read_timeout");
    let shadowed = &status(&gateway).await.shadowed_by_env[0];
    assert_eq!(
        (&*shadowed.key, &*shadowed.by),
        ("server.read_timeout", "environment variable read_timeout")
    );
    let effective = effective(&gateway).await;
    assert_eq!(
        shown(&effective, "server.read_timeout").value.as_deref(),
        Some("\"50s\"")
    );
}

#[tokio::test]
async fn point_25_metrics_tell_what_is_live() {
    // Else the file's own event may come first.
    let gateway = Gateway::new().env("FAAS__RELOAD__WATCH", "off").start().await;
    write(&gateway, "[server]\nread_timeout = \"7s\"\n");
    let hash = reload(&gateway).await.hash;
    let info = format!("gateway_config_info{{hash=\"{hash}\"}}");
    assert_eq!(gateway.metric(&info).await, Some(1.0));
    assert_eq!(gateway.metric("gateway_config_generation").await, Some(2.0));
    let page = gateway.metrics().await;
    assert_eq!(page.matches("gateway_config_info{").count(), 1, "{page}");
    let reloads = "gateway_config_reloads_total{result=\"applied\",trigger=\"api\"}";
    assert_eq!(gateway.metric(reloads).await, Some(1.0), "{page}");

    let successful = "gateway_config_last_reload_successful";
    let since = "gateway_config_last_reload_success_timestamp_seconds";
    let good = gateway.metric(since).await.expect("a time");
    assert!(good > 1.7e9 && gateway.metric(successful).await == Some(1.0), "{page}");
    write(&gateway, "wrong = true\n");
    reload_refused(&gateway).await;
    assert_eq!(gateway.metric(successful).await, Some(0.0));
    assert_eq!(gateway.metric(since).await, Some(good), "the last good look");
    assert_eq!(gateway.metric(&info).await, Some(1.0), "what is live");
    assert_eq!(gateway.metric(&reloads.replace("applied", "failed")).await, Some(1.0));
}

#[tokio::test]
async fn strangers_learn_nothing() {
    let gateway = Gateway::new().basic_auth("admin", "secret").start().await;
    for (method, path) in [
        (Method::GET, "/system/config"),
        (Method::GET, STATUS),
        (Method::POST, "/system/config/validate"),
        (Method::POST, "/system/config/diff"),
        (Method::POST, RELOAD),
    ] {
        let response = gateway.request(method, path).send().await.expect("an answer");
        assert_eq!(response.status(), 401, "{path}");
        assert!(response.headers().get("etag").is_none(), "{path}");
        let text = response.text().await.expect("text");
        assert!(!text.contains("hash") && !text.contains("server."), "{path}: {text}");
    }
}

#[tokio::test]
async fn systemd_is_told_of_start_reload_and_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    let told = async || {
        let mut message = [0; 256];
        let length = soon("a message to systemd", socket.recv(&mut message))
            .await
            .expect("a message");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let mut gateway = Gateway::new()
        .env("NOTIFY_SOCKET", path.to_str().expect("text"))
        .start()
        .await;
    assert_eq!(told().await.trim(), "READY=1");
    gateway.signal(Signal::SIGHUP);
    let reloading = told().await;
    assert!(reloading.contains("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(told().await.trim(), "READY=1");
    gateway.signal(Signal::SIGTERM);
    assert_eq!(told().await.trim(), "STOPPING=1");
    assert!(gateway.ended().await.success());
}
