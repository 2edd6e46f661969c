//! Whether an answer is sent compressed, and what its head says then. Pure; the
//! bytes are [`body`]'s.
//!
//! Off unless a function's settings have it. What is compressed already, what
//! must not be changed and what has to arrive as it is sent is left alone.

use http::{HeaderMap, HeaderValue, Method, StatusCode, header, response::Parts};

use crate::config::{Algorithm, CompressionSettings};

pub mod body;

/// Media types whose content is compressed already, by their beginning.
const COMPRESSED: &[&str] = &[
    "image/",
    "video/",
    "audio/",
    "font/woff",
    "application/font-woff",
    "application/gzip",
    "application/x-gzip",
    "application/zip",
    "application/zstd",
    "application/x-bzip2",
    "application/x-xz",
    "application/x-7z-compressed",
    "application/x-rar",
    "application/vnd.rar",
    "application/pdf",
];

/// Those of them that are not.
const TEXTUAL: &[&str] = &["image/svg+xml", "image/bmp", "image/x-icon", "image/vnd.microsoft.icon"];

/// Media types that are read as they arrive, message by message.
const STREAMED: &[&str] = &["text/event-stream", "application/grpc"];

/// Headers about the bytes as the function sent them.
const ABOUT_BYTES: [&str; 4] = ["content-digest", "repr-digest", "digest", "content-md5"];

/// What of a request matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    is_head: bool,
    accepted: Option<Algorithm>,
}

impl Asked {
    /// Of a request with this method and these headers.
    pub fn new(settings: &CompressionSettings, method: &Method, headers: &HeaderMap) -> Self {
        Self {
            is_head: method == Method::HEAD,
            accepted: accepted(headers, &settings.algorithms),
        }
    }
}

/// The algorithm that a caller likes best; among equals, the one named first here.
fn accepted(headers: &HeaderMap, offered: &[Algorithm]) -> Option<Algorithm> {
    let mut codings: Vec<(&str, f32)> = Vec::new();
    for value in headers.get_all(header::ACCEPT_ENCODING) {
        let Ok(value) = value.to_str() else { continue };
        codings.extend(value.split(',').filter_map(coding));
    }
    let weight = |name: &str| {
        let of = |wanted: &str| codings.iter().find(|(coding, _)| coding.eq_ignore_ascii_case(wanted));
        of(name).map(|(_, weight)| *weight)
    };
    let identity = weight("identity").unwrap_or(0.0);
    let mut best: Option<(Algorithm, f32)> = None;
    for algorithm in offered {
        let weight = weight(algorithm.as_str())
            .or_else(|| (*algorithm == Algorithm::Gzip).then(|| weight("x-gzip"))?)
            .or_else(|| weight("*"))
            .unwrap_or(0.0);
        if weight > 0.0 && weight >= identity && best.is_none_or(|(_, highest)| weight > highest) {
            best = Some((*algorithm, weight));
        }
    }
    best.map(|(algorithm, _)| algorithm)
}

/// A coding and its weight (RFC 9110 section 12.5.3).
fn coding(range: &str) -> Option<(&str, f32)> {
    let (name, parameters) = range.split_once(';').unwrap_or((range, ""));
    let name = name.trim();
    let weight = parameters.split(';').map(str::trim).find_map(|parameter| {
        let value = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q="))?;
        // What is no weight is none to rely on.
        Some(value.trim().parse().unwrap_or(0.0))
    });
    (!name.is_empty()).then_some((name, weight.unwrap_or(1.0)))
}

/// Decides about an answer with a body of this length, where that is known, and
/// changes its head.
pub fn apply(
    settings: &CompressionSettings,
    asked: Asked,
    parts: &mut Parts,
    length: Option<u64>,
) -> Option<Algorithm> {
    if asked.is_head || !has_body(parts.status) || !is_eligible(settings, &parts.headers, length) {
        return None;
    }
    let headers = &mut parts.headers;
    // Whoever keeps this answer for others has to know that they may get another.
    add_vary(headers);
    let algorithm = asked.accepted?;
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(algorithm.as_str()));
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::ACCEPT_RANGES);
    weaken_etag(headers);
    Some(algorithm)
}

