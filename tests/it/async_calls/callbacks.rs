//! Callbacks are jobs: they outlive the process, are tried again, and can be looked at.

use super::*;

const KEY: &str = "what do ya want for nothing?";

/// The job of the callback of a call, when it is in this state.
async fn callback(gateway: &Gateway, id: &str, state: &str) -> Value {
    following(gateway, &format!("{id}-callback-"), state).await
}

#[tokio::test]
async fn callbacks_tell_of_the_end_and_are_signed() {
    let upstream = Upstream::start().await.function("f", |_| async { text(200, KEY) });
    let receiver = Receiver::start().await;
    let gateway = before(&upstream, "callback_secret = \"Jefe\"\n").start().await;
    let url = receiver.url().replace("http://", "http://user:secret@") + "?token=secret";
    let id = kept(&gateway, "f", &[("x-callback-url", &url)], "").await;
    let (headers, body) = receiver.next().await;
    assert_eq!(body, KEY);
    for (name, value) in [
        ("x-call-id", &*id),
        ("x-function-status", "200"),
        ("x-function-name", "f"),
        ("x-retry", "1"),
        ("x-retry-max", "3"),
        ("authorization", "Basic dXNlcjpzZWNyZXQ="),
        (
            "x-signature-256",
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    let job = callback(&gateway, &id, "succeeded").await;
    assert_eq!(job["targetUrl"], receiver.url(), "without what may be a secret");
    assert!(told(&gateway, &id).await.target_url.is_none());
    let sent = gateway.metric(r#"gateway_async_callbacks_total{result="sent"}"#).await;
    assert_eq!(sent, Some(1.0));
}

#[tokio::test]
async fn a_callback_survives_the_death_of_the_gateway() {
    let upstream = Upstream::start().await.function("f", |_| async { text(422, "no") });
    let receiver = Receiver::answering(503).await;
    let directory = Arc::new(tempfile::tempdir().expect("a directory"));
    let setup = || before(&upstream, "").directory(Arc::clone(&directory));
    let gateway = setup().start().await;
    let id = kept(&gateway, "f", &[("x-callback-url", &receiver.url())], "").await;
    receiver.next().await;
    let gateway = gateway.crash_and_restart(setup()).await;
    receiver.answer(200);
    let (headers, body) = receiver.next().await;
    assert_eq!(headers["x-call-id"], id);
    assert_eq!(
        (&headers["x-function-status"], &*body),
        (&"422".parse().expect("a value"), &b"no"[..])
    );
    callback(&gateway, &id, "succeeded").await;
}

#[tokio::test]
async fn a_callback_is_tried_again_until_it_is_taken() {
    let upstream = Upstream::start().await.function("f", |_| async { text(200, "done") });
    let receiver = Receiver::answering(404).await;
    let gateway = before(&upstream, "").start().await;
    let id = kept(&gateway, "f", &[("x-callback-url", &receiver.url())], "").await;
    receiver.next().await;
    receiver.answer(302);
    receiver.next().await;
    let job = callback(&gateway, &id, "succeeded").await;
    assert_eq!(
        (&job["attempts"][0]["status"], &job["attempts"][1]["status"]),
        (&json!(404), &json!(302))
    );
}

#[tokio::test]
async fn a_denied_address_ends_a_callback_at_once_and_it_can_be_driven_again() {
    let upstream = Upstream::start().await.function("f", |_| async { text(200, "done") });
    let receiver = Receiver::start().await;
    let denying = |ranges: &str| format!("{QUICK}callback_deny = {ranges}\n");
    let gateway = Gateway::before(&upstream.url())
        .config(&denying(r#"["127.0.0.0/8", "::1/128"]"#))
        .start()
        .await;
    let by_name = receiver.url().replace("127.0.0.1", "localhost");
    let mut last = String::new();
    for url in [receiver.url(), by_name] {
        let id = kept(&gateway, "f", &[("x-callback-url", &url)], "").await;
        let job = callback(&gateway, &id, "failed").await;
        let error = job["attempts"][0]["error"].as_str().expect("a reason");
        assert!(error.contains("queue.callback_deny"), "{url}: {error}");
        assert_eq!(job["attempts"].as_array().map(Vec::len), Some(1), "{url}");
        last = job["id"].as_str().expect("an id").to_owned();
    }
    let denied = gateway
        .metric(r#"gateway_async_callbacks_total{result="denied"}"#)
        .await;
    assert_eq!(denied, Some(2.0));

    gateway.configure(&denying("[]")).await;
    let (status, _) = gateway
        .send(Method::POST, &format!("/system/async/{last}/redrive"), &json!({}))
        .await;
    assert_eq!(status, 202);
    receiver.next().await;
}

#[tokio::test]
async fn a_callback_carries_what_is_too_long_for_a_result() {
    let upstream = Upstream::start()
        .await
        .function("f", |_| async { text(200, &"x".repeat(5000)) });
    let receiver = Receiver::start().await;
    let gateway = before(&upstream, "max_result = 10\n").start().await;
    let id = kept(&gateway, "f", &[("x-callback-url", &receiver.url())], "").await;
    assert_eq!(receiver.next().await.1.len(), 5000);
    let told = becomes(&gateway, &id, "succeeded").await;
    let result = told.result.expect("a result");
    assert_eq!((result.body.as_deref(), result.truncated), (Some("xxxxxxxxxx"), true));
}

#[tokio::test]
async fn a_host_that_does_not_answer_holds_up_its_own_callbacks_only() {
    let upstream = Upstream::start().await.function("f", |_| async { text(200, "done") });
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let silent = format!("http://{}/", silent.local_addr().expect("bound"));
    let receiver = Receiver::start().await;
    let gateway = before(&upstream, "function_concurrency = 1\n").start().await;
    for _ in 0..2 {
        let id = kept(&gateway, "f", &[("x-callback-url", &silent)], "").await;
        becomes(&gateway, &id, "succeeded").await;
    }
    let url = receiver.url().replace("127.0.0.1", "localhost");
    let id = kept(&gateway, "f", &[("x-callback-url", &url)], "").await;
    receiver.next().await;
    callback(&gateway, &id, "succeeded").await;
}
