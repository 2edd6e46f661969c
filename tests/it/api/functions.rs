//! `/system/functions` and `/system/function/{name}`.

use std::time::Duration;

use faas_gateway::provider::ProviderError;
use http::{Method, StatusCode};
use serde_json::json;

use super::Desk;

#[tokio::test]
async fn the_list_has_counts_and_unknown_fields() {
    let desk = Desk::new();
    let calls = desk.metrics.function("figlet.fn");
    calls.completed(200, Duration::from_millis(5));
    calls.completed(404, Duration::from_millis(5));
    let answer = desk.get("/system/functions").await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, "application/json")
    );
    let list = answer.json();
    assert_eq!(list[0]["name"], "figlet");
    assert_eq!(list[0]["tier"], "gold");
    assert_eq!(list[0]["invocationCount"], json!(2));

    desk.get("/system/functions?namespace=dev").await;
    assert_eq!(desk.asked(), ["list ''", "list 'dev'"]);
    desk.get("/system/functions?namespace=../x")
        .await
        .is_error(400, "'../x' is not the name of a namespace");
}

#[tokio::test]
async fn a_list_does_not_need_prometheus() {
    let desk = Desk::with("prometheus.host = \"127.0.0.1\"\nprometheus.port = 1");
    desk.metrics
        .function("figlet.fn")
        .completed(200, Duration::from_millis(5));
    let answer = desk.get("/system/functions").await;
    assert_eq!((answer.status, &answer.json()[0]["invocationCount"]), (200, &json!(1)));
}

#[tokio::test]
async fn a_list_without_its_provider_says_so() {
    let desk = Desk::new().failing(ProviderError::Unreachable("cannot connect to http://p".to_owned()));
    desk.get("/system/functions")
        .await
        .is_error(502, "cannot connect to http://p");
}

#[tokio::test]
async fn deploying_answers_202_with_nothing() {
    let desk = Desk::new();
    let body = r#"{"service":"figlet","image":"i","labels":{},"envVars":null,"network":"func_functions"}"#;
    desk.post("/system/functions", body)
        .await
        .is_empty(StatusCode::ACCEPTED);
    assert_eq!(
        desk.asked(),
        [r#"deploy {"image":"i","labels":{},"network":"func_functions","service":"figlet"}"#]
    );
}

#[tokio::test]
async fn a_deployment_that_is_not_right_is_refused_in_words() {
    let desk = Desk::new();
    for (body, text) in [
        (
            "",
            "the request body is empty; a JSON object (FunctionDeployment) is needed",
        ),
        ("{}", "missing field `service`"),
        (r#"{"service":""}"#, "field `service`: the function name is empty"),
        (
            r#"{"service":"a b"}"#,
            "field `service`: 'a b' is not a function name: use letters, digits, '-', '_' and '.'",
        ),
        (
            r#"{"service":"a","labels":1}"#,
            "field `labels` must be an object, not 1",
        ),
    ] {
        desk.post("/system/functions", body).await.is_error(400, text);
    }
    assert!(desk.asked().is_empty());
}

#[tokio::test]
async fn a_body_of_more_than_a_mebibyte_is_refused() {
    let desk = Desk::new();
    let body = format!(r#"{{"service":"{}"}}"#, "a".repeat(1024 * 1024));
    let text = "the request body is larger than 1048576 bytes";
    desk.post("/system/functions", &body).await.is_error(413, text);
    // Announced, and so refused without being read.
    let length = [("content-length", "1048577")];
    desk.send(Method::POST, "/system/functions", &length, "")
        .await
        .is_error(413, text);
}

#[tokio::test]
async fn updating_what_is_not_there_is_404_so_that_faas_cli_creates_it() {
    let desk = Desk::new().failing(ProviderError::NotFound("function a.fn not found".to_owned()));
    let body = r#"{"service":"a","image":"i"}"#;
    desk.put("/system/functions", body)
        .await
        .is_error(404, "function a.fn not found");
}

#[tokio::test]
async fn deleting_takes_the_namespace_from_body_or_query() {
    let desk = Desk::new();
    for (query, body, asked) in [
        ("", r#"{"functionName":"a"}"#, "delete a.fn"),
        ("?namespace=dev", r#"{"functionName":"a"}"#, "delete a.dev"),
        (
            "?namespace=dev",
            r#"{"functionName":"a","namespace":"prod"}"#,
            "delete a.prod",
        ),
        ("", r#"{"functionName":"a.dev"}"#, "delete a.dev"),
    ] {
        let path = format!("/system/functions{query}");
        desk.delete(&path, body).await.is_empty(StatusCode::ACCEPTED);
        assert_eq!(desk.asked(), [asked]);
    }
    desk.delete("/system/functions", "{}")
        .await
        .is_error(400, "missing field `functionName`");
}

#[tokio::test]
async fn the_status_of_one_function() {
    let desk = Desk::new();
    for (path, asked) in [
        ("/system/function/figlet", "status figlet.fn usage=false"),
        (
            "/system/function/figlet?usage=1&namespace=dev",
            "status figlet.dev usage=true",
        ),
        ("/system/function/figlet?usage=maybe", "status figlet.fn usage=false"),
        ("/system/function/figlet.dev", "status figlet.dev usage=false"),
        ("/system/function/%66iglet?namespace=", "status figlet.fn usage=false"),
    ] {
        let answer = desk.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.json()["createdAt"], "0001-01-01T00:00:00Z");
        assert_eq!(desk.asked(), [asked], "{path}");
    }
    assert_eq!(desk.get("/system/function/a@b").await.status, 404);
    assert_eq!(desk.get("/system/function/").await.status, 404);
    assert!(desk.asked().is_empty());
}
