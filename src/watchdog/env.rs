//! A request's head as the variables of a process, in the forking modes.
//!
//! Pure. The names follow the classic watchdog, which follows CGI loosely:
//! `Http_` and the header's usual spelling with `_` for `-`.

use std::{ffi::OsString, os::unix::ffi::OsStringExt};

use http::{HeaderName, Method, header, request::Parts};
use percent_encoding::percent_decode_str;

/// Headers that have a variable of their own below.
const SPECIAL: [HeaderName; 3] = [header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING];

/// The variables for a request. Of a header sent several times the first counts.
///
/// The header `Proxy` is left out: several HTTP clients, Python's among them,
/// would take `Http_Proxy` for the address of their proxy, so any caller could
/// redirect what the function sends.
pub(super) fn variables(parts: &Parts) -> Vec<(String, OsString)> {
    let mut variables: Vec<(String, OsString)> = parts
        .headers
        .keys()
        .filter(|name| !SPECIAL.contains(name) && name.as_str() != "proxy")
        .filter_map(|name| {
            let value = parts.headers.get(name)?;
            Some((variable(name), OsString::from_vec(value.as_bytes().to_vec())))
        })
        .collect();
    let mut add = |name: &str, value: OsString| variables.push((name.to_owned(), value));
    add("Http_Method", parts.method.as_str().into());
    let length = content_length(parts).to_string();
    add("Http_ContentLength", length.as_str().into());
    add("Http_Content_Length", length.into());
    if let Some(coding) = parts.headers.get(header::TRANSFER_ENCODING) {
        add("Http_Transfer_Encoding", OsString::from_vec(coding.as_bytes().to_vec()));
    }
    if let Some(query) = parts.uri.query().filter(|query| !query.is_empty()) {
        add("Http_Query", query.into());
    }
    add("Http_Path", path(parts.uri.path()));
    if let Some(host) = parts.headers.get(header::HOST) {
        add("Http_Host", OsString::from_vec(host.as_bytes().to_vec()));
    }
    variables
}

/// Length of the body as the caller announced it: -1 when it is chunked.
fn content_length(parts: &Parts) -> i64 {
    if parts.headers.contains_key(header::TRANSFER_ENCODING) {
        return -1;
    }
    parts
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .unwrap_or(0)
}

/// The path decoded, as Go's servers show it. A decoded NUL cannot be part of a
/// variable, so such a path stays as it was sent.
fn path(raw: &str) -> OsString {
    let decoded: Vec<u8> = percent_decode_str(raw).collect();
    if decoded.contains(&0) {
        return raw.into();
    }
    OsString::from_vec(decoded)
}

/// `x-call-id` becomes `Http_X_Call_Id`.
fn variable(name: &HeaderName) -> String {
    let mut variable = String::with_capacity("Http_".len() + name.as_str().len());
    variable.push_str("Http");
    for word in name.as_str().split('-') {
        variable.push('_');
        let mut letters = word.chars();
        variable.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        variable.push_str(letters.as_str());
    }
    variable
}

/// Methods the classic watchdog takes; others get 405.
pub(super) fn classic_method(method: &Method) -> bool {
    [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(method)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use http::Request;

    use super::*;

    fn of(uri: &str, method: &str, headers: &[(&str, &str)]) -> BTreeMap<String, String> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).expect("valid").into_parts();
        variables(&parts)
            .into_iter()
            .map(|(name, value)| (name, value.to_string_lossy().into_owned()))
            .collect()
    }

    #[test]
    fn a_request_becomes_variables() {
        let variables = of(
            "/a%20b/c?testing=1&x=%20",
            "POST",
            &[
                ("x-call-id", "abc"),
                ("content-type", "text/plain"),
                ("content-length", "12"),
                ("host", "fn.example"),
                ("accept", "a"),
                ("accept", "b"),
            ],
        );
        for (name, value) in [
            ("Http_X_Call_Id", "abc"),
            ("Http_Content_Type", "text/plain"),
            ("Http_Content_Length", "12"),
            ("Http_ContentLength", "12"),
            ("Http_Method", "POST"),
            ("Http_Path", "/a b/c"),
            ("Http_Query", "testing=1&x=%20"),
            ("Http_Host", "fn.example"),
            ("Http_Accept", "a"),
        ] {
            assert_eq!(variables.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!variables.contains_key("Http_Transfer_Encoding"));
    }

    #[test]
    fn a_chunked_body_has_no_length() {
        let variables = of("/", "PUT", &[("transfer-encoding", "chunked")]);
        assert_eq!(variables["Http_Content_Length"], "-1");
        assert_eq!(variables["Http_ContentLength"], "-1");
        assert_eq!(variables["Http_Transfer_Encoding"], "chunked");
        assert_eq!(of("/", "GET", &[])["Http_Content_Length"], "0");
    }

    #[test]
    fn what_would_do_harm_is_left_out() {
        let variables = of("/%00/%ff", "GET", &[("proxy", "http://evil.example")]);
        assert!(!variables.contains_key("Http_Proxy"));
        assert!(!variables.contains_key("Http_Query"));
        assert_eq!(variables["Http_Path"], "/%00/%ff");
    }

    #[test]
    fn the_classic_watchdog_knows_five_methods() {
        for (method, known) in [("GET", true), ("DELETE", true), ("HEAD", false), ("OPTIONS", false)] {
            assert_eq!(classic_method(&method.parse().expect("valid")), known, "{method}");
        }
    }
}
