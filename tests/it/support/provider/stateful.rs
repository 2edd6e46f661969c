//! A provider that remembers: the semantics of the REST contract without
//! running anything. Functions are ready as soon as they are scaled.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Answer, Asked};

/// Namespace of everything that names none.
const HOME: &str = "openfaas-fn";

type Key = (String, String);

#[derive(Debug)]
pub(super) struct State {
    /// By namespace and name.
    functions: BTreeMap<Key, Function>,
    secrets: BTreeMap<Key, Value>,
    namespaces: BTreeMap<String, Value>,
}

#[derive(Debug)]
struct Function {
    deployment: Value,
    replicas: u64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            functions: BTreeMap::new(),
            secrets: BTreeMap::new(),
            namespaces: BTreeMap::from([(HOME.to_owned(), json!({ "name": HOME }))]),
        }
    }
}

impl State {
    pub(super) fn answer(&mut self, asked: &Asked) -> Answer {
        let path: Vec<&str> = asked.path.trim_start_matches('/').split('/').collect();
        match (asked.method.as_str(), path.as_slice()) {
            (_, ["healthz"]) => Answer::text(200, "OK"),
            ("GET", ["system", "info"]) => Answer::json(
                200,
                &json!({ "provider": "scripted", "orchestration": "none", "version": { "sha": "0", "release": "1.0" } }),
            ),
            ("GET", ["system", "functions"]) => self.list(asked),
            ("POST", ["system", "functions"]) => self.deploy(asked, true),
            ("PUT", ["system", "functions"]) => self.deploy(asked, false),
            ("DELETE", ["system", "functions"]) => self.delete(asked),
            ("GET", ["system", "function", name]) => match self.functions.get(&key(asked, name)) {
                Some(function) => Answer::json(200, &function.status(asked)),
                None => Answer::text(404, &format!("function {name} not found\n")),
            },
            ("POST", ["system", "scale-function", name]) => self.scale(asked, name),
            ("GET", ["system", "logs"]) => self.logs(asked),
            (_, ["system", "secrets"]) => self.secrets(asked),
            ("GET", ["system", "namespaces"]) => Answer::json(200, &json!(self.namespaces.keys().collect::<Vec<_>>())),
            (_, ["system", "namespace", name]) => self.namespace(asked, name),
            (_, ["function", ..]) => Answer::text(200, "called"),
            _ => Answer::text(404, "404 page not found\n"),
        }
    }

    fn list(&self, asked: &Asked) -> Answer {
        let namespace = namespace(asked);
        let list: Vec<Value> = self
            .functions
            .iter()
            .filter(|((home, _), _)| *home == namespace)
            .map(|(_, function)| function.status(asked))
            .collect();
        Answer::json(200, &json!(list))
    }

    fn deploy(&mut self, asked: &Asked, create: bool) -> Answer {
        let deployment = asked.json();
        let Some(name) = deployment["service"].as_str().filter(|name| !name.is_empty()) else {
            return Answer::text(400, "service is required\n");
        };
        let key = key(asked, name);
        if !self.namespaces.contains_key(&key.0) {
            return Answer::text(400, "namespace must be one that exists\n");
        }
        if !create && !self.functions.contains_key(&key) {
            return Answer::text(404, &format!("function {name} not found\n"));
        }
        let replicas = deployment["labels"]["com.openfaas.scale.min"]
            .as_str()
            .and_then(|text| text.parse().ok())
            .unwrap_or(1);
        self.functions.insert(key, Function { deployment, replicas });
        Answer::empty(202)
    }

    fn delete(&mut self, asked: &Asked) -> Answer {
        let body = asked.json();
        let name = body["functionName"].as_str().unwrap_or_default();
        match self.functions.remove(&key(asked, name)) {
            Some(_) => Answer::empty(202),
            None => Answer::text(404, &format!("function {name} not found\n")),
        }
    }

