//! `/system/info`, `/system/telemetry` and `/healthz`.

use faas_gateway::provider::ProviderError;
use http::Method;
use serde_json::json;

use super::Desk;

fn unreachable() -> ProviderError {
    ProviderError::Unreachable("cannot connect".to_owned())
}

#[tokio::test]
async fn versions_are_never_empty() {
    let info = Desk::new().get("/system/info").await.json();
    assert_eq!(info["provider"]["provider"], "scripted");
    for field in ["release", "sha"] {
        assert_ne!(info["version"][field], "", "{field}");
        assert!(info["version"][field].is_string(), "{field}");
    }
    assert!(["amd64", "arm64"].contains(&info["arch"].as_str().expect("text")) || cfg!(not(target_arch = "x86_64")));
}

#[tokio::test]
async fn faas_cli_version_survives_a_provider_that_is_down() {
    let answer = Desk::new().failing(unreachable()).get("/system/info").await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.json()["provider"],
        json!({"provider": "", "orchestration": "", "version": {"release": "", "sha": ""}})
    );
}

#[tokio::test]
async fn a_provider_without_telemetry_is_501() {
    Desk::new()
        .get("/system/telemetry")
        .await
        .is_error(501, "this provider has no telemetry");
}

#[tokio::test]
async fn health_is_the_providers() {
    let desk = Desk::new();
    let answer = desk.get("/healthz").await;
    assert_eq!((answer.status, answer.text()), (200, "OK"));
    let head = desk.send(Method::HEAD, "/healthz", &[], "").await;
    assert_eq!((head.status, head.text()), (200, ""));
    Desk::new()
        .failing(unreachable())
        .get("/healthz")
        .await
        .is_error(502, "cannot connect");
}
