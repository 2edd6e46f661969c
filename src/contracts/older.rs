//! A schema of OpenAPI 3.1 in the words of 3.0: one object at a time, those in it
//! are somebody else's turn. Pure.
//!
//! What has another word there gets it (`null` in `type` or in a union, `const`,
//! `examples`, bounds, bytes, references with something beside them); what can
//! only be said more widely is (`prefixItems`, several types); the rest is left
//! out. Whatever is less than before is noted.

use serde_json::{Map, Value, json};

/// Says what the document loses, at the place at hand.
pub(super) type Note<'n> = &'n mut dyn FnMut(&str);

/// Words of JSON Schema that mean nothing to a reader of the document.
const SILENT: [&str; 4] = ["$schema", "$comment", "$id", "$anchor"];

/// The schema as 3.0 says it.
pub(super) fn schema(mut fields: Map<String, Value>, note: Note) -> Map<String, Value> {
    for word in SILENT {
        fields.remove(word);
    }
    if let Some(reference) = fields.remove("$ref") {
        return referring(fields, reference);
    }
    for union in ["anyOf", "oneOf"] {
        fields = without_null(fields, union);
    }
    types(&mut fields);
    bytes(&mut fields);
    if let Some(value) = fields.remove("const") {
        fields.insert("enum".to_owned(), json!([value]));
    }
    if let Some(Value::Array(examples)) = fields.remove("examples") {
        if examples.len() > 1 {
            note("only the first of several `examples` is kept");
        }
        if let Some(first) = examples.into_iter().next() {
            fields.entry("example").or_insert(first);
        }
    }
    bound(&mut fields, "exclusiveMinimum", "minimum", f64::gt);
    bound(&mut fields, "exclusiveMaximum", "maximum", f64::lt);
    lists(&mut fields, note);
    if fields.remove("patternProperties").is_some() {
        note("`patternProperties` cannot be said in OpenAPI 3.0");
        // They would be forbidden now.
        if fields
            .get("additionalProperties")
            .is_some_and(|value| value != &json!(true))
        {
            fields.insert("additionalProperties".to_owned(), true.into());
        }
    }
    fields
}

/// A reference has nothing beside it in 3.0.
fn referring(fields: Map<String, Value>, reference: Value) -> Map<String, Value> {
    let target = json!({ "$ref": reference });
    if fields.is_empty() {
        return Map::from_iter([("$ref".to_owned(), reference)]);
    }
    with_all_of(fields, target)
}

fn with_all_of(mut fields: Map<String, Value>, part: Value) -> Map<String, Value> {
    match fields.get_mut("allOf") {
        Some(Value::Array(all)) => all.push(part),
        _ => {
            fields.insert("allOf".to_owned(), json!([part]));
        }
    }
    fields
}

/// `null` in a union is a word of its own.
fn without_null(mut fields: Map<String, Value>, union: &str) -> Map<String, Value> {
    let Some(Value::Array(variants)) = fields.get(union) else {
        return fields;
    };
    let (nulls, mut rest): (Vec<_>, Vec<_>) = variants.iter().cloned().partition(|variant| variant["type"] == "null");
    if nulls.is_empty() || rest.is_empty() {
        return fields;
    }
    if rest.len() > 1 {
        fields.insert(union.to_owned(), rest.into());
        fields.insert("nullable".to_owned(), true.into());
        return fields;
    }
    fields.remove(union);
    fields.insert("nullable".to_owned(), true.into());
    let one = rest.remove(0);
    match one {
        Value::Object(one) if !one.contains_key("$ref") && one.keys().all(|key| !fields.contains_key(key)) => {
            fields.extend(one);
            if let Some(Value::Array(values)) = fields.get_mut("enum")
                && !values.contains(&Value::Null)
            {
                values.push(Value::Null);
            }
            // It may be a union itself.
            ["anyOf", "oneOf"].into_iter().fold(fields, without_null)
        }
        one => with_all_of(fields, one),
    }
}

/// One type at most.
fn types(fields: &mut Map<String, Value>) {
    let mut types = match fields.get("type") {
        Some(Value::Array(types)) => types.clone(),
        Some(Value::String(text)) if text == "null" => vec!["null".into()],
        _ => return,
    };
    let before = types.len();
    types.retain(|kind| kind != "null");
    if types.len() < before {
        fields.insert("nullable".to_owned(), true.into());
    }
    match types.len() {
        0 => {
            fields.remove("type");
            fields.entry("enum").or_insert_with(|| json!([null]));
        }
        1 => {
            fields.insert("type".to_owned(), types.remove(0));
        }
        _ => {
            fields.remove("type");
            let nullable = fields.get("nullable").cloned();
            let variants = types.into_iter().map(|kind| {
                let mut variant = json!({ "type": kind });
                if let Some(nullable) = &nullable {
                    variant["nullable"] = nullable.clone();
                }
                variant
            });
            let union = json!({ "anyOf": variants.collect::<Vec<_>>() });
            if fields.contains_key("anyOf") {
                *fields = with_all_of(std::mem::take(fields), union);
            } else {
                fields.insert("anyOf".to_owned(), union["anyOf"].clone());
            }
        }
    }
}

