//! Candidates for the configuration: checked, compared, and warned about as
//! they would be if they went live.

use std::{fs, path::Path, process::Output};

use serde_json::{Value, json};
use tokio::process::Command;

use super::{reload, submit, with_own_state, write};
use crate::support::Gateway;

/// Runs `faas-gateway diff`.
async fn diff(file: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_faas-gateway"))
        .arg("diff")
        .arg(file)
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .await
        .expect("the program starts")
}

/// The warnings that it printed.
fn warnings(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let warnings = text.lines().filter_map(|line| line.strip_prefix("warning: "));
    warnings.map(str::to_owned).collect()
}

#[tokio::test]
async fn point_28_candidates_are_checked_and_compared_and_change_nothing() {
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
    assert_eq!(super::status(&gateway).await.generation, 1, "nothing changed");
}

#[tokio::test]
async fn point_28_a_file_is_compared_with_a_running_gateway() {
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
    let named = format!("error: {}:", candidate.display());
    assert!(complaint.lines().all(|line| line.starts_with(&named)), "{complaint}");
}

#[tokio::test]
async fn point_11_whatever_tries_a_change_warns_as_the_reload_does() {
    let started = "[invoke]\nupstream_timeout = \"2h\"\n[server]\nwrite_timeout = \"2h\"\nread_timeout = \"70s\"\n";
    for candidate in [
        // Odd by itself, odd as a change, and both.
        "[auth]\nproxy_pass_body = true\n".to_owned(),
        started.replace("upstream_timeout = \"2h\"", "upstream_timeout = \"500ms\""),
        started.replace("70s", "100ms"),
        format!("{started}internal_listen = \"0.0.0.0:0\"\nallow_unauthenticated_public = true\n"),
        format!("{started}[functions.f]\ntimeouts = {{ first_byte = \"1ms\", idle = \"1ms\" }}\n"),
        // Not odd, and what waits for a restart.
        started.replace("70s", "71s"),
        format!("{started}[provider.process]\nstate_dir = \"/elsewhere\"\nrestart_backoff_max = \"1m\"\n"),
    ] {
        let gateway = with_own_state()
            .config(started)
            .env("FAAS__RELOAD__WATCH", "off")
            .start()
            .await;
        let (status, validated) = submit(&gateway, "/system/config/validate", &candidate).await;
        assert_eq!(status, 200, "{validated}");
        let (status, compared) = submit(&gateway, "/system/config/diff", &candidate).await;
        assert_eq!(status, 200, "{compared}");
        let file = gateway.directory().join("candidate.toml");
        fs::write(&file, &candidate).expect("written");
        let url = gateway.url();
        let against = diff(&file, &["--against", &url], &[]).await;
        let home = gateway.directory().display().to_string();
        let here = gateway.config_file().display().to_string();
        let environment = [
            ("HOME", home.as_str()),
            ("FAAS__SERVER__LISTEN", "127.0.0.1:0"),
            ("FAAS__METRICS__LISTEN", "127.0.0.1:0"),
            ("FAAS__LOGGING__FORMAT", "json"),
        ];
        let offline = diff(&file, &["--config", &here], &environment).await;

        write(&gateway, &candidate);
        let expected = reload(&gateway).await.warnings;
        let of = |answer: &Value| -> Vec<String> { serde_json::from_value(answer["warnings"].clone()).expect("texts") };
        assert_eq!(of(&validated), expected, "validate: {candidate}");
        assert_eq!(of(&compared), expected, "diff: {candidate}");
        assert_eq!(warnings(&against), expected, "diff --against: {candidate}");
        assert_eq!(warnings(&offline), expected, "diff offline: {candidate}");
        let odd = !candidate.contains("71s") && !candidate.contains("/elsewhere");
        assert_eq!(!expected.is_empty(), odd, "{candidate}: {expected:?}");
    }
}

#[tokio::test]
async fn point_28_what_a_reload_would_refuse_is_compared_and_said_to_be() {
    let strict = "reload.strict = true\n";
    let gateway = with_own_state().config(strict).start().await;
    let candidate = format!("{strict}provider.process.state_dir = \"/elsewhere\"\n");
    let (status, compared) = submit(&gateway, "/system/config/diff", &candidate).await;
    assert_eq!(
        (status, &compared["changes"][0]["effect"]),
        (200, &json!("restart")),
        "{compared}"
    );
    let warning = compared["warnings"][0].as_str().expect("a warning");
    assert!(
        warning.starts_with("a reload refuses this: candidate:2:18: provider.process.state_dir: "),
        "{warning}"
    );
}

#[tokio::test]
async fn point_28_a_directory_is_compared_with_a_running_gateway() {
    let gateway = Gateway::new().start().await;
    let directory = tempfile::tempdir().expect("directory");
    let at = |name: &str| directory.path().join(name);
    let url = gateway.url();
    let compare = async || {
        let output = diff(directory.path(), &["--against", &url], &[]).await;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, _, complaint) = compare().await;
    assert_eq!(code, Some(64));
    assert!(complaint.contains("has no *.toml file"), "{complaint}");

    fs::write(
        at("10-base.toml"),
        "[server]\nread_timeout = \"7s\"\ndrain_timeout = \"9s\"\n",
    )
    .expect("written");
    fs::write(
        at("20-site.toml"),
        "[server]\nread_timeout = \"8s\"\n[[routes]]\npath = \"/a\"\nfunction = \"a\"\n",
    )
    .expect("written");
    fs::write(at("30-more.toml"), "[[routes]]\npath = \"/b\"\nfunction = \"b\"\n").expect("written");
    let (code, changes, complaint) = compare().await;
    assert_eq!((code, complaint.as_str()), (Some(1), ""), "{changes}");
    for line in [
        "server.read_timeout: \"1m\" -> \"8s\" (live)",
        "server.drain_timeout: \"30s\" -> \"9s\" (live)",
        "routes.0.path: (not set) -> \"/a\" (live)",
        "routes.1.path: (not set) -> \"/b\" (live)",
    ] {
        assert!(changes.lines().any(|found| found == line), "{line}\nnot in\n{changes}");
    }

    // Mistakes name the file and the place in it, as a reload names them.
    fs::write(at("30-more.toml"), "[[routes]]\npath = \"/b\"\nfuncton = \"b\"\n").expect("written");
    let (code, _, complaint) = compare().await;
    assert_eq!(code, Some(64));
    let place = format!(
        "error: {}:3:1: routes.1.functon: unknown key",
        at("30-more.toml").display()
    );
    assert!(complaint.starts_with(&place), "{complaint}");

    // Whoever sends the files sends names and contents.
    let send = async |files: Value| {
        let request = gateway.post("/system/config/validate").json(&json!({ "files": files }));
        let answer = request.send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    };
    assert_eq!(
        send(json!([{ "name": "a", "content": "ui.enabled = true" }])).await.0,
        200
    );
    for (files, part) in [
        (json!([]), "field `files` is empty"),
        (json!([{ "name": "a" }]), "field `files[0].content`"),
        (
            json!([{ "name": "a", "content": "" }]),
            "field `files[0].content` is empty",
        ),
    ] {
        let (status, problem) = send(files).await;
        assert_eq!(status, 400, "{problem}");
        assert!(problem.contains(part), "{problem}");
    }
}
