//! `/system/scale-function/{name}`.

use faas_gateway::provider::ProviderError;
use http::StatusCode;

use super::Desk;

#[tokio::test]
async fn replicas_are_bounded_by_labels_only() {
    let desk = Desk::new();
    for (labels, body, scaled) in [
        ("", r#"{"replicas":9}"#, "scale a.fn 9"),
        (
            r#"{"com.openfaas.scale.max":"4"}"#,
            r#"{"serviceName":"a","replicas":9}"#,
            "scale a.fn 4",
        ),
        (
            r#"{"com.openfaas.scale.min":"2"}"#,
            r#"{"serviceName":"","replicas":1}"#,
            "scale a.fn 1",
        ),
    ] {
        desk.provider.label(labels);
        desk.post("/system/scale-function/a", body)
            .await
            .is_empty(StatusCode::ACCEPTED);
        assert_eq!(desk.asked().last().map(String::as_str), Some(scaled));
    }
}

#[tokio::test]
async fn zero_is_passed_on_at_once() {
    let desk = Desk::new();
    desk.post(
        "/system/scale-function/a?namespace=dev",
        r#"{"serviceName":"a","replicas":0}"#,
    )
    .await
    .is_empty(StatusCode::ACCEPTED);
    assert_eq!(desk.asked(), ["scale a.dev 0"]);
}

#[tokio::test]
async fn the_namespace_may_be_in_the_path_only() {
    let desk = Desk::new();
    for service in ["a", "a.dev"] {
        let body = format!(r#"{{"serviceName":"{service}","replicas":0}}"#);
        desk.post("/system/scale-function/a.dev", &body)
            .await
            .is_empty(StatusCode::ACCEPTED);
    }
    assert_eq!(desk.asked(), ["scale a.dev 0", "scale a.dev 0"]);
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused() {
    let desk = Desk::new();
    for (body, text) in [
        (
            r#"{"serviceName":"b","replicas":1}"#,
            "field `serviceName` is 'b', but the path says 'a'",
        ),
        (r#"{"serviceName":"a"}"#, "missing field `replicas`"),
        (
            r#"{"replicas":-1}"#,
            "field `replicas` must be a whole number, zero or more, not -1",
        ),
        (
            r#"{"replicas":1.5}"#,
            "field `replicas` must be a whole number, zero or more, not 1.5",
        ),
    ] {
        desk.post("/system/scale-function/a", body).await.is_error(400, text);
    }
    assert!(desk.asked().is_empty());
}

#[tokio::test]
async fn an_unknown_function_is_404() {
    let desk = Desk::new().failing(ProviderError::NotFound("function a.fn not found".to_owned()));
    desk.post("/system/scale-function/a", r#"{"replicas":1}"#)
        .await
        .is_error(404, "function a.fn not found");
}
