//! The functions' own contracts: `/openapi/functions.json` as functions come and go.

use std::{fs, path::Path, sync::Arc, time::Instant};

use faas_gateway::{
    contracts::{Build, Contracts, Seen, Source},
    model::FunctionRef,
};
use faas_gateway_client::types;
use http::Method;
use serde_json::{Value, json};

use crate::support::{Gateway, Upstream, eventually, typed::done, upstream::text};

/// Functions are read so often that a test can wait for it.
const LOOK: &str = "metrics.refresh_interval = \"50ms\"\n";

const PATH: &str = "/openapi/functions.json";
const STATES: &str = "x-faas-gateway-contracts";

/// A contract with one operation that answers with a greeting.
fn contract(version: &str) -> Value {
    json!({
        "openapi": "3.0.3",
        "info": { "title": "Greetings", "version": version },
        "paths": { "/hello/{name}": { "get": {
            "operationId": "greet",
            "parameters": [{ "name": "name", "in": "path", "required": true, "schema": { "type": "string" } }],
            "responses": { "200": { "description": "A greeting.", "content": { "application/json": {
                "schema": { "$ref": "#/components/schemas/Greeting" },
            } } } },
        } } },
        "components": { "schemas": { "Greeting": { "type": "object", "properties": { "text": { "type": "string" } } } } },
    })
}

/// A document of `tests/fixtures/contracts`.
fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/contracts")
        .join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `tests/conformance/lint.py` lints the document that this compares with.
#[test]
fn all_that_people_and_frameworks_write_becomes_one_document() {
    let contracts = Contracts::default();
    let seen = |name: &str, namespace: &str, label: &str, text: &str| Seen {
        function: FunctionRef::new(name, namespace),
        label: label.to_owned(),
        source: Source::of(text, text.len()),
        build: Build::default(),
        ready: false,
    };
    let (orders, predictions) = (fixture("orders.yaml"), fixture("predictions.json"));
    let wrong = contracts.learn(
        vec![
            seen("orders", "openfaas-fn", "orders", &orders),
            seen("orders", "dev", "orders.dev", &orders),
            seen("predictions", "openfaas-fn", "predictions", &predictions),
            seen("broken", "openfaas-fn", "broken", "swagger: '2.0'"),
        ],
        Instant::now(),
    );
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    let mut document = contracts.merged("", |_| false);
    document["info"]["version"] = "0.0.0".into();
    let text = format!("{document:#}\n");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/contracts/merged.json");
    if std::env::var_os("WRITE_CONTRACTS").is_some() {
        fs::write(&path, &text).expect("written");
    }
    assert!(
        fixture("merged.json") == text,
        "{} is not current; WRITE_CONTRACTS=1 writes it",
        path.display()
    );
    let read: openapiv3::OpenAPI = serde_json::from_str(&text).expect("a document of OpenAPI 3.0");
    let ids: Vec<_> = read
        .operations()
        .filter_map(|(_, _, operation)| operation.operation_id.as_deref())
        .collect();
    assert_eq!(
        ids,
        [
            "orders.dev_list",
            "orders.dev_place",
            "orders.dev_get",
            "orders_list",
            "orders_place",
            "orders_get",
            "predictions_root__get",
            "predictions_predict_predict__model__post",
            "predictions_post_upload",
        ]
    );
}

async fn document(gateway: &Gateway) -> Value {
    let answer = gateway.get(PATH).send().await.expect("an answer");
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"application/json".parse().expect("a value"))
    );
    answer.json().await.expect("JSON")
}

/// What the document says of a function's contract.
fn state<'d>(document: &'d Value, function: &str) -> Option<&'d Value> {
    let all = document[STATES].as_array().expect("a list");
    all.iter().find(|told| told["function"] == function)
}

/// The document once it says this of a function.
async fn once(gateway: &Gateway, function: &str, expected: &str) -> Value {
    eventually(&format!("{function} to be {expected}"), || async {
        let document = document(gateway).await;
        (state(&document, function)?["state"] == expected).then_some(document)
    })
    .await
}

fn paths(document: &Value) -> Vec<&str> {
    document["paths"]
        .as_object()
        .expect("paths")
        .keys()
        .map(String::as_str)
        .collect()
}

async fn annotated(gateway: &Gateway, service: &str, namespace: &str, annotation: &str) {
    gateway
        .deploy(&json!({
            "service": service, "namespace": namespace, "image": "local", "envProcess": "cat",
            "annotations": { "com.openfaas.openapi": annotation },
        }))
        .await;
}

/// A function that serves the files of a directory.
fn serving(service: &str, directory: &std::path::Path, path: &str) -> Value {
    json!({
        "service": service, "image": "local", "envProcess": "unused",
        "envVars": { "mode": "static", "static_path": directory.display().to_string() },
        "annotations": { "com.openfaas.openapi": path },
    })
}

