//! Copies of a route's calls, on a real gateway: what the other function sees,
//! and that the call itself never notices.

use http_body_util::BodyExt;
use reqwest::Method;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::support::{
    Gateway, Upstream, eventually,
    gateway::field,
    soon,
    upstream::{echoed, text},
    wire::Wire,
};

/// A call as a function saw it.
#[derive(Debug)]
struct Seen {
    method: Method,
    target: String,
    call_id: String,
    stage: Option<String>,
    body: String,
}

/// `echo`, and the function `shadow`, which tells what it got and fails.
async fn upstream() -> (Upstream, mpsc::UnboundedReceiver<Seen>) {
    let (tell, told) = mpsc::unbounded_channel();
    let upstream = Upstream::start().await.function("shadow", move |request| {
        let tell = tell.clone();
        async move {
            let (parts, body) = request.into_parts();
            let header = |name: &str| Some(parts.headers.get(name)?.to_str().ok()?.to_owned());
            let body = body.collect().await.expect("a body").to_bytes();
            let seen = Seen {
                call_id: header("x-call-id").expect("an id"),
                stage: header("x-stage"),
                method: parts.method,
                target: parts.uri.to_string(),
                body: String::from_utf8_lossy(&body).into_owned(),
            };
            tell.send(seen).expect("the test listens");
            text(500, "nobody reads this")
        }
    });
    (upstream, told)
}

const ROUTE: &str = "[[routes]]\npath = \"/v1\"\nrewrite = \"/api\"\nfunction = \"echo\"\n";

async fn start(upstream: &Upstream, mirror: &str) -> Gateway {
    let config = format!("{ROUTE}mirror = {mirror}\nheaders.request.set = {{ X-Stage = \"copy\" }}\n");
    Gateway::before(&upstream.url()).config(&config).start().await
}

async fn copy(told: &mut mpsc::UnboundedReceiver<Seen>) -> Seen {
    soon("a copy", told.recv()).await.expect("the function lives")
}

#[tokio::test]
async fn the_other_function_gets_the_same_call_and_its_answer_is_dropped() {
    let (upstream, mut told) = upstream().await;
    let gateway = start(&upstream, r#"{ function = "shadow" }"#).await;
    for (method, body) in [(Method::GET, ""), (Method::POST, "hello"), (Method::DELETE, "x")] {
        let request = gateway.request(method.clone(), "/v1/a%2Fb?x=%20").body(body);
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let id = answer.headers()["x-call-id"].to_str().expect("text").to_owned();
        let echo: Value = answer.json().await.expect("an echo");
        let seen = copy(&mut told).await;
        assert_eq!((seen.method, &*seen.body), (method, body));
        assert_eq!(seen.target, "/function/shadow/api/a%2Fb?x=%20");
        assert_eq!(seen.call_id, id);
        assert_eq!(echoed(&echo, "x-call-id"), [id]);
        assert_eq!(seen.stage.as_deref(), Some("copy"), "the route's headers too");
    }
    let line = gateway
        .logged("a copy's line", |line| field(line, "kind") == "mirror")
        .await;
    assert_eq!(
        (field(&line, "status"), field(&line, "route")),
        (&500.into(), &"/v1".into())
    );
    eventually("the copies counted", || async {
        let series = r#"gateway_function_invocation_total{code="500",function_name="shadow"}"#;
        (gateway.metric(series).await == Some(3.0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_body_that_comes_in_pieces_is_copied_whole_and_one_too_large_is_not() {
    let (upstream, mut told) = upstream().await;
    let gateway = start(&upstream, r#"{ function = "shadow", max_body = 8 }"#).await;
    let mut wire = Wire::connect(gateway.address()).await;
    let chunked = "POST /v1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    wire.send(format!("{chunked}4\r\nfour\r\n4\r\nmore\r\n0\r\n\r\n")).await;
    assert_eq!(copy(&mut told).await.body, "fourmore");
    // Neither by what it declares nor by what comes.
    assert!(gateway.invoke("/v1", "123456789").await.contains("123456789"));
    wire.send(format!("{chunked}5\r\n12345\r\n5\r\n67890\r\n0\r\n\r\n"))
        .await;
    wire.until("1234567890").await;
    eventually("both counted", || async {
        let series = r#"gateway_function_refused_total{function_name="shadow",reason="mirror_body_too_large"}"#;
        (gateway.metric(series).await == Some(2.0)).then_some(())
    })
    .await;
    gateway.invoke("/v1", "again").await;
    assert_eq!(copy(&mut told).await.body, "again", "nothing came between");
}

#[tokio::test]
async fn what_is_not_called_or_breaks_off_is_not_copied() {
    let (upstream, mut told) = upstream().await;
    let limits = "[functions.echo]\nbody.max_request = 4\n";
    let config = format!("{limits}{ROUTE}mirror = {{ function = \"shadow\" }}\n");
    let gateway = Gateway::before(&upstream.url()).config(&config).start().await;
    let refused = gateway.post("/v1").body("12345").send().await.expect("an answer");
    assert_eq!(refused.status(), 413);
    let mut wire = Wire::connect(gateway.address()).await;
    wire.send("POST /v1 HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n12")
        .await;
    drop(wire);
    gateway
        .logged("the broken call", |line| field(line, "status") == 400)
        .await;
    gateway.invoke("/v1", "1234").await;
    assert_eq!(copy(&mut told).await.body, "1234");
    assert!(told.try_recv().is_err(), "one copy of one call");
}

#[tokio::test]
async fn the_share_holds_and_an_internal_function_may_get_the_copies() {
    let (upstream, mut told) = upstream().await;
    let hidden = "[functions.shadow]\nvisibility = \"internal\"\n[logging]\naccess = false\n";
    let config = format!("{hidden}{ROUTE}mirror = {{ function = \"shadow\", share = \"25%\" }}\n");
    let gateway = Gateway::before(&upstream.url()).config(&config).start().await;
    for _ in 0..400 {
        gateway.invoke("/v1", "").await;
    }
    let series = |name: &str| format!(r#"gateway_function_invocation_started{{function_name="{name}"}}"#);
    let started = async |name: &str| gateway.metric(&series(name)).await;
    assert_eq!(started("echo").await, Some(400.0));
    // Six standard deviations to either side.
    let copies = eventually("as many told of as sent", || async {
        let copies = told.len();
        (started("shadow").await == Some(copies as f64)).then_some(copies)
    })
    .await;
    assert!((48..152).contains(&copies), "{copies} of 400");
    copy(&mut told).await;
}
