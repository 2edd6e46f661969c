//! Examples of what is sent and answered.
//!
//! Each is read into the type that the handlers use and written by it again, so
//! that none of them can say what the gateway would not understand or write. They
//! are one story: a function that computes digests, as a gateway on a laptop has it.

use poem_openapi::types::ToJSON;
use serde_json::{Value, json};

use crate::{
    model::{
        AlertNotification, AsyncCall, AsyncCalls, AsyncDone, AsyncStatus, ConfigCandidate, ConfigCheck, ConfigDiff,
        ConfigReload, ConfigStatus, Configuration, DeleteFunctionRequest, Event, FromWire, FunctionDeployment,
        FunctionNamespace, FunctionStatus, GatewayInfo, LogMessage, ScaleServiceRequest, ScalingStatus, Secret, Store,
        from_value,
    },
    problem::Problem,
};

const CALL: &str = "711a3732-344d-4e15-a54b-44023fe900e5";
const HASH: &str = "49c84392623d5b31a242c1aefab48504653b2827e1c3787cbab8100f9d206a72";
const HASH_BEFORE: &str = "df3ee7f6a650b5c4a5361b99e837c56d73cade9f3724ab56299607645b13a38f";

/// Gives schemas their examples; those that are only parts of others have none of their own.
pub(super) fn add(document: &mut Value) {
    for (name, example) in all() {
        document["components"]["schemas"][name]["example"] = example;
    }
}

/// Every example, by the name of its schema.
fn all() -> Vec<(&'static str, Value)> {
    [functions(), asynchronous(), configuration(), others()].concat()
}

fn functions() -> Vec<(&'static str, Value)> {
    vec![
        (
            "FunctionDeployment",
            of::<FunctionDeployment>(json!({
                "service": "shasum", "image": "local", "envProcess": "sha512sum", "labels": { "com.openfaas.scale.max": "4", "com.openfaas.scale.min": "1" },
                "envVars": { "content_type": "text/plain" }, "limits": { "memory": "128Mi" },
            })),
        ),
        (
            "FunctionStatus",
            of::<FunctionStatus>(json!({
                "name": "shasum", "namespace": "openfaas-fn", "image": "local", "envProcess": "sha512sum",
                "labels": { "com.openfaas.scale.max": "4", "com.openfaas.scale.min": "1", "faas_function": "shasum" },
                "annotations": {}, "limits": { "memory": "128Mi" }, "replicas": 1, "availableReplicas": 1,
                "invocationCount": 42.0, "createdAt": "2026-11-26T09:56:27.257147222Z",
            })),
        ),
        (
            "DeleteFunctionRequest",
            of::<DeleteFunctionRequest>(json!({ "functionName": "shasum" })),
        ),
        (
            "ScaleServiceRequest",
            of::<ScaleServiceRequest>(json!({ "serviceName": "shasum", "replicas": 3 })),
        ),
        (
            "ScalingStatus",
            of::<ScalingStatus>(json!({
                "name": "shasum", "namespace": "openfaas-fn", "replicas": 2, "availableReplicas": 2, "min": 1, "max": 4,
                "mode": "stable", "signal": "rps", "target": 50.0, "targetProportion": 0.9, "inFlight": 3, "held": 0,
                "queued": 0, "load": 84.0, "needed": 2, "desired": 2, "idleSeconds": 0.0, "downWindowSeconds": 60.0,
                "stableWindowSeconds": 30.0, "panicWindowSeconds": 6.0, "decidedAt": "2026-11-26T09:56:28.250060724Z",
                "changes": [{ "at": "2026-11-26T09:56:02.1Z", "from": 1, "to": 2, "load": 81.5, "reason": "load" }],
            })),
        ),
        (
            "LogMessage",
            of::<LogMessage>(json!({
                "name": "shasum", "namespace": "openfaas-fn", "instance": "shasum-f957w",
                "timestamp": "2026-11-26T09:56:28.801570725Z", "text": "Wrote 132 Bytes - Duration: 0.01s",
            })),
        ),
    ]
}

fn asynchronous() -> Vec<(&'static str, Value)> {
    let call = json!({
        "id": CALL, "function": "shasum", "namespace": "openfaas-fn", "state": "succeeded", "path": "", "query": "",
        "created": "2026-11-26T09:56:28.826852Z", "finished": "2026-11-26T09:56:28.838857Z",
        "attempts": [{ "started": "2026-11-26T09:56:28.830582Z", "durationSeconds": 0.007_888, "status": 200 }],
        "result": {
            "status": 200, "headers": { "content-type": ["text/plain"], "x-call-id": [CALL] },
            "body": "150a14ed5bea6cc7  -\n", "truncated": false,
        },
    });
    vec![
        ("AsyncCall", of::<AsyncCall>(call.clone())),
        ("AsyncCalls", of::<AsyncCalls>(json!({ "calls": [call] }))),
        ("AsyncDone", of::<AsyncDone>(json!({ "calls": 1 }))),
        (
            "AsyncStatus",
            of::<AsyncStatus>(json!({
                "counts": [{ "function": "shasum", "namespace": "openfaas-fn", "state": "succeeded", "calls": 1 }],
                "paused": false, "paused_functions": [],
            })),
        ),
    ]
}

