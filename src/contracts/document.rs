//! One function's document: read, checked, and put into names of its own. Pure.
//!
//! What comes out is a part of an OpenAPI 3.0 document. A document of 3.1 is
//! taken too: see [`older`](super::older) for how its words are said in 3.0. What means nothing
//! in 3.0 is left out and noted; what makes the rest mean something else, or
//! nothing, refuses the document.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{
    grammar::METHODS,
    names::Names,
    reading::{Reading, is_web},
};

/// A function's contract as the document of all functions has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Contract {
    /// What its operations are grouped by.
    pub(super) tag: Value,
    pub(super) paths: Map<String, Value>,
    /// By section.
    pub(super) components: Map<String, Value>,
    /// What must be nobody else's: ids of operations, `section/name` of components.
    pub(super) names: BTreeSet<String>,
    /// What could not be kept.
    pub(super) notes: Vec<String>,
}

/// Why there is no contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// What there is cannot be shown: where, what, and why.
    Invalid(String),
    /// There is nothing.
    Unavailable(String),
}

pub(super) type Result<T = ()> = std::result::Result<T, Wrong>;

impl Contract {
    /// Reads a document, JSON or YAML, of the function with this name: see
    /// [`label`](super::label).
    ///
    /// # Errors
    /// [`Wrong::Invalid`], with the place where there is one.
    pub fn read(text: &[u8], label: &str) -> Result<Self> {
        let document = parsed(text)?;
        let newer = is_newer(&document)?;
        let object = |name: &str| match document.get(name) {
            None => Ok(Map::new()),
            Some(Value::Object(fields)) => Ok(fields.clone()),
            Some(_) => Err(invalid(name, "must be an object")),
        };
        let info = object("info")?;
        for field in ["title", "version"] {
            if !info.get(field).is_some_and(Value::is_string) {
                return Err(invalid(&format!("info.{field}"), "must be there, and text"));
            }
        }
        if !newer && document.get("paths").is_none() {
            return Err(invalid("paths", "must be there"));
        }
        let components = object("components")?;
        let server = document["servers"][0]["url"].as_str();
        let mut reading = Reading::new(Names::new(label, server), label, newer, &components);
        reading.inherit(document.get("security"), operation_ids(&document["paths"]));
        if server.is_some_and(|server| !server.starts_with('/')) {
            reading.note("`servers` is left out: the function is called here");
        }
        if document.get("webhooks").is_some() {
            reading.note("`webhooks` cannot be said in OpenAPI 3.0");
        }
        let paths = reading.paths(object("paths")?)?;
        let components = reading.components(components.clone())?;
        reading.check_references(&paths, &components)?;
        let mut names = reading.operations();
        for (section, of_section) in &components {
            let own = of_section.as_object().into_iter().flat_map(Map::keys);
            names.extend(own.map(|name| format!("{section}/{name}")));
        }
        Ok(Self {
            tag: tag(label, &info, document.get("externalDocs")),
            paths,
            components,
            names,
            notes: reading.told(),
        })
    }
}

pub(super) fn invalid(place: &str, what: &str) -> Wrong {
    Wrong::Invalid(if place.is_empty() {
        what.to_owned()
    } else {
        format!("{place}: {what}")
    })
}

fn parsed(text: &[u8]) -> Result<Value> {
    let text = std::str::from_utf8(text).map_err(|_| invalid("", "the document is not UTF-8 text"))?;
    let text = text.trim_start_matches('\u{feff}').trim();
    let document: Value = if text.starts_with('{') {
        // YAML may begin so too, but then nobody can tell what is wrong with JSON.
        serde_json::from_str(text).map_err(|error| invalid("", &format!("the document is not JSON: {error}")))?
    } else {
        serde_yaml::from_str(text).map_err(|error| invalid("", &format!("the document is not YAML: {error}")))?
    };
    if document.is_object() {
        Ok(document)
    } else {
        Err(invalid(
            "",
            "the document is not an object: OpenAPI in JSON or YAML is needed",
        ))
    }
}

