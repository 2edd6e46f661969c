//! Values in files of their own, on the program: rotated by what mounts them,
//! and told about by path and hash alone.

use std::path::Path;

use serde_json::Value;

use super::{is_reload, kubernetes::Volume, says, write};
use crate::support::{Gateway, Upstream, eventually, gateway::field, upstream::echoed};

const QUICK: &str = super::QUICK;

/// The header that a function sees.
async fn seen(gateway: &Gateway) -> Vec<String> {
    let answer: Value = serde_json::from_str(&gateway.invoke("/function/echo", "").await).expect("JSON");
    echoed(&answer, "authorization")
}

async fn becomes(gateway: &Gateway, token: &str) {
    eventually(token, || async { (seen(gateway).await == [token]).then_some(()) }).await;
}

fn with_token(secrets: &Path) -> String {
    let file = secrets.join("token");
    format!(
        "{QUICK}[functions.echo]\nheaders.request.set_file = {{ Authorization = \"{}\" }}\n",
        file.display()
    )
}

async fn text(gateway: &Gateway, path: &str) -> String {
    let answer = gateway.get(path).send().await.expect("an answer");
    answer.text().await.expect("text")
}

#[tokio::test]
async fn point_07_a_value_in_a_mounted_secret_is_rotated_by_its_update_alone() {
    let root = tempfile::tempdir().expect("directory");
    let volume = Volume::new(root.path());
    let publish = |token: &str| volume.publish(&[("token", format!("{token}\n"))]);
    publish("hunter1");
    let upstream = Upstream::start().await;
    let setup = Gateway::before(&upstream.url()).config(&with_token(root.path()));
    let gateway = setup.start().await;
    assert_eq!(seen(&gateway).await, ["hunter1"]);
    let first = text(&gateway, "/system/config/status").await;
    for token in ["hunter2", "hunter3"] {
        publish(token);
        becomes(&gateway, token).await;
    }
    let line = gateway.logged("the reload", is_reload).await;
    let key = "functions.echo.headers.request.set.Authorization";
    let file = root.path().join("token").display().to_string();
    assert_eq!(field(&line, "changed"), key);
    assert_eq!(field(&line, "files"), &format!("changed {file}"));

    // Path and hash, and nothing else of it.
    let status: Value = serde_json::from_str(&text(&gateway, "/system/config/status").await).expect("JSON");
    let source = &status["sources"][1];
    assert_eq!(
        (&source["path"], source["sha256"].as_str().map(str::len)),
        (&file.into(), Some(64))
    );
    assert_ne!(
        status["sources"],
        serde_json::from_str::<Value>(&first).expect("JSON")["sources"]
    );
    let candidate = gateway
        .post("/system/config/diff")
        .body(format!("{QUICK}[functions.echo]\n"));
    let diff = candidate.send().await.expect("an answer").text().await.expect("text");
    assert!(diff.contains(key), "{diff}");
    let all = [first, status.to_string(), text(&gateway, "/system/config").await, diff].concat();
    assert!(!all.contains("hunter"), "{all}");
    assert_eq!(gateway.log_count(says("hunter")), 0);
}

#[tokio::test]
async fn point_24_a_file_without_a_value_is_refused_and_putting_one_there_is_enough() {
    let root = tempfile::tempdir().expect("directory");
    let token = root.path().join("token");
    write(&token, "hunter1");
    let upstream = Upstream::start().await;
    let quick = with_token(root.path()).replace("poll_interval = \"1m\"", "poll_interval = \"100ms\"");
    let gateway = Gateway::before(&upstream.url()).config(&quick).start().await;
    write(&token, "hunter2\nhunter2\n");
    let place = format!(
        "gateway.toml:7:30: functions.echo.headers.request.set_file.Authorization: {}: has a line",
        token.display()
    );
    gateway.logged("the refusal", says(&place)).await;
    assert_eq!(seen(&gateway).await, ["hunter1"], "what ran");
    let validated = gateway.post("/system/config/validate").body(quick.clone());
    assert_eq!(validated.send().await.expect("an answer").status(), 422);
    std::fs::remove_file(&token).expect("removed");
    gateway.logged("the next refusal", says("token: cannot be read")).await;
    write(&token, "hunter3");
    becomes(&gateway, "hunter3").await;
    assert_eq!(gateway.log_count(says("hunter")), 0);
}
