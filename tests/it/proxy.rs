//! The road to functions, seen from both ends of the wire.

use http::{Method, Response};
use http_body_util::{BodyExt, StreamBody};
use serde_json::Value;

use crate::support::{
    Gateway, Upstream,
    gateway::field,
    upstream::{body, echoed, text},
    wire::{Wire, h2c},
};

async fn echo(gateway: &Gateway, method: &str, target: &str, headers: &str, body: &str) -> Value {
    let request = format!("{method} {target} HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n{headers}\r\n{body}");
    let answer = Wire::exchange(gateway.address(), &request).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (_, json) = answer.split_once("\r\n\r\n").expect("a body");
    serde_json::from_str(json).unwrap_or_else(|_| {
        // A chunked body of one chunk.
        let json = json.lines().find(|line| line.starts_with('{')).expect("JSON");
        serde_json::from_str(json).expect("JSON")
    })
}

#[tokio::test]
async fn path_and_query_arrive_byte_for_byte() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream.url()).start().await;
    for target in [
        "/function/echo",
        "/function/echo/",
        "/function/echo/a%2Fb",
        "/function/echo/%ff",
        "/function/echo//x/../y",
        "/function/echo/100%25?a=1;b=%20&c",
        "/function/echo/%2541?",
    ] {
        let seen = echo(&gateway, "GET", target, "", "").await;
        assert_eq!(seen["target"], target);
    }
}

#[tokio::test]
async fn header_names_are_written_as_scripts_look_for_them() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream.url()).start().await;
    let request = "GET /function/echo HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n\r\n";
    let answer = Wire::exchange(gateway.address(), request).await;
    for name in ["X-Call-Id", "X-Start-Time", "X-Served-By"] {
        assert!(answer.contains(&format!("\r\n{name}: ")), "{name}: {answer}");
    }
}

#[tokio::test]
async fn every_method_passes() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream.url()).start().await;
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "TRACE"] {
        let seen = echo(&gateway, method, "/function/echo", "", "").await;
        assert_eq!(seen["method"], method);
    }
    let head = gateway
        .request(Method::HEAD, "/function/echo")
        .send()
        .await
        .expect("an answer");
    assert_eq!(head.status(), 200);
    assert_eq!(head.text().await.expect("text"), "");
}

#[tokio::test]
async fn hop_by_hop_headers_stay_behind() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream.url()).start().await;
    let request = "GET /function/echo HTTP/1.1\r\nHost: gw.test\r\nConnection: close, X-Private\r\nX-Private: 1\r\n\
                   Keep-Alive: 5\r\nProxy-Authorization: x\r\nTE: gzip\r\nX-Kept: 1\r\nX-Kept: 2\r\n\r\n";
    let answer = Wire::exchange(gateway.address(), request).await;
    let json = answer.lines().find(|line| line.starts_with('{')).expect("JSON");
    let seen: Value = serde_json::from_str(json).expect("JSON");
    for gone in ["x-private", "keep-alive", "proxy-authorization", "te", "connection"] {
        assert!(echoed(&seen, gone).is_empty(), "{gone} passed");
    }
    assert_eq!(echoed(&seen, "x-kept"), ["1", "2"]);
}

#[tokio::test]
async fn the_function_learns_who_called_and_the_caller_what_happened() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream.url()).start().await;
    let seen = echo(
        &gateway,
        "GET",
        "/function/echo",
        "X-Start-Time: 5\r\nAuthorization: Basic abc\r\n",
        "",
    )
    .await;
    assert_eq!(echoed(&seen, "x-forwarded-host"), ["gw.test"]);
    assert!(echoed(&seen, "x-forwarded-for")[0].starts_with("127.0.0.1:"));
    assert_eq!(echoed(&seen, "authorization"), ["Basic abc"]);
    assert_eq!(echoed(&seen, "host"), [upstream.url().replace("http://", "")]);
    assert_eq!(echoed(&seen, "x-start-time").len(), 2);
    let id = echoed(&seen, "x-call-id").remove(0);
    assert_eq!(uuid::Uuid::parse_str(&id).expect("a UUID").get_version_num(), 4);

    let answer = gateway
        .get("/function/echo")
        .header("x-call-id", "mine")
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.headers()["x-call-id"], "mine");
    for name in ["x-start-time", "x-duration-seconds", "x-served-by"] {
        assert!(answer.headers().contains_key(name), "{name} is missing");
    }
    assert!(!answer.headers().contains_key("x-openfaas-internal"));
}

#[tokio::test]
async fn the_functions_own_answer_is_untouched() {
    let upstream = Upstream::start()
        .await
        .function("fails", |_| async { text(500, "my own words") })
        .function("moves", |_| async {
            let mut response = text(302, "");
            response
                .headers_mut()
                .insert("location", http::HeaderValue::from_static("/elsewhere"));
            response
        });
    let gateway = Gateway::before(&upstream.url()).start().await;
    let failed = gateway.get("/function/fails").send().await.expect("an answer");
    assert_eq!(failed.status(), 500);
    assert!(!failed.headers().contains_key("x-openfaas-internal"));
    assert_eq!(failed.text().await.expect("text"), "my own words");
    let moved = gateway.get("/function/moves").send().await.expect("an answer");
    assert_eq!(
        (moved.status().as_u16(), &moved.headers()["location"]),
        (302, &http::HeaderValue::from_static("/elsewhere"))
    );
}

