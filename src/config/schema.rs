//! The JSON Schema of the configuration file, for editors and for CI, and the
//! question whether a key exists.
//!
//! It is derived from the sections' declarations and from the defaults. It
//! describes what one file may say in the recommended form; what the program
//! accepts besides (numbers and truth values as text) and how keys must fit
//! together, only the program itself knows: `faas-gateway check`.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::{Config, DEFAULTS, Setting, layer, setting::nearest};

/// Draft 7, which every editor's TOML support reads.
const DRAFT: &str = "http://json-schema.org/draft-07/schema#";

/// Format of values that are URLs, and may have credentials in them.
pub(super) const URL: &str = "uri";

/// Format of values that name the file with another key's value.
pub(super) const SECRET_FILE: &str = "secret-file";

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let mut schema = Config::schema();
    let defaults = layer::toml_dict(DEFAULTS)
        .ok()
        .and_then(|defaults| serde_json::to_value(defaults).ok());
    if let Some(defaults) = defaults {
        supply(&mut schema, &defaults);
    }
    schema["$schema"] = DRAFT.into();
    schema["title"] = "faas-gateway".into();
    schema["description"] = "Configuration of faas-gateway; config/gateway.toml is the manual.".into();
    schema
});

/// The schema: pretty JSON with sorted keys and a trailing newline.
pub fn document() -> String {
    format!("{:#}\n", *DOCUMENT)
}

/// The schema of a table. Each field is a name, its documentation, its schema
/// and whether it must be there.
pub(super) fn table(fields: &[(&str, &str, Value, bool)]) -> Value {
    let properties: Map<String, Value> = fields
        .iter()
        .map(|(name, documentation, schema, _)| {
            let mut schema = schema.clone();
            schema["description"] = plain(documentation).into();
            ((*name).to_owned(), schema)
        })
        .collect();
    let required: Vec<&str> = fields
        .iter()
        .filter(|(.., needed)| *needed)
        .map(|(name, ..)| *name)
        .collect();
    let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema
}

/// Documentation as one line, without the mark-up of its source.
fn plain(documentation: &str) -> String {
    let lines: Vec<&str> = documentation
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines.join(" ")
}

/// Notes the defaults; what has one need not be in the file.
fn supply(schema: &mut Value, defaults: &Value) {
    let Some(defaults) = defaults.as_object() else { return };
    for (name, default) in defaults {
        let property = &mut schema["properties"][name];
        if default.is_object() {
            supply(property, default);
        } else if property.is_object() {
            property["default"] = default.clone();
        }
    }
    let Some(table) = schema.as_object_mut() else { return };
    if let Some(required) = table.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| name.as_str().is_none_or(|name| !defaults.contains_key(name)));
        if required.is_empty() {
            table.remove("required");
        }
    }
}

/// What is at a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A key that has a value.
    Key,
    /// A table, with these keys.
    Table(Vec<String>),
    /// A table whose keys are the user's own.
    Names,
    /// Nothing; perhaps this key is meant.
    Nothing(Option<String>),
}

/// Whether the values of a key are URLs.
pub(super) fn is_url(path: &[String]) -> bool {
    at(path).is_some_and(|schema| schema["format"] == URL)
}

/// Whether the values of a key name the files of other keys' values.
pub(super) fn is_secret_file(path: &[String]) -> bool {
    at(path).is_some_and(|schema| schema["format"] == SECRET_FILE)
}

/// Whether there is a key of this name, or can be.
pub(super) fn is_key(path: &[String]) -> bool {
    at(path).is_some()
}

/// What the schema says about a key.
fn at(path: &[String]) -> Option<&'static Value> {
    path.iter().try_fold(&*DOCUMENT, |schema, part| step(schema, part))
}

/// What it says about one part of a table or list.
fn step<'s>(schema: &'s Value, part: &str) -> Option<&'s Value> {
    let any_name = || Some(&schema["additionalProperties"]).filter(|others| others.is_object());
    let item = || Some(&schema["items"]).filter(|items| items.is_object() && part.parse::<usize>().is_ok());
    let found = schema["properties"].as_object().and_then(|known| known.get(part));
    found.or_else(any_name).or_else(item)
}

/// Looks a key up by its parts.
pub(super) fn find(path: &[String]) -> Found {
    let mut schema = &*DOCUMENT;
    for (index, part) in path.iter().enumerate() {
        let Some(next) = step(schema, part) else {
            let properties = schema["properties"].as_object();
            let known: Vec<&str> = properties.into_iter().flat_map(Map::keys).map(String::as_str).collect();
            let better = nearest(part, &known);
            return Found::Nothing(better.map(|better| {
                let mut path = path.to_vec();
                better.clone_into(&mut path[index]);
                super::dotted(&path)
            }));
        };
        schema = next;
    }
    if schema["type"] != "object" {
        return Found::Key;
    }
    if schema["additionalProperties"].is_object() {
        return Found::Names;
    }
    let keys = schema["properties"].as_object().into_iter().flat_map(Map::keys);
    Found::Table(keys.cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(key: &str) -> Found {
        find(&layer::read_key(key).expect("a key"))
    }

    #[test]
    fn keys_are_found_by_their_parts() {
        for key in [
            "server.listen",
            "functions.\"a.b\".timeouts.total",
            "provider.process.images.x.environment.ANY",
        ] {
            assert_eq!(found(key), Found::Key, "{key}");
        }
        assert!(matches!(found("server"), Found::Table(keys) if keys.contains(&"listen".to_owned())));
        for key in [
            "functions",
            "provider.process.images",
            "functions.a.headers.request.set",
        ] {
            assert_eq!(found(key), Found::Names, "{key}");
        }
        for (key, meant) in [
            ("server.lisen", Some("server.listen")),
            ("sever.listen", Some("server.listen")),
            ("server.listen.port", None),
        ] {
            assert_eq!(found(key), Found::Nothing(meant.map(str::to_owned)), "{key}");
        }
    }

    #[test]
    fn only_what_has_no_default_is_required() {
        let document = &*DOCUMENT;
        assert!(document.get("required").is_none());
        assert!(document["properties"]["server"].get("required").is_none());
        let image = &document["properties"]["provider"]["properties"]["process"]["properties"]["images"];
        assert_eq!(image["additionalProperties"]["required"], json!(["command"]));
    }
}