/// Whether a status comes with a whole body.
fn has_body(status: StatusCode) -> bool {
    !status.is_informational()
        && !matches!(
            status,
            StatusCode::NO_CONTENT | StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED
        )
}

fn is_eligible(settings: &CompressionSettings, headers: &HeaderMap, length: Option<u64>) -> bool {
    let untouched = !headers.contains_key(header::CONTENT_ENCODING)
        && !headers.contains_key(header::CONTENT_RANGE)
        && !ABOUT_BYTES.iter().any(|name| headers.contains_key(*name))
        && !forbids_changes(headers);
    untouched && length.is_none_or(|length| length > 0 && length >= settings.min_size) && is_of(settings, headers)
}

/// `Cache-Control: no-transform` (RFC 9111 section 5.2.2.6).
fn forbids_changes(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CACHE_CONTROL).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|directive| directive.trim().eq_ignore_ascii_case("no-transform"))
}

/// Whether the media type is one to compress.
fn is_of(settings: &CompressionSettings, headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let media = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let begins = |list: &[&str]| list.iter().any(|beginning| media.starts_with(beginning));
    if begins(STREAMED) || (begins(COMPRESSED) && !begins(TEXTUAL)) {
        return false;
    }
    settings.types.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some("*/") => true,
        Some(kind) => media.starts_with(kind),
        None => *pattern == media,
    })
}