#[tokio::test]
async fn chunked_uploads_and_lengths_keep_their_framing() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream.url()).start().await;
    let chunked = echo(
        &gateway,
        "POST",
        "/function/echo",
        "Transfer-Encoding: chunked\r\n",
        "3\r\nabc\r\n0\r\n\r\n",
    )
    .await;
    assert_eq!(chunked["body"], "abc");
    assert_eq!(echoed(&chunked, "transfer-encoding"), ["chunked"]);
    let sized = echo(&gateway, "DELETE", "/function/echo", "Content-Length: 3\r\n", "abc").await;
    assert_eq!(sized["body"], "abc");
    assert_eq!(echoed(&sized, "content-length"), ["3"]);
    let expecting = Wire::exchange(
        gateway.address(),
        "POST /function/echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
    )
    .await;
    assert!(
        expecting.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200"),
        "{expecting}"
    );
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let upstream = Upstream::start().await.function("trails", |_| async {
        let frames = [
            Ok(http_body::Frame::data(bytes::Bytes::from_static(b"data"))),
            Ok(http_body::Frame::trailers(
                [("x-sum".parse().expect("a name"), "42".parse().expect("a value"))]
                    .into_iter()
                    .collect(),
            )),
        ];
        let mut response: Response<_> = body(200, StreamBody::new(futures_util::stream::iter(frames)));
        response
            .headers_mut()
            .insert("trailer", http::HeaderValue::from_static("x-sum"));
        response
    });
    let gateway = Gateway::before(&upstream.url()).start().await;
    let seen = echo(
        &gateway,
        "POST",
        "/function/echo",
        "Transfer-Encoding: chunked\r\nTrailer: x-sum\r\n",
        "3\r\nabc\r\n0\r\nx-sum: 17\r\n\r\n",
    )
    .await;
    assert_eq!(seen["trailers"], serde_json::json!([["x-sum", "17"]]));
    let answer = Wire::exchange(
        gateway.address(),
        "GET /function/trails HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nConnection: close, TE\r\n\r\n",
    )
    .await;
    assert!(answer.contains("\r\nX-Sum: 42\r\n"), "{answer}");
}

#[tokio::test]
async fn names_that_are_none_get_404() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream.url())
        .env("scale_from_zero", "true")
        .start()
        .await;
    for path in [
        "/function/",
        "/function/.openfaas-fn",
        "/function/a@b",
        "/function/nobody",
    ] {
        let answer = gateway.post(path).send().await.expect("an answer");
        assert_eq!(answer.status(), 404, "{path}");
        assert_eq!(answer.headers()["x-openfaas-internal"], "gateway");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
    let plain = Wire::exchange(
        gateway.address(),
        "GET /function/nobody HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert!(
        plain.contains("text/plain") && plain.ends_with("not found\n"),
        "{plain}"
    );
}

#[tokio::test]
async fn calls_of_known_functions_are_counted_and_no_others() {
    let upstream = Upstream::start().await.function("fails", |_| async { text(500, "") });
    let gateway = Gateway::before(&upstream.url()).start().await;
    for path in [
        "/function/echo",
        "/function/echo/x",
        "/function/fails",
        "/function/ghost",
    ] {
        gateway
            .post(path)
            .send()
            .await
            .expect("an answer")
            .bytes()
            .await
            .expect("a body");
    }
    let page = gateway.metrics().await;
    for line in [
        r#"gateway_function_invocation_total{code="200",function_name="echo"} 2"#,
        r#"gateway_function_invocation_total{code="500",function_name="fails"} 1"#,
        r#"gateway_function_invocation_started{function_name="echo"} 2"#,
        r#"gateway_function_invocation_inflight{function_name="echo"} 0"#,
        r#"gateway_functions_seconds_count{code="200",function_name="echo"} 2"#,
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
    assert!(!page.contains("ghost"), "an unknown name became a label:\n{page}");
}

#[tokio::test]
async fn http2_without_tls_reaches_functions_too() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream.url()).start().await;
    let mut sender = h2c(gateway.address()).await;
    let request = http::Request::post(format!("{}/function/echo/x", gateway.url()))
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body("hello".to_owned())
        .expect("a request");
    let answer = sender.send_request(request).await.expect("an answer");
    let text = answer.into_body().collect().await.expect("a body").to_bytes();
    let seen: Value = serde_json::from_slice(&text).expect("JSON");
    assert_eq!(
        (&seen["target"], &seen["body"]),
        (&"/function/echo/x".into(), &"hello".into())
    );
    assert_eq!(echoed(&seen, "x-forwarded-host"), [gateway.address().to_string()]);
    assert_eq!(echoed(&seen, "cookie"), ["a=1; b=2"], "HTTP/1.1 has one field for them");
}

#[tokio::test]
async fn the_access_line_names_the_upstream_when_asked_and_never_the_query() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream.url())
        .env("write_request_uri", "")
        .start()
        .await;
    gateway.invoke("/function/echo/a?token=s3cret", "").await;
    let line = gateway
        .logged("the access line", |line| field(line, "path") == "/function/echo/a")
        .await;
    assert_eq!(field(&line, "upstream"), &format!("{}/function/echo/a", upstream.url()));
    assert!(!line.to_string().contains("s3cret"), "{line}");
}
