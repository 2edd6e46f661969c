//! The OpenAPI document: what poem derives from the handlers, plus the
//! function routes, which never reach a handler.
//!
//! Calls to functions are forwarded byte for byte by [`crate::proxy`]; the
//! document describes them for clients' sake. OpenAPI cannot express a path of
//! any depth, so the second form says in words that `path` may contain slashes.

use std::sync::LazyLock;

use poem_openapi::{LicenseObject, OpenApiService};
use serde_json::{Map, Value, json};

use super::{Apis, apis, contracts, pattern, routes};
use crate::problem::{INTERNAL_VALUE, PROBLEM_JSON};

mod examples;
mod v31;

/// Everything a generator of clients may choke on in 3.0.0 is settled in 3.0.3,
/// and nothing poem writes differs between the two.
const VERSION: &str = "3.0.3";

const DESCRIPTION: &str = "Deploy functions, call them, and see how they are doing. Compatible with OpenFaaS clients.\n\n\
     Errors are RFC 9457 problem details when `Accept` admits JSON, else plain text. \
     Those of the gateway itself carry `X-OpenFaaS-Internal: gateway`. \
     Answers below `/system` carry the number of the configuration they come from in `X-Config-Generation`.";

/// [`INTERNAL_HEADER`](crate::problem::INTERNAL_HEADER) as people write it.
const MARK: &str = "X-OpenFaaS-Internal";

/// Methods described for function routes, with the last part of their
/// operation ids. Any other method is forwarded too.
const METHODS: [(&str, &str); 5] = [
    ("get", "Get"),
    ("post", "Post"),
    ("put", "Put"),
    ("patch", "Patch"),
    ("delete", "Delete"),
];

static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let mut text = format!("{:#}", complete(&derived()));
    text.push('\n');
    text
});

/// The API with what the document says about it as a whole.
pub(super) fn service() -> OpenApiService<Apis, ()> {
    OpenApiService::new(apis(), "faas-gateway", env!("CARGO_PKG_VERSION"))
        .description(DESCRIPTION)
        .license(LicenseObject::new(env!("CARGO_PKG_LICENSE")))
        .server("/")
}

/// The document as pretty JSON with keys in order and a trailing newline.
pub(super) fn document() -> &'static str {
    &DOCUMENT
}

/// How the document is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is, in JSON.
    Json,
    /// As it is, in YAML.
    Yaml,
    /// In the words of OpenAPI 3.1, in JSON.
    Json31,
}

/// The document of a gateway whose paths are below `server`: empty, a path like
/// `/faas`, or a URL.
pub(super) fn document_below(server: &str, form: Form) -> String {
    if server.is_empty() && form == Form::Json {
        return document().to_owned();
    }
    let mut below: Value = serde_json::from_str(document()).expect("written above");
    if !server.is_empty() {
        below["servers"] = json!([{ "url": server }]);
    }
    match form {
        Form::Json => format!("{below:#}\n"),
        Form::Json31 => format!("{:#}\n", v31::rendition(below)),
        // Maps with text for keys, which is what it can write.
        Form::Yaml => serde_yaml::to_string(&below).expect("a JSON value"),
    }
}

/// What shows the document to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// Swagger UI, which can also make calls.
    Swagger,
    /// Redoc, to read and to print.
    Redoc,
}

/// Which document a page shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// The gateway's own, which is in the page.
    Gateway,
    /// The functions', which the page asks for: it changes as they come and go.
    Functions,
}

