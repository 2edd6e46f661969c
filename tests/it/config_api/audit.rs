//! What is said for the record about reloads, and what is never said.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{RELOAD, STATUS, reload, status, write};
use crate::support::{Gateway, eventually, gateway::field};

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
    let first = status(&gateway).await;
    assert!(first.history.is_empty());

    write(
        &gateway,
        "server.read_timeout = \"7s\"\nqueue.nats_channel = \"${TOKEN}\"\n",
    );
    let outcome = reload(&gateway).await;
    let line = gateway.logged("the reload", audit("applied")).await;
    let caller = field(&line, "callers").as_str().expect("a caller");
    assert!(caller.starts_with("admin at 127.0.0.1:"), "{line}");
    for (name, value) in [
        ("trigger", json!("api")),
        ("from", json!(1)),
        ("to", json!(2)),
        ("old_hash", json!(first.hash)),
        ("hash", json!(outcome.hash)),
        ("changed", json!("server.read_timeout, queue.nats_channel")),
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

    let history = status(&gateway).await.history;
    let [failed, applied] = &history[..] else {
        panic!("{history:?}");
    };
    assert_eq!((&*failed.trigger, failed.actors.len(), failed.errors), ("signal", 0, 2));
    assert_eq!(
        (&*applied.result, applied.actors[0].user.as_deref()),
        ("applied", Some("admin"))
    );
    let address = applied.actors[0].address.as_ref().expect("an address");
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    assert_eq!((applied.from_generation, applied.to_generation), (1, 2));
    assert_eq!(applied.changed, ["server.read_timeout", "queue.nats_channel"]);
    assert_eq!(
        (&*applied.files[0].path, &*applied.files[0].change),
        (&*file, "changed")
    );
    assert_eq!(gateway.log_count(|line| line.to_string().contains("hunter")), 0);
    assert!(!format!("{history:?}").contains("hunter"), "{history:?}");
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
            // What is live is told of a moment later.
            let told = generation == 1 || status["history"][0]["to_generation"] == generation;
            (status["generation"] == generation && told).then_some(status)
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
    // Nor in what is wrong with a file there.
    std::fs::write(secrets.join("basic-auth-password"), "").expect("a file");
    let refused = |line: &Value| line.to_string().contains("basic-auth-password: is empty");
    gateway.logged("the refusal", refused).await;
    let status = gateway.get(STATUS).send().await.expect("an answer");
    let told = status.text().await.expect("text");
    assert!(!told.contains("hunter2"), "{told}");
    assert_eq!(gateway.log_count(|line| line.to_string().contains("hunter2")), 0);
}
