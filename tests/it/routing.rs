//! Routes, the base path and the internal listener, on a real gateway.

use std::{collections::BTreeSet, net::SocketAddr};

use futures_util::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::{
    streaming::shout,
    support::{
        Gateway, Upstream, eventually,
        gateway::{field, logged_address},
        soon,
        upstream::{echoed, text},
        wire::{Wire, h2c},
    },
};

/// Edits are noticed at once.
const QUICK: &str = "[reload]\ndebounce = \"20ms\"\n";

/// Lets `Host` be chosen.
async fn ask(gateway: &Gateway, method: Method, host: &str, path: &str) -> Response {
    let request = gateway.request(method, path).header("host", host);
    request.send().await.expect("an answer")
}

/// The request as the function saw it.
async fn seen(gateway: &Gateway, host: &str, path: &str) -> Value {
    let answer = ask(gateway, Method::GET, host, path).await;
    let (status, text) = (answer.status(), answer.text().await.expect("text"));
    assert_eq!(status, 200, "{host}{path}: {text}");
    serde_json::from_str(&text).expect("an echo")
}

async fn status(gateway: &Gateway, host: &str, path: &str) -> u16 {
    ask(gateway, Method::GET, host, path).await.status().as_u16()
}

/// `echo`, and functions that answer with their name.
async fn upstream() -> Upstream {
    let mut upstream = Upstream::start().await;
    for name in ["one", "two", "three"] {
        upstream = upstream.function(name, move |_| async move { text(200, name) });
    }
    upstream
}

async fn start(upstream: &Upstream, config: &str) -> Gateway {
    let gateway = Gateway::before(&upstream.url());
    gateway.config(config).config(QUICK).start().await
}

fn write(gateway: &Gateway, config: &str) {
    std::fs::write(gateway.config_file(), format!("{config}\n{QUICK}")).expect("writable");
}

fn route(function: &str, rest: &str) -> String {
    format!("[[routes]]\nfunction = \"{function}\"\n{rest}\n")
}

async fn answer(gateway: &Gateway, method: Method, host: &str, path: &str) -> String {
    ask(gateway, method, host, path).await.text().await.expect("text")
}

#[tokio::test]
async fn host_then_path_then_method_decide() {
    let upstream = upstream().await;
    let routes = [
        route("one", "hosts = [\"shop.test\"]"),
        route("two", "hosts = [\"*.shop.test\"]\npath = \"/v1\""),
        route(
            "three",
            "hosts = [\"*.shop.test\"]\npath = \"/v1\"\nmethods = [\"PUT\"]",
        ),
        route(
            "one",
            "hosts = [\"*.shop.test\"]\npath = \"/only\"\nmethods = [\"GET\"]",
        ),
        route("three", "path = \"/v1\""),
    ];
    let gateway = start(&upstream, &routes.concat()).await;
    for (method, host, path, expected) in [
        (Method::GET, "SHOP.test:8080", "/v1", "one"),
        (Method::GET, "shop.test", "/system/info", "one"),
        (Method::GET, "a.shop.test", "/v1/x", "two"),
        (Method::PUT, "a.b.shop.test", "/v1/x", "three"),
        (Method::GET, "elsewhere.test", "/v1/x", "three"),
        (Method::GET, "elsewhere.test", "/function/two", "two"),
        (Method::GET, "a.shop.test", "/function/two", "two"),
    ] {
        assert_eq!(answer(&gateway, method, host, path).await, expected, "{host}{path}");
    }
    assert_eq!(status(&gateway, "a.shop.test", "/v1x").await, 404);
    let refused = ask(&gateway, Method::POST, "a.shop.test", "/only/x").await;
    assert_eq!(
        (refused.status().as_u16(), refused.headers()["allow"].as_bytes()),
        (405, &b"GET, HEAD"[..])
    );
    assert_eq!(refused.headers()["x-openfaas-internal"], "gateway");
}

