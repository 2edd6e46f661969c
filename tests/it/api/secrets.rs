//! `/system/secrets`.

use faas_gateway::provider::ProviderError;
use http::StatusCode;
use serde_json::json;

use super::Desk;

#[tokio::test]
async fn lists_show_names_and_never_values() {
    let desk = Desk::new();
    let answer = desk.get("/system/secrets?namespace=fn").await;
    assert_eq!(answer.json(), json!([{"name": "key", "namespace": "fn"}]));
    assert_eq!(desk.asked(), ["list secrets 'fn'"]);
}

#[tokio::test]
async fn a_secret_is_created_replaced_and_removed() {
    let desk = Desk::new();
    let path = "/system/secrets";
    let secret = r#"{"name":"key","namespace":"dev","value":"v"}"#;
    desk.post(path, secret).await.is_empty(StatusCode::CREATED);
    // rawValue is base64, and wins.
    let raw = r#"{"name":"key","value":"v","rawValue":"cmF3"}"#;
    desk.put("/system/secrets?namespace=dev", raw)
        .await
        .is_empty(StatusCode::ACCEPTED);
    desk.delete(path, r#"{"name":"key"}"#)
        .await
        .is_empty(StatusCode::ACCEPTED);
    assert_eq!(
        desk.asked(),
        [
            r#"create secret key Some("dev") v"#,
            r#"update secret key Some("dev") raw"#,
            "delete secret key ''",
        ]
    );
}

#[tokio::test]
async fn faas_cli_learns_that_a_secret_exists() {
    let desk = Desk::new().failing(ProviderError::Conflict("the secret key exists".to_owned()));
    desk.post("/system/secrets", r#"{"name":"key","value":"v"}"#)
        .await
        .is_error(409, "the secret key exists");
}

#[tokio::test]
async fn a_secret_needs_a_name() {
    let desk = Desk::new();
    desk.post("/system/secrets", r#"{"value":"v"}"#)
        .await
        .is_error(400, "missing field `name`");
    desk.post("/system/secrets", r#"{"name":"","value":"v"}"#)
        .await
        .is_error(400, "field `name` is empty");
}
