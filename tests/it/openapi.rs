//! The OpenAPI document is an interface: generated clients depend on it.

use faas_gateway::api;
use serde_json::Value;

fn document() -> Value {
    serde_json::from_str(&api::openapi_document()).expect("the document is JSON")
}

/// Path, method and operation, in the document's order.
fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().expect("paths");
    paths
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().expect("methods");
            methods
                .iter()
                .map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
        })
        .collect()
}

#[test]
fn the_committed_document_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/openapi.json");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == api::openapi_document(),
        "openapi/openapi.json does not match the handlers; run `make openapi` and commit the result"
    );
}

#[test]
fn operation_ids_are_fixed() {
    let document = document();
    let mut ids: Vec<&str> = operations(&document)
        .iter()
        .map(|(_, _, operation)| operation["operationId"].as_str().expect("every operation has an id"))
        .collect();
    ids.sort_unstable();
    assert_eq!(
        ids,
        [
            "cancelAsyncCall",
            "createNamedNamespace",
            "createNamespace",
            "createSecret",
            "deleteFunction",
            "deleteNamespace",
            "deleteSecret",
            "deployFunction",
            "diffConfig",
            "explainScaling",
            "getAsyncCall",
            "getAsyncStatus",
            "getConfig",
            "getConfigStatus",
            "getFunction",
            "getHealth",
            "getInfo",
            "getLogs",
            "getNamespace",
            "getTelemetry",
            "invokeAsync",
            "invokeDelete",
            "invokeGet",
            "invokePatch",
            "invokePathAsync",
            "invokePathDelete",
            "invokePathGet",
            "invokePathPatch",
            "invokePathPost",
            "invokePathPut",
            "invokePost",
            "invokePut",
            "listAsyncCalls",
            "listFunctions",
            "listNamespaces",
            "listSecrets",
            "listStore",
            "pauseAsyncCalls",
            "purgeAsyncCalls",
            "redriveAsyncCall",
            "redriveAsyncCalls",
            "reloadConfig",
            "reportAlerts",
            "resumeAsyncCalls",
            "scaleFunction",
            "streamEvents",
            "updateFunction",
            "updateNamespace",
            "updateSecret",
            "validateConfig",
        ]
    );
}

#[test]
fn schema_names_are_fixed() {
    let document = document();
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    let names: Vec<&str> = schemas.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "Alert",
            "AlertNotification",
            "AsyncAttempt",
            "AsyncCall",
            "AsyncCalls",
            "AsyncCount",
            "AsyncDone",
            "AsyncResult",
            "AsyncStatus",
            "ConfigActor",
            "ConfigAttempt",
            "ConfigCandidate",
            "ConfigCandidateFile",
            "ConfigChange",
            "ConfigCheck",
            "ConfigDiff",
            "ConfigEvent",
            "ConfigFileChange",
            "ConfigLayer",
            "ConfigReload",
            "ConfigShadow",
            "ConfigSource",
            "ConfigStatus",
            "ConfigValue",
            "Configuration",
            "DeleteFunctionRequest",
            "FunctionDeployment",
            "FunctionNamespace",
            "FunctionResources",
            "FunctionStatus",
            "FunctionUsage",
            "GatewayInfo",
            "LogMessage",
            "Problem",
            "ProviderInfo",
            "ScaleServiceRequest",
            "ScalingChange",
            "ScalingStatus",
            "Secret",
            "Store",
            "StoreFunction",
            "StoreRefusal",
            "StoreSource",
            "VersionInfo",
        ]
    );
}

#[test]
fn protected_operations_say_so() {
    let document = document();
    let scheme = &document["components"]["securitySchemes"]["basicAuth"];
    assert_eq!((&scheme["type"], &scheme["scheme"]), (&"http".into(), &"basic".into()));
    let mut protected = 0;
    for (path, method, operation) in operations(&document) {
        let here = format!("{method} {path}");
        if path.starts_with("/system/") {
            protected += 1;
            assert_eq!(operation["security"], serde_json::json!([{"basicAuth": []}]), "{here}");
            assert!(operation["responses"]["401"].is_object(), "{here}");
        } else {
            assert!(operation.get("security").is_none(), "{here}");
            assert!(operation["responses"].get("401").is_none(), "{here}");
        }
    }
    assert!(protected > 15, "{protected}");
    let refused = &document["components"]["responses"]["Problem401"];
    assert!(refused["headers"]["WWW-Authenticate"].is_object(), "{refused}");
}

#[test]
fn every_operation_is_described_and_every_error_is_a_problem() {
    let document = document();
    let resolve = |response: &Value| match response["$ref"].as_str() {
        Some(reference) => {
            let pointer = reference.strip_prefix('#').expect("a local reference");
            document
                .pointer(pointer)
                .unwrap_or_else(|| panic!("{reference} leads nowhere"))
                .clone()
        }
        None => response.clone(),
    };
    for (path, method, operation) in operations(&document) {
        let here = format!("{method} {path}");
        assert!(
            operation["summary"].is_string() && operation["tags"][0].is_string(),
            "{here}"
        );
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(parameter["description"].is_string(), "{here}: {parameter}");
        }
        let responses = operation["responses"].as_object().expect("responses");
        assert!(!responses.is_empty(), "{here}");
        for (status, response) in responses {
            let response = resolve(response);
            assert!(
                response["description"].as_str().is_some_and(|text| !text.is_empty()),
                "{here} {status}"
            );
            if status.starts_with(['4', '5']) {
                let schema = &response["content"]["application/problem+json"]["schema"]["$ref"];
                assert_eq!(schema, "#/components/schemas/Problem", "{here} {status}");
            }
        }
    }
}

#[test]
fn the_document_is_plain_enough_for_generators() {
    fn walk(value: &Value, at: &str) {
        match value {
            Value::Object(fields) => {
                for union in ["oneOf", "anyOf", "discriminator"] {
                    assert!(!fields.contains_key(union), "{at}: {union}");
                }
                assert!(
                    fields.get("default").is_none_or(|value| !value.is_null()),
                    "{at}: default null"
                );
                if let Some(format) = fields.get("format").and_then(Value::as_str) {
                    let known = ["byte", "binary", "date-time", "double", "int32", "int64"];
                    assert!(known.contains(&format), "{at}: format {format}");
                }
                fields
                    .iter()
                    .for_each(|(name, value)| walk(value, &format!("{at}/{name}")));
            }
            Value::Array(items) => items.iter().for_each(|value| walk(value, at)),
            _ => {}
        }
    }
    let document = document();
    assert_eq!(document["openapi"], "3.0.3");
    walk(&document, "");
}
