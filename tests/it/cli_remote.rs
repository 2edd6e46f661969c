//! The commands that ask a running gateway, as a person or a script runs them.

use std::{path::Path, process::Stdio};

use serde_json::Value;
use tokio::{io::AsyncWriteExt, process::Command};

use crate::support::{Gateway, eventually};

/// What a command did.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }

    /// What it printed, if all went well.
    #[track_caller]
    fn well(&self) -> &str {
        assert_eq!((self.code, &*self.err), (Some(0), ""), "{}", self.out);
        self.out.trim_end()
    }
}

/// Somebody with a gateway in the environment.
struct Person<'a> {
    environment: Vec<(&'a str, String)>,
}

impl Person<'_> {
    fn at(gateway: &Gateway) -> Self {
        Self {
            environment: vec![("OPENFAAS_URL", gateway.url())],
        }
    }

    async fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, "").await
    }

    /// The same with something on standard input.
    async fn run_with(&self, arguments: &[&str], input: &str) -> Ran {
        let mut child = Command::new(env!("CARGO_BIN_EXE_faas-gateway"))
            .args(arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let mut stdin = child.stdin.take().expect("piped");
        // It may have ended without reading.
        let _unread = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = child.wait_with_output().await.expect("it ends");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Ran {
            code: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

#[tokio::test]
async fn the_life_of_a_function() {
    let gateway = Gateway::new().start().await;
    let person = Person::at(&gateway);
    let run = |arguments: &'static [&'static str]| person.run(arguments);
    assert_eq!(
        run(&["functions", "ls"]).await.well(),
        "NAME  NAMESPACE  READY  REPLICAS  CALLS  IMAGE"
    );
    for (label, told) in [("team=a", "cat deployed"), ("team=b", "cat updated")] {
        let deploy = [
            "functions",
            "deploy",
            "cat",
            "--image",
            "local",
            "--process",
            "cat",
            "-l",
            label,
        ];
        assert_eq!(person.run(&deploy).await.well(), told);
        gateway.ready("cat", "").await;
    }
    assert_eq!(
        person.run_with(&["functions", "call", "cat"], "hello").await.well(),
        "hello"
    );

    let list = run(&["functions", "ls", "--output", "json"]).await;
    assert_eq!(
        (
            list.json()[0]["name"].as_str(),
            list.json()[0]["invocationCount"].as_f64()
        ),
        (Some("cat"), Some(1.0))
    );
    let shown = run(&["functions", "show", "cat.openfaas-fn"]).await;
    assert!(
        shown.well().contains("\nLabels     ") || shown.well().contains("team=b"),
        "{}",
        shown.out
    );
    assert_eq!(
        run(&["functions", "scale", "cat", "2"]).await.well(),
        "cat is to have 2 replicas"
    );
    eventually("two replicas", || async {
        (gateway.status("cat", "").await?.available_replicas == 2).then_some(())
    })
    .await;
    eventually("its log", || async {
        let logs = run(&["functions", "logs", "cat", "--tail", "5"]).await;
        logs.well()
            .lines()
            .any(|line| line.contains("\"name\":\"cat\""))
            .then_some(())
    })
    .await;
    assert_eq!(run(&["functions", "rm", "cat"]).await.well(), "cat removed");
    let gone = run(&["functions", "show", "cat"]).await;
    assert_eq!((gone.code, &*gone.out), (Some(1), ""));
    assert!(
        gone.err
            .starts_with(&format!("error: {}/ answered 404 Not Found: ", gateway.url())),
        "{}",
        gone.err
    );
    assert!(gone.err.contains("cat"), "{}", gone.err);
}

#[tokio::test]
async fn a_deployment_from_a_file() {
    let gateway = Gateway::new().start().await;
    let person = Person::at(&gateway);
    let file = gateway.directory().join("function.yml");
    std::fs::write(
        &file,
        "service: env\nimage: local\nenvProcess: env\nenvVars: {A: one, B: one}\n",
    )
    .expect("a file");
    let file = file.display().to_string();
    let deployed = person
        .run(&["functions", "deploy", "--file", &file, "--env", "B=two"])
        .await;
    assert_eq!(deployed.well(), "env deployed");
    gateway.ready("env", "").await;
    let answer = person.run(&["functions", "call", "env", "--path", "/x?y=1"]).await;
    let lines: Vec<&str> = answer.well().lines().collect();
    for line in ["A=one", "B=two", "Http_Path=/x", "Http_Query=y=1"] {
        assert!(lines.contains(&line), "{line}: {lines:?}");
    }
    let wrong = person.run_with(&["functions", "deploy", "-f", "-"], "service: [").await;
    assert_eq!((wrong.code, wrong.out.as_str()), (Some(64), ""));
    assert!(wrong.err.starts_with("error: -: "), "{}", wrong.err);
}

#[tokio::test]
async fn asynchronous_calls() {
    let gateway = Gateway::new().start().await;
    let person = Person::at(&gateway);
    person
        .run(&["functions", "deploy", "cat", "--image", "local", "--process", "cat"])
        .await
        .well();
    gateway.ready("cat", "").await;
    assert_eq!(
        person.run(&["async", "pause", "cat"]).await.well(),
        "calls of cat are paused"
    );
    let id = person.run_with(&["functions", "call", "cat", "--async"], "later").await;
    let id = id.well();
    let list = person.run(&["async", "ls"]).await;
    let row = list.well().lines().nth(1).expect("a call");
    assert!(
        row.contains(id) && row.contains("cat.openfaas-fn") && row.contains("queued"),
        "{row}"
    );
    let status = person.run(&["async", "status"]).await;
    assert!(
        status.well().ends_with("Calls of cat.openfaas-fn are paused."),
        "{}",
        status.out
    );

    assert_eq!(
        person.run(&["async", "cancel", id]).await.well(),
        format!("{id} taken back")
    );
    let shown = person.run(&["async", "show", id, "--output=json"]).await;
    assert_eq!(shown.json()["state"], "cancelled");
    assert_eq!(
        person.run(&["async", "redrive", id]).await.well(),
        format!("{id} is made again")
    );
    assert_eq!(
        person.run(&["async", "resume", "cat"]).await.well(),
        "calls of cat are resumed"
    );
    eventually("the result", || async {
        let shown = person.run(&["async", "show", id]).await;
        shown.well().ends_with("Body      later").then_some(())
    })
    .await;
    let none = person.run(&["async", "redrive", "--all", "-o", "json"]).await;
    assert_eq!(none.json()["calls"], 0);
    let unknown = person.run(&["async", "show", "no/such"]).await;
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.err.contains("answered 404"), "{}", unknown.err);
}

#[tokio::test]
async fn namespaces_and_secrets() {
    let gateway = Gateway::new().start().await;
    let person = Person::at(&gateway);
    assert_eq!(person.run(&["namespaces", "create", "dev"]).await.well(), "dev created");
    assert_eq!(person.run(&["namespaces"]).await.well(), "NAME\ndev\nopenfaas-fn");
    let created = person
        .run_with(&["secrets", "create", "token", "-n", "dev"], "one")
        .await;
    assert_eq!(created.well(), "token created");
    let file = gateway.directory().join("value");
    std::fs::write(&file, b"\xff\x00").expect("a file");
    let file = file.display().to_string();
    let updated = person
        .run(&["secrets", "update", "token", "-n", "dev", "--from-file", &file])
        .await;
    assert_eq!(updated.well(), "token changed");
    let list = person.run(&["secrets", "ls", "--namespace", "dev", "-o", "json"]).await;
    assert_eq!(
        list.json(),
        serde_json::json!([{ "name": "token", "namespace": "dev" }])
    );
    assert_eq!(
        person.run(&["secrets", "rm", "token", "-n", "dev"]).await.well(),
        "token removed"
    );
    assert_eq!(person.run(&["namespaces", "rm", "dev"]).await.well(), "dev removed");
    assert_eq!(person.run(&["namespaces", "ls"]).await.well(), "NAME\nopenfaas-fn");
}

#[tokio::test]
async fn the_configuration_of_a_running_gateway() {
    let gateway = Gateway::new().config("queue.attempts = 7").start().await;
    let person = Person::at(&gateway);
    let status = person.run(&["config", "status"]).await;
    let file = gateway.config_file();
    let text = status.well();
    assert!(
        text.starts_with("Generation    1\n") && text.contains(&file.display().to_string()),
        "{text}"
    );
    let other = gateway.directory().join("other.toml");
    std::fs::write(&other, "queue.attempts = 8").expect("a file");
    let other = other.display().to_string();
    let diff = person
        .run(&["config", "diff", &other, "--against", &gateway.url()])
        .await;
    assert_eq!(
        (diff.code, diff.out.trim_end()),
        (Some(1), "queue.attempts: 7 -> 8 (live)")
    );
}

#[tokio::test]
async fn who_asks() {
    let gateway = Gateway::new().basic_auth("admin", "s3c:ret").start().await;
    let mut person = Person::at(&gateway);
    let ls = ["functions", "ls"];
    let refused = person.run(&ls).await;
    assert_eq!(refused.code, Some(1));
    assert!(
        refused
            .err
            .contains("401 Unauthorized: invalid credentials; give --username"),
        "{}",
        refused.err
    );

    let password = gateway.directory().join("password");
    std::fs::write(&password, "s3c:ret\n").expect("a file");
    let file = password.display().to_string();
    person
        .run(&["functions", "ls", "--username", "admin", "--password-file", &file])
        .await
        .well();
    person
        .run_with(&["functions", "--password-stdin", "ls", "-u", "admin"], "s3c:ret\n")
        .await
        .well();
    let with = gateway.url().replace("http://", "http://admin:s3c%3Aret@");
    person.run(&["functions", "ls", "--gateway", &with]).await.well();
    let half = person.run(&["functions", "ls", "--username", "admin"]).await;
    assert_eq!(half.code, Some(64));
    assert!(half.err.contains("--username needs a password"), "{}", half.err);
    let wrong = person
        .run(&["functions", "ls", "-u", "admin", "--password-file", "/no/such"])
        .await;
    assert_eq!(wrong.code, Some(64));

    // What faas-cli login writes.
    let home = gateway.directory().join("home");
    std::fs::create_dir_all(home.join(".openfaas")).expect("a directory");
    let stored = format!(
        "auths:\n- gateway: {}\n  auth: basic\n  token: YWRtaW46czNjOnJldA==\n",
        gateway.url()
    );
    write(&home.join(".openfaas/config.yml"), &stored);
    person.environment.push(("HOME", home.display().to_string()));
    person.run(&ls).await.well();
    let candidate = gateway.config_file().display().to_string();
    let diff = person.run(&["diff", &candidate, "--against", &gateway.url()]).await;
    assert_eq!(diff.code, Some(0), "{}{}", diff.out, diff.err);
    person.environment.push(("OPENFAAS_USERNAME", "admin".to_owned()));
    person.environment.push(("OPENFAAS_PASSWORD", "wrong".to_owned()));
    assert_eq!(
        person.run(&ls).await.code,
        Some(1),
        "the environment is above what is stored"
    );
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("a file");
}

#[tokio::test]
async fn a_gateway_that_is_not_there_and_command_lines_that_are_wrong() {
    let url = format!("http://127.0.0.1:{}", crate::support::free_port());
    let person = Person {
        environment: vec![("OPENFAAS_URL", url.clone())],
    };
    let away = person.run(&["namespaces"]).await;
    assert_eq!((away.code, away.out.as_str()), (Some(1), ""));
    assert!(
        away.err.starts_with(&format!("error: {url}/: ")) && away.err.contains("refused"),
        "{}",
        away.err
    );
    for arguments in [
        &["functions"][..],
        &["functions", "deploy"],
        &["functions", "scale", "a", "many"],
        &["functions", "call", "a", "--path", "x"],
        &["functions", "rm", "a b"],
        &["async", "redrive"],
        &["namespaces", "--gateway", "ftp://a"],
        &["secrets", "ls", "--output", "xml"],
    ] {
        let ran = person.run(arguments).await;
        assert_eq!(ran.code, Some(64), "{arguments:?}: {}{}", ran.out, ran.err);
        assert!(!ran.err.is_empty(), "{arguments:?}");
    }
}
