//! What becomes of header fields: the base lane does it with maps, the fast lane
//! with bytes, and both make the same of the same fields.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use faas_gateway::{
    proxy::{
        fast::{
            answer, head,
            write::{self, Added, CallLine, Told},
        },
        headers::{self, CallHeaders},
    },
    trace::{Carried, TraceContext},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use httparse::Header;
use proptest::{prelude::*, test_runner::TestCaseError};

use super::grammar::{self, Case, Request};
use crate::support::{
    fuzz::{self, Target},
    message::{self, Fields, Kind, Read},
};

/// How long `make test` looks.
const SECONDS: u64 = 2;

const HOST: &str = "fn.test:8080";
const PREFIX: &str = "/v1";
const OURS: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TOOK: Duration = Duration::from_micros(1_000_250);

/// Fields about one connection; `Trailer` is relayed, as trailers are.
const HOP_BY_HOP: &[&str] = &[
    "close",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "transfer-encoding",
    "upgrade",
];

/// Fields that stay although `Connection` names them.
const PROTECTED: &[&str] = &["host", "content-length", "content-type", "te"];

struct Headers;

impl Target for Headers {
    type Case = Case;

    fn cases() -> impl Strategy<Value = Case> {
        grammar::cases()
    }

    fn show(&self, case: &Case) -> String {
        let requests = case.requests.iter().map(Request::bytes);
        let answers = case.answers.iter().map(|answer| answer.bytes(false));
        let shown = requests.chain(answers).map(|bytes| message::shown(&bytes) + "\n");
        shown.collect()
    }

    fn check(&self, case: &Case) -> Result<(), TestCaseError> {
        for request in &case.requests {
            let bytes = request.bytes();
            hops(&parsed(&bytes, Kind::Request))?;
            for begins in [None, Some(false), Some(true)] {
                upstream(&bytes, begins)?;
            }
        }
        for answer in &case.answers {
            let bytes = answer.bytes(false);
            hops(&parsed(&bytes, Kind::Answer))?;
            downstream(&bytes)?;
        }
        Ok(())
    }
}

fn peer() -> SocketAddr {
    ([1, 2, 3, 4], 5).into()
}

fn line(id: &[u8]) -> CallLine {
    CallLine::new(id, SystemTime::UNIX_EPOCH + Duration::from_nanos(17)).expect("short")
}

fn call(id: &[u8]) -> CallHeaders {
    CallHeaders {
        call_id: HeaderValue::from_bytes(id).expect("a value"),
        start_time: HeaderValue::from_static("17"),
        request_changes: None,
    }
}

/// A map of fields, as the HTTP library makes it.
fn map(fields: &[Header<'_>]) -> Option<HeaderMap> {
    let mut map = HeaderMap::new();
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        map.append(name, HeaderValue::from_bytes(field.value).ok()?);
    }
    Some(map)
}

/// The fields of any head that can be read at all; none of others.
fn parsed(bytes: &[u8], kind: Kind) -> HeaderMap {
    let mut fields = [httparse::EMPTY_HEADER; 200];
    let map = match kind {
        Kind::Request => {
            let mut request = httparse::Request::new(&mut fields);
            request.parse(bytes).ok().and_then(|_| map(request.headers))
        }
        Kind::Answer | Kind::AnswerToHead => {
            let mut response = httparse::Response::new(&mut fields);
            response.parse(bytes).ok().and_then(|_| map(response.headers))
        }
    };
    map.unwrap_or_default()
}

/// Fields by name, values in order; without those that say where a body ends
/// and what else is written by others.
fn grouped<'f>(fields: impl Iterator<Item = (&'f str, &'f [u8])>, without: &[&str]) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in fields.filter(|(name, _)| !without.contains(name)) {
        let value = value.trim_ascii().escape_ascii().to_string();
        groups.entry(name.to_owned()).or_default().push(value);
    }
    groups
}

fn of_map(map: &HeaderMap, without: &[&str]) -> BTreeMap<String, Vec<String>> {
    grouped(
        map.iter().map(|(name, value)| (name.as_str(), value.as_bytes())),
        without,
    )
}

fn of_written(written: &[u8], kind: Kind, without: &[&str]) -> Result<BTreeMap<String, Vec<String>>, TestCaseError> {
    let fields: Fields = match message::read(written, kind) {
        Read::Whole(message, _) | Read::Partial(Some(message)) => message.fields,
        read => return Err(TestCaseError::fail(format!("{read:?} of {}", message::shown(written)))),
    };
    Ok(grouped(fields.iter().map(|(name, value)| (&**name, &**value)), without))
}

