//! Problems as gRPC tells them: in the head of an answer without a body
//! ("trailers-only"), whose HTTP status is 200.
//!
//! A client of gRPC that gets another status makes one of its own out of it, and
//! never sees what was wrong.

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// What is not written as it is in a message; nothing beyond ASCII is either.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

/// Whether a message is one of gRPC. Its variant for browsers is not: there, ends
/// are part of the body.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let Some(content_type) = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes) else {
        return false;
    };
    content_type.len() >= GRPC.len()
        && content_type[..GRPC.len()].eq_ignore_ascii_case(GRPC)
        && matches!(content_type.get(GRPC.len()), None | Some(b'+' | b';'))
}

/// An answer without a body that says this.
pub(super) fn answer<B: Default>(status: u16, message: &str) -> Response<B> {
    let mut response = Response::new(B::default());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(STATUS, HeaderValue::from(code(status)));
    let message = utf8_percent_encode(message, ESCAPED).to_string();
    if let Ok(message) = HeaderValue::try_from(message) {
        headers.insert(MESSAGE, message);
    }
    response.extensions_mut().insert(HttpStatus(status));
    response
}

/// The status that an answer would have had in HTTP.
#[derive(Debug, Clone, Copy)]
struct HttpStatus(u16);

/// The status of an answer, as it is counted: that of the problem it tells.
pub fn status_of<B>(response: &Response<B>) -> StatusCode {
    let told = response.extensions().get::<HttpStatus>();
    told.and_then(|told| StatusCode::from_u16(told.0).ok())
        .unwrap_or(response.status())
}

/// What clients of gRPC make of a status themselves, where they do
/// (`http-grpc-status-mapping` of its documentation).
fn code(status: u16) -> u16 {
    const DEADLINE_EXCEEDED: u16 = 4;
    const PERMISSION_DENIED: u16 = 7;
    const RESOURCE_EXHAUSTED: u16 = 8;
    const UNIMPLEMENTED: u16 = 12;
    const INTERNAL: u16 = 13;
    const UNAVAILABLE: u16 = 14;
    const UNAUTHENTICATED: u16 = 16;
    const UNKNOWN: u16 = 2;
    match status {
        400 | 500 => INTERNAL,
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 | 405 | 501 => UNIMPLEMENTED,
        408 => DEADLINE_EXCEEDED,
        413 | 414 | 431 => RESOURCE_EXHAUSTED,
        429 | 502..=504 => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_known_by_its_content_type() {
        for (content_type, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/gRPC; x=y", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/json", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]);
            assert_eq!(is_grpc(&headers), expected, "{content_type}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn problems_are_told_in_the_head() {
        let response: Response<String> = answer(504, "100% späť\nlate");
        assert_eq!(
            (response.status(), status_of(&response)),
            (StatusCode::OK, StatusCode::GATEWAY_TIMEOUT)
        );
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers()["grpc-message"], "100%25 sp%C3%A4%C5%A5%0Alate");
        assert!(response.body().is_empty());
        let plain = Response::builder().status(404).body(()).expect("a response");
        assert_eq!(status_of(&plain), StatusCode::NOT_FOUND);
    }
}
