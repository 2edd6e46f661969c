//! Header fields as they are kept: names and bytes, in order.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

/// Names and values.
pub type Fields = Vec<(String, Vec<u8>)>;

/// The fields of a message.
pub fn of(headers: &HeaderMap) -> Fields {
    headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect()
}

/// Kept fields for a message; what is none by now is left out.
pub fn map(kept: &[(String, Vec<u8>)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in kept {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(value)) {
            map.append(name, value);
        }
    }
    map
}

/// Kept fields as JSON: the bytes of values as the characters with those numbers,
/// so that any value comes back as it was.
pub fn text(kept: &[(String, Vec<u8>)]) -> String {
    let list: Vec<Value> = kept
        .iter()
        .map(|(name, value)| json!([name, value.iter().copied().map(char::from).collect::<String>()]))
        .collect();
    Value::from(list).to_string()
}

/// The fields of such a text.
pub fn parse(text: &str) -> Fields {
    let list: Vec<(String, String)> = serde_json::from_str(text).unwrap_or_default();
    list.into_iter()
        .map(|(name, value)| (name, value.chars().filter_map(|byte| u8::try_from(byte).ok()).collect()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_header_value_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        let list = vec![("X-A".to_owned(), all), ("x-a".to_owned(), Vec::new())];
        assert_eq!(parse(&text(&list)), list);
    }
}
