//! Which headers cross the gateway, and which it adds. Pure functions, and the
//! one place where the names of special headers are written.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, uri::Authority};

use super::fast::head::length;
use crate::{
    config::HeaderChanges,
    trace::{Carried, TraceContext},
};

/// What a reader of server-sent events read last (WHATWG HTML, section 9.2).
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Identifies a call; kept when the caller sent one.
pub const CALL_ID: HeaderName = HeaderName::from_static("x-call-id");
/// Unix time in nanoseconds at which the gateway began the call.
pub const START_TIME: HeaderName = HeaderName::from_static("x-start-time");
/// Seconds the call took until the function's first byte.
pub const DURATION_SECONDS: HeaderName = HeaderName::from_static("x-duration-seconds");
/// Which gateway answered.
pub const SERVED_BY: HeaderName = HeaderName::from_static("x-served-by");
/// `Host` of the original request.
pub const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// Address of the original client.
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Scheme of the original request.
pub const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Beginning of the original path that a route took off.
pub const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
/// A request's place in its trace (W3C Trace Context).
pub const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
/// What those on the way know of the trace.
pub const TRACE_STATE: HeaderName = HeaderName::from_static("tracestate");
/// The caller's certificate (RFC 9440), where callers are asked for one.
pub const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
/// Further certificates of the caller; never told.
pub const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");
/// The call whose answer an asynchronous call carries.
pub const SOURCE_CALL_ID: HeaderName = HeaderName::from_static("x-source-call-id");
/// How many calls an answer has come through that went on from one to the next.
pub const CALL_DEPTH: HeaderName = HeaderName::from_static("x-call-depth");
/// Marks answers that come from the gateway or a watchdog and not from a function.
pub const INTERNAL: HeaderName = HeaderName::from_static("x-openfaas-internal");

/// `Retry-After` of a 429 or 503 where nothing better is known: soon, but not at once.
pub const RETRY_AFTER_SECONDS: u64 = 1;

/// No field: reserved, since `Connection` would name it (RFC 9112 section 9.6).
const CLOSE: HeaderName = HeaderName::from_static("close");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Headers about one connection (RFC 9110 section 7.6.1). `Trailer` is not
/// among them: trailers are relayed, so their announcement is too.
static HOP_BY_HOP: [HeaderName; 9] = [
    CLOSE,
    header::CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Whether a header is about one connection.
pub fn is_hop_by_hop(name: &str) -> bool {
    HOP_BY_HOP.iter().any(|known| name.eq_ignore_ascii_case(known.as_str()))
}

/// Removes what concerns one connection only: the known headers and those that
/// `Connection` names (RFC 9110 section 7.6.1). `TE: trailers` is put back,
/// because trailers are relayed.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // One look at each name costs less than asking for each of these: most messages have one or none.
    let mut found = [false; HOP_BY_HOP.len()];
    for name in headers.keys() {
        if let Some(at) = HOP_BY_HOP.iter().position(|known| known == name) {
            found[at] = true;
        }
    }
    if found == [false; HOP_BY_HOP.len()] {
        return;
    }
    if headers.contains_key(header::TRANSFER_ENCODING) {
        // It rules over a length, which then says something else (RFC 9112 section
        // 6.3). Before anything else: `Connection` may name it.
        headers.remove(header::CONTENT_LENGTH);
    }
    let usual = |connection: &HeaderValue| {
        ["keep-alive", "close", "upgrade"]
            .iter()
            .any(|usual| connection.as_bytes().eq_ignore_ascii_case(usual.as_bytes()))
    };
    // The usual values name nothing that is not removed below anyway.
    if !headers.get_all(header::CONNECTION).iter().all(usual) {
        for name in named_in_connection(headers) {
            headers.remove(name);
        }
    }
    let trailers = headers.get(header::TE).is_some_and(|te| {
        te.to_str().is_ok_and(|te| {
            te.split(',')
                .any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
        })
    });
    for (name, _) in HOP_BY_HOP.iter().zip(found).filter(|(_, found)| *found) {
        headers.remove(name);
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Whether a message in chunks says so in the one way that is understood here.
/// Another coding would get lost, since this header concerns one connection only.
pub fn is_plainly_coded(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    codings.next().is_none_or(chunked) && codings.next().is_none()
}

/// Whether an answer says in one way where its body ends; lengths that are the
/// same become one.
///
/// # Errors
/// What is wrong with it: a caller would read it in another way than we do.
pub fn settle_framing(status: StatusCode, headers: &mut HeaderMap) -> Result<(), &'static str> {
    if !is_plainly_coded(headers) {
        return Err("it has a transfer coding other than chunked");
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return Ok(()) };
    let length = |value: &HeaderValue| length(value.as_bytes());
    let known = length(first).ok_or("its Content-Length is no number")?;
    let mut several = false;
    for other in lengths {
        several = true;
        if length(other) != Some(known) {
            return Err("it has several lengths");
        }
    }
    if status == StatusCode::NO_CONTENT {
        // There is no body whose length it could be (RFC 9110 section 8.6).
        headers.remove(header::CONTENT_LENGTH);
    } else if several {
        headers.insert(header::CONTENT_LENGTH, first.clone());
    }
    Ok(())
}

/// Whether a header stays although `Connection` names it: it frames or addresses the message.
pub fn is_protected_from_connection(name: &[u8]) -> bool {
    [header::HOST, header::CONTENT_LENGTH, header::CONTENT_TYPE, header::TE]
        .iter()
        .any(|protected| name.eq_ignore_ascii_case(protected.as_str().as_bytes()))
}

/// Names that `Connection` lists, except those that frame or address the
/// message: removing `Host` or `Content-Length` because a client asks for it
/// would change what the message is.
fn named_in_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| !is_protected_from_connection(name.as_str().as_bytes()))
        .collect()
}

