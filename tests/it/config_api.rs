//! `/system/config`: a running gateway tells which configuration is live, checks
//! and compares candidates, and reads its files again on request.

use std::sync::Arc;

use http::Method;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::{net::UnixDatagram, process::Command, sync::Semaphore};

use crate::support::{
    Gateway, Upstream, eventually,
    gateway::{Setup, field},
    soon,
    upstream::text,
};

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
async fn the_effective_configuration_is_shown_with_its_sources_and_without_secrets() {
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
async fn the_status_follows_good_and_bad_reloads() {
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
    let health = gateway.get("/healthz").send().await.expect("an answer");
    assert_eq!(health.status(), 200, "a bad reload must not fail readiness");

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
async fn candidates_are_checked_and_compared_and_change_nothing() {
    let gateway = with_own_state().start().await;
    let (status, answer) = submit(
        &gateway,
        "/system/config/validate",
        "[server]\nwrite_timeout = \"5s\"\n",
    )
    .await;
    assert_eq!((status, &answer["ok"]), (200, &json!(true)));
    assert!(
        answer["warnings"][0]
            .as_str()
            .expect("a warning")
            .contains("write_timeout")
    );

    for path in ["/system/config/validate", "/system/config/diff"] {
        let (status, problem) = submit(&gateway, path, "[server]\nread_timeout = \"soon\"\nlisen = 1\n").await;
        assert_eq!(
            (status, problem["errors"].as_array().map(Vec::len)),
            (422, Some(2)),
            "{problem}"
        );
        assert!(
            problem["detail"]
                .as_str()
                .expect("text")
                .contains("did you mean 'listen'?")
        );
        assert_eq!(submit(&gateway, path, " ").await.0, 400);
    }
    let missing = "[auth]\nbasic = true\nsecret_path = \"/no/such\"\n";
    let (status, problem) = submit(&gateway, "/system/config/validate", missing).await;
    assert_eq!(
        status, 422,
        "credentials that are not there would refuse the reload: {problem}"
    );

    let candidate = "server.read_timeout = \"7s\"\nprovider.logs_url = \"http://a:hunter2@l/\"\nprovider.process.state_dir = \"/elsewhere\"\n";
    let (status, diff) = submit(&gateway, "/system/config/diff", candidate).await;
    assert_eq!(status, 200, "{diff}");
    assert_eq!(
        diff["changes"][0],
        json!({ "key": "server.read_timeout", "old": "\"1m\"", "new": "\"7s\"", "effect": "live" })
    );
    assert_eq!(
        diff["changes"][1],
        json!({ "key": "provider.logs_url", "new": "\"http://***@l/\"", "effect": "live" })
    );
    assert_eq!(
        (&diff["changes"][2]["key"], &diff["changes"][2]["effect"]),
        (&json!("provider.process.state_dir"), &json!("restart"))
    );
    assert_eq!(json_of(&gateway, STATUS).await["generation"], 1, "nothing changed");
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
async fn keys_that_the_environment_overrides_are_named() {
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
            assert_eq!(reload(&gateway).await.0, 200);
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

#[tokio::test]
async fn metrics_tell_what_is_live() {
    let gateway = Gateway::new().start().await;
    write(&gateway, "[server]\nread_timeout = \"7s\"\n");
    let (_, outcome) = reload(&gateway).await;
    let hash = outcome["hash"].as_str().expect("a hash");
    let info = format!("gateway_config_info{{hash=\"{hash}\"}}");
    assert_eq!(gateway.metric(&info).await, Some(1.0));
    assert_eq!(gateway.metric("gateway_config_generation").await, Some(2.0));
    let page = gateway.metrics().await;
    assert_eq!(page.matches("gateway_config_info{").count(), 1, "{page}");
    assert!(page.contains("gateway_config_reloads_total{result="), "{page}");
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
        assert!(response.headers().get("x-config-generation").is_none(), "{path}");
    }
}

#[tokio::test]
async fn a_file_is_compared_with_a_running_gateway() {
    let gateway = Gateway::new().basic_auth("admin", "hunter2").start().await;
    let candidate = gateway.directory().join("candidate.toml");
    let password = gateway.directory().join("auth/basic-auth-password");
    let url = gateway.url();
    let diff = async |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_faas-gateway"))
            .arg("diff")
            .arg(&candidate)
            .args(arguments)
            .env_clear()
            .output()
            .await
            .expect("the program starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let with_credentials = url.replace("://", "://admin:hunter2@");
    let password = password.to_str().expect("text");
    let signed_in = ["--against", &url, "--user", "admin", "--password-file", password];

    std::fs::write(&candidate, "# a test's configuration\n").expect("writable");
    assert_eq!(diff(&signed_in).await, (Some(0), String::new(), String::new()));
    std::fs::write(&candidate, "[server]\nread_timeout = \"7s\"\n").expect("writable");
    let expected = "server.read_timeout: \"1m\" -> \"7s\" (live)\n";
    assert_eq!(diff(&signed_in).await, (Some(1), expected.to_owned(), String::new()));
    assert_eq!(diff(&["--against", &with_credentials]).await.0, Some(1));

    let (code, _, complaint) = diff(&["--against", &url]).await;
    assert_eq!(code, Some(2));
    assert!(complaint.contains("401"), "{complaint}");
    let (code, _, complaint) = diff(&["--against", "http://admin:hunter2@127.0.0.1:1/"]).await;
    assert_eq!(code, Some(2));
    assert!(!complaint.contains("hunter2"), "{complaint}");

    std::fs::write(&candidate, "[server]\nread_timeout = \"soon\"\nlisen = 1\n").expect("writable");
    let (code, _, complaint) = diff(&signed_in).await;
    assert_eq!((code, complaint.lines().count()), (Some(64), 2), "{complaint}");
    assert!(
        complaint.lines().all(|line| line.starts_with("error: candidate")),
        "{complaint}"
    );
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
