//! Answers that go on by themselves, and retries that functions ask for.

use super::*;

/// A local function that runs a command, with these annotations.
async fn deploy(gateway: &Gateway, name: &str, command: &str, annotations: &Value) {
    let deployment = json!({
        "service": name, "image": "local", "envProcess": command, "annotations": annotations,
    });
    gateway.deploy(&deployment).await;
}

#[tokio::test]
async fn an_answer_goes_on_to_a_function() {
    let gateway = Gateway::new().config(QUICK).start().await;
    deploy(&gateway, "next", "env", &json!({})).await;
    let to_next = json!({ "com.openfaas.async.on-success": "next" });
    deploy(&gateway, "f", "sed s/^/hello-/", &to_next).await;
    let id = kept(&gateway, "f", &[("x-call-depth", "10")], "world").await;
    becomes(&gateway, &id, "succeeded").await;
    let next = following(&gateway, &format!("{id}-success-"), "succeeded").await;
    assert_eq!((&next["function"], &next["targetUrl"]), (&json!("next"), &Value::Null));
    let next = told(&gateway, next["id"].as_str().expect("an id")).await;
    let seen = next.result.and_then(|result| result.body).expect("text");
    for line in [
        format!("Http_X_Source_Call_Id={id}"),
        "Http_X_Function_Name=f.openfaas-fn".to_owned(),
        "Http_X_Function_Status=200".to_owned(),
        "Http_X_Call_Depth=1".to_owned(),
        "Http_Content_Length=11".to_owned(),
    ] {
        assert!(seen.lines().any(|found| found == line), "{line} is not in\n{seen}");
    }
}

#[tokio::test]
async fn what_failed_goes_on_to_a_url_with_and_without_an_answer() {
    let upstream = Upstream::start()
        .await
        .function("f", |_| async { text(422, "no") })
        .function("g", |_| async { text(500, "oh") });
    let receiver = Receiver::start().await;
    let file = format!(
        "[functions.\"*\".queue]\nattempts = 2\non_failure = \"{}\"\n",
        receiver.url()
    );
    let gateway = before(&upstream, &file).start().await;
    for (name, state, status, answered) in [("f", "failed", "422", "no"), ("g", "dead", "500", "oh")] {
        let id = kept(&gateway, name, &[], "").await;
        becomes(&gateway, &id, state).await;
        let (headers, body) = receiver.next().await;
        assert_eq!(
            (&headers["x-call-id"], &headers["x-function-status"]),
            (&id.parse().expect("a value"), &status.parse().expect("a value"))
        );
        assert_eq!(body, answered);
    }
}

#[tokio::test]
async fn answers_that_go_in_a_circle_stop() {
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&calls);
    let upstream = Upstream::start().await.function("f", move |_| {
        seen.fetch_add(1, Ordering::SeqCst);
        async { text(200, "again") }
    });
    let gateway = before(&upstream, "[functions.f.queue]\non_success = \"f\"\n")
        .start()
        .await;
    kept(&gateway, "f", &[], "").await;
    let line = gateway.logged("the end of the circle", |line| {
        line.to_string().contains("goes no further")
    });
    assert!(line.await.to_string().contains("\"f\""));
    assert_eq!(calls.load(Ordering::SeqCst), 11);
    assert_eq!(gateway.metric("gateway_async_loops_refused_total").await, Some(1.0));
}

#[tokio::test]
async fn functions_say_how_often_they_are_tried_and_the_file_knows_better() {
    let gateway = Gateway::new().config(QUICK).start().await;
    let annotations =
        |attempts: &str| json!({ "com.openfaas.retry.attempts": attempts, "com.openfaas.retry.codes": "500" });
    let tries = async |state: &str| {
        let id = kept(&gateway, "f", &[], "").await;
        let told = becomes(&gateway, &id, state).await;
        told.attempts.len()
    };
    deploy(&gateway, "f", "false", &annotations("2")).await;
    assert_eq!(tries("dead").await, 2);
    for (attempts, expected) in [("4", 4), ("none", 3)] {
        let deployment = json!({
            "service": "f", "image": "local", "envProcess": "false", "annotations": annotations(attempts),
        });
        let (status, _) = gateway.send(Method::PUT, "/system/functions", &deployment).await;
        assert_eq!(status, 202);
        gateway.ready("f", "").await;
        assert_eq!(tries("dead").await, expected, "{attempts}");
    }
    let warned = gateway.log_count(|line| line.to_string().contains("com.openfaas.retry.attempts: 'none'"));
    assert_eq!(warned, 1);

    gateway
        .configure(&format!("{QUICK}[functions.f.queue]\nattempts = 1\n"))
        .await;
    assert_eq!(tries("dead").await, 1);
}