/// Bytes are text with a format.
fn bytes(fields: &mut Map<String, Value>) {
    let encoding = fields.remove("contentEncoding");
    let media = fields.remove("contentMediaType");
    let format = match (&encoding, &media) {
        (Some(Value::String(encoding)), _) if encoding.starts_with("base64") => "byte",
        (None, Some(_)) => "binary",
        _ => return,
    };
    if fields.get("type").is_none_or(|kind| kind == "string") {
        fields.insert("type".to_owned(), "string".into());
        fields.entry("format").or_insert_with(|| format.into());
    }
}

/// A bound that is not reached is one that is, and a word that says so.
fn bound(fields: &mut Map<String, Value>, exclusive: &str, bound: &str, stricter: fn(&f64, &f64) -> bool) {
    let Some(limit) = fields.get(exclusive).and_then(Value::as_f64) else {
        return;
    };
    let other = fields.get(bound).and_then(Value::as_f64);
    let number = fields.remove(exclusive);
    // The other one decides where it is stricter.
    if other.is_none_or(|other| !stricter(&other, &limit))
        && let Some(number) = number
    {
        fields.insert(bound.to_owned(), number);
        fields.insert(exclusive.to_owned(), true.into());
    }
}

/// Lists have one kind of items.
fn lists(fields: &mut Map<String, Value>, note: Note) {
    if let Some(Value::Array(mut variants)) = fields.remove("prefixItems") {
        note("`prefixItems` cannot be said in OpenAPI 3.0: each item may be any of them");
        match fields.remove("items") {
            Some(Value::Bool(false)) => {
                fields.entry("maxItems").or_insert_with(|| variants.len().into());
            }
            Some(more) => variants.push(more),
            None => variants.push(json!({})),
        }
        fields.insert("items".to_owned(), json!({ "anyOf": variants }));
    }
    if fields.get("type").is_some_and(|kind| kind == "array") {
        fields.entry("items").or_insert_with(|| json!({}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(value: Value) -> (Value, usize) {
        let Value::Object(fields) = value else {
            panic!("an object")
        };
        let mut notes = 0;
        let found = schema(fields, &mut |_| notes += 1);
        (found.into(), notes)
    }

    #[test]
    fn the_same_is_said_in_other_words() {
        let order = json!({ "$ref": "#/components/schemas/Order" });
        for (before, after) in [
            (
                json!({"type": ["string", "null"]}),
                json!({"type": "string", "nullable": true}),
            ),
            (json!({"type": "null"}), json!({"nullable": true, "enum": [null]})),
            (
                json!({"type": ["string", "integer"], "title": "Id"}),
                json!({"title": "Id", "anyOf": [{"type": "string"}, {"type": "integer"}]}),
            ),
            (
                json!({"anyOf": [{"type": "string", "maxLength": 3}, {"type": "null"}], "title": "Name"}),
                json!({"type": "string", "maxLength": 3, "nullable": true, "title": "Name"}),
            ),
            (
                json!({"anyOf": [{"enum": ["a"]}, {"type": "null"}]}),
                json!({"enum": ["a", null], "nullable": true}),
            ),
            (
                json!({"anyOf": [order, {"type": "null"}], "default": null}),
                json!({"allOf": [order], "nullable": true, "default": null}),
            ),
            (
                json!({"oneOf": [order, {"type": "string"}, {"type": "null"}]}),
                json!({"oneOf": [order, {"type": "string"}], "nullable": true}),
            ),
            (
                json!({"$ref": "#/components/schemas/Order", "description": "The last."}),
                json!({"allOf": [order], "description": "The last."}),
            ),
            (json!({"const": 1}), json!({"enum": [1]})),
            (
                json!({"type": "string", "examples": ["a"]}),
                json!({"type": "string", "example": "a"}),
            ),
            (
                json!({"type": "integer", "exclusiveMinimum": 1}),
                json!({"type": "integer", "minimum": 1, "exclusiveMinimum": true}),
            ),
            (json!({"exclusiveMinimum": 1, "minimum": 2}), json!({"minimum": 2})),
            (
                json!({"exclusiveMaximum": 1, "maximum": 2}),
                json!({"maximum": 1, "exclusiveMaximum": true}),
            ),
            (
                json!({"type": "string", "contentMediaType": "application/octet-stream"}),
                json!({"type": "string", "format": "binary"}),
            ),
            (
                json!({"type": "string", "contentEncoding": "base64", "contentMediaType": "image/png"}),
                json!({"type": "string", "format": "byte"}),
            ),
            (json!({"type": "array"}), json!({"type": "array", "items": {}})),
            (
                json!({"$comment": "x", "$schema": "y", "type": "string"}),
                json!({"type": "string"}),
            ),
        ] {
            assert_eq!(converted(before.clone()), (after, 0), "{before}");
        }
    }

    #[test]
    fn what_is_said_more_widely_is_noted() {
        for (before, after) in [
            (
                json!({"type": "array", "prefixItems": [{"type": "string"}], "items": false}),
                json!({"type": "array", "maxItems": 1, "items": {"anyOf": [{"type": "string"}]}}),
            ),
            (
                json!({"patternProperties": {"^a": {}}, "additionalProperties": false}),
                json!({"additionalProperties": true}),
            ),
            (json!({"examples": [1, 2]}), json!({"example": 1})),
        ] {
            assert_eq!(converted(before.clone()), (after, 1), "{before}");
        }
    }
}
