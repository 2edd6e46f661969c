//! `/system/namespaces` and `/system/namespace/{name}`.

use http::StatusCode;
use serde_json::json;

use super::Desk;

#[tokio::test]
async fn namespaces_are_listed_as_names() {
    assert_eq!(Desk::new().get("/system/namespaces").await.json(), json!(["dev", "fn"]));
}

#[tokio::test]
async fn creating_goes_to_the_path_with_the_slash() {
    let desk = Desk::new();
    let body = r#"{"name":"dev","labels":{"openfaas":"1"},"annotations":{"openfaas":"1"}}"#;
    for path in ["/system/namespace/", "/system/namespace/dev"] {
        desk.post(path, body).await.is_empty(StatusCode::CREATED);
    }
    let created = r#"create namespace {"annotations":{"openfaas":"1"},"labels":{"openfaas":"1"},"name":"dev"}"#;
    assert_eq!(desk.asked(), [created, created]);
    desk.post("/system/namespace/", "{}")
        .await
        .is_error(400, "missing field `name`");
}

#[tokio::test]
async fn one_namespace_is_read_replaced_and_removed() {
    let desk = Desk::new();
    assert_eq!(desk.get("/system/namespace/dev").await.json(), json!({"name": "dev"}));
    desk.put("/system/namespace/dev", r#"{"labels":{"a":"b"}}"#)
        .await
        .is_empty(StatusCode::ACCEPTED);
    for body in ["", "{}", r#"{"name":"dev"}"#] {
        desk.delete("/system/namespace/dev", body)
            .await
            .is_empty(StatusCode::ACCEPTED);
    }
    assert_eq!(
        desk.asked(),
        [
            "namespace dev",
            r#"update namespace {"labels":{"a":"b"},"name":"dev"}"#,
            "delete namespace dev",
            "delete namespace dev",
            "delete namespace dev",
        ]
    );
}

#[tokio::test]
async fn path_and_body_must_agree() {
    let desk = Desk::new();
    let text = "field `name` is 'prod', but the path says 'dev'";
    desk.put("/system/namespace/dev", r#"{"name":"prod"}"#)
        .await
        .is_error(400, text);
    desk.delete("/system/namespace/dev", r#"{"name":"prod"}"#)
        .await
        .is_error(400, text);
    assert_eq!(desk.get("/system/namespace/a%20b").await.status, 404);
    assert!(desk.asked().is_empty());
}
