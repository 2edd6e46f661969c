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
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, process::Command};

use crate::support::{Gateway, eventually, soon};

/// Sends requests as `faas-cli` does: Go's client, no `Accept`, a JSON content
/// type whenever there is a body, and an empty bearer token when not logged in.
struct Replay<'a> {
    gateway: &'a Gateway,
    authorization: &'a str,
}

impl Replay<'_> {
    /// One request on a connection of its own, with these headers and Go's.
    async fn open(&self, method: Method, target: &str, headers: &[(&str, &str)], body: String) -> Response<Incoming> {
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", self.gateway.address().to_string())
            .header("user-agent", "faas-cli/0.18.0")
            .header("accept-encoding", "gzip");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(bytes::Bytes::from(body))).expect("a request");
        let stream = tokio::net::TcpStream::connect(self.gateway.address())
            .await
            .expect("a connection");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream))
            .await
            .expect("a connection");
        tokio::spawn(connection);
        soon("an answer", sender.send_request(request))
            .await
            .expect("an answer")
    }

    /// One call of the API: status and text. Redirects are never followed.
    async fn send(&self, method: Method, target: &str, body: Option<Value>) -> (u16, String) {
        let mut headers = vec![("authorization", self.authorization)];
        if body.is_some() {
            headers.push(("content-type", "application/json"));
        }
        let text = body.map(|body| body.to_string()).unwrap_or_default();
        read(self.open(method, target, &headers, text).await).await
    }

    /// A change, which has to end in one of these statuses.
    async fn change(&self, method: Method, target: &str, body: Value, statuses: &[u16]) {
        let shown = format!("{method} {target} {body}");
        let (status, text) = self.send(method, target, Some(body)).await;
        assert!(statuses.contains(&status), "{shown}: {status} {text}");
    }

    async fn json(&self, target: &str) -> Value {
        let (status, text) = self.send(Method::GET, target, None).await;
        assert_eq!(status, 200, "{target}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{target}: {error}: {text}"))
    }

    async fn status(&self, method: Method, target: &str, body: Option<Value>) -> u16 {
        self.send(method, target, body).await.0
    }

    /// `ready NAME`, which asks for the status again and again.
    async fn ready(&self, name: &str) {
        eventually("a replica ready", || async {
            let status = self.json(&format!("/system/function/{name}")).await;
            (status["availableReplicas"].as_u64()? > 0).then_some(())
        })
        .await;
    }
}

