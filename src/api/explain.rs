//! Says which field of a JSON body is wrong.
//!
//! poem's parser names the type that failed but not the field, and takes numbers
//! and `true` for text. So a body is first compared with the type's own schema, the
//! one that is in the document. Pure.

use base64::{Engine, prelude::BASE64_STANDARD};
use poem_openapi::{
    registry::{MetaSchema, MetaSchemaRef, Registry},
    types::Type,
};
use serde_json::Value;

/// The first difference between a value and the schema of `T`.
pub(super) fn mismatch<T: Type>(value: &Value) -> Option<String> {
    let mut registry = Registry::new();
    T::register(&mut registry);
    compare(&T::schema_ref(), value, "", &registry)
}

fn compare(schema: &MetaSchemaRef, value: &Value, at: &str, registry: &Registry) -> Option<String> {
    let schema = resolve(schema, registry)?;
    if let Some(whole) = schema.all_of.first() {
        // A referenced object with a description of its own.
        return compare(whole, value, at, registry);
    }
    if !fits(schema, value) {
        let found = kind(value);
        return Some(if at.is_empty() {
            format!("expected {}, found {found}", wanted(schema))
        } else {
            format!(
                "field `{at}` must be {}, not {found}",
                wanted(schema).replace("a JSON object", "an object")
            )
        });
    }
    match value {
        Value::Object(fields) => {
            let missing = schema
                .required
                .iter()
                .find(|name| fields.get(**name).is_none_or(Value::is_null));
            if let Some(name) = missing {
                return Some(format!("missing field `{}`", join(at, name)));
            }
            schema
                .properties
                .iter()
                .find_map(|(name, schema)| {
                    let value = fields.get(*name).filter(|value| !value.is_null())?;
                    compare(schema, value, &join(at, name), registry)
                })
                .or_else(|| {
                    let others = schema.additional_properties.as_ref()?;
                    fields
                        .iter()
                        .filter(|(name, _)| schema.properties.iter().all(|(known, _)| known != name))
                        .find_map(|(name, value)| compare(others, value, &join(at, name), registry))
                })
        }
        Value::Array(items) => {
            let schema = schema.items.as_ref()?;
            items
                .iter()
                .enumerate()
                .find_map(|(index, value)| compare(schema, value, &format!("{at}[{index}]"), registry))
        }
        _ => None,
    }
}

fn resolve<'a>(schema: &'a MetaSchemaRef, registry: &'a Registry) -> Option<&'a MetaSchema> {
    match schema {
        MetaSchemaRef::Inline(schema) => Some(schema),
        MetaSchemaRef::Reference(name) => registry.schemas.get(name),
    }
}

/// Whether a value has the schema's JSON type.
fn fits(schema: &MetaSchema, value: &Value) -> bool {
    match schema.ty {
        "string" if is_base64(schema) => value.as_str().is_some_and(|text| BASE64_STANDARD.decode(text).is_ok()),
        "string" => value.is_string(),
        "integer" if is_unsigned(schema) => value.is_u64(),
        "integer" => value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    }
}

fn is_unsigned(schema: &MetaSchema) -> bool {
    schema.format.is_some_and(|format| format.starts_with('u'))
}

fn is_base64(schema: &MetaSchema) -> bool {
    schema.format == Some("bytes")
}

fn wanted(schema: &MetaSchema) -> &'static str {
    match schema.ty {
        "string" if is_base64(schema) => "base64 text",
        "string" => "a string",
        "integer" if is_unsigned(schema) => "a whole number, zero or more",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "an array",
        _ => "a JSON object",
    }
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

fn join(at: &str, name: &str) -> String {
    if at.is_empty() {
        name.to_owned()
    } else {
        format!("{at}.{name}")
    }
}