/// The protocol a request asks to switch to, when `Connection` says so too
/// (RFC 9110 section 7.8).
///
/// Never HTTP itself (`h2c`): requests inside such a tunnel would reach every
/// path of an upstream, unseen by the gateway.
pub fn requested_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let upgrade = headers.get(header::UPGRADE)?;
    let http = |protocol: &str| {
        let name = protocol.split('/').next().unwrap_or_default().trim();
        ["h2c", "h2", "http", "tls"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known))
    };
    if headers.get_all(header::UPGRADE).iter().count() > 1 || upgrade.to_str().ok()?.split(',').any(http) {
        return None;
    }
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
        .then(|| upgrade.clone())
}

/// Asks for, or agrees to, a switch to `protocol`.
pub fn set_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::UPGRADE, protocol);
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
}

/// Gives a request the one `Host` it is for: the target's authority, where it
/// has one (HTTP/2, and HTTP/1.1 requests in absolute form), else the header as
/// it came (RFC 9112 section 3.2.2, RFC 9113 section 8.3.1).
pub fn set_host(headers: &mut HeaderMap, authority: Option<&Authority>) {
    let Some(authority) = authority else { return };
    // Without a user name and password, which are not part of `Host`.
    let host = authority.as_str().rsplit('@').next().unwrap_or_default();
    if let Ok(host) = HeaderValue::try_from(host) {
        headers.insert(header::HOST, host);
    }
}

/// Tells a function which part of the path a route took off, unless there is
/// none or an earlier proxy told of its own.
pub fn set_forwarded_prefix(headers: &mut HeaderMap, prefix: &str) {
    if !prefix.is_empty()
        && !headers.contains_key(FORWARDED_PREFIX)
        && let Ok(prefix) = HeaderValue::try_from(prefix)
    {
        headers.insert(FORWARDED_PREFIX, prefix);
    }
}

/// Tells a function which certificate the caller showed. What the caller itself
/// says of that goes (RFC 9440 section 2.4).
pub fn set_client_cert(headers: &mut HeaderMap, certificate: Option<HeaderValue>) {
    headers.remove(CLIENT_CERT_CHAIN);
    match certificate {
        Some(certificate) => {
            headers.insert(CLIENT_CERT, certificate);
        }
        None => {
            headers.remove(CLIENT_CERT);
        }
    }
}

