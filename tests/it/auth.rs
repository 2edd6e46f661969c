//! Who is let in, and what the others are told.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use faas_gateway::{auth::Auth, config};
use http::Method;
use poem::{Body, Request};

use crate::{
    api::{Answer, Desk},
    support::{self, soon, upstream::text},
};

const PROTECTED: [&str; 18] = [
    "/system/store",
    "/system/events",
    "/system/functions",
    "/system/function/a",
    "/system/scale-function/a",
    "/system/info",
    "/system/secrets",
    "/system/logs?name=a",
    "/system/namespaces",
    "/system/namespace/a",
    "/system/namespace/",
    "/system/alert",
    "/system/telemetry",
    "/docs",
    "/docs/redoc",
    "/docs/functions",
    "/docs/functions/redoc",
    "/openapi/functions.json",
];

/// A desk with `admin` and `s3cret`.
fn locked() -> (Desk, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("basic-auth-user"), "admin\n").expect("written");
    std::fs::write(directory.path().join("basic-auth-password"), "s3cret\n").expect("written");
    let toml = format!("auth.basic = true\nauth.secret_path = '{}'", directory.path().display());
    (Desk::with(&toml), directory)
}

fn basic(pair: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(pair))
}

async fn as_caller(desk: &Desk, path: &str, authorization: &str) -> Answer {
    desk.send(Method::GET, path, &[("authorization", authorization)], "")
        .await
}

