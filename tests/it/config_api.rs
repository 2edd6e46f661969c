//! `/system/config`: a running gateway tells which configuration is live, checks
//! and compares candidates, and reads its files again on request.

use http::Method;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::net::UnixDatagram;

use crate::support::{
    Gateway,
    gateway::{Setup, field},
    soon,
};

mod audit;
mod candidates;
mod generations;

const STATUS: &str = "/system/config/status";
const RELOAD: &str = "/system/config/reload";

async fn json_of(gateway: &Gateway, path: &str) -> Value {
    let response = gateway.get(path).send().await.expect("an answer");
    assert_eq!(response.status(), 200, "{path}");
    response.json().await.expect("JSON")
}

/// Sends a document and returns status and JSON.
async fn submit(gateway: &Gateway, path: &str, toml: &str) -> (u16, Value) {
    let request = gateway.post(path).body(toml.to_owned());
    let response = request.send().await.expect("an answer");
    (response.status().as_u16(), response.json().await.expect("JSON"))
}

async fn reload(gateway: &Gateway) -> (u16, Value) {
    submit(gateway, RELOAD, "").await
}

fn write(gateway: &Gateway, toml: &str) {
    std::fs::write(gateway.config_file(), toml).expect("writable");
}

/// The value of a key as `/system/config` shows it.
fn shown<'v>(effective: &'v Value, key: &str) -> &'v Value {
    let values = effective["values"].as_array().expect("values");
    values
        .iter()
        .find(|value| value["key"] == key)
        .unwrap_or_else(|| panic!("{key} is not there"))
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
    let effective: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(etag, format!("\"{}\"", effective["hash"].as_str().expect("a hash")));
    assert_eq!(effective["generation"], 1);

    let file = gateway.config_file().display().to_string();
    let read_timeout = shown(&effective, "server.read_timeout");
    assert_eq!(
        (&read_timeout["value"], &read_timeout["default"], &read_timeout["live"]),
        (&json!("\"5s\""), &json!("\"1m\""), &json!(true))
    );
    assert!(read_timeout["source"].as_str().expect("a source").starts_with(&file));
    assert_eq!(
        shown(&effective, "server.write_timeout")["source"],
        "environment variable write_timeout"
    );
    assert_eq!(shown(&effective, "ui.enabled")["source"], "default");
    assert_eq!(shown(&effective, "scaling.from_zero")["source"], "derived");
    assert_eq!(
        shown(&effective, "provider.url")["value"],
        "\"http://***@127.0.0.1:1/\""
    );
    assert_eq!(shown(&effective, "provider.process.state_dir")["live"], false);
    assert!(shown(&effective, "auth.proxy_url").get("value").is_none());
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
    let effective = json_of(&gateway, "/system/config").await;
    let path = gateway.config_file().display().to_string();
    assert_eq!(
        shown(&effective, "server.read_timeout")["overridden"],
        json!([
            { "source": "environment variable read_timeout", "value": "\"6\"" },
            { "source": format!("{path}:3:1"), "value": "\"5s\"" },
        ])
    );
    let own = shown(&effective, "functions.f.max_in_flight");
    assert_eq!(
        (&own["value"], &own["base"]),
        (&json!("7"), &json!({ "source": format!("{path}:5:1"), "value": "5" }))
    );
    let given = shown(&effective, "functions.f.timeouts.idle");
    assert_eq!(
        (&given["value"], &given["base"]),
        (
            &Value::Null,
            &json!({ "source": format!("{path}:6:10"), "value": "\"30s\"" })
        )
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
    let first = json_of(&gateway, STATUS).await;
    assert_eq!(first["last_attempt"]["trigger"], "start");
    assert_eq!(first["sources"][0]["path"], gateway.config_file().display().to_string());
    assert_eq!(first["sources"][0]["sha256"].as_str().expect("a hash").len(), 64);
    assert_eq!(
        (&first["generation"], &first["live_generations"]),
        (&json!(1), &json!(1))
    );

    write(&gateway, "[server]\nread_timeout = \"soon\"\nlisen = \"x\"\n");
    let (status, problem) = reload(&gateway).await;
    assert_eq!(status, 422, "{problem}");
    let errors = problem["errors"].as_array().expect("errors");
    assert_eq!(errors.len(), 2, "{problem}");
    assert_eq!(problem["detail"].as_str().expect("text").lines().count(), 2);
    let failed = json_of(&gateway, STATUS).await;
    assert_eq!(failed["last_attempt"]["result"], "failed");
    assert_eq!(&failed["last_attempt"]["errors"], &problem["errors"]);
    assert_eq!(
        (&failed["generation"], &failed["hash"]),
        (&first["generation"], &first["hash"])
    );
    write(&gateway, "[server]\nread_timeout = \"7s\"\n");
    let (status, outcome) = reload(&gateway).await;
    assert_eq!((status, &outcome["generation"]), (200, &json!(2)), "{outcome}");
    let good = json_of(&gateway, STATUS).await;
    assert_eq!(good["last_attempt"]["errors"], json!([]));
    assert_eq!(good["hash"], outcome["hash"]);
    assert_ne!(good["hash"], first["hash"]);
    assert_ne!(good["sources"], first["sources"]);
}

