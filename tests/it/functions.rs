//! Real functions on the process provider, called through the gateway.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};

use crate::support::{Gateway, eventually, soon, wire::Wire};

/// The command that runs a function of `tests/fixtures/functions`.
fn fixture(interpreter: &str, name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/functions")
        .join(name);
    format!("{interpreter} '{}'", path.display())
}

async fn deploy_http(gateway: &Gateway, service: &str, command: &str) {
    gateway
        .deploy(&json!({
            "service": service, "image": "local", "envProcess": command, "envVars": {"mode": "http"},
        }))
        .await;
}

#[tokio::test]
async fn the_walk_of_the_readme() {
    let gateway = Gateway::new().start().await;
    gateway
        .deploy(&json!({"service": "shasum", "image": "local", "envProcess": "sha512sum"}))
        .await;
    let sum = gateway.invoke("/function/shasum", "hello").await;
    assert!(
        sum.starts_with("9b71d224bd62f3785d96d46ad3ea3d73319bfbc2890caadae2dff72519673ca7"),
        "{sum}"
    );

    // A line may take a moment from the function's pipe to its log.
    eventually("both lines", || async {
        let logs = gateway.get("/system/logs?name=shasum").send().await.expect("an answer");
        assert_eq!(logs.headers()["content-type"], "application/x-ndjson");
        let logs = logs.text().await.expect("text");
        (logs.contains("Forking fprocess") && logs.contains("Wrote")).then_some(())
    })
    .await;
    let total = r#"gateway_function_invocation_total{code="200",function_name="shasum.openfaas-fn"}"#;
    assert_eq!(gateway.metric(total).await, Some(1.0));
    let list: Vec<Value> = gateway
        .get("/system/functions")
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    assert_eq!(list[0]["invocationCount"], 1.0);

    for replicas in [3, 0, 1] {
        let body = json!({"serviceName": "shasum", "replicas": replicas});
        let (status, text) = gateway
            .send(http::Method::POST, "/system/scale-function/shasum", &body)
            .await;
        assert_eq!(status, 202, "{text}");
        eventually("the replicas", || async {
            let status = gateway.status("shasum", "").await?;
            (status["replicas"] == replicas && status["availableReplicas"] == replicas).then_some(())
        })
        .await;
    }
    gateway.invoke("/function/shasum", "again").await;

    let gone = json!({"functionName": "shasum"});
    let (status, text) = gateway.send(http::Method::DELETE, "/system/functions", &gone).await;
    assert_eq!(status, 202, "{text}");
    assert_eq!(
        gateway
            .get("/function/shasum")
            .send()
            .await
            .expect("an answer")
            .status(),
        404
    );
    assert!(gateway.status("shasum", "").await.is_none());
}

#[tokio::test]
async fn node_and_python_serve_http() {
    let gateway = Gateway::new().start().await;
    for (service, command) in [
        ("node", fixture("node", "echo.js")),
        ("python", fixture("python3", "echo.py")),
    ] {
        deploy_http(&gateway, service, &command).await;
        let answer = gateway
            .request(http::Method::GET, &format!("/function/{service}/a%2Fb?x=1"))
            .send()
            .await
            .expect("an answer");
        assert_eq!(answer.status(), 200, "{service}");
        let text = answer.text().await.expect("text");
        assert!(text.contains("/a%2Fb?x=1"), "{service}: {text}");
        assert_eq!(
            gateway.invoke(&format!("/function/{service}/body"), "hello").await,
            "hello"
        );
    }
}

#[tokio::test]
async fn a_websocket_function_talks() {
    let gateway = Gateway::new().start().await;
    deploy_http(&gateway, "chat", &fixture("node", "websocket.js")).await;
    let url = format!("ws://{}/function/chat", gateway.address());
    let (mut socket, _) = soon("the handshake", tokio_tungstenite::connect_async(url))
        .await
        .expect("switched");
    for word in ["hello", "world"] {
        socket.send(word.into()).await.expect("sent");
        let heard = soon("an echo", socket.next()).await.expect("open").expect("a message");
        assert_eq!(heard.to_text().expect("text"), word);
    }
}

#[tokio::test]
async fn events_arrive_while_the_function_still_runs() {
    let gateway = Gateway::new().start().await;
    deploy_http(&gateway, "events", &fixture("node", "events.js")).await;
    let mut wire = Wire::connect(gateway.address()).await;
    wire.send("GET /function/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
        .await;
    // The function sends its next event only after a pause, so this is no buffer's doing.
    wire.until("\n\n").await;
    wire.until("\n\n").await;
}

#[tokio::test]
async fn a_command_that_is_not_there_is_refused() {
    let gateway = Gateway::new().start().await;
    let deployment = json!({"service": "ghost", "image": "local", "envProcess": "no-such-command --now"});
    let (status, text) = gateway.send(http::Method::POST, "/system/functions", &deployment).await;
    assert_eq!(status, 400);
    assert!(text.contains("no-such-command"), "{text}");
}

#[tokio::test]
async fn a_secret_is_where_functions_look_for_it() {
    let gateway = Gateway::new().start().await;
    let secret = json!({"name": "api-key", "value": "s3cret"});
    let (status, text) = gateway.send(http::Method::POST, "/system/secrets", &secret).await;
    assert!(status < 300, "{text}");
    gateway
        .deploy(&json!({
            "service": "reads", "image": "local", "secrets": ["api-key"],
            "envProcess": "sh -c 'cat \"$FAAS_SECRETS_DIR/api-key\"'",
        }))
        .await;
    assert_eq!(gateway.invoke("/function/reads", "").await, "s3cret");
}
