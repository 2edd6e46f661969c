//! Whether the API's answers are what the OpenAPI document says: every test that
//! asks the API through this harness has its answers checked, whatever the test is
//! about. What functions answer themselves is theirs, and not looked at.

use std::{
    collections::HashMap,
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use faas_gateway::api;
use http::{HeaderMap, HeaderValue, Method};
use jsonschema::Validator;
use reqwest::RequestBuilder;
use serde::Serialize;
use serde_json::{Value, json};

/// The document whose schemas are JSON Schema.
static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let mut document: Value = serde_json::from_str(&api::openapi_document_3_1()).expect("JSON");
    close(&mut document["components"]["schemas"]);
    document
});

static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// Answers that were checked.
static CHECKED: AtomicUsize = AtomicUsize::new(0);

/// How many answers were checked so far, in all tests.
pub(crate) fn checked() -> usize {
    CHECKED.load(Ordering::Relaxed)
}

/// A field that is in no schema is a mistake too: of the answers of this gateway
/// all fields are known, but for those that pass through.
fn close(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.get("type") == Some(&json!("object")) && fields.contains_key("properties") {
                fields.entry("additionalProperties").or_insert(json!(false));
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// What an operation answered.
pub(crate) struct Told<'a> {
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    pub(crate) status: u16,
    pub(crate) headers: &'a HeaderMap,
    /// `None` where it is a stream that goes on.
    pub(crate) body: Option<&'a [u8]>,
}

/// Panics unless the document has an operation that may answer this; says whether
/// it knows the operation.
#[track_caller]
pub(crate) fn check(told: &Told) -> bool {
    match wrong(told) {
        Ok(known) => {
            CHECKED.fetch_add(usize::from(known), Ordering::Relaxed);
            known
        }
        Err(why) => panic!(
            "the answer is not what openapi/openapi.json says: {} {} {}: {why}\n{}",
            told.method,
            told.path,
            told.status,
            String::from_utf8_lossy(told.body.unwrap_or_default())
        ),
    }
}

/// What is wrong with an answer, or whether the document knows its operation.
fn wrong(told: &Told) -> Result<bool, String> {
    let is_head = told.method == Method::HEAD;
    let method = if is_head {
        "get".to_owned()
    } else {
        told.method.as_str().to_lowercase()
    };
    let path = told.path.split('?').next().unwrap_or_default();
    let Some((template, operation)) = operation(path, &method) else {
        return Ok(false);
    };
    let responses = &operation["responses"];
    let status = told.status.to_string();
    let declared = responses.get(&status).or_else(|| responses.get("default"));
    let response = declared.ok_or_else(|| format!("{template} does not declare this status"))?;
    let response = resolved(response);
    for (name, header) in response["headers"].as_object().into_iter().flatten() {
        if header["required"] == true && !told.headers.contains_key(name) {
            return Err(format!("the header {name} is missing"));
        }
    }
    let body = match told.body {
        Some(body) if !is_head => body,
        _ => return Ok(true),
    };
    let Some(content) = response["content"].as_object() else {
        let empty = body.is_empty();
        return if empty {
            Ok(true)
        } else {
            Err("there is a body, and none is declared".to_owned())
        };
    };
    let media = told
        .headers
        .get("content-type")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim();
    let essence = |media: &str| media.split(';').next().unwrap_or_default().trim().to_owned();
    let declared = content
        .iter()
        .find(|(declared, _)| essence(declared) == media)
        .map(|(_, found)| found);
    let declared = declared.or_else(|| content.get("*/*"));
    let schema = &declared.ok_or_else(|| format!("the content type `{media}` is not declared"))?["schema"];
    let key = format!("{method} {template} {status} {media}");
    match media {
        "application/json" | "application/problem+json" => valid(&key, schema, body)?,
        "application/x-ndjson" => {
            for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                valid(&key, schema, line)?;
            }
        }
        _ => {
            // Text and bytes: there is nothing that they could not be.
        }
    }
    Ok(true)
}