#[tokio::test]
async fn everything_but_health_the_portals_files_and_the_document_is_protected() {
    let (desk, _directory) = locked();
    for path in PROTECTED {
        let answer = desk.get(path).await;
        assert_eq!((answer.status, answer.text()), (401, "invalid credentials"), "{path}");
        assert_eq!(
            answer.header("www-authenticate"),
            "Basic realm=\"Restricted\"",
            "{path}"
        );
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8", "{path}");
        assert_eq!(answer.header("x-openfaas-internal"), "gateway", "{path}");
    }
    assert!(desk.asked().is_empty());
    for (path, status) in [
        ("/healthz", 200),
        ("/", 307),
        // They hold nothing secret, and ask for credentials without the browser's prompt.
        ("/ui", 307),
        ("/ui/", 200),
        ("/ui/app.js", 200),
        ("/ui/nothing.js", 404),
        ("/openapi.json", 200),
        ("/openapi.yaml", 200),
        ("/nothing", 404),
    ] {
        assert_eq!(desk.get(path).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn the_right_credentials_open_it() {
    let (desk, _directory) = locked();
    assert_eq!(
        as_caller(&desk, "/system/functions", &basic("admin:s3cret"))
            .await
            .status,
        200
    );
    for wrong in [
        basic("admin:secret"),
        basic("root:s3cret"),
        basic("admin"),
        "Bearer ".to_owned(),
        "Basic".to_owned(),
        "Basic %%%".to_owned(),
    ] {
        assert_eq!(
            as_caller(&desk, "/system/functions", &wrong).await.status,
            401,
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn a_wrong_method_is_no_way_around() {
    let (desk, _directory) = locked();
    for method in [Method::PATCH, Method::HEAD, Method::OPTIONS] {
        let answer = desk.send(method.clone(), "/system/functions", &[], "").await;
        assert_eq!(answer.status, 401, "{method}");
    }
    for path in [
        "//system/functions",
        "/system//functions",
        "/%73ystem/functions",
        "/system/functions/",
    ] {
        assert_eq!(
            as_caller(&desk, path, &basic("admin:s3cret")).await.status,
            404,
            "{path}"
        );
    }
}

#[tokio::test]
async fn problem_details_for_those_who_accept_json() {
    let (desk, _directory) = locked();
    let accept = [("accept", "application/json")];
    let answer = desk.send(Method::GET, "/system/functions", &accept, "").await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (401, "application/problem+json")
    );
    assert_eq!(answer.json()["detail"], "invalid credentials");
    assert_eq!(answer.header("www-authenticate"), "Basic realm=\"Restricted\"");
}

#[tokio::test]
async fn the_body_of_a_refused_request_is_not_read() {
    let (desk, _directory) = locked();
    let endless = Body::from_bytes_stream(futures_util::stream::pending::<std::io::Result<bytes::Bytes>>());
    let request = Request::builder()
        .method(Method::POST)
        .uri_str("/system/functions")
        .body(endless);
    let answer = soon("the refusal", desk.answer(request)).await;
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn an_empty_bearer_header_does_no_harm_when_authentication_is_off() {
    let desk = Desk::new();
    assert_eq!(as_caller(&desk, "/system/functions", "Bearer ").await.status, 200);
}

#[test]
fn missing_files_are_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let rules = config::Auth {
        basic: true,
        secret_path: directory.path().to_owned(),
        proxy_url: None,
        proxy_url_file: None,
        proxy_pass_body: false,
    };
    let error = Auth::load(&rules).expect_err("no files").to_string();
    assert!(
        error.contains("basic-auth-user") && error.contains("secret_mount_path"),
        "{error}"
    );
}

/// A gateway that asks a service which answers with `status`; what it was asked.
async fn guarded(status: u16) -> (Desk, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&asked);
    let guard = support::Upstream::start().await.function("guard", move |request| {
        let header = |name: &str| {
            let value = request.headers().get(name);
            value.map_or("-", |value| value.to_str().expect("text")).to_owned()
        };
        let line = format!(
            "{} {} {} {}",
            request.method(),
            header("authorization"),
            header("x-custom"),
            header("content-length")
        );
        note.lock().expect("no panic").push(line);
        async move {
            let mut answer = text(status, "not today");
            answer
                .headers_mut()
                .insert("location", "https://login".parse().expect("value"));
            answer
        }
    });
    let desk = Desk::with(&format!("auth.proxy_url = \"{}/function/guard\"", guard.url()));
    (desk, asked)
}

#[tokio::test]
async fn the_auth_proxy_is_asked_with_the_callers_headers_and_no_body() {
    let (desk, asked) = guarded(200).await;
    let headers = [
        ("authorization", "Bearer x"),
        ("x-custom", "yes"),
        ("content-length", "15"),
    ];
    let answer = desk
        .send(Method::POST, "/system/functions", &headers, r#"{"service":"a"}"#)
        .await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert_eq!(*asked.lock().expect("no panic"), ["GET Bearer x yes -"]);
    assert_eq!(desk.get("/healthz").await.status, 200);
    assert_eq!(
        asked.lock().expect("no panic").len(),
        1,
        "open paths are not asked about"
    );
}

#[tokio::test]
async fn only_a_200_of_the_auth_proxy_lets_a_request_on() {
    for status in [204, 302, 401, 403, 500] {
        let (desk, _asked) = guarded(status).await;
        // As the auth proxy gave it: its words are its own, whatever the document says.
        let answer = desk.raw(Request::builder().uri_str("/system/functions").finish()).await;
        assert_eq!(answer.status().as_u16(), status);
        assert_eq!(answer.headers()["location"], "https://login");
        if status != 204 {
            assert_eq!(answer.into_body().into_string().await.expect("text"), "not today");
        }
        assert!(desk.asked().is_empty());
    }
}

#[tokio::test]
async fn an_auth_proxy_that_is_away_lets_nobody_on() {
    let desk = Desk::with("auth.proxy_url = \"http://user:hidden@127.0.0.1:1/\"\ninvoke.upstream_timeout = \"5s\"");
    let answer = tokio::time::timeout(Duration::from_secs(20), desk.get("/system/functions"))
        .await
        .expect("an answer");
    assert_eq!(answer.status, 500);
    let text = answer.text();
    assert!(
        text.starts_with("the auth proxy 127.0.0.1 (auth.proxy_url) could not be asked: "),
        "{text}"
    );
    assert!(!text.contains("hidden"), "{text}");
}
