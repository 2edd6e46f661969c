//! The behaviours of poem that the API layer relies on or works around. When an
//! upgrade changes one of them, it should be noticed here. What concerns sockets
//! is in `proxy`, `streaming`, `timeouts` and `lifecycle`.

#![expect(clippy::unused_async, reason = "poem wants operations to be async")]

use std::sync::atomic::{AtomicBool, Ordering};

use faas_gateway::{api, model::FunctionRef};
use http::Method;
use poem::{Body, Endpoint, IntoEndpoint, Request};
use poem_openapi::{OpenApi, OpenApiService, param::Path, payload::PlainText};

use crate::api::Desk;

#[tokio::test]
async fn json_is_accepted_whatever_its_content_type() {
    let desk = Desk::new();
    for content_type in [
        None,
        Some("application/json"),
        Some("application/x-www-form-urlencoded"),
        Some("text/plain"),
        Some("not a media type"),
    ] {
        let headers: Vec<_> = content_type.map(|value| ("content-type", value)).into_iter().collect();
        let answer = desk
            .send(
                Method::POST,
                "/system/functions",
                &headers,
                r#"{"service":"a","image":"b"}"#,
            )
            .await;
        assert_eq!(answer.status, 202, "{content_type:?}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_chunked_body_needs_no_length() {
    let chunks = ["{\"service\":", "\"a\"}"].map(|chunk| Ok::<_, std::io::Error>(bytes::Bytes::from(chunk)));
    let request = Request::builder()
        .method(Method::POST)
        .uri_str("/system/functions")
        .body(Body::from_bytes_stream(futures_util::stream::iter(chunks)));
    let answer = Desk::new().answer(request).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
}

#[test]
fn the_document_builds() {
    // Panics on schema names, operation ids or routes that clash.
    assert!(!api::openapi_document().is_empty());
}

struct Reads;
struct Writes;

#[OpenApi]
impl Reads {
    #[oai(path = "/thing", method = "get")]
    async fn read(&self) -> PlainText<&'static str> {
        PlainText("read")
    }
}

#[OpenApi]
impl Writes {
    #[oai(path = "/thing", method = "post")]
    async fn write(&self) -> PlainText<&'static str> {
        PlainText("written")
    }
}

#[test]
fn a_path_in_two_impls_appears_twice_so_ours_are_in_one() {
    let document = OpenApiService::new((Reads, Writes), "", "").spec();
    assert_eq!(document.matches("\"/thing\": {").count(), 2);
    let ours = api::openapi_document();
    let paths: serde_json::Value = serde_json::from_str(&ours).expect("JSON");
    for path in paths["paths"].as_object().expect("paths").keys() {
        assert_eq!(ours.matches(&format!("\"{path}\": {{")).count(), 1, "{path}");
    }
}

struct Pair;

#[OpenApi]
impl Pair {
    #[oai(path = "/:first/:second/", method = "get")]
    async fn pair(&self, second: Path<String>, first: Path<String>) -> PlainText<String> {
        PlainText(format!("first={} second={}", first.0, second.0))
    }
}

#[tokio::test]
async fn path_parameters_bind_by_position_so_ours_have_one() {
    let service = OpenApiService::new(Pair, "", "");
    let endpoint = service.into_endpoint();
    let request = Request::builder().uri_str("/a/b").finish();
    let text = endpoint.get_response(request).await.into_body().into_string().await;
    assert_eq!(text.expect("text"), "first=b second=a", "swapped, whatever their names");

    let document: serde_json::Value = serde_json::from_str(&api::openapi_document()).expect("JSON");
    let typed = |path: &&String| path.starts_with("/system/");
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.keys().filter(typed).all(|path| path.matches('{').count() <= 1));
}

#[tokio::test]
async fn trailing_slashes_of_paths_are_dropped() {
    let service = OpenApiService::new(Pair, "", "");
    assert!(service.spec().contains("\"/{first}/{second}\""));
    // Clients create namespaces at a path with one: it is served and documented.
    assert!(api::openapi_document().contains("\"/system/namespace/\": {"));
    assert_eq!(
        Desk::new().post("/system/namespace/", r#"{"name":"dev"}"#).await.status,
        201
    );
}

#[tokio::test]
async fn an_empty_segment_is_no_name() {
    let desk = Desk::new();
    for path in ["/system/function/", "/system/scale-function/", "/system/function//"] {
        assert_eq!(desk.get(path).await.status, 404, "{path}");
    }
    assert!(FunctionRef::parse("", "fn").is_err());
}

#[tokio::test]
async fn a_handler_is_dropped_with_its_request() {
    static DROPPED: AtomicBool = AtomicBool::new(false);

    struct Waits;
    struct Notes;

    impl Drop for Notes {
        fn drop(&mut self) {
            DROPPED.store(true, Ordering::SeqCst);
        }
    }

    #[OpenApi]
    impl Waits {
        #[oai(path = "/", method = "get")]
        async fn wait(&self) -> PlainText<&'static str> {
            let _notes = Notes;
            std::future::pending().await
        }
    }

    let endpoint = OpenApiService::new(Waits, "", "").into_endpoint();
    let request = Request::builder().uri_str("/").finish();
    {
        let mut call = std::pin::pin!(endpoint.get_response(request));
        assert!(futures_util::poll!(&mut call).is_pending());
    }
    assert!(
        DROPPED.load(Ordering::SeqCst),
        "a caller that left must not keep work going"
    );
}