#[tokio::test]
async fn contracts_come_and_go_with_their_functions() {
    let gateway = Gateway::new().config(LOOK).start().await;
    assert_eq!(document(&gateway).await[STATES], json!([]));
    annotated(&gateway, "greeter", "", &contract("1").to_string()).await;
    let found = once(&gateway, "greeter", "shown").await;
    assert_eq!(paths(&found), ["/function/greeter/hello/{name}"]);
    assert_eq!(
        found["paths"]["/function/greeter/hello/{name}"]["get"]["operationId"],
        "greeter_greet"
    );
    assert_eq!(found["servers"], json!([{ "url": "/" }]));

    let body = types::FunctionNamespace::builder().name("dev");
    done(gateway.client().create_namespace().body(body).send().await);
    let yaml = serde_yaml::to_string(&contract("2")).expect("YAML");
    annotated(&gateway, "greeter", "dev", &yaml).await;
    let found = once(&gateway, "greeter.dev", "shown").await;
    assert_eq!(
        paths(&found),
        ["/function/greeter.dev/hello/{name}", "/function/greeter/hello/{name}"]
    );
    let schemas = found["components"]["schemas"].as_object().expect("schemas");
    assert_eq!(
        schemas.keys().collect::<Vec<_>>(),
        ["greeter.dev_Greeting", "greeter_Greeting"]
    );
    assert_eq!(found["tags"][0]["description"], "Greetings 2");

    gateway.remove("greeter").await;
    eventually("the contract to go", || async {
        state(&document(&gateway).await, "greeter").is_none().then_some(())
    })
    .await;
    assert_eq!(paths(&document(&gateway).await), ["/function/greeter.dev/hello/{name}"]);
}

#[tokio::test]
async fn a_served_contract_is_fetched_kept_at_zero_and_fetched_again_with_the_next_replica() {
    let gateway = Gateway::new().config(LOOK).start().await;
    let files = tempfile::tempdir().expect("a directory");
    let file = files.path().join("openapi.json");
    std::fs::write(&file, contract("1").to_string()).expect("a file");
    gateway.deploy(&serving("greeter", files.path(), "/openapi.json")).await;
    let found = once(&gateway, "greeter", "shown").await;
    assert_eq!(state(&found, "greeter").expect("told")["source"], "/openapi.json");
    assert_eq!(found["tags"][0]["description"], "Greetings 1");
    // What is fetched is no call.
    let calls = r#"gateway_function_invocation_total{code="200",function_name="greeter.openfaas-fn"}"#;
    assert_eq!(gateway.metric(calls).await, None);

    gateway.scale("greeter", 0).await;
    // Seen where functions are read, so that the next replica is seen to come up.
    let ready = r#"gateway_service_ready_count{function_name="greeter.openfaas-fn"}"#;
    eventually("no ready replica", || async {
        (gateway.metric(ready).await? < 1.0).then_some(())
    })
    .await;
    std::fs::write(&file, contract("2").to_string()).expect("a file");
    let found = document(&gateway).await;
    assert_eq!(found["tags"][0]["description"], "Greetings 1");

    gateway.scale("greeter", 1).await;
    eventually("the other contract", || async {
        (document(&gateway).await["tags"][0]["description"] == "Greetings 2").then_some(())
    })
    .await;
}