fn configuration() -> Vec<(&'static str, Value)> {
    vec![
        (
            "Configuration",
            of::<Configuration>(json!({
                "generation": 2, "hash": HASH,
                "values": [{
                    "key": "logging.level", "value": "\"debug\"", "default": "\"info\"", "source": "gateway.toml:4:9",
                    "live": true,
                }],
            })),
        ),
        (
            "ConfigStatus",
            of::<ConfigStatus>(json!({
                "generation": 1, "hash": HASH, "loaded_at": "2026-11-26T09:56:24.209158124Z", "history": [],
                "sources": [{ "path": "gateway.toml", "sha256": HASH_BEFORE }],
                "last_attempt": {
                    "trigger": "start", "result": "applied", "errors": [], "warnings": [],
                    "at": "2026-11-26T09:56:24.209158124Z",
                },
                "pending_restart": [], "shadowed_by_env": [], "live_generations": 1,
            })),
        ),
        (
            "ConfigReload",
            of::<ConfigReload>(json!({
                "result": "applied", "generation": 2, "hash": HASH, "changed": ["logging.level"], "pending_restart": [],
                "shadowed_by_env": [], "warnings": [], "at": "2026-11-26T09:56:30.192837150Z",
            })),
        ),
        (
            "ConfigCandidate",
            of::<ConfigCandidate>(json!({
                "files": [{ "name": "gateway.toml", "content": "logging.level = \"warn\"\n" }],
            })),
        ),
        ("ConfigCheck", of::<ConfigCheck>(json!({ "ok": true, "warnings": [] }))),
        (
            "ConfigDiff",
            of::<ConfigDiff>(json!({
                "generation": 2, "hash": HASH, "warnings": [],
                "changes": [{ "key": "logging.level", "old": "\"debug\"", "new": "\"warn\"", "effect": "live" }],
            })),
        ),
    ]
}

fn others() -> Vec<(&'static str, Value)> {
    let version = json!({ "release": "0.1.0", "sha": "9fceb02d0ae598e95dc970b74767f19372d61af8" });
    vec![
        (
            "Secret",
            of::<Secret>(json!({ "name": "api-key", "value": "correct horse battery staple" })),
        ),
        (
            "FunctionNamespace",
            of::<FunctionNamespace>(json!({ "name": "staging", "labels": { "team": "shop" }, "annotations": {} })),
        ),
        (
            "AlertNotification",
            of::<AlertNotification>(json!({
                "alerts": [{
                    "status": "firing",
                    "labels": { "alertname": "APIHighInvocationRate", "function_name": "shasum.openfaas-fn" },
                }],
            })),
        ),
        (
            "GatewayInfo",
            of::<GatewayInfo>(json!({
                "provider": { "provider": "faas-gateway-process", "orchestration": "process", "version": version },
                "version": version, "arch": "amd64",
            })),
        ),
        (
            "Event",
            of::<Event>(json!({
                "id": "6926d0f8-17", "event": "replicas",
                "data": "{\"availableReplicas\":1,\"name\":\"shasum\",\"namespace\":\"openfaas-fn\",\"replicas\":1,\
                    \"time\":\"2026-11-26T09:56:27.9Z\"}",
            })),
        ),
        (
            "Store",
            of::<Store>(json!({
                "version": "0.2.0",
                "stores": [{
                    "name": "embedded", "kind": "embedded", "priority": 0, "functions": 1, "state": "fresh",
                    "refused": [],
                }],
                "functions": [{
                    "title": "Echo", "name": "echo", "fprocess": "cat", "image": "local", "store": "embedded",
                    "description": "Answers with what it is sent. Runs `cat` on this machine, once for each call.",
                    "images": { "x86_64": "local", "arm64": "local" }, "deployable": true,
                }],
            })),
        ),
        (
            "Problem",
            of::<Problem>(json!({
                "status": 404, "title": "Not Found", "detail": "function shasum.openfaas-fn not found",
                "component": "provider",
            })),
        ),
    ]
}

/// What the type makes of an example.
fn of<T: FromWire + ToJSON>(example: Value) -> Value {
    from_value::<T>(example)
        .expect("an example of its type")
        .to_json()
        .expect("what was read can be written")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Schemas of bodies, by what refers to them outside of schemas.
    fn bodies(part: &Value, found: &mut BTreeSet<String>) {
        match part {
            Value::Object(fields) => {
                let name = fields.get("$ref").and_then(Value::as_str);
                found.extend(name.and_then(|name| Some(name.strip_prefix("#/components/schemas/")?.to_owned())));
                fields.values().for_each(|part| bodies(part, found));
            }
            Value::Array(parts) => parts.iter().for_each(|part| bodies(part, found)),
            _ => {}
        }
    }

    #[test]
    fn whatever_is_sent_or_answered_has_an_example() {
        let document: Value = serde_json::from_str(super::super::document()).expect("JSON");
        let mut found = BTreeSet::new();
        bodies(&document["paths"], &mut found);
        bodies(&document["components"]["responses"], &mut found);
        let examples: BTreeSet<String> = all().into_iter().map(|(name, _)| name.to_owned()).collect();
        assert_eq!(found, examples);
        for name in &examples {
            assert!(document["components"]["schemas"][name]["type"] == "object", "{name}");
        }
    }
}