    fn scale(&mut self, asked: &Asked, name: &str) -> Answer {
        let Some(replicas) = asked.json()["replicas"].as_u64() else {
            return Answer::text(400, "cannot parse the request\n");
        };
        match self.functions.get_mut(&key(asked, name)) {
            Some(function) => {
                function.replicas = replicas;
                Answer::empty(202)
            }
            None => Answer::text(404, &format!("function {name} not found\n")),
        }
    }

    fn logs(&self, asked: &Asked) -> Answer {
        let name = asked.parameter("name").unwrap_or_default();
        let key = key(asked, &name);
        if !self.functions.contains_key(&key) {
            return Answer::text(404, &format!("function {name} not found\n"));
        }
        let line = json!({
            "name": name, "namespace": key.0, "instance": "0",
            "timestamp": "2024-05-06T07:08:09.123456789Z", "text": "started",
        });
        Answer::chunks(&[&format!("{line}\n")])
    }

    fn secrets(&mut self, asked: &Asked) -> Answer {
        let body = asked.json();
        let key = key(asked, body["name"].as_str().unwrap_or_default());
        let exists = self.secrets.contains_key(&key);
        match asked.method.as_str() {
            "GET" => {
                let list: Vec<Value> = self
                    .secrets
                    .keys()
                    .filter(|(home, _)| *home == key.0)
                    .map(|(home, name)| json!({ "name": name, "namespace": home }))
                    .collect();
                Answer::json(200, &json!(list))
            }
            "POST" if exists => Answer::text(409, "secret exists already\n"),
            "PUT" | "DELETE" if !exists => Answer::text(404, "secret not found\n"),
            "DELETE" => {
                self.secrets.remove(&key);
                Answer::empty(202)
            }
            _ => {
                self.secrets.insert(key, body);
                Answer::empty(202)
            }
        }
    }

    fn namespace(&mut self, asked: &Asked, name: &str) -> Answer {
        let body = asked.json();
        let name = if name.is_empty() {
            body["name"].as_str().unwrap_or_default().to_owned()
        } else {
            name.to_owned()
        };
        let missing = || Answer::text(404, "namespace not found\n");
        match (asked.method.as_str(), self.namespaces.get(&name)) {
            ("GET", Some(found)) => Answer::json(200, found),
            ("POST", Some(_)) => Answer::text(409, "namespace exists already\n"),
            ("POST", None) | ("PUT", Some(_)) => {
                self.namespaces.insert(name, body);
                Answer::empty(201)
            }
            ("DELETE", Some(_)) => {
                self.functions.retain(|(home, _), _| *home != name);
                self.secrets.retain(|(home, _), _| *home != name);
                self.namespaces.remove(&name);
                Answer::empty(202)
            }
            _ => missing(),
        }
    }
}

impl Function {
    fn status(&self, asked: &Asked) -> Value {
        let mut status = self.deployment.clone();
        if let Some(fields) = status.as_object_mut() {
            let name = fields.remove("service").unwrap_or_default();
            fields.insert("name".to_owned(), name);
            fields.insert("createdAt".to_owned(), json!("2024-05-06T07:08:09Z"));
            fields.entry("namespace").or_insert_with(|| json!(HOME));
            for maps in ["labels", "annotations"] {
                fields.entry(maps).or_insert_with(|| json!({}));
            }
            // As Go writes them: no zeros.
            if self.replicas > 0 {
                fields.insert("replicas".to_owned(), json!(self.replicas));
                fields.insert("availableReplicas".to_owned(), json!(self.replicas));
            }
            if asked.parameter("usage").as_deref() == Some("1") {
                fields.insert("usage".to_owned(), json!({ "cpu": 1.5, "totalMemoryBytes": 1024.0 }));
            }
        }
        status
    }
}

/// Where a request's function or secret is: the namespace of the query, else
/// of the body, else home.
fn namespace(asked: &Asked) -> String {
    asked
        .parameter("namespace")
        .or_else(|| asked.json()["namespace"].as_str().map(str::to_owned))
        .filter(|namespace| !namespace.is_empty())
        .unwrap_or_else(|| HOME.to_owned())
}

fn key(asked: &Asked, name: &str) -> Key {
    (namespace(asked), name.to_owned())
}