/// Whether the caller's own connection was encrypted, as the proxy nearest to
/// it says.
pub fn came_by_https(headers: &HeaderMap) -> bool {
    let proto = headers.get(FORWARDED_PROTO).and_then(|proto| proto.to_str().ok());
    let first = proto.and_then(|proto| proto.split(',').next());
    first.is_some_and(|first| first.trim().eq_ignore_ascii_case("https"))
}

/// Joins the cookies that HTTP/2 may send in pieces (RFC 9113 section 8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
    let mut pieces = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    let (Some(first), Some(second)) = (pieces.next(), pieces.next()) else {
        return;
    };
    let mut joined = [first, second].join(&b"; "[..]);
    for piece in pieces {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(piece);
    }
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(header::COOKIE, joined);
    }
}

/// The caller's place in its trace; none when it names several, or none that is valid.
pub fn trace_parent(headers: &HeaderMap) -> Option<TraceContext> {
    let mut values = headers.get_all(TRACE_PARENT).iter();
    let first = values.next()?;
    values.next().is_none().then(|| TraceContext::parse(first.as_bytes()))?
}

/// Tells a function its place in the trace, unless the operator has a say in
/// that header: `changes` were made before.
pub fn set_trace(headers: &mut HeaderMap, carried: Carried, changes: Option<&HeaderChanges>) {
    let ours = |name: &HeaderName| {
        changes.is_none_or(|changes| !changes.remove.contains(name) && changes.set.iter().all(|(set, _)| set != name))
    };
    if ours(&TRACE_PARENT)
        && let Ok(parent) = HeaderValue::from_bytes(&carried.context.parent())
    {
        headers.insert(TRACE_PARENT, parent);
    }
    if carried.begins && ours(&TRACE_STATE) {
        headers.remove(TRACE_STATE);
    }
}

/// What the gateway knows about a call and tells both sides.
#[derive(Debug, Clone)]
pub struct CallHeaders {
    /// The caller's id, or a new one.
    pub call_id: HeaderValue,
    /// Unix time in nanoseconds, as text.
    pub start_time: HeaderValue,
    /// What the operator changes of the request, after everything else.
    pub request_changes: Option<Arc<HeaderChanges>>,
}

/// The changes without those of headers that say how a message is framed, where
/// it is for, or what becomes of its connection: these are the gateway's.
#[must_use]
pub fn permitted(changes: &HeaderChanges) -> HeaderChanges {
    let ours = |name: &HeaderName| {
        HOP_BY_HOP.contains(name)
            || [header::HOST, header::CONTENT_LENGTH, header::TRAILER, header::EXPECT].contains(name)
    };
    HeaderChanges {
        set: changes.set.iter().filter(|(name, _)| !ours(name)).cloned().collect(),
        remove: changes.remove.iter().filter(|name| !ours(name)).cloned().collect(),
    }
}

/// Removes and sets headers. The changes must be [`permitted`].
pub fn change(headers: &mut HeaderMap, changes: &HeaderChanges) {
    for name in &changes.remove {
        headers.remove(name);
    }
    for (name, value) in &changes.set {
        headers.insert(name, value.clone());
    }
}