async fn read(response: Response<Incoming>) -> (u16, String) {
    let status = response.status().as_u16();
    let body = soon("the body", response.into_body().collect()).await.expect("a body");
    (status, String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

/// What its Go types insist on in a function's status.
fn check_status(status: &Value) {
    for field in ["replicas", "availableReplicas", "invocationCount"] {
        assert!(status[field].is_null() || status[field].is_u64(), "{field}: {status}");
    }
    assert!(
        status["labels"].is_object() && status["annotations"].is_object(),
        "{status}"
    );
    let created = status["createdAt"].as_str().expect("always present");
    chrono::DateTime::parse_from_rfc3339(created).expect("RFC 3339");
    assert!(created.ends_with('Z'), "{created}");
}

fn shout() -> Value {
    json!({
        "service": "shout", "image": "local", "namespace": "", "envProcess": "tr a-z A-Z",
        "envVars": {"tone": "loud"}, "constraints": null, "secrets": [],
        "labels": {}, "annotations": {}, "readOnlyRootFilesystem": false,
    })
}

/// Success is 200 or 202 to `deploy`; it prints a 201 and ends in failure.
const DEPLOYED: &[u16] = &[200, 202];

/// Success to most other verbs.
const CHANGED: &[u16] = &[200, 201, 202];

async fn deploy(cli: &Replay<'_>) {
    let functions = "/system/functions";
    let gone = || json!({"functionName": "shout", "namespace": ""});

    // login looks at the list; so does list, with and without a namespace.
    assert_eq!(cli.json(functions).await, json!([]));
    assert_eq!(cli.json("/system/functions?namespace=openfaas-fn").await, json!([]));
    assert_eq!(
        cli.status(Method::GET, "/system/function/shout?usage=1", None).await,
        404
    );

    // deploy: PUT first, and POST when that says 404.
    cli.change(Method::PUT, functions, shout(), &[404]).await;
    cli.change(Method::POST, functions, shout(), DEPLOYED).await;
    cli.change(Method::PUT, functions, shout(), DEPLOYED).await;
    // deploy --update=false
    cli.change(Method::POST, functions, shout(), DEPLOYED).await;
    // deploy --replace
    cli.change(Method::DELETE, functions, gone(), CHANGED).await;
    cli.change(Method::POST, functions, shout(), DEPLOYED).await;
    cli.ready("shout").await;
}

async fn look(cli: &Replay<'_>) {
    // describe: the status, then the list for the count, matched by name.
    let status = cli.json("/system/function/shout?usage=1").await;
    check_status(&status);
    assert_eq!(status["envProcess"], "tr a-z A-Z");
    let list = cli.json("/system/functions").await;
    let shown = list
        .as_array()
        .and_then(|list| list.iter().find(|function| function["name"] == "shout"))
        .expect("the function");
    check_status(shown);
    assert_eq!(
        (&shown["namespace"], &shown["image"]),
        (&"openfaas-fn".into(), &"local".into())
    );
}

async fn invoke(cli: &Replay<'_>) {
    // The default namespace is appended, and no credentials are sent.
    let target = "/function/shout.openfaas-fn?a=b";
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::GET] {
        let headers = [("content-type", "text/plain"), ("x-sign", "sha256=0a")];
        let response = cli.open(method.clone(), target, &headers, "hello".to_owned()).await;
        for name in ["x-call-id", "x-start-time"] {
            assert!(response.headers().contains_key(name), "{name}");
        }
        assert_eq!(read(response).await, (200, "HELLO".to_owned()), "{method}");
    }
    let none = cli.open(Method::POST, "/function/none.openfaas-fn", &[], String::new());
    assert_eq!(read(none.await).await.0, 404);
}

const LOGS: &str = "/system/logs?name=shout&namespace=&instance=&since=2020-01-01T00%3A00%3A00Z&tail=-1";

async fn logs(cli: &Replay<'_>) {
    // logs --tail=false ends, and is JSON messages one after the other.
    let messages = eventually("a line of the function", || async {
        let (status, text) = cli.send(Method::GET, &format!("{LOGS}&follow=false"), None).await;
        assert_eq!(status, 200, "{text}");
        let messages: Vec<Value> = serde_json::Deserializer::from_str(&text)
            .into_iter()
            .collect::<Result<_, _>>()
            .expect("JSON");
        (!messages.is_empty()).then_some(messages)
    })
    .await;
    for message in &messages {
        assert_eq!(message["name"], "shout");
        for key in ["namespace", "instance", "timestamp", "text"] {
            assert!(message[key].is_string(), "{key} is missing: {message}");
        }
    }

    // logs: what is there, and then what comes, as it comes.
    let headers = [("authorization", cli.authorization)];
    let target = format!("{LOGS}&follow=true");
    let response = cli.open(Method::GET, &target, &headers, String::new()).await;
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    let mut seen = String::new();
    soon("an old line and a new one", async {
        let mut called = false;
        loop {
            let frame = body.frame().await.expect("the stream stays open").expect("a frame");
            seen.push_str(&String::from_utf8_lossy(&frame.into_data().unwrap_or_default()));
            if !called && seen.contains("Forking fprocess") {
                called = true;
                seen.clear();
                let call = cli.open(Method::POST, "/function/shout.openfaas-fn", &[], "x".to_owned());
                assert_eq!(read(call.await).await.0, 200);
            } else if called && seen.contains("Wrote 1 Bytes") {
                return;
            }
        }
    })
    .await;
}

async fn secrets(cli: &Replay<'_>) {
    let secrets = "/system/secrets";
    let secret = |value: &str| json!({"name": "key", "namespace": "", "value": value});
    let gone = || json!({"name": "key", "namespace": ""});

    assert_eq!(cli.json(secrets).await, json!([]));
    cli.change(Method::PUT, secrets, secret("two"), &[404]).await;
    // create, from a file: as text and as bytes
    let mut both = secret("one");
    both["rawValue"] = json!("b25l");
    cli.change(Method::POST, secrets, both, CHANGED).await;
    // create --replace: 409, then an update
    cli.change(Method::POST, secrets, secret("one"), &[409]).await;
    cli.change(Method::PUT, secrets, secret("two"), &[200, 202]).await;
    let list = cli.json("/system/secrets?namespace=openfaas-fn").await;
    assert_eq!(list[0]["name"], "key");
    assert!(!list.to_string().contains("value"), "{list}");
    // apply: list, delete what is there, create. 204 on delete would be an error.
    cli.change(Method::DELETE, secrets, gone(), &[200, 202]).await;
    cli.change(Method::POST, secrets, secret("three"), CHANGED).await;
    // remove
    cli.change(Method::DELETE, secrets, gone(), &[200, 202]).await;
    cli.change(Method::DELETE, secrets, gone(), &[404]).await;
}

async fn namespaces(cli: &Replay<'_>) {
    // Created at a path with a trailing slash, the name in the body.
    let space = |team: &str| json!({"name": "staging", "labels": {"openfaas": "1", "team": team}, "annotations": {"openfaas": "1"}});
    let staging = "/system/namespace/staging";
    cli.change(Method::PUT, staging, space("a"), &[404]).await;
    cli.change(Method::POST, "/system/namespace/", space("a"), CHANGED)
        .await;
    assert_eq!(cli.json("/system/namespaces").await, json!(["openfaas-fn", "staging"]));
    cli.change(Method::PUT, staging, space("b"), CHANGED).await;
    assert_eq!(cli.json(staging).await["labels"]["team"], "b");

    // A function there: deploy --namespace, list, describe, invoke, remove.
    let mut whisper = shout();
    whisper["service"] = json!("whisper");
    whisper["namespace"] = json!("staging");
    cli.change(Method::POST, "/system/functions", whisper, DEPLOYED).await;
    let list = cli.json("/system/functions?namespace=staging").await;
    assert_eq!(
        (&list[0]["name"], list.as_array().map(Vec::len)),
        (&"whisper".into(), Some(1))
    );
    check_status(&cli.json("/system/function/whisper?usage=1&namespace=staging").await);
    let call = cli.open(Method::POST, "/function/whisper.staging", &[], "psst".to_owned());
    assert_eq!(read(call.await).await, (200, "PSST".to_owned()));
    let gone = json!({"functionName": "whisper", "namespace": "staging"});
    cli.change(Method::DELETE, "/system/functions", gone, CHANGED).await;

    cli.change(Method::DELETE, staging, space("b"), CHANGED).await;
    assert_eq!(cli.status(Method::GET, staging, None).await, 404);
    cli.change(Method::DELETE, staging, space("b"), &[404]).await;
}

async fn scale(cli: &Replay<'_>) {
    // go-sdk's call; zero has to stay zero.
    let body = |name: &str, replicas| json!({"serviceName": name, "replicas": replicas, "namespace": "openfaas-fn"});
    let target = "/system/scale-function/shout";
    cli.change(Method::POST, target, body("shout", 2), CHANGED).await;
    assert_eq!(cli.json("/system/function/shout").await["replicas"], 2);
    cli.change(Method::POST, target, body("shout", 0), CHANGED).await;
    assert_eq!(cli.json("/system/function/shout").await["replicas"], 0);
    cli.change(Method::POST, "/system/scale-function/none", body("none", 1), &[404])
        .await;
}

async fn replay(gateway: &Gateway, authorization: &str) {
    let cli = &Replay { gateway, authorization };
    deploy(cli).await;
    look(cli).await;
    invoke(cli).await;
    logs(cli).await;
    secrets(cli).await;
    namespaces(cli).await;
    scale(cli).await;

    // version dereferences both objects without a check
    let info = cli.json("/system/info").await;
    for part in [&info["provider"]["version"], &info["version"]] {
        assert!(!part["release"].as_str().expect("text").is_empty());
        assert!(!part["sha"].as_str().expect("text").is_empty());
    }

    // ready
    assert_eq!(cli.status(Method::GET, "/healthz", None).await, 200);

    // remove
    let gone = || json!({"functionName": "shout", "namespace": ""});
    cli.change(Method::DELETE, "/system/functions", gone(), CHANGED).await;
    cli.change(Method::DELETE, "/system/functions", gone(), &[404]).await;
}

#[tokio::test]
async fn its_requests_are_answered_as_it_expects() {
    let gateway = Gateway::new().start().await;
    replay(&gateway, "Bearer ").await;
}

#[tokio::test]
async fn its_requests_are_answered_before_a_provider_too() {
    let provider = Gateway::new().start().await;
    let gateway = Gateway::before(&provider.url()).start().await;
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
    let store = format!("{}/system/store", gateway.url());
    let listed = run(&cli, &gateway, &["store", "list", "--url", &store], "").await;
    assert!(listed.contains("word-count"), "{listed}");
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
