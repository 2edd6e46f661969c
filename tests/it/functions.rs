//! Real functions on the process provider, called through the gateway.

use faas_gateway_client::types;
use futures_util::{SinkExt, StreamExt};
use serde_json::json;

use crate::support::{
    Gateway, eventually, fixture, soon,
    typed::{done, text},
    wire::Wire,
};

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
        let logs = text(done(gateway.client().get_logs().name("shasum").send().await)).await;
        (logs.contains("Forking fprocess") && logs.contains("Wrote")).then_some(())
    })
    .await;
    let total = r#"gateway_function_invocation_total{code="200",function_name="shasum.openfaas-fn"}"#;
    assert_eq!(gateway.metric(total).await, Some(1.0));
    let list = done(gateway.client().list_functions().send().await);
    assert_eq!(list[0].invocation_count, Some(1.0));

    for replicas in [3, 0, 1] {
        gateway.scale("shasum", replicas).await;
        eventually("the replicas", || async {
            let status = gateway.status("shasum", "").await?;
            (status.replicas == i64::from(replicas) && status.available_replicas == i64::from(replicas)).then_some(())
        })
        .await;
    }
    gateway.invoke("/function/shasum", "again").await;

    gateway.remove("shasum").await;
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
async fn a_secret_is_where_functions_look_for_it() {
    let gateway = Gateway::new().start().await;
    let secret = types::Secret::builder().name("api-key").value("s3cret".to_owned());
    done(gateway.client().create_secret().body(secret).send().await);
    gateway
        .deploy(&json!({
            "service": "reads", "image": "local", "secrets": ["api-key"],
            "envProcess": "sh -c 'cat \"$FAAS_SECRETS_DIR/api-key\"'",
        }))
        .await;
    assert_eq!(gateway.invoke("/function/reads", "").await, "s3cret");
}