/// Turns a caller's headers into those the function sees (compatibility.md
/// section 1.3): without hop-by-hop headers, with the call's id and start, and
/// with the caller's address and host unless an earlier proxy set them.
///
/// `X-Forwarded-For` is `ip:port` and is not appended to, as in OpenFaaS
/// (section 12).
pub fn to_upstream(headers: &mut HeaderMap, call: &CallHeaders, peer: SocketAddr, host: Option<&HeaderValue>) {
    strip_hop_by_hop(headers);
    // The 100 is sent by our own server when the body is first read.
    headers.remove(header::EXPECT);
    headers.insert(CALL_ID, call.call_id.clone());
    headers.append(START_TIME, call.start_time.clone());
    if !headers.contains_key(FORWARDED_FOR)
        && let Ok(value) = HeaderValue::try_from(address_text(peer))
    {
        headers.insert(FORWARDED_FOR, value);
    }
    if !headers.contains_key(FORWARDED_PROTO) {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if let Some(original) = headers.get(header::HOST)
        && !headers.contains_key(FORWARDED_HOST)
    {
        headers.insert(FORWARDED_HOST, original.clone());
    }
    if let Some(host) = host {
        headers.insert(header::HOST, host.clone());
    }
    if let Some(changes) = &call.request_changes {
        change(headers, changes);
    }
}

/// An address as `ip:port`; without the formatter, which takes 1,600 instructions for it.
fn address_text(address: SocketAddr) -> String {
    let SocketAddr::V4(address) = address else {
        return address.to_string();
    };
    let mut digits = itoa::Buffer::new();
    let mut text = String::with_capacity("255.255.255.255:65535".len());
    let mut mark = "";
    for octet in address.ip().octets() {
        text.push_str(mark);
        text.push_str(digits.format(octet));
        mark = ".";
    }
    text.push(':');
    text.push_str(digits.format(address.port()));
    text
}

/// Turns a function's headers into those the caller sees (section 1.4). What
/// the function set itself wins.
pub fn to_downstream(headers: &mut HeaderMap, call: &CallHeaders, took: Duration) {
    strip_hop_by_hop(headers);
    headers.remove(header::TE);
    complete(headers, call);
    if !headers.contains_key(DURATION_SECONDS)
        && let Ok(value) = HeaderValue::try_from(seconds_text(took))
    {
        headers.insert(DURATION_SECONDS, value);
    }
}

/// Seconds with six places, as `X-Duration-Seconds` has them.
pub fn seconds_text(took: Duration) -> String {
    let mut digits = itoa::Buffer::new();
    let mut text = String::with_capacity(16);
    text.push_str(digits.format(took.as_secs()));
    text.push('.');
    let micros = digits.format(took.subsec_micros());
    text.push_str(&"000000"[micros.len()..]);
    text.push_str(micros);
    text
}

/// Adds what every answer to a call carries, even when no function was reached.
pub fn complete(headers: &mut HeaderMap, call: &CallHeaders) {
    for (name, value) in [
        (CALL_ID, &call.call_id),
        (START_TIME, &call.start_time),
        (SERVED_BY, &HeaderValue::from_static(SERVED_BY_VALUE)),
    ] {
        if !headers.contains_key(&name) {
            headers.insert(name, value.clone());
        }
    }
}

/// Name and version in `X-Served-By`.
pub const SERVED_BY_VALUE: &str = concat!("faas-gateway/", env!("CARGO_PKG_VERSION"));

/// Header fields of a test.
#[cfg(test)]
pub(crate) fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> CallHeaders {
        CallHeaders {
            call_id: HeaderValue::from_static("id"),
            start_time: HeaderValue::from_static("17"),
            request_changes: None,
        }
    }

    fn peer() -> SocketAddr {
        SocketAddr::from(([10, 1, 2, 3], 4567))
    }

    #[test]
    fn addresses_are_written_as_the_formatter_would() {
        for text in [
            "10.1.2.3:4567",
            "0.0.0.0:0",
            "255.255.255.255:65535",
            "[::1]:80",
            "[fe80::1%3]:80",
        ] {
            let address: SocketAddr = text.parse().expect("an address");
            assert_eq!(address_text(address), address.to_string());
        }
    }

    #[test]
    fn hop_by_hop_headers_go_and_the_rest_stays() {
        for (given, left) in [
            (
                map(&[("connection", "keep-alive"), ("keep-alive", "5"), ("a", "1")]),
                map(&[("a", "1")]),
            ),
            (
                map(&[("connection", "X-Secret, close"), ("x-secret", "1"), ("b", "2")]),
                map(&[("b", "2")]),
            ),
            (
                map(&[("connection", "a"), ("connection", "b"), ("a", "1"), ("b", "2")]),
                map(&[]),
            ),
            (
                map(&[("connection", "close"), ("connection", "close"), ("close", "1")]),
                map(&[]),
            ),
            (
                map(&[("te", "gzip, trailers"), ("transfer-encoding", "chunked")]),
                map(&[("te", "trailers")]),
            ),
            (
                map(&[("te", "gzip"), ("upgrade", "websocket"), ("proxy-connection", "x")]),
                map(&[]),
            ),
            (map(&[("trailer", "x-sum")]), map(&[("trailer", "x-sum")])),
            (
                map(&[("connection", "host, content-length"), ("host", "h")]),
                map(&[("host", "h")]),
            ),
        ] {
            let mut headers = given.clone();
            strip_hop_by_hop(&mut headers);
            assert_eq!(headers, left, "{given:?}");
        }
        let mut headers = map(&[("a", "1")]);
        let odd = HeaderValue::from_bytes(b"\xff, a").expect("a value");
        headers.insert(header::CONNECTION, odd);
        strip_hop_by_hop(&mut headers);
        assert!(headers.is_empty(), "{headers:?}");
    }

    #[test]
    fn an_answer_has_one_framing() {
        for (given, settled) in [
            (map(&[]), Ok(map(&[]))),
            (
                map(&[("transfer-encoding", "Chunked")]),
                Ok(map(&[("transfer-encoding", "Chunked")])),
            ),
            (
                map(&[("content-length", "05"), ("content-length", "5")]),
                Ok(map(&[("content-length", "05")])),
            ),
            (
                map(&[("content-length", "5"), ("content-length", "6")]),
                Err("it has several lengths"),
            ),
            (
                map(&[("content-length", "5, 5")]),
                Err("its Content-Length is no number"),
            ),
            (map(&[("content-length", "+5")]), Err("its Content-Length is no number")),
            (
                map(&[("transfer-encoding", "gzip, chunked")]),
                Err("it has a transfer coding other than chunked"),
            ),
            (
                map(&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")]),
                Err("it has a transfer coding other than chunked"),
            ),
        ] {
            let mut headers = given.clone();
            let found = settle_framing(StatusCode::OK, &mut headers);
            assert_eq!(found.map(|()| headers), settled, "{given:?}");
        }
        let mut headers = map(&[("content-length", "0")]);
        assert_eq!(settle_framing(StatusCode::NO_CONTENT, &mut headers), Ok(()));
        assert!(headers.is_empty());
    }

    #[test]
    fn an_upgrade_needs_both_headers() {
        assert!(requested_upgrade(&map(&[("upgrade", "websocket")])).is_none());
        assert!(requested_upgrade(&map(&[("connection", "upgrade")])).is_none());
        let both = map(&[("upgrade", "websocket"), ("connection", "keep-alive, Upgrade")]);
        assert_eq!(requested_upgrade(&both), Some(HeaderValue::from_static("websocket")));
        for hidden in ["h2c", "H2C", "websocket, h2c", "HTTP/2.0", "TLS/1.0"] {
            let headers = map(&[("upgrade", hidden), ("connection", "upgrade, http2-settings")]);
            assert!(requested_upgrade(&headers).is_none(), "{hidden}");
        }
    }

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn one_valid_parent_counts() {
        let parent = |headers: &[(&'static str, &'static str)]| trace_parent(&map(headers));
        assert_eq!(parent(&[]), None);
        assert_eq!(parent(&[("traceparent", PARENT), ("traceparent", PARENT)]), None);
        assert_eq!(parent(&[("traceparent", "00-x")]), None);
        let found = parent(&[("traceparent", PARENT)]).expect("valid");
        assert_eq!(found.parent(), PARENT.as_bytes());
    }

    #[test]
    fn a_trace_is_told_unless_the_operator_tells_another() {
        let carried = |begins| Carried {
            context: TraceContext::parse(PARENT.as_bytes()).expect("valid"),
            begins,
        };
        let given = map(&[("traceparent", "theirs"), ("tracestate", "a=b"), ("tracestate", "c=d")]);
        let changes = |set: bool, remove: &[HeaderName]| HeaderChanges {
            set: if set {
                vec![(TRACE_PARENT, HeaderValue::from_static("set"))]
            } else {
                Vec::new()
            },
            remove: remove.to_vec(),
        };
        for (begins, changes, parent, states) in [
            (false, changes(false, &[]), PARENT, 2),
            (true, changes(false, &[]), PARENT, 0),
            (true, changes(true, &[]), "theirs", 0),
            (true, changes(false, &[TRACE_PARENT, TRACE_STATE]), "theirs", 2),
        ] {
            let mut headers = given.clone();
            set_trace(&mut headers, carried(begins), Some(&changes));
            assert_eq!(headers[TRACE_PARENT], parent);
            assert_eq!(headers.get_all(TRACE_STATE).iter().count(), states);
        }
    }

    #[test]
    fn the_target_names_the_host() {
        let mut headers = map(&[("host", "header.test")]);
        set_host(&mut headers, None);
        assert_eq!(headers["host"], "header.test");
        set_host(&mut headers, Some(&Authority::from_static("me:secret@target.test:81")));
        assert_eq!(headers["host"], "target.test:81");
    }

    #[test]
    fn cookies_become_one() {
        let mut headers = map(&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]);
        join_cookies(&mut headers);
        assert_eq!(headers, map(&[("cookie", "a=1; b=2; c=3")]));
    }

    #[test]
    fn a_length_beside_chunks_is_no_length() {
        for connection in ["keep-alive", "transfer-encoding"] {
            let mut headers = map(&[
                ("transfer-encoding", "chunked"),
                ("content-length", "3"),
                ("connection", connection),
            ]);
            to_downstream(&mut headers, &call(), Duration::ZERO);
            assert!(!headers.contains_key("content-length"), "{connection}");
        }
    }

    #[test]
    fn the_function_learns_who_called() {
        let mut headers = map(&[("host", "gw.example"), ("x-start-time", "3")]);
        to_upstream(
            &mut headers,
            &call(),
            peer(),
            Some(&HeaderValue::from_static("fn:8080")),
        );
        assert_eq!(headers["host"], "fn:8080");
        assert_eq!(headers["x-forwarded-host"], "gw.example");
        assert_eq!(headers["x-forwarded-for"], "10.1.2.3:4567");
        assert_eq!(headers["x-forwarded-proto"], "http");
        let starts: Vec<_> = headers.get_all("x-start-time").iter().collect();
        assert_eq!(starts, ["3", "17"], "a caller's value stays first");
    }

    #[test]
    fn an_earlier_proxys_word_is_kept() {
        let given = map(&[
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-host", "a"),
            ("x-forwarded-proto", "https"),
        ]);
        let mut headers = given.clone();
        to_upstream(&mut headers, &call(), peer(), None);
        for name in ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"] {
            assert_eq!(headers[name], given[name]);
        }
    }

    #[test]
    fn an_operator_has_the_last_word_but_not_on_framing() {
        let own = [
            "connection",
            "te",
            "transfer-encoding",
            "upgrade",
            "content-length",
            "trailer",
            "expect",
            "host",
        ];
        let value = |text| HeaderValue::from_static(text);
        let mut changes = HeaderChanges {
            set: own
                .map(|name| (HeaderName::from_static(name), value("9")))
                .into_iter()
                .collect(),
            remove: own.into_iter().map(HeaderName::from_static).collect(),
        };
        assert!(permitted(&changes).is_empty());
        changes
            .set
            .extend([(FORWARDED_FOR, value("1.1.1.1")), (CALL_ID, value("theirs"))]);
        changes.remove.extend([header::COOKIE, FORWARDED_PROTO, CALL_ID]);
        let call = CallHeaders {
            request_changes: Some(Arc::new(permitted(&changes))),
            ..call()
        };
        let mut headers = map(&[("host", "a.test"), ("cookie", "c"), ("content-length", "3"), ("x", "y")]);
        to_upstream(&mut headers, &call, peer(), None);
        let expected = map(&[
            ("host", "a.test"),
            ("content-length", "3"),
            ("x", "y"),
            ("x-call-id", "theirs"),
            ("x-start-time", "17"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-host", "a.test"),
        ]);
        assert_eq!(headers, expected);
    }

    #[test]
    fn the_function_overrides_what_the_gateway_adds() {
        let mut headers = map(&[("x-call-id", "own"), ("x-duration-seconds", "9")]);
        to_downstream(&mut headers, &call(), Duration::from_millis(250));
        assert_eq!(headers["x-call-id"], "own");
        assert_eq!(headers["x-duration-seconds"], "9");
        assert_eq!(headers["x-start-time"], "17");
        assert_eq!(headers["x-served-by"], SERVED_BY_VALUE);
    }
}
