//! Errors have one shape, wherever they come from.

use faas_gateway::provider::ProviderError;
use http::Method;
use serde_json::json;

use super::Desk;

#[tokio::test]
async fn unknown_paths_are_404() {
    let desk = Desk::new();
    for path in [
        "/nothing",
        "/system/functions/",
        "/system/function/%ff",
        "/ui/nothing",
        "//",
        "/docs/",
    ] {
        let text = format!("there is nothing at {path}; /openapi.json lists what there is");
        desk.get(path).await.is_error(404, &text);
    }
}

#[tokio::test]
async fn wrong_methods_are_405_and_say_what_is_allowed() {
    let desk = Desk::new();
    for (method, path, allow) in [
        (Method::PATCH, "/system/functions", "DELETE, GET, HEAD, POST, PUT"),
        (Method::GET, "/system/alert", "POST"),
        (Method::OPTIONS, "/healthz", "GET, HEAD"),
        (Method::POST, "/ui/", "GET, HEAD"),
        (Method::GET, "/system/namespace/", "POST"),
    ] {
        let text = format!("{method} is not allowed here; see the Allow header");
        let answer = desk.send(method, path, &[], "").await;
        answer.is_error(405, &text);
        assert_eq!(answer.header("allow"), allow, "{path}");
    }
}

#[tokio::test]
async fn problem_details_for_those_who_accept_json() {
    let desk = Desk::new().failing(ProviderError::NotFound("function a.fn not found".to_owned()));
    let accept = [("accept", "application/json")];
    let answer = desk.send(Method::GET, "/system/function/a", &accept, "").await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (404, "application/problem+json")
    );
    assert_eq!(
        answer.json(),
        json!({"status": 404, "title": "Not Found", "detail": "function a.fn not found", "component": "provider"})
    );
    for path in ["/nothing", "/system/alert"] {
        let answer = desk.send(Method::GET, path, &accept, "").await;
        assert_eq!(answer.header("content-type"), "application/problem+json", "{path}");
        assert_eq!(answer.header("x-openfaas-internal"), "gateway", "{path}");
    }
}

#[tokio::test]
async fn a_providers_own_answer_is_passed_on() {
    let answered = |body: &str| ProviderError::Answered {
        status: 418,
        body: body.to_owned(),
        retry_after: None,
    };
    let desk = Desk::new().failing(answered("validation failed: too short\n"));
    desk.post("/system/functions", r#"{"service":"a"}"#)
        .await
        .is_error(418, "validation failed: too short");
    let silent = Desk::new().failing(answered(""));
    silent
        .get("/system/namespaces")
        .await
        .is_error(418, "the provider answered 418 I'm a teapot");
}