#[tokio::test]
async fn a_reload_over_the_api_waits_and_honours_if_match() {
    // Else the file's own event may come first.
    let gateway = Gateway::new().env("FAAS__RELOAD__WATCH", "off").start().await;
    let conditional = |tag: String| gateway.post(RELOAD).header("If-Match", tag).send();
    let (status, outcome) = reload(&gateway).await;
    assert_eq!((status, &outcome["result"]), (200, &json!("unchanged")), "{outcome}");
    let tag = format!("\"{}\"", outcome["hash"].as_str().expect("a hash"));

    write(&gateway, "[server]\nread_timeout = \"7s\"\n");
    let refused = conditional("\"another\"".to_owned()).await.expect("an answer");
    assert_eq!(refused.status(), 412);
    let done = conditional(tag).await.expect("an answer");
    assert_eq!(done.status(), 200);
    assert_eq!(done.headers()["x-config-generation"], "2");
    let tag = done.headers()["etag"].clone();
    let outcome: Value = done.json().await.expect("JSON");
    assert_eq!(outcome["changed"], json!(["server.read_timeout"]), "{outcome}");
    assert_eq!(tag, format!("\"{}\"", outcome["hash"].as_str().expect("a hash")));
    let effective = json_of(&gateway, "/system/config").await;
    assert_eq!(shown(&effective, "server.read_timeout")["value"], "\"7s\"");
}

