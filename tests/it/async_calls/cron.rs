//! Functions that are called by the clock.

use super::*;

/// Functions are read so often that a test can wait for it.
const LOOK: &str = "[metrics]\nrefresh_interval = \"50ms\"\n";

async fn deploy(gateway: &Gateway, name: &str, annotations: &Value) {
    let deployment = json!({ "service": name, "image": "local", "envProcess": "env", "annotations": annotations });
    gateway.deploy(&deployment).await;
}

#[tokio::test]
async fn a_function_is_called_when_its_schedule_says() {
    let gateway = Gateway::new().config(LOOK).start().await;
    let every_second =
        json!({ "topic": "cron-function", "schedule": "0 0 1 1 *; * * * * * *", "timezone": "Europe/Berlin" });
    deploy(&gateway, "f", &every_second).await;
    let call = following(&gateway, "cron-f.openfaas-fn-", "succeeded").await;
    let call = told(&gateway, call["id"].as_str().expect("an id")).await;
    let seen = call.result.and_then(|result| result.body).expect("text");
    for line in [
        "Http_Method=POST",
        "Http_X_Topic=cron-function",
        "Http_X_Connector=cron-connector",
        "Http_Content_Length=0",
    ] {
        assert!(seen.lines().any(|found| found == line), "{line} is not in\n{seen}");
    }
    let next = r#"gateway_cron_next_timestamp_seconds{function_name="f.openfaas-fn"}"#;
    assert!(gateway.metric(next).await.is_some_and(|next| next > 1.0));
    let calls = r#"gateway_cron_calls_total{result="kept"}"#;
    assert!(gateway.metric(calls).await >= Some(1.0));
    gateway.remove("f").await;
    eventually("the end of the schedule", || async {
        gateway.metric(next).await.is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_bad_schedule_is_logged_once_and_shown() {
    let gateway = Gateway::new().config(LOOK).start().await;
    deploy(
        &gateway,
        "f",
        &json!({ "topic": "cron-function", "schedule": "often; 0 0 1 1 *" }),
    )
    .await;
    let is_it = |line: &Value| line.to_string().contains("schedule: 'often' is no time");
    gateway.logged("the mistake", is_it).await;
    let mistakes = r#"gateway_cron_mistakes{function_name="f.openfaas-fn"}"#;
    assert_eq!(gateway.metric(mistakes).await, Some(1.0));
    deploy(&gateway, "g", &json!({ "topic": "cron-function" })).await;
    gateway
        .logged("what is missing", |line| {
            line.to_string().contains("schedule: is missing")
        })
        .await;
    assert_eq!(gateway.log_count(is_it), 1);
}

#[tokio::test]
async fn callers_cannot_take_the_place_of_a_call_by_the_clock() {
    let upstream = Upstream::start().await.function("f", |_| async { text(200, "") });
    let gateway = before(&upstream, "").start().await;
    for (name, value, status) in [
        ("x-call-id", "cron-f.openfaas-fn-1800000000", 400),
        ("idempotency-key", "cron-f.openfaas-fn-1800000000", 400),
        ("x-call-id", "cron-job", 202),
    ] {
        let answer = call(&gateway, "f", &[(name, value)], "").await;
        assert_eq!(answer.status(), status, "{name}: {value}");
    }
}