/// The page of a reader, with links to the other pages, and an icon, for browsers
/// would else ask for `/favicon.ico`. What it would load from elsewhere is left out.
pub(super) fn reference_below(server: &str, reader: Reader, shown: Shown) -> String {
    let service = service();
    let (page, place) = match reader {
        Reader::Swagger => (service.swagger_ui_html(), "<div id=\"ui\"></div>"),
        Reader::Redoc => (
            without_fonts(&service.redoc_html()),
            "<div id=\"redoc-container\"></div>",
        ),
    };
    let head = "<head>\n    <link rel=\"icon\" href=\"data:,\">";
    // Not at `<body>`, which is also a word of what is in the scripts.
    let page = page
        .replacen("<head>", head, 1)
        .replacen(place, &format!("{}\n{place}", links(server)), 1);
    match shown {
        Shown::Gateway => page.replace(&service.spec(), &document_below(server, Form::Json)),
        Shown::Functions => page
            .replace(
                &service.spec(),
                &json!(format!("{server}{}", contracts::PATH)).to_string(),
            )
            .replacen("spec: spec,", "url: spec,", 1)
            // Whoever wrote a function's document did not write this page.
            .replacen("scrollYOffset: 50", "scrollYOffset: 50, untrustedSpec: true", 1),
    }
}

/// The way from each page to the others.
fn links(server: &str) -> String {
    let pages = [
        ("/docs", "Gateway"),
        ("/docs/functions", "Functions"),
        ("/docs/redoc", "Gateway (Redoc)"),
        ("/docs/functions/redoc", "Functions (Redoc)"),
    ];
    let link = |(path, text): (&str, &str)| format!("<a href=\"{server}{path}\">{text}</a>");
    let style = "font-family: sans-serif; padding: 0.5em 1em; display: flex; gap: 1.5em";
    format!("<nav style=\"{style}\">{}</nav>", pages.map(link).join(" "))
}

/// A page without the line that loads fonts from elsewhere.
fn without_fonts(page: &str) -> String {
    let lines = page.lines().filter(|line| !line.contains("rel=\"stylesheet\""));
    lines.collect::<Vec<_>>().join("\n")
}

/// What poem derives from the handlers.
fn derived() -> String {
    service().spec()
}

fn complete(derived: &str) -> Value {
    let mut document: Value = serde_json::from_str(derived).expect("poem writes JSON");
    document["openapi"] = VERSION.into();
    if let Some(tags) = document["tags"].as_array_mut() {
        tags.push(json!({ "name": "Invoke", "description": "Call functions." }));
    }
    let paths = document["paths"].as_object_mut().expect("poem writes paths");
    if let Some(path) = paths.remove(routes::NAMESPACE_WITHOUT_SLASH) {
        paths.insert(routes::NAMESPACE_WITH_SLASH.to_owned(), path);
    }
    paths.insert("/async-function/{name}".to_owned(), async_path("invokeAsync", false));
    paths.insert(
        "/async-function/{name}/{path}".to_owned(),
        async_path("invokePathAsync", true),
    );
    paths.insert("/function/{name}".to_owned(), function_path("invoke", false));
    paths.insert("/function/{name}/{path}".to_owned(), function_path("invokePath", true));
    pattern::constrain(&mut document);
    tidy(&mut document);
    share_responses(&mut document);
    examples::add(&mut document);
    document
}

/// Takes out what confuses generators of clients: defaults of `null` for types
/// that are not nullable, defaults of schemas that are referred to (Python's leaves
/// out whatever has one), descriptions and defaults that are given twice, and
/// formats of poem's own, for which OpenAPI has other names: with `uint64`, which
/// they do not know, several of them take an integer for one of 32 bits.
fn tidy(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Object(fields) => {
            let refers = fields.contains_key("allOf");
            let confuses = |default: &Value| default.is_null() || refers && default.is_object();
            if let Some(default) = fields.get("default").filter(|default| confuses(default)).cloned() {
                fields.remove("default");
                // It is given twice.
                let parts = fields.get_mut("allOf").and_then(Value::as_array_mut);
                for part in parts.into_iter().flatten().filter_map(Value::as_object_mut) {
                    if part.get("default") == Some(&default) {
                        part.remove("default");
                    }
                }
            }
            let format = match fields.get("format").and_then(Value::as_str) {
                Some("uint8" | "uint16") => Some("int32"),
                Some("uint32" | "uint64") => Some("int64"),
                Some("bytes") => Some("byte"),
                _ => None,
            };
            if let Some(format) = format {
                fields.insert("format".to_owned(), format.into());
                if format != "byte" {
                    fields.insert("minimum".to_owned(), 0.into());
                }
            }
            fields.values_mut().for_each(tidy);
            if let Some(Value::Array(mut all)) = fields.remove("allOf") {
                all.retain(|part| !repeats(part, fields));
                fields.insert("allOf".to_owned(), all.into());
            }
        }
        _ => {}
    }
}

