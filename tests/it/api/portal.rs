//! `/`, `/ui/`, `/docs` and `/openapi.json`.

use http::Method;

use super::Desk;

#[tokio::test]
async fn the_front_door_leads_to_the_portal() {
    let desk = Desk::new();
    for path in ["/", "/ui"] {
        let answer = desk.get(path).await;
        assert_eq!((answer.status, answer.header("location")), (307, "/ui/"), "{path}");
    }
}

#[tokio::test]
async fn files_are_embedded_and_revalidated() {
    let desk = Desk::new();
    for (path, content_type) in [
        ("/ui/", "text/html; charset=utf-8"),
        ("/ui/index.html", "text/html; charset=utf-8"),
        ("/ui/app.css", "text/css; charset=utf-8"),
        ("/ui/app.js", "text/javascript; charset=utf-8"),
        ("/ui/screens/functions.js", "text/javascript; charset=utf-8"),
        ("/ui/logo.svg", "image/svg+xml"),
        ("/ui/vendor/LICENSE-preact.txt", "text/plain; charset=utf-8"),
        ("/docs", "text/html; charset=utf-8"),
        ("/docs/redoc", "text/html; charset=utf-8"),
        ("/docs/functions", "text/html; charset=utf-8"),
        ("/docs/functions/redoc", "text/html; charset=utf-8"),
        ("/openapi/functions.json", "application/json"),
        ("/openapi.json", "application/json"),
        ("/openapi.yaml", "application/yaml"),
        ("/openapi/3.1.json", "application/json"),
    ] {
        let answer = desk.get(path).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, content_type),
            "{path}"
        );
        assert_eq!(answer.header("cache-control"), "no-cache", "{path}");
        assert!(!answer.body.is_empty(), "{path}");
        let known = [("if-none-match", answer.header("etag"))];
        let again = desk.send(Method::GET, path, &known, "").await;
        assert_eq!((again.status, again.text()), (304, ""), "{path}");
    }
}

#[tokio::test]
async fn the_portal_runs_under_a_strict_policy() {
    let desk = Desk::new();
    let page = desk.get("/ui/").await;
    let policy = page.header("content-security-policy").to_owned();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"),
        "{policy}"
    );
    let text = page.text();
    for forbidden in ["<style", "style=", " onclick", "javascript:", "http://", "https://"] {
        assert!(!text.contains(forbidden), "{forbidden}");
    }
    // Relative links only, for the sake of path prefixes.
    let absolute = |text: &str| {
        ["href=\"/", "src=\"/", "fetch(\"/", "fetch(`/"]
            .iter()
            .any(|link| text.contains(link))
    };
    assert!(!absolute(text));
    for path in ["/ui/app.js", "/ui/api.js", "/ui/events.js"] {
        assert!(!absolute(desk.get(path).await.text()), "{path}");
    }
}

#[tokio::test]
async fn the_reference_is_complete_without_the_internet() {
    for (path, reader) in [("/docs", "SwaggerUIBundle("), ("/docs/redoc", "Redoc.init(")] {
        let page = Desk::new().get(path).await;
        let policy = page.header("content-security-policy");
        assert!(
            policy.contains("default-src 'none'") && !policy.contains("http"),
            "{policy}"
        );
        // Two scripts, and nothing that a document may bring.
        let scripts = policy
            .split("; ")
            .find(|part| part.starts_with("script-src"))
            .expect("scripts");
        assert_eq!(scripts.matches(" 'sha256-").count(), 2, "{scripts}");
        assert!(!scripts.contains("unsafe"), "{scripts}");
        let text = page.text();
        assert!(text.contains(reader) && text.contains("listFunctions"), "{path}");
    }
}

#[tokio::test]
async fn the_document_says_where_the_gateway_is_for_whoever_asks() {
    // The path of the gateway is taken off before the API is asked.
    let desk = Desk::with("server.base_path = \"/faas\"");
    for (headers, expected) in [
        (&[][..], "/faas"),
        (&[("x-forwarded-host", "gw.example")], "http://gw.example/faas"),
        (
            &[
                ("x-forwarded-host", "gw.example:8443, inner"),
                ("x-forwarded-proto", "https"),
            ],
            "https://gw.example:8443/faas",
        ),
        (&[("x-forwarded-host", "gw.example/<script>")], "/faas"),
        (&[("x-forwarded-host", "user@gw.example")], "/faas"),
    ] {
        for path in ["/openapi.json", "/openapi.yaml", "/openapi/3.1.json"] {
            let answer = desk.send(Method::GET, path, headers, "").await;
            let document: serde_json::Value = serde_yaml::from_str(answer.text()).expect("YAML, as JSON is");
            assert_eq!(document["servers"][0]["url"], expected, "{path} {headers:?}");
        }
    }
}

#[tokio::test]
async fn a_portal_that_is_off_is_not_there() {
    let desk = Desk::with("ui.enabled = false");
    for path in [
        "/",
        "/ui",
        "/ui/",
        "/ui/app.js",
        "/docs",
        "/docs/redoc",
        "/docs/functions",
        "/docs/functions/redoc",
    ] {
        desk.get(path)
            .await
            .is_error(404, "the portal is switched off (ui.enabled)");
    }
    assert_eq!(desk.get("/openapi.json").await.status, 200);
}
