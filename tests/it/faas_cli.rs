//! The command-line client of OpenFaaS against this gateway.
//!
//! Twice: the real `faas-cli`, where the machine has it, and always a replay of
//! the requests it sends (compatibility.md section 7), header for header, with
//! what it insists on in the answers.

use std::{
    path::PathBuf,
    process::{Output, Stdio},
};

use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, process::Command};

use crate::support::{Gateway, eventually};

/// Sends requests as `faas-cli` does: Go's client, no `Accept`, a JSON content
/// type whenever there is a body, and an empty bearer token when not logged in.
struct Replay<'a> {
    gateway: &'a Gateway,
    authorization: &'a str,
}

impl Replay<'_> {
    async fn send(&self, method: Method, target: &str, body: Option<Value>) -> (u16, String) {
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", self.gateway.address().to_string())
            .header("user-agent", "faas-cli/0.18.0")
            .header("accept-encoding", "gzip");
        if !target.starts_with("/function/") {
            request = request.header("authorization", self.authorization);
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let text = body.map(|body| body.to_string()).unwrap_or_default();
        let request = request.body(Full::new(bytes::Bytes::from(text))).expect("a request");
        let stream = tokio::net::TcpStream::connect(self.gateway.address())
            .await
            .expect("a connection");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream))
            .await
            .expect("a connection");
        tokio::spawn(connection);
        let response: Response<_> = sender.send_request(request).await.expect("an answer");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    async fn json(&self, target: &str) -> Value {
        let (status, text) = self.send(Method::GET, target, None).await;
        assert_eq!(status, 200, "{target}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{target}: {error}: {text}"))
    }
}

async fn replay(gateway: &Gateway, authorization: &str) {
    let cli = Replay { gateway, authorization };

    // login
    assert_eq!(cli.json("/system/functions").await, json!([]));

    // deploy: PUT first, and POST when that says 404. Only 200 and 202 end in success.
    let deployment = json!({
        "service": "shout", "image": "local", "namespace": "", "envProcess": "tr a-z A-Z",
        "envVars": {"tone": "loud"}, "constraints": null, "secrets": [],
        "labels": {}, "annotations": {}, "readOnlyRootFilesystem": false,
    });
    let (status, text) = cli
        .send(Method::PUT, "/system/functions", Some(deployment.clone()))
        .await;
    assert_eq!(status, 404, "{text}");
    let (status, text) = cli
        .send(Method::POST, "/system/functions", Some(deployment.clone()))
        .await;
    assert!(matches!(status, 200 | 202), "{status} {text}");
    let (status, text) = cli.send(Method::PUT, "/system/functions", Some(deployment)).await;
    assert!(matches!(status, 200 | 202), "{status} {text}");

    // ready NAME, then describe and list
    eventually("shout ready", || async {
        let status = cli.json("/system/function/shout?usage=1").await;
        (status["availableReplicas"].as_u64()? > 0).then_some(())
    })
    .await;
    let list = cli.json("/system/functions").await;
    let shown = &list[0];
    assert_eq!(
        (&shown["name"], &shown["namespace"]),
        (&"shout".into(), &"openfaas-fn".into())
    );
    assert!(
        shown["labels"].is_object() && shown["annotations"].is_object(),
        "{shown}"
    );
    let created = shown["createdAt"].as_str().expect("always present");
    chrono::DateTime::parse_from_rfc3339(created).expect("RFC 3339");

    // invoke appends the default namespace
    let (status, text) = cli
        .send(Method::POST, "/function/shout.openfaas-fn", Some(json!("hello")))
        .await;
    assert_eq!((status, text.as_str()), (200, "\"HELLO\""));

    // logs end without follow and are JSON messages
    let (status, text) = cli
        .send(
            Method::GET,
            "/system/logs?name=shout&namespace=&follow=false&instance=&since=2020-01-01T00%3A00%3A00Z&tail=-1",
            None,
        )
        .await;
    assert_eq!(status, 200, "{text}");
    let messages: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert!(!messages.is_empty());
    for message in &messages {
        assert_eq!(message["name"], "shout");
        for key in ["namespace", "instance", "timestamp", "text"] {
            assert!(message[key].is_string(), "{key} is missing: {message}");
        }
    }

    // secrets: 204 on delete would be an error to the client
    let secret = |value: &str| Some(json!({"name": "key", "namespace": "", "value": value}));
    let (status, text) = cli.send(Method::POST, "/system/secrets", secret("one")).await;
    assert!(matches!(status, 200..=202), "{status} {text}");
    let (status, _) = cli.send(Method::POST, "/system/secrets", secret("one")).await;
    assert_eq!(status, 409);
    let (status, text) = cli.send(Method::PUT, "/system/secrets", secret("two")).await;
    assert!(matches!(status, 200 | 202), "{status} {text}");
    assert_eq!(cli.json("/system/secrets").await[0]["name"], "key");
    let gone = Some(json!({"name": "key", "namespace": ""}));
    let (status, text) = cli.send(Method::DELETE, "/system/secrets", gone.clone()).await;
    assert!(matches!(status, 200 | 202), "{status} {text}");
    assert_eq!(cli.send(Method::DELETE, "/system/secrets", gone).await.0, 404);

    // namespaces: created at a path with a trailing slash
    let space = |team: &str| {
        Some(json!({"name": "staging", "labels": {"openfaas": "1", "team": team}, "annotations": {"openfaas": "1"}}))
    };
    let (status, text) = cli.send(Method::POST, "/system/namespace/", space("a")).await;
    assert!(matches!(status, 200..=202), "{status} {text}");
    assert_eq!(cli.json("/system/namespaces").await, json!(["openfaas-fn", "staging"]));
    let (status, text) = cli.send(Method::PUT, "/system/namespace/staging", space("b")).await;
    assert!(matches!(status, 200..=202), "{status} {text}");
    assert_eq!(cli.json("/system/namespace/staging").await["labels"]["team"], "b");
    let (status, text) = cli.send(Method::DELETE, "/system/namespace/staging", space("b")).await;
    assert!(matches!(status, 200..=202), "{status} {text}");
    assert_eq!(cli.send(Method::GET, "/system/namespace/staging", None).await.0, 404);

    // version dereferences both objects without a check
    let info = cli.json("/system/info").await;
    for part in [&info["provider"]["version"], &info["version"]] {
        assert!(!part["release"].as_str().expect("text").is_empty());
        assert!(!part["sha"].as_str().expect("text").is_empty());
    }

    // ready
    assert_eq!(cli.send(Method::GET, "/healthz", None).await.0, 200);

    // remove
    let gone = Some(json!({"functionName": "shout", "namespace": ""}));
    let (status, text) = cli.send(Method::DELETE, "/system/functions", gone.clone()).await;
    assert!(matches!(status, 200..=202), "{status} {text}");
    assert_eq!(cli.send(Method::DELETE, "/system/functions", gone).await.0, 404);
}