/// Nothing that concerns one connection is left, everything else is, and there is
/// nothing more to be done a second time.
fn hops(before: &HeaderMap) -> Result<(), TestCaseError> {
    let mut after = before.clone();
    headers::strip_hop_by_hop(&mut after);
    let tokens: Vec<String> = before
        .get_all("connection")
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(|token| token.trim_ascii().escape_ascii().to_string().to_ascii_lowercase())
        .filter(|token| !PROTECTED.contains(&&**token))
        .collect();
    let chunked = before.contains_key("transfer-encoding");
    let goes = |name: &str| {
        HOP_BY_HOP.contains(&name) || tokens.iter().any(|token| token == name) || (chunked && name == "content-length")
    };
    for name in before.keys().filter(|name| name.as_str() != "te") {
        let left: Vec<_> = after.get_all(name).iter().collect();
        let were: Vec<_> = before.get_all(name).iter().collect();
        let expected = if goes(name.as_str()) { Vec::new() } else { were };
        prop_assert_eq!(left, expected, "{}", name);
    }
    prop_assert!(after.get_all("te").iter().all(|te| te == "trailers"), "{:?}", after);
    prop_assert!(after.keys().all(|name| before.contains_key(name)));
    let mut again = after.clone();
    headers::strip_hop_by_hop(&mut again);
    prop_assert_eq!(again, after);
    Ok(())
}

/// Both lanes tell a function the same of a plain request.
fn upstream(bytes: &[u8], begins: Option<bool>) -> Result<(), TestCaseError> {
    let mut storage = head::storage();
    let head::Read::Plain(head) = head::read(&mut storage, bytes) else {
        return Ok(());
    };
    let id = head.call_id.unwrap_or(b"new");
    if id.len() > write::MAX_CALL_ID {
        return Ok(());
    }
    let context = TraceContext::parse(OURS.as_bytes()).expect("valid");
    let trace = begins.map(|begins| Carried { context, begins });
    let (line, peer) = (line(id), peer());
    let shown = peer.to_string();
    let told = Told {
        call: &line,
        peer: &shown,
        proto: "http",
        prefix: PREFIX,
        trace,
    };
    let target = write::Target { base: "", rest: "/" };
    let mut written = Vec::new();
    write::start(&mut written, b"GET", target, HOST.as_bytes(), trace);
    write::fields(&mut written, &head, &told);

    let fields: Vec<Header<'_>> = head.fields().map(|(_, field)| *field).collect();
    let mut base = map(&fields).expect("fields of a plain head");
    headers::set_forwarded_prefix(&mut base, PREFIX);
    headers::to_upstream(&mut base, &call(id), peer, Some(&HeaderValue::from_static(HOST)));
    if let Some(trace) = trace {
        headers::set_trace(&mut base, trace, None);
    }
    // The library writes it.
    let without = ["transfer-encoding"];
    let fast = of_written(&written, Kind::Request, &without)?;
    prop_assert_eq!(fast, of_map(&base, &without));
    Ok(())
}

/// And a caller of an answer.
fn downstream(bytes: &[u8]) -> Result<(), TestCaseError> {
    let mut storage = answer::storage();
    let answer::Read::Final(head) = answer::read(&mut storage, bytes, false) else {
        return Ok(());
    };
    let line = line(b"new");
    let added = Added {
        call: &line,
        took: TOOK,
        date: b"now",
        close: false,
    };
    let mut written = Vec::new();
    write::answer(&mut written, &head, &added);

    // Behind interim answers, where there are any.
    let end = message::find(bytes, b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
    if head.length != end {
        return Ok(());
    }
    let mut base = parsed(bytes, Kind::Answer);
    let status = StatusCode::from_u16(head.status).expect("a status");
    let settled = headers::settle_framing(status, &mut base);
    prop_assert_eq!(settled, Ok(()));
    headers::to_downstream(&mut base, &call(b"new"), TOOK);
    // These the library writes.
    let without = ["transfer-encoding", "date"];
    let fast = of_written(&written, Kind::Answer, &without)?;
    prop_assert_eq!(fast, of_map(&base, &without));
    Ok(())
}

#[test]
fn both_lanes_make_the_same_of_the_same_fields() {
    let cases = fuzz::run(SECONDS, || Headers);
    println!("{cases} cases of headers");
    assert!(cases >= 10, "{cases} cases");
}