#[tokio::test]
async fn http2_and_absolute_targets_name_the_host() {
    let upstream = upstream().await;
    let gateway = start(&upstream, &route("echo", "hosts = [\"shop.test\"]\npath = \"/v1\"")).await;
    let mut sender = h2c(gateway.address()).await;
    let request = http::Request::get("http://Shop.test/v1/a?b").header("host", "other.test");
    let answer = sender
        .send_request(request.body(String::new()).expect("a request"))
        .await;
    let body = answer.expect("an answer").into_body().collect().await.expect("a body");
    let seen: Value = serde_json::from_slice(&body.to_bytes()).expect("JSON");
    assert_eq!(seen["target"], "/function/echo/a?b");
    assert_eq!(echoed(&seen, "x-forwarded-host"), ["Shop.test"]);

    let request = "GET http://shop.test/v1/a HTTP/1.1\r\nHost: other.test\r\nConnection: close\r\n\r\n";
    let answer = Wire::exchange(gateway.address(), request).await;
    assert!(answer.contains("/function/echo/a"), "{answer}");
}

#[tokio::test]
async fn the_function_sees_the_rewritten_path_and_all_else_as_sent() {
    let upstream = upstream().await;
    let routes = [
        route("echo", "path = \"/v1\""),
        route("echo", "path = \"/v2\"\nrewrite = \"/api\""),
        route("echo", "path = \"/v3\"\nrewrite = \"/v3\""),
        route("echo", "hosts = [\"whole.test\"]"),
    ];
    let gateway = start(&upstream, &routes.concat()).await;
    for (host, path, target) in [
        ("x.test", "/v1", "/function/echo/"),
        (
            "x.test",
            "/v1/a%2Fb%20%ff/?x=1;y=%20&z",
            "/function/echo/a%2Fb%20%ff/?x=1;y=%20&z",
        ),
        ("x.test", "/v1//a", "/function/echo//a"),
        ("x.test", "/v1?", "/function/echo/?"),
        ("x.test", "/v2", "/function/echo/api"),
        ("x.test", "/v2/a", "/function/echo/api/a"),
        ("x.test", "/v3/a", "/function/echo/v3/a"),
        ("whole.test", "/a/b", "/function/echo/a/b"),
    ] {
        // Libraries would tidy the target.
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = Wire::exchange(gateway.address(), &request).await;
        let seen: Value = serde_json::from_str(answer.lines().last().expect("a body")).expect("an echo");
        assert_eq!(seen["target"], target, "{path}");
        let prefix = path.get(..3).filter(|_| host == "x.test");
        assert_eq!(echoed(&seen, "x-forwarded-prefix"), Vec::from_iter(prefix));
    }
    let request = gateway.get("/v1").header("x-forwarded-prefix", "/outer");
    let seen: Value = request.send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(echoed(&seen, "x-forwarded-prefix"), ["/outer"]);
}

#[tokio::test]
async fn a_local_function_sees_the_path_alone() {
    let config = route("path", "path = \"/v1\"\nrewrite = \"/api\"");
    let gateway = Gateway::new().config(&config).start().await;
    let command = "sh -c 'echo $Http_Path?$Http_Query'";
    gateway
        .deploy(&json!({"service": "path", "image": "local", "envProcess": command}))
        .await;
    assert_eq!(gateway.invoke("/v1/x?q=1", "").await.trim(), "/api/x?q=1");
}