fn add_vary(headers: &mut HeaderMap) {
    let names = headers
        .get_all(header::VARY)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let known = names
        .flat_map(|value| value.split(','))
        .any(|name| matches!(name.trim(), "*") || name.trim().eq_ignore_ascii_case(header::ACCEPT_ENCODING.as_str()));
    if !known {
        headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

/// The bytes are others now, and mean the same (RFC 9110 section 8.8.1).
fn weaken_etag(headers: &mut HeaderMap) {
    let weak = headers.get(header::ETAG).and_then(|etag| {
        let etag = etag.as_bytes();
        etag.starts_with(b"\"")
            .then(|| HeaderValue::from_bytes(&[b"W/", etag].concat()).ok())?
    });
    if let Some(weak) = weak {
        headers.insert(header::ETAG, weak);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::headers::map;

    fn settings(types: &[&str]) -> CompressionSettings {
        CompressionSettings {
            algorithms: vec![Algorithm::Zstd, Algorithm::Brotli, Algorithm::Gzip],
            min_size: 100,
            types: types.iter().map(|text| (*text).to_owned()).collect(),
        }
    }

    #[test]
    fn the_caller_chooses_and_among_equals_the_operator() {
        for (values, expected) in [
            (&[][..], None),
            (&["gzip"], Some("gzip")),
            (&["x-gzip"], Some("gzip")),
            (&["gzip, deflate, br"], Some("br")),
            (&["gzip", "zstd"], Some("zstd")),
            (&["gzip, deflate, br, zstd"], Some("zstd")),
            (&["gzip;q=1.0, br;q=0.5"], Some("gzip")),
            (&["GZIP ; Q=0.5"], Some("gzip")),
            (&["*"], Some("zstd")),
            (&["*;q=0.1, gzip;q=0.5"], Some("gzip")),
            (&["zstd;q=0, *"], Some("br")),
            (&["identity"], None),
            (&["gzip;q=0"], None),
            (&["gzip;q=0.5, identity"], None),
            (&["gzip;q=0.5, identity;q=0.4"], Some("gzip")),
            (&["gzip;q=often"], None),
            (&["deflate"], None),
            (&["", ",;q=1"], None),
        ] {
            let pairs: Vec<_> = values.iter().map(|value| ("accept-encoding", *value)).collect();
            let asked = Asked::new(&settings(&[]), &Method::GET, &map(&pairs));
            assert_eq!(asked.accepted.map(Algorithm::as_str), expected, "{values:?}");
        }
    }

    /// What becomes of an answer: the coding, and its headers.
    fn applied(
        asked: Asked,
        status: u16,
        headers: &[(&'static str, &'static str)],
        length: Option<u64>,
    ) -> (Option<&'static str>, HeaderMap) {
        let response = http::Response::builder().status(status).body(()).expect("a response");
        let mut parts = response.into_parts().0;
        parts.headers = map(headers);
        let settings = settings(&["text/*", "application/json", "image/svg+xml", "image/png"]);
        let algorithm = apply(&settings, asked, &mut parts, length);
        (algorithm.map(Algorithm::as_str), parts.headers)
    }

    const GZIP: Asked = Asked {
        is_head: false,
        accepted: Some(Algorithm::Gzip),
    };

    #[test]
    fn the_head_says_what_was_done() {
        let given = [
            ("content-type", "Text/HTML; charset=utf-8"),
            ("content-length", "500"),
            ("accept-ranges", "bytes"),
            ("etag", "\"a\""),
            ("vary", "Origin"),
        ];
        let (coding, headers) = applied(GZIP, 200, &given, Some(500));
        assert_eq!(coding, Some("gzip"));
        let expected = [
            ("content-type", "Text/HTML; charset=utf-8"),
            ("etag", "W/\"a\""),
            ("vary", "Origin"),
            ("vary", "Accept-Encoding"),
            ("content-encoding", "gzip"),
        ];
        assert_eq!(headers, map(&expected));
        // Who accepts nothing gets it as it is, and caches are told.
        let nothing = Asked { accepted: None, ..GZIP };
        let (coding, headers) = applied(nothing, 200, &given, Some(500));
        assert_eq!(coding, None);
        assert_eq!(headers, map(&[&given[..], &[("vary", "Accept-Encoding")]].concat()));
        for vary in ["*", "a, accept-encoding"] {
            let (_, headers) = applied(GZIP, 200, &[("content-type", "text/plain"), ("vary", vary)], None);
            assert_eq!(headers.get_all("vary").iter().count(), 1, "{vary}");
        }
        let weak = [("content-type", "text/plain"), ("etag", "W/\"a\"")];
        assert_eq!(applied(GZIP, 200, &weak, None).1["etag"], "W/\"a\"");
    }

    #[test]
    fn what_is_left_alone_is_left_alone_altogether() {
        let json = ("content-type", "application/json");
        let head = Asked { is_head: true, ..GZIP };
        for (asked, status, headers, length) in [
            (head, 200, &[json][..], None),
            (GZIP, 204, &[json], None),
            (GZIP, 206, &[json], None),
            (GZIP, 304, &[json], None),
            (GZIP, 101, &[json], None),
            (GZIP, 200, &[json], Some(99)),
            (GZIP, 200, &[json], Some(0)),
            (GZIP, 200, &[], None),
            (GZIP, 200, &[("content-type", "application/octet-stream")], None),
            (GZIP, 200, &[("content-type", "text/event-stream")], None),
            (GZIP, 200, &[("content-type", "application/grpc+proto")], None),
            (GZIP, 200, &[("content-type", "image/png")], None),
            (GZIP, 200, &[json, ("content-encoding", "br")], None),
            (GZIP, 200, &[json, ("content-range", "bytes 0-1/5")], None),
            (GZIP, 200, &[json, ("cache-control", "max-age=5, No-Transform")], None),
            (GZIP, 200, &[json, ("content-digest", "sha-256=:x:")], None),
        ] {
            let (coding, left) = applied(asked, status, headers, length);
            assert_eq!((coding, left), (None, map(headers)), "{status} {headers:?} {length:?}");
        }
        for (content_type, length) in [
            ("application/json", Some(100)),
            ("text/plain", None),
            ("image/svg+xml", None),
        ] {
            let (coding, _) = applied(GZIP, 404, &[("content-type", content_type)], length);
            assert_eq!(coding, Some("gzip"), "{content_type}");
        }
        let every = settings(&["*/*"]);
        for (content_type, expected) in [("application/x-odd", true), ("video/mp4", false)] {
            assert_eq!(
                is_of(&every, &map(&[("content-type", content_type)])),
                expected,
                "{content_type}"
            );
        }
    }
}
