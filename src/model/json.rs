//! JSON in and out of wire types, outside of request handlers.

use poem_openapi::types::{ParseError, ParseFromJSON, ToJSON};
use serde_json::Value;

/// Media type of RFC 9457 problem details.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// What can be read from JSON: the wire types, lists of them, plain values.
pub trait FromWire: ParseFromJSON {}

impl<T: ParseFromJSON> FromWire for T {}

/// Reads a wire type from JSON text.
///
/// # Errors
/// The parser's message: what was wrong, and in which field.
pub fn from_json<T: FromWire>(text: &[u8]) -> Result<T, String> {
    from_value(serde_json::from_slice(text).map_err(|error| format!("invalid JSON: {error}"))?)
}

/// Reads a wire type from a JSON value.
///
/// # Errors
/// The parser's message: what was wrong, and in which field.
pub fn from_value<T: FromWire>(value: Value) -> Result<T, String> {
    T::parse_from_json(Some(value)).map_err(ParseError::into_message)
}

/// What can be written as JSON: the wire types, lists of them, plain values.
pub trait ToWire: ToJSON {}

impl<T: ToJSON> ToWire for T {}

/// Writes a wire type as JSON text for people.
pub fn to_pretty_json<T: ToWire>(value: &T) -> String {
    format!("{:#}", value.to_json().unwrap_or_default())
}

/// Writes a wire type as compact JSON text.
pub fn to_json<T: ToJSON>(value: &T) -> String {
    value.to_json_string()
}
