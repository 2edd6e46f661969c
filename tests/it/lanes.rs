//! Which calls take the fast lane, and that connections come back to it.

use serde_json::Value;

use crate::support::{Gateway, Upstream, gateway::field, script::Script, soon, wire::Wire};

/// The lane of the next call that is logged with this path.
async fn lane(gateway: &Gateway, path: &str) -> String {
    let line = gateway.logged(path, |line| field(line, "path") == path).await;
    match field(&line, "lane") {
        Value::String(name) => name.clone(),
        _ => "base".to_owned(),
    }
}

#[tokio::test]
async fn plain_calls_of_known_functions_take_the_fast_lane_and_others_do_not() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream.url()).start().await;
    let mut wire = Wire::connect(gateway.address()).await;
    for (number, (head, body, expected)) in [
        // Nobody knows the function yet.
        ("GET /function/echo/N HTTP/1.1", "", "base"),
        ("GET /function/echo/N HTTP/1.1", "", "fast"),
        ("POST /function/echo/N HTTP/1.1\r\nContent-Length: 5", "hello", "fast"),
        (
            "POST /function/echo/N HTTP/1.1\r\nTransfer-Encoding: chunked",
            "5\r\nhello\r\n0\r\n\r\n",
            "fast",
        ),
        ("GET /function/echo/N HTTP/1.1\r\nTE: trailers", "", "base"),
        ("GET http://x/function/echo/N HTTP/1.1", "", "base"),
    ]
    .into_iter()
    .enumerate()
    {
        let (head, path) = (
            head.replace('N', &number.to_string()),
            format!("/function/echo/{number}"),
        );
        wire.send(format!("{head}\r\nHost: x\r\n\r\n{body}")).await;
        wire.until("\"trailers\":null}").await;
        assert_eq!(lane(&gateway, &path).await, expected, "{head}");
    }
}

#[tokio::test]
async fn calls_on_routes_and_below_a_base_path_take_it_too() {
    let upstream = Upstream::start().await;
    let config = "server.base_path = \"/faas\"\n[[routes]]\npath = \"/v1\"\nrewrite = \"/api\"\nfunction = \"echo\"\n\
                  [[routes]]\npath = \"/copied\"\nfunction = \"echo\"\nmirror = { function = \"echo\" }\n";
    let gateway = Gateway::before(&upstream.url()).config(config).start().await;
    let mut wire = Wire::connect(gateway.address()).await;
    for (path, target, expected) in [
        ("/v1/0", "/function/echo/api/0?q=%20", "base"),
        ("/v1/1", "/function/echo/api/1?q=%20", "fast"),
        ("/faas/function/echo/2", "/function/echo/2?q=%20", "base"),
        ("/faas/function/echo/3", "/function/echo/3?q=%20", "fast"),
        ("/copied/4", "/function/echo/4?q=%20", "base"),
        ("/copied/5", "/function/echo/5?q=%20", "base"),
    ] {
        wire.send(format!("GET {path}?q=%20 HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        let answer = wire.until("\"trailers\":null}").await;
        assert!(answer.contains(&format!("\"target\":\"{target}\"")), "{answer}");
        let prefix = format!("[\"x-forwarded-prefix\",\"{}\"]", path.split_at(3).0);
        assert_eq!(answer.contains(&prefix), path.starts_with("/v1"), "{answer}");
        assert_eq!(lane(&gateway, path).await, expected, "{path}");
    }
}

#[tokio::test]
async fn a_connection_comes_back_after_a_request_that_is_no_plain_call() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream.url()).start().await;
    gateway.get("/function/echo/0").send().await.expect("an answer");
    let mut wire = Wire::connect(gateway.address()).await;
    // One after the other, and several at once.
    let info = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let call = |number| format!("GET /function/echo/{number} HTTP/1.1\r\nHost: x\r\n\r\n");
    wire.send(info).await;
    wire.until("OK").await;
    wire.send(call(1)).await;
    wire.until("\"trailers\":null}").await;
    wire.send([info, &call(2), info, info, &call(3), &call(4)].concat())
        .await;
    for number in 2..=4 {
        let answer = wire.until("\"trailers\":null}").await;
        assert!(answer.contains(&format!("/function/echo/{number}")), "{answer}");
    }
    for number in 1..=4 {
        assert_eq!(lane(&gateway, &format!("/function/echo/{number}")).await, "fast");
    }
}

/// The base lane does not look for the end behind what it has not read yet.
#[tokio::test]
async fn a_caller_that_leaves_behind_a_further_request_ends_its_call() {
    let mut script = Script::start().await;
    let get = "GET /function/f/x HTTP/1.1\r\nHost: x\r\n\r\n";
    for further in [get, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "GET /function"] {
        for answer in ["", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart"] {
            let mut caller = script.sends(format!("{get}{further}")).await;
            let mut call = script.call().await;
            call.wire.send(answer).await;
            if !answer.is_empty() {
                caller.until("part").await;
            }
            drop(caller);
            soon("the end of the call", call.wire.rest()).await;
            script.idle().await;
        }
    }
}

#[tokio::test]
async fn the_lane_can_be_turned_off_while_running() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream.url())
        .config("[reload]\nwatch = \"off\"")
        .start()
        .await;
    for (number, (lanes, expected)) in [("true", "fast"), ("false", "base"), ("true", "fast")]
        .iter()
        .enumerate()
    {
        let file = format!("[reload]\nwatch = \"off\"\n[server]\nfast_lane = {lanes}\n");
        gateway.configure(&file).await;
        for path in ["first", "then"] {
            let path = format!("/function/echo/{path}{number}");
            gateway.get(&path).send().await.expect("an answer");
        }
        assert_eq!(lane(&gateway, &format!("/function/echo/then{number}")).await, *expected);
    }
}
