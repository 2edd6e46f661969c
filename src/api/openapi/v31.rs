//! The document as OpenAPI 3.1 says the same things, for readers that want JSON
//! Schema 2020-12. Mechanical: 3.0.3 is the contract, and nothing is added here.

use serde_json::{Map, Value, json};

/// The version this writes.
const VERSION: &str = "3.1.0";

/// A 3.0 document in the words of 3.1.
pub(super) fn rendition(mut document: Value) -> Value {
    document["openapi"] = VERSION.into();
    rewrite(&mut document);
    document
}

fn rewrite(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(rewrite),
        Value::Object(fields) => {
            nullable(fields);
            exclusive(fields, "exclusiveMinimum", "minimum");
            exclusive(fields, "exclusiveMaximum", "maximum");
            binary(fields);
            // Beside a media type or a parameter an example stays one.
            if fields.contains_key("type")
                && let Some(example) = fields.remove("example")
            {
                fields.insert("examples".to_owned(), json!([example]));
            }
            fields.values_mut().for_each(rewrite);
        }
        _ => {}
    }
}

/// `null` is a type of its own.
fn nullable(fields: &mut Map<String, Value>) {
    if fields.remove("nullable") == Some(true.into())
        && let Some(kind @ Value::String(_)) = fields.get_mut("type")
    {
        *kind = json!([kind.take(), "null"]);
    }
}

/// Bounds that are not reached are numbers themselves.
fn exclusive(fields: &mut Map<String, Value>, exclusive: &str, bound: &str) {
    match fields.get(exclusive) {
        Some(Value::Bool(true)) => {
            if let Some(number) = fields.remove(bound) {
                fields.insert(exclusive.to_owned(), number);
            }
        }
        Some(Value::Bool(false)) => {
            fields.remove(exclusive);
        }
        _ => {}
    }
}

/// Bytes are no string with a format.
fn binary(fields: &mut Map<String, Value>) {
    let is = |name: &str, text: &str| fields.get(name).and_then(Value::as_str) == Some(text);
    if is("type", "string") && is("format", "binary") {
        fields.remove("type");
        fields.remove("format");
        fields.insert("contentMediaType".to_owned(), "application/octet-stream".into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_in_other_words() {
        for (before, after) in [
            (
                json!({"type": "string", "nullable": true}),
                json!({"type": ["string", "null"]}),
            ),
            (json!({"type": "string", "nullable": false}), json!({"type": "string"})),
            (
                json!({"type": "integer", "minimum": 1, "exclusiveMinimum": true}),
                json!({"type": "integer", "exclusiveMinimum": 1}),
            ),
            (
                json!({"type": "integer", "maximum": 1, "exclusiveMaximum": false}),
                json!({"type": "integer", "maximum": 1}),
            ),
            (
                json!({"schema": {"type": "string", "format": "binary"}}),
                json!({"schema": {"contentMediaType": "application/octet-stream"}}),
            ),
            (
                json!({"type": "string", "example": "a"}),
                json!({"type": "string", "examples": ["a"]}),
            ),
            (
                json!({"schema": {}, "example": "a"}),
                json!({"schema": {}, "example": "a"}),
            ),
        ] {
            let mut found = before.clone();
            rewrite(&mut found);
            assert_eq!(found, after, "{before}");
        }
    }
}