#[tokio::test]
async fn paths_that_read_as_another_route_are_refused() {
    let upstream = upstream().await;
    let routes = [
        route("echo", "path = \"/open\""),
        route("echo", "path = \"/open/admin\"\nbody = { max_request = 1 }"),
    ];
    let gateway = start(&upstream, &routes.concat()).await;
    for (path, status) in [
        ("/open/../open/admin", 400),
        ("/open/%2e%2e/other", 400),
        ("/open/%61dmin", 400),
        ("/open//admin", 400),
        ("/open%2Fadmin", 404),
        ("/open/a%2Fb", 200),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = Wire::exchange(gateway.address(), &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
    }
}

#[tokio::test]
async fn weights_share_the_calls() {
    let upstream = upstream().await;
    let split = "[[routes]]\npath = \"/s\"\nsplit = [{ function = \"one\", weight = 3 }, \
                 { function = \"two\", weight = 1 }, { function = \"three\", weight = 0 }]\n";
    let gateway = start(&upstream, split).await;
    let mut ones = 0;
    for _ in 0..400 {
        match answer(&gateway, Method::GET, "x.test", "/s").await.as_str() {
            "one" => ones += 1,
            "two" => {}
            other => panic!("{other}"),
        }
    }
    // 300 expected; the bounds are more than six standard deviations away.
    assert!((240..360).contains(&ones), "{ones}");
}

#[tokio::test]
async fn callers_stay_across_a_change_of_weights() {
    let upstream = upstream().await;
    let split = |two: u32, sticky: &str| {
        format!(
            "[[routes]]\nname = \"{two}\"\npath = \"/s\"\nsticky = {{ {sticky} }}\nsplit = [{{ function = \"one\", \
             weight = 50 }}, {{ function = \"two\", weight = {two} }}]\n"
        )
    };
    let by_header = "header = \"X-User\"";
    let gateway = start(&upstream, &split(50, by_header)).await;
    let placed = async |gateway: &Gateway| {
        let mut placed = Vec::new();
        for user in 0..40 {
            let request = gateway.get("/s").header("x-user", format!("user {user}"));
            placed.push(request.send().await.expect("an answer").text().await.expect("text"));
        }
        placed
    };
    let before = placed(&gateway).await;
    assert_eq!(before, placed(&gateway).await);
    assert_eq!(BTreeSet::from_iter(&before).len(), 2, "{before:?}");

    write(&gateway, &split(75, by_header));
    on_route(&gateway, "/s", "75").await;
    let after = placed(&gateway).await;
    for (old, new) in before.iter().zip(&after) {
        assert!(old == new || new == "two", "a caller left the function that grew");
    }
}

/// Waits until calls of `path` take the route of this name.
async fn on_route(gateway: &Gateway, path: &str, name: &str) {
    let is_it = |line: &Value| field(line, "route") == name;
    eventually(&format!("route {name}"), || async {
        answer(gateway, Method::GET, "x.test", path).await;
        (gateway.log_count(is_it) > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_caller_without_the_cookie_gets_one_that_keeps_it() {
    let upstream = upstream().await;
    let split = "[[routes]]\npath = \"/s\"\nsticky = { cookie = \"at\" }\nsplit = [{ function = \"one\", weight = 1 }, \
                 { function = \"two\", weight = 1 }]\n";
    let gateway = start(&upstream, split).await;
    for _ in 0..10 {
        let first = gateway.get("/s").header("x-forwarded-proto", "https");
        let first = first.send().await.expect("an answer");
        let cookie = first.headers()["set-cookie"].to_str().expect("text").to_owned();
        let (pair, attributes) = cookie.split_once("; ").expect("attributes");
        assert_eq!(attributes, "Path=/s; HttpOnly; SameSite=Lax; Secure");
        let function = first.text().await.expect("text");
        for _ in 0..3 {
            let next = gateway.get("/s").header("cookie", format!("a=b; {pair}"));
            let next = next.send().await.expect("an answer");
            assert!(!next.headers().contains_key("set-cookie"));
            assert_eq!(next.text().await.expect("text"), function);
        }
    }
    let plain = gateway.get("/s").send().await.expect("an answer");
    assert!(!plain.headers()["set-cookie"].to_str().expect("text").contains("Secure"));
}

#[tokio::test]
async fn redirects_keep_path_and_query_and_the_host_that_was_meant() {
    let upstream = upstream().await;
    let routes = "[[routes]]\nhosts = [\"old.test\"]\nredirect = { to = \"https://new.test/\", status = 308 }\n\
                  [[routes]]\npath = \"/old\"\nredirect = { to = \"/\" }\n";
    let gateway = start(&upstream, routes).await;
    let moved = ask(&gateway, Method::POST, "old.test", "/a/b%20c?x=1&y").await;
    assert_eq!(moved.status(), 308);
    assert_eq!(moved.headers()["location"], "https://new.test/a/b%20c?x=1&y");
    for path in ["/old//evil.test/x", "/old/\\evil.test/x"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x.test\r\nConnection: close\r\n\r\n");
        let answer = Wire::exchange(gateway.address(), &request).await;
        assert!(
            answer.starts_with("HTTP/1.1 307") || answer.starts_with("HTTP/1.1 400"),
            "{answer}"
        );
        assert!(
            !answer.contains("Location: //") && !answer.contains("Location: /\\"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_redirect_has_the_headers_and_the_cors_of_its_route() {
    let upstream = upstream().await;
    let redirect = "[[routes]]\nname = \"moved\"\npath = \"/old\"\nmethods = [\"PUT\"]\nredirect = { to = \"/new\" }\n\
                    headers.response = { set = { Cache-Control = \"no-store\" }, remove = [\"Location\"] }\n\
                    cors = { origins = [\"https://app.test\"] }\n";
    let gateway = start(&upstream, redirect).await;
    let asks = |method: Method| {
        let request = gateway.request(method, "/old/x").header("origin", "https://app.test");
        request.header("access-control-request-method", "PUT").send()
    };
    let moved = asks(Method::PUT).await.expect("an answer");
    assert_eq!(moved.status(), 307);
    for (name, value) in [
        ("location", "/new/x"),
        ("cache-control", "no-store"),
        ("access-control-allow-origin", "https://app.test"),
    ] {
        assert_eq!(moved.headers()[name], value, "{name}");
    }
    let permission = asks(Method::OPTIONS).await.expect("an answer");
    assert_eq!(permission.status(), 204);
    assert_eq!(permission.headers()["access-control-allow-methods"], "PUT");
    let line = gateway
        .logged("the redirect", |line| field(line, "status") == 307)
        .await;
    assert_eq!(
        (field(&line, "route"), field(&line, "kind")),
        (&"moved".into(), &"redirect".into())
    );
}

#[tokio::test]
async fn the_method_that_is_named_wins_over_the_one_that_is_implied() {
    let upstream = Upstream::start().await.function("named", |_| async { text(204, "") });
    let methods = |function: &str, method: &str| route(function, &format!("path = \"/p\"\nmethods = [\"{method}\"]"));
    let gateway = start(&upstream, &[methods("echo", "GET"), methods("named", "HEAD")].concat()).await;
    assert_eq!(ask(&gateway, Method::HEAD, "x.test", "/p").await.status(), 204);
    assert_eq!(ask(&gateway, Method::GET, "x.test", "/p").await.status(), 200);
}

#[tokio::test]
async fn paths_that_only_begin_like_the_gateway_s_own_are_free() {
    let upstream = upstream().await;
    let routes = ["/openapi-shop", "/metrics"].map(|path| route("one", &format!("path = \"{path}\"")));
    let gateway = start(&upstream, &routes.concat()).await;
    for path in ["/openapi-shop/x", "/metrics"] {
        assert_eq!(answer(&gateway, Method::GET, "x.test", path).await, "one", "{path}");
    }
    let document = answer(&gateway, Method::GET, "x.test", "/openapi.json").await;
    assert!(document.contains("openapi"), "{document}");
}

#[tokio::test]
async fn websockets_pass_along_routes() {
    let upstream = Upstream::start().await.function("shout", shout);
    let gateway = start(&upstream, &route("shout", "path = \"/chat\"")).await;
    let url = format!("ws://{}/chat/room", gateway.address());
    let (mut socket, _) = soon("the handshake", tokio_tungstenite::connect_async(url))
        .await
        .expect("switched");
    socket.send("hello".into()).await.expect("sent");
    let heard = soon("an echo", socket.next()).await.expect("open").expect("a message");
    assert_eq!(heard.to_text().expect("text"), "HELLO");
}

#[tokio::test]
async fn a_route_s_settings_are_above_the_function_s_and_bound_to_it() {
    let upstream = Upstream::start().await.function("slow", |_| async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        text(200, "done")
    });
    let routes = route(
        "slow",
        "name = \"hasty\"\npath = \"/hasty\"\ntimeouts = { total = \"20ms\" }",
    );
    let gateway = start(&upstream, &[routes, route("slow", "path = \"/calm\"")].concat()).await;
    for _ in 0..2 {
        let late = gateway
            .get("/hasty/x?secret")
            .header("accept", "*/*")
            .send()
            .await
            .expect("an answer");
        assert_eq!(late.status(), 504);
        let problem: Value = late.json().await.expect("a problem");
        assert_eq!(problem["setting"], "routes.timeouts.total");
        for path in ["/calm", "/function/slow"] {
            assert_eq!(status(&gateway, "x.test", path).await, 200, "{path}");
        }
        // A name in a URL cannot borrow the route's settings.
        assert_eq!(status(&gateway, "x.test", "/function/0%2Fslow").await, 404);
    }
    let line = gateway
        .logged("the access line", |line| field(line, "route") == "hasty")
        .await;
    assert_eq!(
        (field(&line, "path"), field(&line, "kind")),
        (&"/hasty/x".into(), &"function".into())
    );
    assert!(!line.to_string().contains("secret"));
}

#[tokio::test]
async fn routes_come_change_and_go_while_running() {
    let upstream = upstream().await;
    let gateway = start(&upstream, "").await;
    assert_eq!(status(&gateway, "x.test", "/v1").await, 404);
    for function in ["one", "two"] {
        write(&gateway, &route(function, "path = \"/v1\""));
        eventually(function, || async {
            (answer(&gateway, Method::GET, "x.test", "/v1").await == function).then_some(())
        })
        .await;
    }
    write(&gateway, "");
    eventually("no route", || async {
        (status(&gateway, "x.test", "/v1").await == 404).then_some(())
    })
    .await;
}

#[tokio::test]
async fn everything_is_below_the_base_path() {
    let upstream = upstream().await;
    let config = format!("[server]\nbase_path = \"/faas\"\n{}", route("one", "path = \"/v1\""));
    let gateway = start(&upstream, &config).await;
    let echo = seen(&gateway, "x.test", "/faas/function/echo/a%20b?c=%20").await;
    assert_eq!(echo["target"], "/function/echo/a%20b?c=%20");
    for path in [
        "/faas/system/functions",
        "/faas/healthz",
        "/healthz",
        "/faas/ui/",
        "/faas/ui/app.js",
        "/v1",
    ] {
        assert_eq!(status(&gateway, "x.test", path).await, 200, "{path}");
    }
    for path in ["/faas", "/faas/", "/faas/ui"] {
        let redirect = ask(&gateway, Method::GET, "x.test", path).await;
        assert_eq!(
            (redirect.status().as_u16(), redirect.headers()["location"].as_bytes()),
            (307, &b"/faas/ui/"[..])
        );
    }
    for path in ["/function/echo", "/system/functions", "/ui/", "/", "/faasx/ui/"] {
        let outside = gateway
            .get(path)
            .header("accept", "*/*")
            .send()
            .await
            .expect("an answer");
        assert_eq!(outside.status(), 404, "{path}");
        let problem: Value = outside.json().await.expect("a problem");
        assert_eq!(problem["setting"], "server.base_path");
        assert!(
            problem["detail"]
                .as_str()
                .is_some_and(|detail| detail.contains("/faas/")),
            "{problem}"
        );
    }
    let document: Value = ask(&gateway, Method::GET, "x.test", "/faas/openapi.json")
        .await
        .json()
        .await
        .expect("JSON");
    assert_eq!(document["servers"], json!([{"url": "/faas"}]));
    let page = answer(&gateway, Method::GET, "x.test", "/faas/docs").await;
    assert!(page.contains("\"url\": \"/faas\""), "the reference asks elsewhere");
    let nothing = answer(&gateway, Method::GET, "x.test", "/faas/nothing").await;
    assert!(nothing.contains("/faas/nothing; /faas/openapi.json"), "{nothing}");

    write(&gateway, "[server]\nbase_path = \"\"");
    eventually("no base path", || async {
        (status(&gateway, "x.test", "/function/echo").await == 200).then_some(())
    })
    .await;
    let document: Value = gateway
        .get("/openapi.json")
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    assert_eq!(document["servers"], json!([{"url": "/"}]));
}

/// A problem without what differs from call to call.
async fn refusal(gateway: &Gateway, address: SocketAddr, path: &str) -> (u16, Vec<String>, String) {
    let url = format!("http://{address}{path}");
    let request = gateway.get("/").build().expect("a request").headers().clone();
    let answer = crate::support::gateway::client().get(url).headers(request);
    let answer = answer.header("accept", "*/*").send().await.expect("an answer");
    let names = answer.headers().keys().map(ToString::to_string).collect();
    (answer.status().as_u16(), names, answer.text().await.expect("text"))
}

#[tokio::test]
async fn internal_functions_are_found_on_the_internal_listener_only() {
    for from_zero in [false, true] {
        let upstream = upstream().await;
        let hidden = format!(
            "scaling.from_zero = {from_zero}\n[functions.one]\nvisibility = \"internal\"\n{}{}",
            route("one", "path = \"/one\""),
            route("non", "path = \"/non\"")
        );
        let gateway = start(&upstream, &hidden).await;
        let internal = "[server]\ninternal_listen = \"127.0.0.1:0\"";
        write(
            &gateway,
            &hidden.replacen("[functions", &format!("{internal}\n[functions"), 1),
        );
        let opened = gateway
            .logged("the internal listener", |line| {
                field(line, "message") == "listener opened"
            })
            .await;
        let inside = logged_address(&opened, "at");
        for path in ["/function/one", "/function/one.any", "/function/%6fne", "/one/x"] {
            let unknown = path.replace("one", "non").replace("%6fne", "non");
            let (status, headers, text) = refusal(&gateway, gateway.address(), &unknown).await;
            assert_eq!(status, 404);
            let hidden = refusal(&gateway, gateway.address(), path).await;
            assert_eq!(hidden, (404, headers, text.replace("non", "one")), "{path}");
            // The scripted provider does not decode names.
            let plain = path.replace("%6f", "o");
            assert_eq!(refusal(&gateway, inside, &plain).await.0, 200, "{path}");
        }
        assert_eq!(refusal(&gateway, inside, "/system/functions").await.0, 200);
        assert_eq!(refusal(&gateway, gateway.address(), "/function/two").await.0, 200);

        write(&gateway, &hidden);
        gateway
            .logged("its end", |line| field(line, "message") == "listener closed")
            .await;
        eventually("a refused connection", || async {
            tokio::net::TcpStream::connect(inside).await.err()
        })
        .await;
    }
}

#[tokio::test]
async fn the_start_names_the_internal_listener_and_the_end_drains_it() {
    let upstream = Upstream::start().await.function("slow", |_| async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        text(200, "done")
    });
    let config = "[server]\ninternal_listen = \"127.0.0.1:0\"\n[functions.slow]\nvisibility = \"internal\"";
    let mut gateway = start(&upstream, config).await;
    let listening = gateway
        .logged("listening", |line| field(line, "message") == "listening")
        .await;
    let mut wire = Wire::connect(logged_address(&listening, "internal")).await;
    wire.send("GET /function/slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
    eventually("a call", || async {
        let series = r#"gateway_function_invocation_inflight{function_name="slow"}"#;
        (gateway.metric(series).await? > 0.0).then_some(())
    })
    .await;
    gateway.signal(nix::sys::signal::Signal::SIGTERM);
    let answer = wire.rest().await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("done"),
        "{answer}"
    );
    assert!(gateway.ended().await.success());
}
