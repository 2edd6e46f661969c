//! `/system/logs`.

use std::time::{Duration, Instant};

use faas_gateway::{model::to_json, provider::ProviderError};
use http::Method;
use poem::Request;

use super::{Desk, desk::read, provider::message};
use crate::support::soon;

#[tokio::test]
async fn each_message_is_a_line_of_json() {
    let desk = Desk::new();
    desk.provider.log(vec![Ok(message("one")), Ok(message("two"))]);
    let answer = desk.get("/system/logs?name=figlet&tail=-1&follow=false").await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, "application/x-ndjson")
    );
    let lines: Vec<&str> = answer.text().lines().collect();
    assert_eq!(lines, [to_json(&message("one")), to_json(&message("two"))]);
}

#[tokio::test]
async fn the_query_reads_as_clients_write_it() {
    let desk = Desk::new();
    desk.get("/system/logs?name=figlet&name=cows&namespace=dev&instance=x&tail=5&since=2026-01-31T12:00:00Z")
        .await;
    assert_eq!(
        desk.asked(),
        [
            r#"logs LogQuery { name: "cows", namespace: "dev", instance: Some("x"), since: Some(2026-01-31T12:00:00Z), tail: Some(5), follow: false }"#
        ]
    );
    desk.get("/system/logs?name=figlet&instance=&tail=&since=&follow=perhaps")
        .await;
    assert_eq!(
        desk.asked(),
        [
            r#"logs LogQuery { name: "figlet", namespace: "fn", instance: None, since: None, tail: None, follow: false }"#
        ]
    );
}

#[tokio::test]
async fn a_query_that_cannot_be_read_is_refused() {
    let desk = Desk::new();
    desk.get("/system/logs")
        .await
        .is_error(400, "the query parameter `name` is missing");
    for query in ["tail=many", "since=yesterday"] {
        let answer = desk.get(&format!("/system/logs?name=a&{query}")).await;
        assert_eq!(answer.status, 422);
        assert!(
            answer.text().starts_with("could not parse the log request: "),
            "{}",
            answer.text()
        );
    }
    assert!(desk.asked().is_empty());
}

#[tokio::test]
async fn unknown_functions_and_providers_without_logs() {
    let unknown = Desk::new().failing(ProviderError::NotFound("function a.fn not found".to_owned()));
    assert_eq!(unknown.get("/system/logs?name=a").await.status, 404);
    let without = Desk::new().failing(ProviderError::Unsupported("this provider has no logs".to_owned()));
    assert_eq!(without.get("/system/logs?name=a").await.status, 501);
}

#[tokio::test]
async fn following_ends_with_the_write_timeout() {
    let desk = Desk::with("server.write_timeout = \"300ms\"\ninvoke.upstream_timeout = \"100ms\"");
    desk.provider.log(vec![Ok(message("one"))]);
    let start = Instant::now();
    let answer = soon("the end of the stream", desk.get("/system/logs?name=figlet&follow=1")).await;
    assert_eq!(answer.text().lines().count(), 1);
    // A little earlier than the server, which would cut it off.
    assert!(start.elapsed() >= Duration::from_millis(270));
}

#[tokio::test]
async fn a_stream_that_fails_does_not_look_complete() {
    let desk = Desk::new();
    let broken = ProviderError::Internal("the disk is gone".to_owned());
    desk.provider.log(vec![Ok(message("one")), Err(broken)]);
    let request = Request::builder()
        .method(Method::GET)
        .uri_str("/system/logs?name=figlet")
        .finish();
    let response = desk.raw(request).await;
    assert_eq!(response.status(), 200);
    assert!(read(response.into_body()).await.is_err());
}