fn valid(key: &str, schema: &Value, body: &[u8]) -> Result<(), String> {
    let value: Value = serde_json::from_slice(body).map_err(|error| format!("the body is not JSON: {error}"))?;
    let validator = {
        let mut all = VALIDATORS.lock().unwrap_or_else(PoisonError::into_inner);
        let made = all.entry(key.to_owned()).or_insert_with(|| {
            let root = json!({ "allOf": [schema], "components": DOCUMENT["components"] });
            let options = jsonschema::options().with_draft(jsonschema::Draft::Draft202012);
            Arc::new(options.should_validate_formats(true).build(&root).expect("a schema"))
        });
        Arc::clone(made)
    };
    let errors = validator.iter_errors(&value);
    let errors: Vec<String> = errors
        .map(|error| format!("{} {error}", error.instance_path()))
        .collect();
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors.join("; "))
    }
}

fn resolved(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
        Some(pointer) => DOCUMENT.pointer(pointer).expect("a reference that leads somewhere"),
        None => value,
    }
}

/// The operation of a path, unless it is a function's or none.
fn operation(path: &str, method: &str) -> Option<(&'static str, &'static Value)> {
    if path.starts_with("/function/") {
        return None;
    }
    let paths = DOCUMENT["paths"].as_object().expect("paths");
    // What has no parameters at a place is before what has.
    let mut matching: Vec<_> = paths.iter().filter(|(template, _)| matches(template, path)).collect();
    matching.sort_by_key(|(template, _)| template.matches('{').count());
    let (template, item) = matching.first()?;
    Some((template.as_str(), item.get(method)?))
}

fn matches(template: &str, path: &str) -> bool {
    let (mut expected, mut found) = (template.split('/'), path.split('/'));
    loop {
        match (expected.next(), found.next()) {
            // The rest of a call's path may have slashes.
            (None, None) | (Some("{path}"), Some(_)) => return true,
            (Some(part), Some(found)) if part == found || part.starts_with('{') && !found.is_empty() => {}
            _ => return false,
        }
    }
}

/// A request through the harness: like [`RequestBuilder`], but its answer is checked.
pub(crate) struct Asking {
    method: Method,
    path: String,
    request: RequestBuilder,
    /// A route may lead all of another host to functions.
    elsewhere: bool,
}

impl Asking {
    /// A request to this path of a gateway.
    pub(crate) fn new(method: Method, path: &str, request: RequestBuilder) -> Self {
        let path = path.to_owned();
        Self {
            method,
            path,
            request,
            elsewhere: false,
        }
    }

    fn with(self, change: impl FnOnce(RequestBuilder) -> RequestBuilder) -> Self {
        Self {
            request: change(self.request),
            ..self
        }
    }

    pub(crate) fn header<V>(self, name: &str, value: V) -> Self
    where
        HeaderValue: TryFrom<V>,
        <HeaderValue as TryFrom<V>>::Error: Into<http::Error>,
    {
        Self {
            elsewhere: self.elsewhere || name.eq_ignore_ascii_case("host"),
            ..self.with(|request| request.header(name, value))
        }
    }

    pub(crate) fn basic_auth(self, user: &str, password: Option<&str>) -> Self {
        self.with(|request| request.basic_auth(user, password))
    }

    pub(crate) fn body(self, body: impl Into<reqwest::Body>) -> Self {
        self.with(|request| request.body(body))
    }

    pub(crate) fn json<T: Serialize + ?Sized>(self, body: &T) -> Self {
        self.with(|request| request.json(body))
    }

    /// The request, not sent.
    pub(crate) fn build(self) -> reqwest::Result<reqwest::Request> {
        self.request.build()
    }

    /// The answer, checked; its body is read to its end unless it is a stream, or a
    /// function's.
    pub(crate) async fn send(self) -> reqwest::Result<reqwest::Response> {
        let Self {
            method,
            path,
            request,
            elsewhere,
        } = self;
        let response = request.send().await?;
        if elsewhere {
            return Ok(response);
        }
        looked_at(&method, &path, response).await
    }
}

