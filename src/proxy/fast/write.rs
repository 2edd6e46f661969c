//! Heads as they are sent on: what the base lane does with header maps
//! ([`headers::to_upstream`], [`headers::to_downstream`]), done with bytes.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, Response, StatusCode, header};

use super::{
    answer,
    body::Body,
    head::{self, Known},
};
use crate::{proxy::headers, trace::Carried};

/// Longest call id of a plain call; others take the base lane.
pub const MAX_CALL_ID: usize = 64;

/// What the gateway knows about a call and tells both sides.
#[derive(Debug, Clone)]
pub struct CallLine {
    id: [u8; MAX_CALL_ID],
    length: usize,
    /// Unix time in nanoseconds.
    start: u64,
}

impl CallLine {
    /// A call with this id, which begins at `now`; `None` when the id is too long.
    pub fn new(id: &[u8], now: SystemTime) -> Option<Self> {
        let mut line = Self {
            id: [0; MAX_CALL_ID],
            length: id.len(),
            start: 0,
        };
        line.id.get_mut(..id.len())?.copy_from_slice(id);
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        line.start = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        Some(line)
    }

    /// The id.
    pub fn id(&self) -> &[u8] {
        &self.id[..self.length]
    }

    /// The start, in nanoseconds.
    pub fn start(&self) -> u64 {
        self.start
    }
}

/// Where a request goes: what is put before the caller's path, and how much of
/// that is left out.
#[derive(Debug, Clone, Copy)]
pub struct Target<'t> {
    /// Put before the path.
    pub base: &'t str,
    /// The path and query.
    pub rest: &'t str,
}

impl Target<'_> {
    /// The path that the function sees, without the query.
    pub fn path(&self) -> String {
        let path = self.rest.split('?').next().unwrap_or_default();
        format!("{}{}{path}", self.base, self.slash())
    }

    /// What a rest without a path of its own lacks.
    fn slash(&self) -> &'static str {
        if self.base.is_empty() && !self.rest.starts_with('/') {
            "/"
        } else {
            ""
        }
    }
}

/// What the gateway tells a function about a request.
#[derive(Debug, Clone, Copy)]
pub struct Told<'t> {
    /// The call.
    pub call: &'t CallLine,
    /// The caller's address.
    pub peer: &'t str,
    /// The scheme of the caller's request.
    pub proto: &'t str,
    /// What a route took off the path; may be empty.
    pub prefix: &'t str,
    /// Its place in the trace, which [`start`] writes; without it what the
    /// caller says of that is kept.
    pub trace: Option<Carried>,
}

