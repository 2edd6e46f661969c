//! RFC 9113 section 8: what HTTP/2 carries that has no meaning in HTTP/1.1, or
//! another one, never reaches a function. Frames are written by hand, since no
//! library sends these.

use crate::support::{
    message::{self, Kind, Read},
    script::Script,
    soon,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SMUGGLED: &str = "GET /function/f/smuggled HTTP/1.1\r\nHost: x\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// A literal field, not indexed and not compressed (RFC 7541 section 6.2.2).
fn literal(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| {
        u8::try_from(text.len())
            .ok()
            .filter(|length| *length < 127)
            .expect("short")
    };
    [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
}

/// A request of these fields, and a body.
fn request(fields: &[(&str, &str)], body: Option<&str>) -> Vec<u8> {
    let block: Vec<u8> = fields.iter().flat_map(|(name, value)| literal(name, value)).collect();
    let end = if body.is_none() { END_STREAM } else { 0 };
    let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, b"")].concat();
    bytes.extend(frame(HEADERS, END_HEADERS | end, 1, &block));
    if let Some(body) = body {
        bytes.extend(frame(DATA, END_STREAM, 1, body.as_bytes()));
    }
    bytes
}

const POST: [(&str, &str); 4] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "x"),
    (":path", "/function/f/x"),
];

/// The usual request with one field more.
fn with<'f>(name: &'f str, value: &'f str) -> Vec<(&'f str, &'f str)> {
    [&POST[..], &[(name, value)]].concat()
}

/// The usual request with another pseudo-header.
fn but<'f>(name: &str, value: &'f str) -> Vec<(&'f str, &'f str)> {
    POST.map(|(own, usual)| (own, if own == name { value } else { usual }))
        .to_vec()
}

/// Fields, and a body.
type Case<'c> = (Vec<(&'c str, &'c str)>, Option<&'c str>);

/// Sends it, and makes sure that the function got no whole request of it.
async fn refused(cases: &[Case<'_>]) {
    let mut script = Script::start().await;
    for (fields, body) in cases {
        let caller = script.sends(request(fields, *body)).await;
        // Behind it, on another connection, so that it was seen before.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        drop(caller);
        script.idle().await;
        while !script.is_quiet() {
            let mut call = script.call().await;
            let rest = soon("the end of the call", call.wire.rest()).await;
            let read = message::read(format!("{}{rest}", call.head).as_bytes(), Kind::Request);
            assert!(matches!(read, Read::Partial(_)), "{fields:?} {body:?}: {read:?}");
        }
    }
    script.answers("after").await;
    assert!(script.is_quiet(), "one of them was called");
}

#[tokio::test]
async fn section_8_1_1_lengths_that_are_not_the_bodys() {
    let (short, long, several) = (
        with("content-length", "1"),
        with("content-length", "100"),
        [&POST[..], &[("content-length", "2"), ("content-length", "3")]].concat(),
    );
    refused(&[
        (short, Some(SMUGGLED)),
        (long.clone(), Some("hi")),
        (long, None),
        (several, Some("hi")),
        (with("content-length", "+2"), Some("hi")),
        (with("content-length", "2, 2"), Some("hi")),
        (with("content-length", "0x2"), Some("hi")),
    ])
    .await;
}

#[tokio::test]
async fn section_8_2_1_fields_that_would_be_lines_of_their_own() {
    refused(&[
        (with("x-a", "b\r\nTransfer-Encoding: chunked"), None),
        (
            with("x-a", "b\r\n\r\nGET /function/f/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"),
            None,
        ),
        (with("x-a", "b\nX-Evil: c"), None),
        (with("x-a", "b\rX-Evil: c"), None),
        (with("x-a", "b\0"), None),
        (with("x-a: b\r\nx-evil", "c"), None),
        (with("x a", "b"), None),
        (with("x-a:", "b"), None),
        (with("X-A", "b"), None),
        (with("Transfer-Encoding", "chunked"), Some("0\r\n\r\n")),
        (with("", "b"), None),
    ])
    .await;
}

#[tokio::test]
async fn section_8_2_2_fields_about_a_connection_that_is_none_of_http_1() {
    refused(&[
        (
            with("transfer-encoding", "chunked"),
            Some("0\r\n\r\nGET /function/f/smuggled HTTP/1.1\r\n\r\n"),
        ),
        (with("connection", "close"), None),
        (with("connection", "content-length"), Some("hi")),
        (with("keep-alive", "5"), None),
        (with("proxy-connection", "close"), None),
        (with("upgrade", "x"), None),
        (with("te", "chunked"), None),
    ])
    .await;
}

#[tokio::test]
async fn section_8_3_pseudo_headers() {
    refused(&[
        (POST[1..].to_vec(), None),
        (POST[..3].to_vec(), None),
        (with(":path", "/function/f/smuggled"), None),
        (with(":method", "GET"), None),
        (with(":status", "200"), None),
        (with(":x", "y"), None),
        ([&[("x-a", "b")], &POST[..]].concat(), None),
        (but(":method", "GET /function/f/smuggled HTTP/1.1\r\nX: "), None),
        (but(":method", "G T"), None),
        (but(":path", ""), None),
        (but(":path", "/function/f/x HTTP/1.1\r\nHost: x\r\nX: "), None),
        (but(":path", "/function/f/x HTTP/1.1"), None),
        (but(":path", "/function/f/x\t"), None),
        (but(":authority", "x\r\nX-Evil: y"), None),
        (but(":authority", "x y"), None),
        (but(":scheme", "http://x/function/f/smuggled?"), None),
    ])
    .await;
}

#[tokio::test]
async fn what_is_written_by_hand_here_is_a_call_when_nothing_is_wrong_with_it() {
    let mut script = Script::start().await;
    let fields = with("content-length", "2");
    let _caller = script.sends(request(&fields, Some("hi"))).await;
    let seen = script.call().await.message().await;
    assert_eq!(
        (seen.first(), seen.second(), &*seen.text()),
        ("POST", "/function/f/x", "hi")
    );
}