/// Whether a part of an `allOf` says only what is said beside the `allOf` already.
fn repeats(part: &Value, beside: &Map<String, Value>) -> bool {
    let mut said = part.as_object().into_iter().flatten().peekable();
    said.peek().is_some() && said.all(|(name, value)| beside.get(name) == Some(value))
}

/// Writes each kind of error response once and refers to it.
fn share_responses(document: &mut Value) {
    let mut shared = Map::new();
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    for (path, operations) in paths {
        // The same status means something else where a function answers.
        let prefix = match path.split('/').nth(1) {
            Some("function") => "Function",
            Some("async-function") => "Async",
            _ => "",
        };
        let operations = operations.as_object_mut().into_iter().flat_map(Map::values_mut);
        let responses = operations.filter_map(|operation| operation["responses"].as_object_mut());
        for (status, response) in responses.flatten() {
            let kind = if status == "default" { "Other" } else { status.as_str() };
            let name = format!("{prefix}Problem{kind}");
            let is_problem = response["content"].get(PROBLEM_JSON).is_some();
            if is_problem && shared.get(&name).is_none_or(|known| known == response) {
                let reference = json!({ "$ref": format!("#/components/responses/{name}") });
                shared.insert(name, std::mem::replace(response, reference));
            }
        }
    }
    document["components"]["responses"] = shared.into();
}

/// A call that its caller does not wait for: never a handler's either.
fn async_path(operation: &str, with_path: bool) -> Value {
    let mut path = json!({
        "post": {
            "tags": ["Invoke"],
            "summary": "Call a function without waiting for it",
            "description": "Path, query, headers and body are kept, and go to the function later; what became of the call \
                            is at `Location`. `X-Callback-Url` says where the answer goes, `X-Delay` or `X-Not-Before` \
                            when the call is made at the earliest, and `Idempotency-Key` makes the same call the same \
                            one. No credentials are needed.",
            "operationId": operation,
            "parameters": call_parameters(with_path),
            "requestBody": body(),
            "responses": async_responses(json!({
                "description": "The call is kept.",
                "headers": {
                    "X-Call-Id": { "description": "The call id.", "required": true, "schema": { "type": "string" } },
                    "Location": {
                        "description": "Where its status and result are.",
                        "required": true,
                        "schema": { "type": "string" },
                    },
                },
                "links": {
                    "status": call_link("getAsyncCall", "id", "What became of the call."),
                    "cancel": call_link("cancelAsyncCall", "name", "Takes the call back."),
                },
            }), &[
                ("400", "A header is malformed; the text says which."),
                ("404", "There is no such function."),
                ("413", "The body is larger than `queue.max_body`."),
                ("503", "The call cannot be kept now; `Retry-After` says when to try again."),
            ]),
        },
    });
    if !with_path {
        path["delete"] = json!({
            "tags": ["Invoke"],
            "summary": "Take back an asynchronous call",
            "description": "One that waits is not made, one that runs is broken off. No credentials are needed: the id \
                            is one that nobody can guess, unless its caller chose it.",
            "operationId": "cancelAsyncCall",
            "parameters": [parameter("name", "The call id.")],
            "responses": async_responses(json!({ "description": "The call is taken back." }), &[
                ("404", "There is no such call."),
                ("409", "The call has ended."),
                ("503", "The queue cannot be reached now; `Retry-After` says when to try again."),
            ]),
        });
    }
    path
}

/// Where to go on with the id of a call that is kept.
fn call_link(operation: &str, parameter: &str, description: &str) -> Value {
    json!({
        "operationId": operation,
        "description": description,
        "parameters": { parameter: "$response.header.X-Call-Id" },
    })
}

