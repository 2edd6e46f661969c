//! `/system/config`: a running gateway tells which configuration is live, checks
//! and compares candidates, and reads its files again on request.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::Method;
use http_body_util::StreamBody;
use hyper::body::Frame;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::{net::UnixDatagram, process::Command, sync::Semaphore};

use crate::support::{
    Gateway, Upstream, eventually,
    gateway::{Setup, field},
    soon,
    upstream::{body, text},
    wire::Wire,
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

    let odd = Gateway::new().config("auth.proxy_pass_body = true").start().await;
    let start = json_of(&odd, STATUS).await;
    assert_eq!(
        start["last_attempt"]["warnings"].as_array().map(Vec::len),
        Some(1),
        "{start}"
    );
}

#[tokio::test]
async fn point_29_who_asked_for_a_reload_and_what_it_did_is_logged_and_remembered() {
    let mut gateway = Gateway::new()
        .basic_auth("admin", "hunter2")
        .env("FAAS__RELOAD__WATCH", "off")
        .env("TOKEN", "hunter3")
        .start()
        .await;
    gateway.sign_in("admin", "hunter2");
    let file = gateway.config_file().display().to_string();
    let audit = |result: &'static str| {
        move |line: &Value| line["target"] == "audit" && field(line, "result") == result && line["level"] == "INFO"
    };
    let first = json_of(&gateway, STATUS).await;
    assert_eq!(first["history"], json!([]));

    write(
        &gateway,
        "server.read_timeout = \"7s\"\nprovider.default_namespace = \"${TOKEN}\"\n",
    );
    let (status, outcome) = reload(&gateway).await;
    assert_eq!(status, 200, "{outcome}");
    let line = gateway.logged("the reload", audit("applied")).await;
    let caller = field(&line, "callers").as_str().expect("a caller");
    assert!(caller.starts_with("admin at 127.0.0.1:"), "{line}");
    for (name, value) in [
        ("trigger", json!("api")),
        ("from", json!(1)),
        ("to", json!(2)),
        ("old_hash", first["hash"].clone()),
        ("hash", outcome["hash"].clone()),
        ("changed", json!("server.read_timeout, provider.default_namespace")),
        ("files", json!(format!("changed {file}"))),
    ] {
        assert_eq!(field(&line, name), &value, "{name}: {line}");
    }

    write(&gateway, "wrong = true\nserver.read_timeout = \"soon\"\n");
    gateway.signal(Signal::SIGHUP);
    let line = gateway.logged("the refusal", audit("failed")).await;
    assert_eq!(
        (field(&line, "trigger"), field(&line, "errors")),
        (&json!("signal"), &json!(2))
    );
    assert_eq!((field(&line, "from"), field(&line, "to")), (&json!(2), &json!(2)));
    let stale = gateway
        .post(RELOAD)
        .header("If-Match", "\"stale\"")
        .send()
        .await
        .expect("an answer");
    assert_eq!(stale.status(), 412);
    let line = gateway
        .logged("the caller who came too late", audit("superseded"))
        .await;
    assert!(
        field(&line, "callers")
            .as_str()
            .is_some_and(|caller| caller.starts_with("admin at ")),
        "{line}"
    );

    let history = json_of(&gateway, STATUS).await["history"].clone();
    let (failed, applied) = (&history[0], &history[1]);
    assert_eq!(history.as_array().map(Vec::len), Some(2), "{history}");
    assert_eq!(
        (&failed["trigger"], &failed["actors"], &failed["errors"]),
        (&json!("signal"), &json!([]), &json!(2))
    );
    assert_eq!(
        (&applied["result"], &applied["actors"][0]["user"]),
        (&json!("applied"), &json!("admin"))
    );
    assert!(
        applied["actors"][0]["address"]
            .as_str()
            .expect("an address")
            .starts_with("127.0.0.1:"),
        "{applied}"
    );
    assert_eq!(
        (&applied["from_generation"], &applied["to_generation"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(
        applied["changed"],
        json!(["server.read_timeout", "provider.default_namespace"])
    );
    assert_eq!(applied["files"], json!([{ "path": file, "change": "changed" }]));
    assert_eq!(gateway.log_count(|line| line.to_string().contains("hunter")), 0);
    assert!(!history.to_string().contains("hunter"), "{history}");
}

#[tokio::test]
async fn point_24_paths_are_told_without_what_variables_gave() {
    let directory = tempfile::tempdir().expect("a directory");
    let secrets = directory.path().join("hunter2");
    std::fs::create_dir(&secrets).expect("a directory");
    std::fs::write(secrets.join("basic-auth-user"), "admin").expect("a file");
    std::fs::write(secrets.join("basic-auth-password"), "one").expect("a file");
    let toml = format!(
        "[auth]\nbasic = true\nsecret_path = \"{}/${{TOKEN}}\"\n",
        directory.path().display()
    );
    let mut gateway = Gateway::new().env("TOKEN", "hunter2").config(&toml).start().await;
    for (password, generation) in [("one", 1), ("two", 2)] {
        std::fs::write(secrets.join("basic-auth-password"), password).expect("a file");
        gateway.sign_in("admin", password);
        let told = eventually("the status", || async {
            let answer = gateway.get(STATUS).send().await.expect("an answer");
            let status: Value = answer.json().await.ok()?;
            (status["generation"] == generation).then_some(status)
        })
        .await;
        let path = directory.path().join("***/basic-auth-password").display().to_string();
        assert!(told["sources"].to_string().contains(&path), "{told}");
        assert!(!told.to_string().contains("hunter2"), "{told}");
        if generation == 2 {
            assert_eq!(
                told["history"][0]["files"],
                json!([{ "path": path, "change": "changed" }])
            );
        }
    }
    assert_eq!(gateway.log_count(|line| line.to_string().contains("hunter2")), 0);
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

/// An idle connection, a tunnel and a stream need nothing of the snapshot they
/// began with, so that what it holds goes while they stay.
#[tokio::test]
async fn point_18_connections_streams_and_tunnels_keep_no_old_generation() {
    let open = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&open);
    let upstream = Upstream::start()
        .await
        .function("chat", crate::streaming::shout)
        .function("stream", move |_| {
            let gate = Arc::clone(&gate);
            async move {
                let chunks = futures_util::stream::iter([false, true]).then(move |wait| {
                    let gate = Arc::clone(&gate);
                    async move {
                        if wait {
                            let _passed = gate.acquire().await.expect("open");
                        }
                        Ok(Frame::data(Bytes::from_static(b"part ")))
                    }
                });
                body(200, StreamBody::new(chunks))
            }
        });
    let gateway = Gateway::before(&upstream.url()).start().await;
    let mut idle = Wire::connect(gateway.address()).await;
    idle.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
    idle.until("OK").await;
    let url = format!("ws://{}/function/chat", gateway.address());
    let (mut socket, _) = soon("the handshake", tokio_tungstenite::connect_async(url))
        .await
        .expect("switched");
    let mut stream = gateway.get("/function/stream").send().await.expect("an answer");
    assert_eq!(stream.chunk().await.expect("a part").expect("a part"), "part ");

    for seconds in 1..=3 {
        write(&gateway, &format!("[server]\nread_timeout = \"{seconds}0s\"\n"));
        assert_eq!(reload(&gateway).await.0, 200);
    }
    eventually("one generation", || async {
        (gateway.metric("gateway_config_live_generations").await == Some(1.0)).then_some(())
    })
    .await;
    let series = "gateway_function_invocation_inflight{function_name=\"chat\"}";
    assert_eq!(gateway.metric(series).await, Some(1.0), "still counted");
    socket.send("still here".into()).await.expect("sent");
    let heard = soon("an echo", socket.next()).await.expect("open").expect("a message");
    assert_eq!(heard.to_text().expect("text"), "STILL HERE");
    idle.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
    idle.until("OK").await;
    open.add_permits(1);
    assert_eq!(stream.text().await.expect("the rest"), "part ");
}

#[tokio::test]
async fn metrics_tell_what_is_live() {
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