#[tokio::test]
async fn fetched_contracts_are_known_after_a_restart_without_a_replica() {
    let setup = || Gateway::new().config(LOOK);
    let gateway = setup().start().await;
    let files = tempfile::tempdir().expect("a directory");
    let file = files.path().join("openapi.json");
    std::fs::write(&file, contract("1").to_string()).expect("a file");
    for service in ["greeter", "leaves", "changes"] {
        gateway.deploy(&serving(service, files.path(), "/openapi.json")).await;
        once(&gateway, service, "shown").await;
    }
    let kept = gateway.directory().join("state/contracts");
    let files_kept = || fs::read_dir(&kept).map_or(0, Iterator::count);
    assert_eq!(files_kept(), 3);
    // Nothing runs, so nothing can be asked.
    for service in ["greeter", "leaves", "changes"] {
        gateway.scale(service, 0).await;
        eventually("no replica", || async {
            (gateway.status(service, "").await?.available_replicas == 0).then_some(())
        })
        .await;
    }
    std::fs::write(&file, contract("2").to_string()).expect("a file");

    let gateway = gateway.crash_and_restart(setup()).await;
    let found = once(&gateway, "greeter", "shown").await;
    assert_eq!(found["tags"][0]["description"], "Greetings 1");
    assert_eq!(paths(&found).len(), 3, "{found}");
    assert_eq!(gateway.status("greeter", "").await.expect("a status").replicas, 0);
    // Whoever goes or has it elsewhere takes it along.
    gateway.remove("leaves").await;
    let body: types::FunctionDeployment =
        serde_json::from_value(serving("changes", files.path(), "/other.json")).expect("a deployment");
    done(gateway.client().update_function().body(body).send().await);
    eventually("the end of one contract", || async {
        (files_kept() == 2).then_some(())
    })
    .await;

    gateway.scale("greeter", 1).await;
    eventually("the other contract", || async {
        (document(&gateway).await["tags"].as_array()?.iter())
            .any(|tag| tag["name"] == "greeter" && tag["description"] == "Greetings 2")
            .then_some(())
    })
    .await;
    gateway.scale("greeter", 0).await;
    for entry in fs::read_dir(&kept).expect("a directory") {
        let path = entry.expect("an entry").path();
        if fs::read_to_string(&path).expect("text").contains("\"changes\"") {
            fs::write(&path, "{\"name\":").expect("written");
        }
    }
    let gateway = gateway.crash_and_restart(setup()).await;
    let found = once(&gateway, "greeter", "shown").await;
    assert_eq!(found["tags"][0]["description"], "Greetings 2");
    gateway
        .logged("what cannot be read", |line| {
            line.to_string().contains("a kept contract cannot be read")
        })
        .await;
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_costs_only_what_would_be_kept() {
    let gateway = Gateway::new().config(LOOK);
    let directory = Arc::new(tempfile::tempdir().expect("a directory"));
    fs::create_dir(directory.path().join("state")).expect("a directory");
    fs::write(directory.path().join("state/contracts"), "no directory").expect("a file");
    let gateway = gateway.directory(directory).start().await;
    let files = tempfile::tempdir().expect("a directory");
    fs::write(files.path().join("o.json"), contract("1").to_string()).expect("a file");
    gateway.deploy(&serving("greeter", files.path(), "/o.json")).await;
    once(&gateway, "greeter", "shown").await;
    gateway
        .logged("why nothing is kept", |line| {
            line.to_string().contains("cannot be kept")
        })
        .await;
}

#[tokio::test]
async fn a_function_at_zero_is_not_started_for_its_contract() {
    let gateway = Gateway::new().config(LOOK).start().await;
    let files = tempfile::tempdir().expect("a directory");
    std::fs::write(files.path().join("o.json"), contract("1").to_string()).expect("a file");
    let mut deployment = serving("greeter", files.path(), "/o.json");
    deployment["labels"] = json!({ "com.openfaas.scale.zero": "true", "com.openfaas.scale.min": "0" });
    let (status, text) = gateway.send(Method::POST, "/system/functions", &deployment).await;
    assert_eq!(status, 202, "{text}");
    gateway.scale("greeter", 0).await;
    eventually("zero replicas", || async {
        (gateway.status("greeter", "").await?.available_replicas == 0).then_some(())
    })
    .await;
    // A function that comes later is read later.
    annotated(&gateway, "later", "", &contract("1").to_string()).await;
    let found = once(&gateway, "later", "shown").await;
    let told = state(&found, "greeter").expect("told");
    // It may have been asked in the moment in which it ran.
    assert!(
        ["waiting", "shown"].contains(&told["state"].as_str().expect("text")),
        "{told}"
    );
    let replicas = gateway.status("greeter", "").await.expect("a status").replicas;
    assert_eq!(replicas, 0);
}

#[tokio::test]
async fn bad_contracts_are_left_out_with_the_reason_and_their_functions_work() {
    let gateway = Gateway::new()
        .config(LOOK)
        .config("openapi.max_size = \"20KiB\"")
        .start()
        .await;
    let swagger = json!({ "swagger": "2.0", "info": { "title": "Old", "version": "1" }, "paths": {} });
    let mut outside = contract("1");
    outside["components"]["schemas"]["Greeting"] = json!({ "$ref": "http://127.0.0.1:1/schema.json" });
    let files = tempfile::tempdir().expect("a directory");
    std::fs::write(files.path().join("large.json"), vec![b' '; 30_000]).expect("a file");
    for (service, annotation, part) in [
        ("old", swagger.to_string(), "swagger: Swagger 2.0 is not taken"),
        (
            "outside",
            outside.to_string(),
            "components.schemas.Greeting: refers to `http://127.0.0.1:1/schema.json`, which is outside",
        ),
        ("no-yaml", "openapi: [".to_owned(), "the document is not YAML"),
        (
            "large",
            " ".repeat(10) + &"#".repeat(30_000),
            "more than openapi.max_size",
        ),
    ] {
        annotated(&gateway, service, "", &annotation).await;
        let found = once(&gateway, service, "invalid").await;
        let told = state(&found, service).expect("told")["error"]
            .as_str()
            .expect("text")
            .to_owned();
        assert!(told.contains(part), "{service}: {told}");
        gateway
            .logged("the reason", |line| {
                let line = line.to_string();
                line.contains("OpenAPI document is not shown") && line.contains(&format!("{service}.openfaas-fn"))
            })
            .await;
        assert_eq!(
            gateway.invoke(&format!("/function/{service}"), "still there").await,
            "still there"
        );
    }
    for (service, path, expected, part) in [
        ("missing", "/none.json", "unavailable", "the function answered 404"),
        (
            "served-large",
            "/large.json",
            "invalid",
            "larger than openapi.max_size (20KiB)",
        ),
    ] {
        gateway.deploy(&serving(service, files.path(), path)).await;
        let found = once(&gateway, service, expected).await;
        let told = state(&found, service).expect("told")["error"]
            .as_str()
            .expect("text")
            .to_owned();
        assert!(told.contains(part), "{service}: {told}");
    }
    assert!(paths(&document(&gateway).await).is_empty());
}

#[tokio::test]
async fn a_function_that_does_not_answer_is_given_up() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream.url())
        .config(LOOK)
        .config("openapi.fetch_timeout = \"100ms\"")
        .start()
        .await;
    let annotations = json!({ "com.openfaas.openapi": "/openapi.json" });
    let upstream = upstream.annotated("silent", &annotations, |_| std::future::pending());
    let found = once(&gateway, "silent", "unavailable").await;
    let told = state(&found, "silent").expect("told")["error"].clone();
    assert_eq!(told, "the function did not answer within openapi.fetch_timeout (100ms)");
    // Through the provider, where that is the way of calls.
    let asked = contract("3").to_string();
    let _upstream = upstream.annotated("greeter", &annotations, move |request| {
        let answer = match (request.method().as_str(), request.uri().path()) {
            ("GET", "/function/greeter/openapi.json") => text(200, &asked),
            _ => text(404, "not found"),
        };
        async move { answer }
    });
    let found = once(&gateway, "greeter", "shown").await;
    assert_eq!(found["tags"][0]["description"], "Greetings 3");
}