fn async_responses(accepted: Value, problems: &[(&str, &str)]) -> Value {
    let mut responses: Map<String, Value> = problems
        .iter()
        .map(|(status, description)| ((*status).to_owned(), problem(status, description)))
        .collect();
    responses.insert("202".to_owned(), accepted);
    responses.into()
}

/// What the path of a call is made of.
fn call_parameters(with_path: bool) -> Vec<Value> {
    let mut parameters = vec![parameter("name", "Name of the function, `name` or `name.namespace`.")];
    if with_path {
        parameters.push(parameter(
            "path",
            "Path that the function sees. It may contain slashes, which must not be encoded; it reaches the function byte for byte.",
        ));
    }
    parameters
}

fn function_path(operation: &str, with_path: bool) -> Value {
    let parameters = call_parameters(with_path);
    let operations = METHODS.iter().map(|(method, suffix)| {
        (
            (*method).to_owned(),
            json!({
                "tags": ["Invoke"],
                "summary": "Call a function",
                "description": "Method, path, query, headers and body go to the function unchanged, and its answer \
                                comes back unchanged, both as streams. Any method is forwarded. No credentials are \
                                needed.",
                "operationId": format!("{operation}{suffix}"),
                "parameters": parameters,
                "requestBody": body(),
                "responses": responses(),
            }),
        )
    });
    let mut path: Map<String, Value> = operations.collect();
    // A body of GET and DELETE is forwarded, but OpenAPI 3.0 gives it no meaning.
    for method in ["get", "delete"] {
        if let Some(operation) = path.get_mut(method).and_then(Value::as_object_mut) {
            operation.remove("requestBody");
        }
    }
    path.into()
}

fn parameter(name: &str, description: &str) -> Value {
    json!({ "name": name, "in": "path", "required": true, "description": description, "schema": { "type": "string" } })
}

/// Any type is forwarded. Of those that say nothing of what is in the body, this is
/// the one that generators of clients know; several leave out what takes `*/*`.
fn body() -> Value {
    json!({
        "description": "Anything, of any content type.",
        "required": false,
        "content": { "application/octet-stream": { "schema": binary() } },
    })
}

fn binary() -> Value {
    json!({ "type": "string", "format": "binary" })
}

/// What comes of a call: what the function answers, or what the gateway says in its
/// place. A function has every status too, so only the header tells the two apart.
fn responses() -> Value {
    let mut responses: Map<String, Value> = [
        ("400", "the path or the request cannot be passed on"),
        ("404", "there is no such function"),
        ("408", "the body did not arrive in time; the text names the setting"),
        ("413", "the body is larger than is allowed; the text names the setting"),
        (
            "429",
            "there are too many calls; the text names the setting, and `Retry-After` says when to try again",
        ),
        ("500", "the gateway or the provider failed"),
        ("502", "the function cannot be reached, or broke off"),
        (
            "503",
            "no replica can take the call now; `Retry-After` says when to try again",
        ),
        ("504", "the function did not answer in time; the text names the setting"),
    ]
    .into_iter()
    .map(|(status, reason)| {
        let description = format!("With `{MARK}`, from the gateway: {reason}. Without, the function's own.");
        let mut response = problem(status, &description);
        response["content"]["*/*"] = json!({ "schema": binary() });
        response["headers"][MARK] = json!({
            "description": format!("`{INTERNAL_VALUE}` when the gateway answers in the function's place."),
            "schema": { "type": "string" },
        });
        (status.to_owned(), response)
    })
    .collect();
    responses.insert(
        "default".to_owned(),
        json!({ "description": "Whatever the function answers.", "content": { "*/*": { "schema": binary() } } }),
    );
    responses.into()
}

