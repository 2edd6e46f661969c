//! Header fields as they are kept: names and bytes, in order.

use http::{HeaderMap, HeaderName, HeaderValue};

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