#[tokio::test]
async fn point_27_of_two_requests_with_the_same_tag_one_reloads() {
    let gateway = Gateway::new().env("FAAS__RELOAD__WATCH", "off").start().await;
    for generation in 2..=6 {
        let tag = gateway.get("/system/config").send().await.expect("an answer").headers()["etag"].clone();
        let seconds = generation * 10;
        write(&gateway, &format!("[server]\nread_timeout = \"{seconds}s\"\n"));
        let ask = || async {
            let request = gateway.post(RELOAD).header("If-Match", tag.clone());
            let answer = request.send().await.expect("an answer");
            (answer.status().as_u16(), answer.json::<Value>().await.expect("JSON"))
        };
        let mut answers: [(u16, Value); 2] = tokio::join!(ask(), ask()).into();
        answers.sort_by_key(|(status, _)| *status);
        assert_eq!((answers[0].0, answers[1].0), (200, 412), "{answers:?}");
        assert_eq!(
            (&answers[0].1["result"], &answers[0].1["generation"]),
            (&json!("applied"), &json!(generation))
        );
        // The refusal tells what is live, for another look.
        let detail = answers[1].1["detail"].as_str().expect("text");
        assert!(
            detail.contains(answers[0].1["hash"].as_str().expect("a hash")),
            "{detail}"
        );
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
    let (status, problem) = reload(&gateway).await;
    assert_eq!(
        (status, problem["errors"].as_array().map(Vec::len)),
        (422, Some(1)),
        "{problem}"
    );
    let place = format!("{}:3:18: provider.process.state_dir: ", gateway.config_file().display());
    assert!(
        problem["detail"].as_str().expect("text").starts_with(&place),
        "{problem}"
    );
    let (status, problem) = submit(&gateway, "/system/config/validate", &file(7, "/elsewhere")).await;
    assert_eq!(status, 422, "a candidate is checked as a reload checks it: {problem}");

    let now = json_of(&gateway, STATUS).await;
    assert_eq!((&now["generation"], &now["pending_restart"]), (&json!(1), &json!([])));
    assert_eq!(now["last_attempt"]["result"], "failed");
    assert_eq!(gateway.metric("gateway_config_last_reload_successful").await, Some(0.0));
    assert_eq!(gateway.metric("gateway_config_pending_restart").await, Some(0.0));
    let effective = json_of(&gateway, "/system/config").await;
    assert_eq!(
        shown(&effective, "server.read_timeout")["value"],
        "\"1m\"",
        "nothing of it"
    );

    // By choice, the rest is applied.
    write(&gateway, &file(7, "/elsewhere").replace("true", "false"));
    let (status, outcome) = reload(&gateway).await;
    assert_eq!(
        (status, &outcome["pending_restart"]),
        (200, &json!(["provider.process.state_dir"])),
        "{outcome}"
    );
}

#[tokio::test]
async fn warnings_of_a_reload_are_in_its_answer_and_in_the_status() {
    // Else the file's own event may come first.
    let gateway = Gateway::new().env("FAAS__RELOAD__WATCH", "off").start().await;
    write(
        &gateway,
        "[server]\nwrite_timeout = \"500ms\"\n[auth]\nproxy_pass_body = true\n",
    );
    let (status, outcome) = reload(&gateway).await;
    let warnings = outcome["warnings"].to_string();
    assert_eq!(status, 200, "{outcome}");
    assert!(
        warnings.contains("auth.proxy_pass_body is set but has no effect"),
        "{warnings}"
    );
    assert!(
        warnings.contains("server.write_timeout changed from 1m to 500ms"),
        "{warnings}"
    );
    assert_eq!(
        json_of(&gateway, STATUS).await["last_attempt"]["warnings"],
        outcome["warnings"]
    );

    let odd = "auth.proxy_pass_body = true\nserver.read_timeout = \"100ms\"";
    let odd = Gateway::new().config(odd).start().await;
    let start = json_of(&odd, STATUS).await;
    let warnings = start["last_attempt"]["warnings"].as_array().expect("a list");
    assert_eq!(warnings.len(), 2, "{start}");
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
    let (status, outcome) = reload(&gateway).await;
    let pending = json!(["provider.process.state_dir"]);
    assert_eq!((status, &outcome["pending_restart"]), (200, &pending), "{outcome}");
    assert_eq!(json_of(&gateway, STATUS).await["pending_restart"], pending);
    let (_, again) = reload(&gateway).await;
    assert_eq!(
        (&again["result"], &again["pending_restart"]),
        (&json!("unchanged"), &pending)
    );
    assert_eq!(gateway.metric("gateway_config_pending_restart").await, Some(1.0));
    let effective = json_of(&gateway, "/system/config").await;
    let state = shown(&effective, "provider.process.state_dir");
    assert!(
        state["source"]
            .as_str()
            .expect("a source")
            .contains("waits for a restart"),
        "{state}"
    );
    assert_ne!(state["value"], "\"/elsewhere\"");
}

#[tokio::test]
async fn point_22_keys_that_the_environment_overrides_are_named() {
    let gateway = Gateway::new().env("read_timeout", "50").start().await;
    assert_eq!(json_of(&gateway, STATUS).await["shadowed_by_env"], json!([]));
    write(&gateway, "[server]\nread_timeout = \"7s\"\n");
    assert_eq!(reload(&gateway).await.0, 200);
    let line = gateway
        .logged("the shadowed key", |line| {
            field(line, "message")
                .as_str()
                .is_some_and(|text| text.contains("to no effect"))
        })
        .await;
    assert_eq!(field(&line, "key"), "server.read_timeout");
    let shadowed = &json_of(&gateway, STATUS).await["shadowed_by_env"][0];
    assert_eq!(
        (&shadowed["key"], &shadowed["by"]),
        (
            &json!("server.read_timeout"),
            &json!("environment variable read_timeout")
        )
    );
    let effective = json_of(&gateway, "/system/config").await;
    assert_eq!(shown(&effective, "server.read_timeout")["value"], "\"50s\"");
}

#[tokio::test]
async fn point_25_metrics_tell_what_is_live() {
    // Else the file's own event may come first.
    let gateway = Gateway::new().env("FAAS__RELOAD__WATCH", "off").start().await;
    write(&gateway, "[server]\nread_timeout = \"7s\"\n");
    let (_, outcome) = reload(&gateway).await;
    let hash = outcome["hash"].as_str().expect("a hash");
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
    assert_eq!(reload(&gateway).await.0, 422);
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