fn problem(status: &str, description: &str) -> Value {
    let mut problem = json!({
        "description": description,
        "content": {
            PROBLEM_JSON: { "schema": { "$ref": "#/components/schemas/Problem" } },
            "text/plain": { "schema": { "type": "string" } },
        },
    });
    if matches!(status, "429" | "503") {
        let seconds = json!({ "type": "integer" });
        problem["headers"] =
            json!({ "Retry-After": { "description": "Seconds after which to try again.", "schema": seconds } });
    }
    problem
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fmt};

    use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

    use super::*;

    /// JSON whose objects have no key twice, at any depth.
    struct Distinct;

    impl<'de> Deserialize<'de> for Distinct {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(Self)
        }
    }

    impl<'de> Visitor<'de> for Distinct {
        type Value = Self;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("JSON")
        }

        fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
            Ok(self)
        }

        fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
            Ok(self)
        }

        fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
            Ok(self)
        }

        fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
            Ok(self)
        }

        fn visit_str<E>(self, _: &str) -> Result<Self, E> {
            Ok(self)
        }

        fn visit_unit<E>(self) -> Result<Self, E> {
            Ok(self)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
            while items.next_element::<Self>()?.is_some() {}
            Ok(self)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self, A::Error> {
            let mut seen = BTreeSet::new();
            while let Some(key) = fields.next_key::<String>()? {
                if let Some(twice) = seen.replace(key) {
                    return Err(serde::de::Error::custom(format!("the key {twice} appears twice")));
                }
                fields.next_value::<Self>()?;
            }
            Ok(self)
        }
    }

    #[test]
    fn no_object_of_the_derived_document_has_a_key_twice() {
        assert!(serde_json::from_str::<Distinct>(r#"{"a":1,"a":2}"#).is_err());
        if let Err(error) = serde_json::from_str::<Distinct>(&derived()) {
            panic!("all methods of a path belong in one impl: {error}");
        }
    }

    #[test]
    fn the_reference_shows_the_completed_document_and_loads_nothing() {
        for reader in [Reader::Swagger, Reader::Redoc] {
            let page = reference_below("", reader, Shown::Gateway);
            assert!(page.contains("/function/{name}/{path}"), "{reader:?}");
            assert!(page.contains("rel=\"icon\" href=\"data:"), "{reader:?}");
            let (links, script) = (page.find("<nav style"), page.find("</script>"));
            assert!(links.is_some() && links > script, "{reader:?}: the script is as it was");
            for outside in ["src=\"http", "href=\"http", "url(http", "@import url"] {
                assert!(!page.contains(outside), "{reader:?}: {outside}");
            }
        }
    }

    #[test]
    fn errors_of_calls_may_be_the_functions_own() {
        assert!(MARK.eq_ignore_ascii_case(crate::problem::INTERNAL_HEADER.as_str()));
        let document: Value = serde_json::from_str(document()).expect("JSON");
        let responses = document["components"]["responses"].as_object().expect("responses");
        let (of_functions, others): (Vec<_>, Vec<_>) = responses
            .iter()
            .partition(|(name, _)| name.starts_with("FunctionProblem"));
        assert_eq!(of_functions.len(), 9, "{of_functions:?}");
        for (name, response) in of_functions {
            assert_eq!(response["content"]["*/*"]["schema"]["format"], "binary", "{name}");
            assert!(response["headers"].get(MARK).is_some(), "{name}");
        }
        for (name, response) in others {
            assert!(response["content"].get("*/*").is_none(), "{name}");
        }
    }

    #[test]
    fn every_form_says_the_same() {
        let plain: Value = serde_json::from_str(&document_below("/faas", Form::Json)).expect("JSON");
        assert_eq!(plain["servers"], json!([{ "url": "/faas" }]));
        let yaml: Value = serde_yaml::from_str(&document_below("/faas", Form::Yaml)).expect("YAML");
        assert_eq!(yaml, plain);
        let newer: Value = serde_json::from_str(&document_below("/faas", Form::Json31)).expect("JSON");
        assert_eq!(newer["openapi"], "3.1.0");
        for part in ["paths", "components"] {
            let keys = |document: &Value| {
                document[part]
                    .as_object()
                    .map(|map| map.keys().cloned().collect::<Vec<_>>())
            };
            assert_eq!(keys(&newer), keys(&plain), "{part}");
        }
    }
}