#[tokio::test]
async fn its_requests_are_answered_as_it_expects() {
    let gateway = Gateway::new().start().await;
    replay(&gateway, "Bearer ").await;
}

#[tokio::test]
async fn its_requests_are_answered_with_basic_auth_too() {
    let gateway = Gateway::new().basic_auth("admin", "pass word").start().await;
    let stranger = Replay {
        gateway: &gateway,
        authorization: "Bearer ",
    };
    let (status, text) = stranger.send(Method::GET, "/system/functions", None).await;
    assert_eq!((status, text.trim()), (401, "invalid credentials"));
    // admin:pass word
    replay(&gateway, "Basic YWRtaW46cGFzcyB3b3Jk").await;
}

/// The real client: from `make tools`, or on the PATH.
fn installed() -> Option<PathBuf> {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".tools/faas-cli");
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(own)
        .chain(std::env::split_paths(&path).map(|directory| directory.join("faas-cli")))
        .find(|candidate| candidate.is_file())
}

/// Runs the real client and returns what it printed; fails when it does.
async fn run(cli: &PathBuf, gateway: &Gateway, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(cli)
        .args(arguments)
        .current_dir(gateway.directory())
        .env("OPENFAAS_URL", gateway.url())
        .env("OPENFAAS_CONFIG", gateway.directory().join("openfaas"))
        .env("HOME", gateway.directory())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("faas-cli runs");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).await.expect("it reads");
    drop(stdin);
    let Output { status, stdout, stderr } = child.wait_with_output().await.expect("it ends");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr)
    );
    assert!(status.success(), "faas-cli {}: {text}", arguments.join(" "));
    text
}

async fn walk(cli: &PathBuf, gateway: &Gateway) {
    let run = |arguments: &'static str, input: &'static str| {
        let arguments: Vec<&str> = arguments.split('|').collect();
        async move { run(cli, gateway, &arguments, input).await }
    };
    run("deploy|--image|local|--name|shout|--fprocess|tr a-z A-Z", "").await;
    run("ready|shout", "").await;
    assert!(run("list", "").await.contains("shout"));
    assert!(run("describe|shout", "").await.contains("Ready"));
    assert_eq!(run("invoke|shout", "hello").await, "HELLO");
    assert!(run("logs|shout|--tail=false", "").await.contains("Forking fprocess"));
    run("secret|create|key|--from-literal|one", "").await;
    assert!(run("secret|list", "").await.contains("key"));
    run("secret|update|key|--from-literal|two", "").await;
    run("secret|remove|key", "").await;
    assert!(run("namespaces", "").await.contains("openfaas-fn"));
    run("namespace|create|staging", "").await;
    assert!(run("namespace|get|staging", "").await.contains("staging"));
    run("namespace|update|staging|--label|team=b", "").await;
    run("namespace|remove|staging", "").await;
    assert!(run("version", "").await.contains("process"));
    run("ready", "").await;
    run("remove|shout", "").await;
}

#[tokio::test]
async fn the_real_one_walks_through() {
    let Some(cli) = installed() else {
        eprintln!("SKIPPED: there is no faas-cli on this machine (`make tools` tries to install it)");
        return;
    };
    let gateway = Gateway::new().start().await;
    walk(&cli, &gateway).await;
    let gateway = Gateway::new().basic_auth("admin", "secret").start().await;
    run(
        &cli,
        &gateway,
        &["login", "--username", "admin", "--password-stdin"],
        "secret",
    )
    .await;
    walk(&cli, &gateway).await;
}