#[tokio::test]
async fn internal_functions_are_left_out() {
    let gateway = Gateway::new()
        .config(LOOK)
        .config("server.internal_listen = \"127.0.0.1:0\"\n[functions.hidden]\nvisibility = \"internal\"")
        .start()
        .await;
    annotated(&gateway, "hidden", "", &contract("1").to_string()).await;
    let found = once(&gateway, "hidden", "internal").await;
    assert!(paths(&found).is_empty() && found.get("components").is_none(), "{found}");
}

#[tokio::test]
async fn the_document_and_its_pages_are_below_the_base_path() {
    let gateway = Gateway::new()
        .config(LOOK)
        .config("server.base_path = \"/faas\"")
        .start()
        .await;
    let answer = gateway.get(&format!("/faas{PATH}")).send().await.expect("an answer");
    let tag = answer.headers()["etag"].clone();
    let found: Value = answer.json().await.expect("JSON");
    assert_eq!(found["servers"], json!([{ "url": "/faas" }]));
    let again = gateway
        .get(&format!("/faas{PATH}"))
        .header("if-none-match", &tag)
        .send()
        .await;
    assert_eq!(again.expect("an answer").status(), 304);
    let outside = gateway
        .get(&format!("/faas{PATH}"))
        .header("x-forwarded-host", "gw.example")
        .send()
        .await;
    let outside: Value = outside.expect("an answer").json().await.expect("JSON");
    assert_eq!(outside["servers"], json!([{ "url": "http://gw.example/faas" }]));
    for page in ["/faas/docs/functions", "/faas/docs/functions/redoc"] {
        let page = gateway
            .get(page)
            .send()
            .await
            .expect("an answer")
            .text()
            .await
            .expect("text");
        assert!(page.contains("let spec = \"/faas/openapi/functions.json\";"));
        assert!(page.contains("<a href=\"/faas/docs\">"));
        assert!(page.contains("url: spec,") || page.contains("untrustedSpec: true"));
    }
}

#[tokio::test]
async fn who_may_not_list_functions_may_not_read_their_contracts() {
    let gateway = Gateway::new().basic_auth("admin", "s3cret").start().await;
    for path in [PATH, "/docs/functions", "/docs/functions/redoc"] {
        assert_eq!(
            gateway.get(path).send().await.expect("an answer").status(),
            401,
            "{path}"
        );
        let signed_in = gateway.get(path).basic_auth("admin", Some("s3cret")).send().await;
        assert_eq!(signed_in.expect("an answer").status(), 200, "{path}");
    }
}