/// Writes the header fields of a request to a function, all but `Host`, and the
/// empty line (compatibility.md section 1.3).
pub fn fields(out: &mut Vec<u8>, head: &head::Head<'_, '_>, told: &Told<'_>) {
    for (known, field) in head.fields() {
        let kept = match known {
            Known::Other => true,
            Known::TraceParent => told.trace.is_none(),
            Known::TraceState => told.trace.is_none_or(|trace| !trace.begins),
            Known::Hop | Known::Host => false,
        };
        if kept {
            line(out, field.name, field.value);
        }
    }
    if matches!(head.body, Body::Chunked(_)) {
        line(out, header::TRANSFER_ENCODING.as_str(), b"chunked");
    }
    if head.call_id.is_none() {
        line(out, headers::CALL_ID.as_str(), told.call.id());
    }
    let mut digits = itoa::Buffer::new();
    line(
        out,
        headers::START_TIME.as_str(),
        digits.format(told.call.start).as_bytes(),
    );
    if !head.forwarded_for {
        line(out, headers::FORWARDED_FOR.as_str(), told.peer.as_bytes());
    }
    if !head.forwarded_proto {
        line(out, headers::FORWARDED_PROTO.as_str(), told.proto.as_bytes());
    }
    if !head.forwarded_host {
        line(out, headers::FORWARDED_HOST.as_str(), head.host);
    }
    if !head.forwarded_prefix && !told.prefix.is_empty() {
        line(out, headers::FORWARDED_PREFIX.as_str(), told.prefix.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the beginning of a request to a function, with the function's own
/// name or the caller's for it, and with its place in the trace where that is for
/// us to say. [`fields`] follow.
pub fn start(out: &mut Vec<u8>, method: &[u8], target: Target<'_>, host: &[u8], trace: Option<Carried>) {
    push(
        out,
        &[
            method,
            b" ",
            target.base.as_bytes(),
            target.slash().as_bytes(),
            target.rest.as_bytes(),
            b" HTTP/1.1\r\n",
        ],
    );
    line(out, header::HOST.as_str(), host);
    if let Some(trace) = trace {
        line(out, headers::TRACE_PARENT.as_str(), &trace.context.parent());
    }
}

/// What the gateway adds to an answer.
#[derive(Debug, Clone, Copy)]
pub struct Added<'a> {
    /// The call.
    pub call: &'a CallLine,
    /// How long the function took.
    pub took: Duration,
    /// `Date`, for answers that have none.
    pub date: &'a [u8],
    /// Whether this is the last answer on the caller's connection.
    pub close: bool,
}

/// Writes the head of an answer to a caller (compatibility.md section 1.4). What
/// the function set itself wins.
pub fn answer(out: &mut Vec<u8>, head: &answer::Head<'_, '_>, added: &Added<'_>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    let mut digits = itoa::Buffer::new();
    push(
        out,
        &[
            digits.format(head.status).as_bytes(),
            b" ",
            head.reason.as_bytes(),
            b"\r\n",
        ],
    );
    let (mut call_id, mut start, mut served, mut duration, mut date) = (false, false, false, false, false);
    for field in head.kept() {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        match field.name.len() {
            4 => date |= is(header::DATE.as_str()),
            9 => call_id |= is(headers::CALL_ID.as_str()),
            11 => served |= is(headers::SERVED_BY.as_str()),
            12 => start |= is(headers::START_TIME.as_str()),
            18 => duration |= is(headers::DURATION_SECONDS.as_str()),
            _ => {}
        }
        titled(out, field.name);
        push(out, &[b": ", field.value, b"\r\n"]);
    }
    let mut digits = itoa::Buffer::new();
    let mut add = |name: HeaderName, value: &[u8]| {
        titled(out, name.as_str());
        push(out, &[b": ", value, b"\r\n"]);
    };
    if !call_id {
        add(headers::CALL_ID, added.call.id());
    }
    if !start {
        add(headers::START_TIME, digits.format(added.call.start).as_bytes());
    }
    if !served {
        add(headers::SERVED_BY, headers::SERVED_BY_VALUE.as_bytes());
    }
    if !duration {
        add(headers::DURATION_SECONDS, headers::seconds_text(added.took).as_bytes());
    }
    if matches!(head.body, Body::Chunked(_) | Body::UntilClose) {
        add(header::TRANSFER_ENCODING, b"chunked");
    }
    if !date {
        add(header::DATE, added.date);
    }
    if added.close {
        add(header::CONNECTION, b"close");
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes a whole answer of the gateway's own; `with_body` unless it answers `HEAD`.
pub fn whole(out: &mut Vec<u8>, response: &Response<impl AsRef<[u8]>>, date: &[u8], close: bool, with_body: bool) {
    let body = response.body().as_ref();
    status_line(out, response.status());
    all(out, response.headers());
    let mut digits = itoa::Buffer::new();
    titled(out, header::CONTENT_LENGTH.as_str());
    push(out, &[b": ", digits.format(body.len()).as_bytes(), b"\r\n"]);
    titled(out, header::DATE.as_str());
    push(out, &[b": ", date, b"\r\n"]);
    if close {
        titled(out, header::CONNECTION.as_str());
        out.extend_from_slice(b": close\r\n");
    }
    out.extend_from_slice(b"\r\n");
    if with_body {
        out.extend_from_slice(body);
    }
}

fn status_line(out: &mut Vec<u8>, status: StatusCode) {
    let reason = status.canonical_reason().unwrap_or_default();
    push(
        out,
        &[
            b"HTTP/1.1 ",
            status.as_str().as_bytes(),
            b" ",
            reason.as_bytes(),
            b"\r\n",
        ],
    );
}

fn all(out: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        titled(out, name.as_str());
        push(out, &[b": ", value.as_bytes(), b"\r\n"]);
    }
}

/// The size of a chunk and its line end.
pub fn chunk_size(out: &mut Vec<u8>, size: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let first = (usize::BITS - 1 - (size | 1).leading_zeros()) / 4;
    for place in (0..=first).rev() {
        out.push(DIGITS[size >> (place * 4) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// `Date` of a moment (RFC 9110 section 5.6.7).
pub fn date(now: SystemTime) -> String {
    chrono::DateTime::<chrono::Utc>::from(now)
        .format("%a, %d %b %Y %H:%M:%S GMT")
        .to_string()
}

fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    push(out, &[name.as_bytes(), b": ", value, b"\r\n"]);
}

fn push(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// A name as Go writes it: scripts look for `X-Call-Id` in what `curl -i` prints.
fn titled(out: &mut Vec<u8>, name: &str) {
    let from = out.len();
    out.extend_from_slice(name.as_bytes());
    let mut first = true;
    for byte in &mut out[from..] {
        *byte = if first {
            byte.to_ascii_uppercase()
        } else {
            byte.to_ascii_lowercase()
        };
        first = *byte == b'-';
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::TraceContext;

    fn call(id: &str) -> CallLine {
        CallLine::new(id.as_bytes(), SystemTime::UNIX_EPOCH + Duration::from_nanos(17)).expect("short")
    }

    fn sent(text: &str, target: Target<'_>) -> String {
        traced(text, target, None)
    }

    fn traced(text: &str, target: Target<'_>, trace: Option<Carried>) -> String {
        let mut storage = head::storage();
        let head::Read::Plain(head) = head::read(&mut storage, text.as_bytes()) else {
            panic!("{text:?} is plain")
        };
        let mut out = Vec::new();
        let told = Told {
            call: &call("new"),
            peer: "1.2.3.4:5",
            proto: "https",
            prefix: "/v1",
            trace,
        };
        start(&mut out, head.method.as_bytes(), target, b"fn:8080", trace);
        fields(&mut out, &head, &told);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_function_sees_the_request_as_it_came_and_who_sent_it() {
        let base = Target {
            base: "/base",
            rest: "/function/f/x?y",
        };
        let text =
            "POST /function/f/x?y HTTP/1.1\r\nhost: gw\r\nA:  b \r\nConnection: close\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(
            sent(text, base),
            "POST /base/function/f/x?y HTTP/1.1\r\nhost: fn:8080\r\nA: b\r\nContent-Length: 3\r\nx-call-id: new\r\n\
             x-start-time: 17\r\nx-forwarded-for: 1.2.3.4:5\r\nx-forwarded-proto: https\r\nx-forwarded-host: gw\r\n\
             x-forwarded-prefix: /v1\r\n\r\n"
        );
        let trimmed = Target { base: "", rest: "?y" };
        let given = "X-Call-Id: mine\r\nX-Start-Time: 3\r\nX-Forwarded-For: a\r\nX-Forwarded-Proto: b\r\n\
                     X-Forwarded-Host: c\r\nX-Forwarded-Prefix: d\r\n";
        let text = format!("GET /function/f?y HTTP/1.1\r\nHost: gw\r\nTransfer-Encoding: chunked\r\n{given}\r\n");
        assert_eq!(
            sent(&text, trimmed),
            format!(
                "GET /?y HTTP/1.1\r\nhost: fn:8080\r\n{given}transfer-encoding: chunked\r\nx-start-time: 17\r\n\r\n"
            )
        );
    }

    #[test]
    fn a_trace_is_passed_on_or_told_anew() {
        const OURS: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = TraceContext::parse(OURS.as_bytes()).expect("valid");
        let theirs = "Traceparent: theirs\r\ntracestate: a=b\r\n";
        let text = format!("GET / HTTP/1.1\r\nHost: gw\r\n{theirs}Tracestate: c=d\r\n\r\n");
        let target = Target { base: "", rest: "/" };
        let lines = |trace| {
            let sent = traced(&text, target, trace);
            let about = sent
                .lines()
                .filter(|line| line.to_ascii_lowercase().starts_with("trace"));
            about.map(str::to_owned).collect::<Vec<_>>()
        };
        let ours = format!("traceparent: {OURS}");
        assert_eq!(
            lines(None),
            ["Traceparent: theirs", "tracestate: a=b", "Tracestate: c=d"]
        );
        for (begins, expected) in [
            (false, &[&*ours, "tracestate: a=b", "Tracestate: c=d"][..]),
            (true, &[&*ours]),
        ] {
            assert_eq!(lines(Some(Carried { context, begins })), expected);
        }
    }

    fn answered(text: &str, close: bool) -> String {
        let mut storage = answer::storage();
        let answer::Read::Final(head) = answer::read(&mut storage, text.as_bytes(), false) else {
            panic!("{text:?} is an answer")
        };
        let mut out = Vec::new();
        let added = Added {
            call: &call("id"),
            took: Duration::from_micros(1_000_250),
            date: b"now",
            close,
        };
        answer(&mut out, &head, &added);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_caller_sees_the_answer_and_what_the_gateway_adds() {
        let served = headers::SERVED_BY_VALUE;
        assert_eq!(
            answered(
                "HTTP/1.1 200 Fine\r\netag: 1\r\nx-Odd-NAME: v\r\ncontent-length: 2\r\n\r\n",
                false
            ),
            format!(
                "HTTP/1.1 200 Fine\r\nEtag: 1\r\nX-Odd-Name: v\r\nContent-Length: 2\r\nX-Call-Id: id\r\n\
                 X-Start-Time: 17\r\nX-Served-By: {served}\r\nX-Duration-Seconds: 1.000250\r\nDate: now\r\n\r\n"
            )
        );
        assert_eq!(
            answered(
                "HTTP/1.1 200 OK\r\ndate: then\r\nX-Call-ID: own\r\nx-start-time: 1\r\nX-Served-By: f\r\n\
                 X-Duration-Seconds: 9\r\nTransfer-Encoding: chunked\r\n\r\n",
                true
            ),
            "HTTP/1.1 200 OK\r\nDate: then\r\nX-Call-Id: own\r\nX-Start-Time: 1\r\nX-Served-By: f\r\n\
             X-Duration-Seconds: 9\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn own_answers_are_whole() {
        let mut response = Response::new("gone");
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        response.headers_mut().insert("x-a", "b".parse().expect("a value"));
        let mut out = Vec::new();
        whole(&mut out, &response, b"now", true, false);
        assert_eq!(
            String::from_utf8(out).expect("text"),
            "HTTP/1.1 502 Bad Gateway\r\nX-A: b\r\nContent-Length: 4\r\nDate: now\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn sizes_and_dates() {
        for (size, expected) in [
            (0, "0\r\n"),
            (9, "9\r\n"),
            (16, "10\r\n"),
            (255, "ff\r\n"),
            (65536, "10000\r\n"),
        ] {
            let mut out = Vec::new();
            chunk_size(&mut out, size);
            assert_eq!(out, expected.as_bytes());
        }
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(date(then), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert!(CallLine::new(&[b'x'; MAX_CALL_ID + 1], then).is_none());
    }
}