/// Whether it is OpenAPI 3.1.
fn is_newer(document: &Value) -> Result<bool> {
    if document.get("swagger").is_some() {
        return Err(invalid(
            "swagger",
            "Swagger 2.0 is not taken; OpenAPI 3.0 or 3.1 is needed",
        ));
    }
    match document.get("openapi").and_then(Value::as_str) {
        Some(version) if version == "3.0" || version.starts_with("3.0.") => Ok(false),
        Some(version) if version == "3.1" || version.starts_with("3.1.") => Ok(true),
        Some(version) => {
            let version: String = version.chars().take(20).collect();
            Err(invalid(
                "openapi",
                &format!("version {} is not taken; 3.0 or 3.1 is needed", version.escape_debug()),
            ))
        }
        None => Err(invalid("openapi", "must be there, and \"3.0.x\" or \"3.1.x\"")),
    }
}

/// The ids that links may refer to.
fn operation_ids(paths: &Value) -> BTreeSet<String> {
    let items = paths.as_object().into_iter().flat_map(Map::values);
    let operations = items.flat_map(|item| METHODS.iter().filter_map(|method| item.get(method)));
    operations
        .filter_map(|operation| operation["operationId"].as_str().map(str::to_owned))
        .collect()
}

/// What a document says of itself, as the description of a group.
fn tag(label: &str, info: &Map<String, Value>, docs: Option<&Value>) -> Value {
    let text = |name: &str| info.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut about = format!("{} {}", text("title"), text("version"));
    for more in ["summary", "description"] {
        if !text(more).is_empty() {
            about.push_str("\n\n");
            about.push_str(text(more));
        }
    }
    let mut tag = json!({ "name": label, "description": about });
    if let Some(docs) = docs.filter(|docs| docs["url"].as_str().is_some_and(is_web)) {
        tag["externalDocs"] = docs.clone();
    }
    tag
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        match Contract::read(text.as_bytes(), "a") {
            Err(Wrong::Invalid(why)) => why,
            other => panic!("{text}: {other:?}"),
        }
    }

    /// A document of this version with these paths and components, in YAML's flow style.
    fn with(version: &str, paths: &str, components: &str) -> String {
        format!("openapi: {version}\ninfo: {{title: A, version: '1'}}\npaths: {paths}\ncomponents: {components}")
    }

    const OK: &str = "responses: {default: {description: All.}}";

    #[test]
    fn what_is_no_document_is_refused_with_the_place() {
        for (text, part) in [
            ("", "not an object"),
            ("hello", "not an object"),
            ("{", "the document is not JSON: EOF"),
            ("a: [", "the document is not YAML"),
            (r#"{"swagger":"2.0"}"#, "swagger: Swagger 2.0 is not taken"),
            (r#"{"openapi":"3.2.0"}"#, "openapi: version 3.2.0 is not taken"),
            (r#"{"info":{}}"#, "openapi: must be there"),
            (r#"{"openapi":"3.0.0"}"#, "info.title: must be there, and text"),
            (
                r#"{"openapi":"3.0.0","info":{"title":"A","version":"1"}}"#,
                "paths: must be there",
            ),
        ] {
            let found = refused(text);
            assert!(found.contains(part), "{text}: {found}");
        }
        assert!(matches!(Contract::read(b"\xff", "a"), Err(Wrong::Invalid(why)) if why.contains("UTF-8")));
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn what_is_wrong_in_a_document_is_refused_with_the_place() {
        for (paths, components, expected) in [
            ("{orders: {}}".to_owned(), "{}", "paths: `orders` is no path"),
            ("{/: []}".to_owned(), "{}", "paths./: a path item must be an object"),
            (
                "{/: {get: {}}}".to_owned(),
                "{}",
                "paths./.get: an operation needs `responses`",
            ),
            (
                "{/: {get: {responses: {200: {}}}}}".to_owned(),
                "{}",
                "paths./.get.responses.200: a response needs `description`",
            ),
            (
                format!("{{'/{{id}}': {{get: {{{OK}}}}}}}"),
                "{}",
                "paths./{id}.get: there is no parameter for `{id}`",
            ),
            (
                format!("{{/: {{get: {{parameters: [{{name: q, in: body, schema: {{}}}}], {OK}}}}}}}"),
                "{}",
                "paths./.get.parameters.0: `in` must be",
            ),
            (
                format!("{{/: {{get: {{parameters: [{{name: q, in: query}}], {OK}}}}}}}"),
                "{}",
                "paths./.get.parameters.0: a parameter needs either",
            ),
            (
                format!("{{/: {{get: {{security: [{{key: []}}], {OK}}}}}}}"),
                "{}",
                "paths./.get: `security` names `key`",
            ),
            (
                "{}".to_owned(),
                "{schemas: {A: {type: text}}}",
                "components.schemas.A: `text` is no type",
            ),
            (
                "{}".to_owned(),
                "{schemas: {A: {type: array}}}",
                "components.schemas.A: a list needs `items`",
            ),
            (
                "{}".to_owned(),
                "{schemas: {A: {required: id}}}",
                "components.schemas.A.required: must be a list of texts",
            ),
            (
                "{}".to_owned(),
                "{schemas: {'a b': {}}}",
                "components.schemas: `a b` is no name",
            ),
            (
                "{}".to_owned(),
                "{schemas: {A: {properties: {b: {$ref: 'http://x/y'}}}}}",
                "components.schemas.A.properties.b: refers to `http://x/y`, which is outside",
            ),
            (
                "{}".to_owned(),
                "{schemas: {A: {$ref: '#/components/schemas/B'}}}",
                "components.schemas.A: refers to `#/components/schemas/a_B`, which is not there",
            ),
            (
                "{}".to_owned(),
                "{schemas: {A: {$ref: '#/components/responses/B'}}, responses: {B: {description: x}}}",
                "components.schemas.A: refers to `#/components/responses/B`, which is not a schema",
            ),
            (
                "{}".to_owned(),
                "{schemas: {A: {discriminator: {propertyName: k, mapping: {b: other.yaml}}}}}",
                "components.schemas.A: refers to `other.yaml`, which is outside",
            ),
            (
                "{}".to_owned(),
                "{links: {L: {operationId: none}}}",
                "components.links.L: links to `none`, which is no operation",
            ),
            (
                "{}".to_owned(),
                "{securitySchemes: {S: {type: mutualTLS}}}",
                "components.securitySchemes.S: `mutualTLS` is no security scheme",
            ),
            (
                "{/: {get: {responses: {ok: {description: x}}}}}".to_owned(),
                "{}",
                "paths./.get: `ok` is no status",
            ),
            (
                "{}".to_owned(),
                "{schemas: {A: {externalDocs: {url: \"java\\tscript:alert(1)\"}}}}",
                "components.schemas.A.externalDocs: a URL must be of http",
            ),
            (
                "{}".to_owned(),
                "{securitySchemes: {S: {type: oauth2, flows: {implicit: {authorizationUrl: 'data:x'}}}}}",
                "components.securitySchemes.S: a URL must be of http",
            ),
        ] {
            let found = refused(&with("3.0.3", &paths, components));
            assert!(found.starts_with(expected), "{paths} {components}: {found}");
        }
    }

    #[test]
    fn what_looks_like_a_reference_is_none_where_it_is_data() {
        let schema = "{type: object, properties: {example: {$ref: '#/components/schemas/B'}, default: {type: string}}, \
                      example: {$ref: 'http://x'}, x-more: {$ref: 'http://y'}, enum: [{$ref: z}]}";
        let text = with(
            "3.0.3",
            "{}",
            &format!("{{schemas: {{A: {schema}, B: {{type: string}}}}}}"),
        );
        let found = Contract::read(text.as_bytes(), "a").expect("a document");
        let schema = &found.components["schemas"]["a_A"];
        assert_eq!(schema["properties"]["example"]["$ref"], "#/components/schemas/a_B");
        assert_eq!(schema["example"]["$ref"], "http://x");
        assert_eq!(schema["x-more"]["$ref"], "http://y");
        assert_eq!(schema["enum"][0]["$ref"], "z");
    }

    #[test]
    fn operations_get_ids_groups_and_the_security_of_the_document() {
        let text = with(
            "3.0.3",
            &format!(
                "{{/a: {{get: {{operationId: x, tags: [one, two], {OK}}}, post: {{operationId: x, security: [], {OK}}}}}, \
                 '/b/{{id}}': {{parameters: [{{$ref: '#/components/parameters/Id'}}], put: {{{OK}}}}}}}"
            ),
            "{securitySchemes: {key: {type: apiKey, name: K, in: header}}, parameters: {Id: {name: id, in: path, schema: {type: string}}}}",
        );
        let text = format!("{text}\nsecurity: [{{key: []}}]\nservers: [{{url: 'https://elsewhere/v1'}}]");
        let found = Contract::read(text.as_bytes(), "f.dev").expect("a document");
        let first = &found.paths["/function/f.dev/a"];
        assert_eq!(first["get"]["operationId"], "f.dev_x");
        assert_eq!(first["get"]["tags"], json!(["f.dev"]));
        assert_eq!(first["get"]["security"], json!([{ "f.dev_key": [] }]));
        assert_eq!(first["post"]["operationId"], "f.dev_x_2");
        assert_eq!(first["post"]["security"], json!([]));
        let second = &found.paths["/function/f.dev/b/{id}"];
        assert_eq!(second["put"]["operationId"], "f.dev_put_b_id");
        assert_eq!(second["parameters"][0]["$ref"], "#/components/parameters/f.dev_Id");
        assert_eq!(found.components["parameters"]["f.dev_Id"]["required"], true);
        assert_eq!(found.notes.len(), 2, "{:?}", found.notes);
    }

    #[test]
    fn a_document_of_3_1_is_said_in_3_0_as_far_as_that_goes() {
        let text = with(
            "3.1.0",
            "{/: {$ref: '#/components/pathItems/Root'}}",
            "{pathItems: {Root: {get: {responses: {200: {description: x, content: {application/json: {schema: \
             {anyOf: [{$ref: '#/components/schemas/A'}, {type: 'null'}]}}}}}}}}, \
             schemas: {A: {type: [object, 'null'], properties: {b: {const: 1}, c: true}, if: {}, then: {}}}}",
        );
        let found = Contract::read(format!("{text}\nwebhooks: {{}}").as_bytes(), "a").expect("a document");
        let schema = &found.paths["/function/a"]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        assert_eq!(
            *schema,
            json!({ "allOf": [{ "$ref": "#/components/schemas/a_A" }], "nullable": true })
        );
        assert_eq!(
            found.components["schemas"]["a_A"],
            json!({ "type": "object", "nullable": true, "properties": { "b": { "enum": [1] }, "c": {} } })
        );
        assert_eq!(
            found.notes,
            [
                "`webhooks` cannot be said in OpenAPI 3.0",
                "components.schemas.A: `if` cannot be said of a schema in OpenAPI 3.0",
                "components.schemas.A: `then` cannot be said of a schema in OpenAPI 3.0",
            ]
        );
        // The same in 3.0 is wrong.
        assert!(
            refused(&with("3.0.3", "{}", "{schemas: {A: {type: [object, 'null']}}}")).contains("type: must be text")
        );
    }

    #[test]
    fn links_and_callbacks_lead_where_they_did() {
        let text = with(
            "3.0.3",
            "{/: {post: {operationId: make, callbacks: {done: {'{$request.body#/url}': {post: {responses: {200: {description: x}}}}}}, \
             responses: {201: {description: x, links: {see: {operationId: look}, ref: {operationRef: '#/paths/~1/get'}}}}}, \
             get: {operationId: look, responses: {200: {description: x}}}}}",
            "{}",
        );
        let found = Contract::read(text.as_bytes(), "a").expect("a document");
        let post = &found.paths["/function/a"]["post"];
        assert_eq!(post["responses"]["201"]["links"]["see"]["operationId"], "a_look");
        assert_eq!(
            post["responses"]["201"]["links"]["ref"]["operationRef"],
            "#/paths/~1function~1a/get"
        );
        assert_eq!(
            post["callbacks"]["done"]["{$request.body#/url}"]["post"]["operationId"],
            "a_post_callback"
        );
    }

    #[test]
    fn a_document_that_unfolds_without_end_is_refused() {
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                    d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
                    g: [*f,*f,*f,*f,*f,*f,*f,*f,*f]";
        assert!(refused(bomb).contains("not YAML"));
        assert!(refused(&"[".repeat(100_000)).contains("not YAML"));
        assert!(refused(&format!("{{\"a\":{}", "[".repeat(100_000))).contains("not JSON"));
    }
}
