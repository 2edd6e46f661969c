//! WebSocket over HTTP/2 (RFC 8441): a stream that is opened like a tunnel, and
//! the switch of protocols that functions know.
//!
//! What arrives as `CONNECT` with the protocol `websocket` goes on as the `GET`
//! of HTTP/1.1 that asks for the same, so routes, policies and functions see no
//! difference. The key that only HTTP/1.1 has is made here, and its answer checked.

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::ext::Protocol;
use sha1::{Digest, Sha1};

use super::problem_response;
use crate::{
    problem::{Form, Problem},
    proxy::headers,
    upstream::Body,
};

const WEBSOCKET: &str = "websocket";

/// What the key is joined with to make the answer (RFC 6455 section 4.2.2).
const ACCEPT_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A stream that waits to become a tunnel.
#[derive(Debug)]
pub(super) struct Opening {
    /// The answer that the function must give to the key.
    accept: String,
}

/// Turns a request to open a WebSocket over HTTP/2 into the one of HTTP/1.1.
pub(super) fn open<B>(request: &mut Request<B>, nonce: impl FnOnce() -> [u8; 16]) -> Option<Opening> {
    let protocol = request.extensions().get::<Protocol>()?;
    if request.method() != Method::CONNECT || !protocol.as_str().eq_ignore_ascii_case(WEBSOCKET) {
        return None;
    }
    let authority = request.uri().authority().cloned();
    *request.method_mut() = Method::GET;
    *request.version_mut() = Version::HTTP_11;
    let headers = request.headers_mut();
    headers::set_host(headers, authority.as_ref());
    headers::join_cookies(headers);
    headers::set_upgrade(headers, HeaderValue::from_static(WEBSOCKET));
    let key = BASE64_STANDARD.encode(nonce());
    let accept = accept_of(&key);
    if let Ok(key) = HeaderValue::try_from(key) {
        headers.insert(header::SEC_WEBSOCKET_KEY, key);
    }
    headers
        .entry(header::SEC_WEBSOCKET_VERSION)
        .or_insert(HeaderValue::from_static("13"));
    Some(Opening { accept })
}

fn accept_of(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(ACCEPT_SUFFIX);
    BASE64_STANDARD.encode(hash.finalize())
}

impl Opening {
    /// The answer as HTTP/2 has it: 200 where the function switched. Any other
    /// success would open a tunnel that leads nowhere.
    pub(super) fn answer(self, mut response: Response<Body>, form: Form) -> Response<Body> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let headers = response.headers_mut();
            let accept = headers.remove(header::SEC_WEBSOCKET_ACCEPT);
            if accept.is_none_or(|accept| accept != self.accept.as_str()) {
                return wrong("its Sec-WebSocket-Accept is not the answer to the key", form);
            }
            headers.remove(header::UPGRADE);
            headers.remove(header::CONNECTION);
            headers.remove(header::CONTENT_LENGTH);
            *response.status_mut() = StatusCode::OK;
            *response.version_mut() = Version::HTTP_2;
            return response;
        }
        if response.status().is_success() {
            return wrong("it did not switch protocols", form);
        }
        response
    }
}

fn wrong(what: &str, form: Form) -> Response<Body> {
    let text = format!("the function opened no WebSocket: {what}");
    problem_response(&Problem::new(StatusCode::BAD_GATEWAY, text).component("function"), form)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::body;

    fn connect(protocol: Option<&'static str>, method: Method) -> Request<()> {
        let mut request = Request::builder()
            .method(method)
            .uri("https://a.test/function/f?x")
            .version(Version::HTTP_2)
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("sec-websocket-protocol", "chat")
            .body(())
            .expect("a request");
        if let Some(protocol) = protocol {
            request.extensions_mut().insert(Protocol::from_static(protocol));
        }
        request
    }

    #[test]
    fn only_websockets_are_opened() {
        for (protocol, method, opens) in [
            (Some("websocket"), Method::CONNECT, true),
            (Some("WebSocket"), Method::CONNECT, true),
            (Some("connect-udp"), Method::CONNECT, false),
            (None, Method::CONNECT, false),
            (Some("websocket"), Method::GET, false),
        ] {
            let mut request = connect(protocol, method.clone());
            assert_eq!(open(&mut request, || [0; 16]).is_some(), opens, "{method} {protocol:?}");
            if !opens {
                assert_eq!(request.method(), method);
                continue;
            }
            assert_eq!((request.method(), request.version()), (&Method::GET, Version::HTTP_11));
            for (name, value) in [
                ("host", "a.test"),
                ("upgrade", "websocket"),
                ("connection", "upgrade"),
                ("cookie", "a=1; b=2"),
                ("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="),
                ("sec-websocket-version", "13"),
                ("sec-websocket-protocol", "chat"),
            ] {
                assert_eq!(request.headers()[name], value);
            }
        }
    }

    #[test]
    fn only_a_switch_opens_the_tunnel() {
        // The example of RFC 6455.
        let accept = accept_of("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        for (status, given, expected) in [
            (101, Some(&*accept), 200),
            (101, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOx="), 502),
            (101, None, 502),
            (200, None, 502),
            (204, None, 502),
            (404, None, 404),
            (302, None, 302),
        ] {
            let mut response = Response::builder().status(status).header("upgrade", "websocket");
            if let Some(given) = given {
                response = response.header("sec-websocket-accept", given);
            }
            let response = response.body(body::empty()).expect("a response");
            let opening = Opening { accept: accept.clone() };
            let answered = opening.answer(response, Form::Text);
            assert_eq!(answered.status(), expected, "{status} {given:?}");
            assert!(answered.status() != 200 || !answered.headers().contains_key("upgrade"));
        }
    }
}