/// An answer that was checked, whose body can be read all the same; it is read to its
/// end unless it is a stream, or a function's.
pub(crate) async fn looked_at(
    method: &Method,
    path: &str,
    response: reqwest::Response,
) -> reqwest::Result<reqwest::Response> {
    let is_api = operation(
        path.split('?').next().unwrap_or_default(),
        &method.as_str().to_lowercase(),
    )
    .is_some();
    let is_stream = response
        .headers()
        .get("content-type")
        .is_some_and(|media| media == "application/x-ndjson" || media == "text/event-stream");
    let told = |headers, status, body| {
        check(&Told {
            method,
            path,
            status,
            headers,
            body,
        });
    };
    if !is_api || is_stream {
        told(response.headers(), response.status().as_u16(), None);
        return Ok(response);
    }
    let mut whole = http::Response::new(Bytes::new());
    *whole.status_mut() = response.status();
    *whole.version_mut() = response.version();
    whole.headers_mut().clone_from(response.headers());
    let body = response.bytes().await?;
    told(whole.headers(), whole.status().as_u16(), Some(&body));
    Ok(whole.map(|_| body).into())
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn answers_that_break_the_contract_are_noticed() {
    let json = |text| HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static(text))]);
    let (plain, problem) = (
        json("application/json"),
        json("application/problem+json; charset=utf-8"),
    );
    let function = json!({ "name": "a", "image": "b", "replicas": 1, "availableReplicas": 0, "createdAt": "2026-01-01T00:00:00Z" });
    let with = |name: &str, value: Value| {
        let mut changed = function.clone();
        changed[name] = value;
        changed
    };
    let (get, put) = (Method::GET, Method::PUT);
    let one = "/system/function/a?usage=1";
    for (method, path, status, headers, body, expected) in [
        (&get, one, 200, &plain, function.clone(), Ok(true)),
        (&get, "/system/functions", 200, &plain, json!([function]), Ok(true)),
        (
            &get,
            one,
            200,
            &plain,
            with("replicas", json!("1")),
            Err("/replicas \"1\" is not of type"),
        ),
        (
            &get,
            one,
            200,
            &plain,
            with("createdAt", json!("today")),
            Err("/createdAt \"today\" is not a \"date-time\""),
        ),
        (
            &get,
            "/system/functions",
            200,
            &plain,
            json!([function, {}]),
            Err("/1 "),
        ),
        (&get, one, 418, &plain, json!({}), Err("is not declared")),
        (
            &get,
            one,
            404,
            &problem,
            json!({ "status": 404 }),
            Err("is a required property"),
        ),
        (
            &get,
            "/system/info",
            418,
            &plain,
            json!({}),
            Err("does not declare this status"),
        ),
        (
            &get,
            "/system/config/status",
            200,
            &plain,
            json!({ "surprise": 1 }),
            Err("surprise"),
        ),
        (
            &get,
            "/healthz",
            200,
            &plain,
            json!("OK"),
            Err("`application/json` is not declared"),
        ),
        (
            &put,
            "/system/functions",
            202,
            &plain,
            json!({}),
            Err("none is declared"),
        ),
        (&put, "/nothing", 404, &plain, json!({}), Ok(false)),
        (&put, "/function/a", 200, &plain, json!({}), Ok(false)),
    ] {
        let body = body.to_string().into_bytes();
        let told = Told {
            method,
            path,
            status,
            headers,
            body: Some(&body),
        };
        match (wrong(&told), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{method} {path}"),
            (Err(found), Err(part)) => assert!(found.contains(part), "{method} {path}: {found}"),
            (found, _) => panic!("{method} {path}: {found:?}"),
        }
    }
    let accepted = Told {
        method: &Method::POST,
        path: "/async-function/a/b/c",
        status: 202,
        headers: &HeaderMap::new(),
        body: Some(&[]),
    };
    assert!(wrong(&accepted).is_err_and(|why| why.contains("is missing")));
}

#[tokio::test]
async fn answers_of_real_gateways_are_checked() {
    let gateway = super::Gateway::new().start().await;
    let before = checked();
    gateway.get("/system/functions").send().await.expect("an answer");
    assert!(checked() > before);
}
