//! The readers and writers of the fast lane alone: what they understand they
//! understand as everybody else, and pass on with the same meaning.

use std::time::{Duration, SystemTime};

use faas_gateway::proxy::fast::{
    answer,
    body::Body,
    chunked::{Chunked, Malformed},
    head,
    write::{self, Added, CallLine, Target, Told},
};
use faas_gateway::trace::{Carried, TraceContext};
use http::{HeaderName, HeaderValue, Method, Response, Uri};
use httparse::{Header, Status};
use proptest::{prelude::*, sample::Index, test_runner::TestCaseError};

use super::grammar::{self, Case};
use crate::support::{
    fuzz::{self, Target as Fuzzed},
    message::{self, Kind, Message, Read, shown},
};

/// How long `make test` looks.
const SECONDS: u64 = 2;

/// Where every function is, and who called.
const BASE: &str = "/base";
const HOST: &[u8] = b"fn.test:8080";
const PEER: &str = "1.2.3.4:5";

/// What a route took off, and the gateway's own place in a trace.
const PREFIX: &str = "/v1";
const OURS: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

struct Bytes;

impl Fuzzed for Bytes {
    type Case = (Case, Vec<Index>, Index);

    fn cases() -> impl Strategy<Value = Self::Case> {
        let cuts = prop::collection::vec(any::<Index>(), 0..6);
        (grammar::cases(), cuts, any::<Index>())
    }

    fn show(&self, (case, ..): &Self::Case) -> String {
        let all = inputs(case);
        let all = all.iter().map(|(bytes, kind)| format!("{kind:?}: {}\n", shown(bytes)));
        all.collect()
    }

    fn check(&self, (case, cuts, number): &Self::Case) -> Result<(), TestCaseError> {
        for (bytes, kind) in inputs(case) {
            let head = match kind {
                Kind::Request => request(&bytes)?,
                Kind::Answer | Kind::AnswerToHead => answer(&bytes, kind)?,
            };
            prefixes(&bytes, kind, cuts)?;
            // Its body, or whatever is there, as chunks.
            chunks(&bytes[head..], cuts)?;
        }
        sizes(number.index(usize::MAX))
    }
}

/// The bytes of a case, each for itself.
fn inputs(case: &Case) -> Vec<(Vec<u8>, Kind)> {
    let requests = case.requests.iter().map(|request| (request.bytes(), Kind::Request));
    let answers = case.answers.iter().flat_map(|answer| {
        [
            (answer.bytes(false), Kind::Answer),
            (answer.bytes(true), Kind::AnswerToHead),
        ]
    });
    requests.chain(answers).collect()
}

fn call() -> CallLine {
    let now = SystemTime::UNIX_EPOCH + Duration::from_nanos(17);
    CallLine::new(b"new", now).expect("short")
}

/// A plain head means to others what it means to us, and so does what is written
/// of it. Returns its length.
fn request(bytes: &[u8]) -> Result<usize, TestCaseError> {
    let mut storage = head::storage();
    let head::Read::Plain(head) = head::read(&mut storage, bytes) else {
        return Ok(0);
    };
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut parsed = httparse::Request::new(&mut fields);
    prop_assert_eq!(parsed.parse(bytes), Ok(Status::Complete(head.length)));
    prop_assert_eq!(parsed.method, Some(head.method));
    prop_assert_eq!(parsed.path, Some(head.target));
    let ours: Vec<_> = head.fields().map(|(_, field)| *field).collect();
    prop_assert_eq!(&ours, &parsed.headers);
    prop_assert!(Method::from_bytes(head.method.as_bytes()).is_ok() && head.target.parse::<Uri>().is_ok());
    are_fields(&ours)?;

    let to = Target {
        base: BASE,
        rest: head.target,
    };
    for trace in traces() {
        passed_on(&head, to, trace)?;
    }
    Ok(head.length)
}

/// No trace, one that goes on and one that begins here.
fn traces() -> [Option<Carried>; 3] {
    let context = TraceContext::parse(OURS.as_bytes()).expect("valid");
    let carried = |begins| Carried { context, begins };
    [None, Some(carried(false)), Some(carried(true))]
}

/// What is written of a head.
fn passed_on(head: &head::Head<'_, '_>, to: Target<'_>, trace: Option<Carried>) -> Result<(), TestCaseError> {
    let call = call();
    let told = Told {
        call: &call,
        peer: PEER,
        proto: "http",
        prefix: PREFIX,
        trace,
    };
    let mut written = Vec::new();
    write::start(&mut written, head.method.as_bytes(), to, HOST, trace);
    write::fields(&mut written, head, &told);
    let sent = read_head(&written, Kind::Request)?;
    prop_assert_eq!(&sent.line, &format!("{} {BASE}{} HTTP/1.1", head.method, head.target));
    let begins = trace.is_some_and(|trace| trace.begins);
    let ours = trace.map(|_| ("traceparent", OURS.as_bytes()));
    let kept = head.fields().filter_map(|(known, field)| match known {
        head::Known::Hop | head::Known::Host => None,
        head::Known::TraceParent if trace.is_some() => None,
        head::Known::TraceState if begins => None,
        head::Known::Other | head::Known::TraceParent | head::Known::TraceState => Some((field.name, field.value)),
    });
    starts_with(&sent, [("host", HOST)].into_iter().chain(ours).chain(kept))?;
    let framing = match head.body {
        Body::Chunked(_) => (vec!["chunked".to_owned()], 0),
        _ => (Vec::new(), head.values("content-length").count()),
    };
    let found = (sent.values("transfer-encoding"), sent.values("content-length").len());
    prop_assert_eq!(found, framing);
    for name in ["host", "x-call-id"] {
        prop_assert_eq!(sent.values(name).len(), 1, "{}", name);
    }
    for name in [
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-forwarded-prefix",
    ] {
        prop_assert_eq!(sent.values(name).len(), head.values(name).count().max(1), "{}", name);
    }
    if trace.is_some() {
        prop_assert_eq!(sent.values("traceparent").len(), 1);
    }

    // And it is as plain as it was, with what was added.
    if sent.fields.len() > head::MAX_FIELDS {
        return Ok(());
    }
    let mut storage = head::storage();
    let head::Read::Plain(again) = head::read(&mut storage, &written) else {
        return Err(TestCaseError::fail(format!("no longer plain: {}", shown(&written))));
    };
    prop_assert_eq!(format!("{:?}", again.body), format!("{:?}", head.body));
    Ok(())
}

/// The same of an answer's head.
fn answer(bytes: &[u8], kind: Kind) -> Result<usize, TestCaseError> {
    let mut storage = answer::storage();
    let head = match answer::read(&mut storage, bytes, kind == Kind::AnswerToHead) {
        answer::Read::Final(head) => head,
        answer::Read::Interim(length) => {
            prop_assert!(length > 0 && length <= bytes.len());
            return answer(&bytes[length..], kind).map(|rest| length + rest);
        }
        answer::Read::Partial | answer::Read::Malformed(_) => return Ok(0),
    };
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut parsed = httparse::Response::new(&mut fields);
    prop_assert_eq!(parsed.parse(bytes), Ok(Status::Complete(head.length)));
    prop_assert_eq!(parsed.code, Some(head.status));
    let kept: Vec<_> = head.kept().copied().collect();
    are_fields(&kept)?;

    for close in [false, true] {
        let mut written = Vec::new();
        let added = Added {
            call: &call(),
            took: Duration::from_micros(1_000_250),
            date: b"now",
            close,
        };
        write::answer(&mut written, &head, &added);
        let sent = read_head(&written, kind)?;
        prop_assert_eq!(sent.status(), head.status);
        prop_assert_eq!(&sent.line, &format!("HTTP/1.1 {} {}", head.status, head.reason));
        starts_with(&sent, kept.iter().map(|field| (field.name, field.value)))?;
        let framing = match head.body {
            Body::Chunked(_) | Body::UntilClose => (1, 0),
            Body::Length(_) => (0, 1),
            Body::Ended => (0, sent.values("content-length").len().min(1)),
        };
        let found = (
            sent.values("transfer-encoding").len(),
            sent.values("content-length").len(),
        );
        prop_assert_eq!(found, framing);
        prop_assert_eq!(sent.values("connection"), if close { vec!["close"] } else { vec![] });
    }
    Ok(head.length)
}

/// Fields that the base lane's types can hold, too.
fn are_fields(fields: &[Header<'_>]) -> Result<(), TestCaseError> {
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        prop_assert!(
            name.is_ok() && HeaderValue::from_bytes(field.value).is_ok(),
            "{:?}",
            field
        );
    }
    Ok(())
}

/// Reads a head that was written, to the letter; its body is to come.
fn read_head(written: &[u8], kind: Kind) -> Result<Message, TestCaseError> {
    match message::read(written, kind) {
        Read::Whole(message, length) if length == written.len() => Ok(message),
        Read::Partial(Some(message)) if message.body.is_empty() => Ok(message),
        read => Err(TestCaseError::fail(format!("{read:?} of {}", shown(written)))),
    }
}

/// Whether a message has these fields first, in this order.
fn starts_with<'f>(message: &Message, fields: impl Iterator<Item = (&'f str, &'f [u8])>) -> Result<(), TestCaseError> {
    for (number, (name, value)) in fields.enumerate() {
        let expected = (name.to_ascii_lowercase(), value.trim_ascii().to_vec());
        prop_assert_eq!(message.fields.get(number), Some(&expected));
    }
    Ok(())
}

/// What is made of the beginning of some bytes does not change with what comes
/// after it, and waits until there is enough.
fn prefixes(bytes: &[u8], kind: Kind, cuts: &[Index]) -> Result<(), TestCaseError> {
    let whole = verdict(bytes, kind);
    for cut in cuts {
        let part = verdict(&bytes[..cut.index(bytes.len() + 1)], kind);
        let same = part == whole || part == "waits";
        prop_assert!(same, "a part is {}, the whole is {}", part, whole);
    }
    Ok(())
}

fn verdict(bytes: &[u8], kind: Kind) -> String {
    if kind == Kind::Request {
        let mut storage = head::storage();
        return match head::read(&mut storage, bytes) {
            head::Read::Partial => "waits".to_owned(),
            head::Read::Doubtful => "doubtful".to_owned(),
            head::Read::Plain(head) => format!("{head:?}"),
        };
    }
    let mut storage = answer::storage();
    match answer::read(&mut storage, bytes, kind == Kind::AnswerToHead) {
        answer::Read::Partial => "waits".to_owned(),
        answer::Read::Interim(length) => format!("interim {length}"),
        answer::Read::Malformed(_) => "malformed".to_owned(),
        answer::Read::Final(head) => format!("{head:?}"),
    }
}

/// What came of a body in chunks.
#[derive(Debug, Default, PartialEq, Eq)]
struct Passed {
    kept: Vec<u8>,
    data: usize,
    consumed: usize,
    ended: bool,
}

/// Reads chunks in these pieces.
fn pass(bytes: &[u8], cuts: &[usize]) -> Result<Passed, Malformed> {
    let (mut chunked, mut passed) = (Chunked::default(), Passed::default());
    for pair in cuts.windows(2) {
        let piece = &bytes[pair[0]..pair[1]];
        let runs = chunked.read(piece)?;
        runs.kept().for_each(|run| passed.kept.extend_from_slice(&piece[run]));
        passed.data += runs.data;
        passed.consumed += runs.consumed;
        passed.ended = runs.ended;
        if runs.ended {
            break;
        }
    }
    Ok(passed)
}

/// A body in chunks is the same however it is cut, and what is passed on of it
/// decodes to the data that it has.
fn chunks(bytes: &[u8], cuts: &[Index]) -> Result<(), TestCaseError> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    let whole = pass(bytes, &[0, bytes.len()]);
    prop_assert_eq!(&whole, &pass(bytes, &places));
    let Ok(passed) = whole else { return Ok(()) };
    let chunked = [b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", &*passed.kept].concat();
    match message::read(&chunked, Kind::Request) {
        Read::Whole(message, length) => {
            prop_assert!(passed.ended && length == chunked.len() && message.trailers.is_empty());
            prop_assert_eq!(message.body.len(), passed.data);
            prop_assert_eq!(Some(message.body), decoded(&bytes[..passed.consumed]));
        }
        Read::Partial(_) => prop_assert!(!passed.ended, "cut short: {}", shown(&passed.kept)),
        Read::Wrong(why) => return Err(TestCaseError::fail(format!("{why}: {}", shown(&passed.kept)))),
    }
    Ok(())
}

/// The data of a body in chunks, read in the simplest way there is.
fn decoded(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    loop {
        let line = message::find(bytes, b"\r\n")?;
        let digits = bytes[..line].iter().take_while(|byte| byte.is_ascii_hexdigit());
        let digits: String = digits.copied().map(char::from).collect();
        let size = usize::from_str_radix(&digits, 16).ok()?;
        if size == 0 {
            return Some(data);
        }
        data.extend_from_slice(bytes.get(line + 2..line + 2 + size)?);
        bytes = bytes.get(line + 2 + size + 2..)?;
    }
}

/// Sizes and own answers are written so that they can be read.
fn sizes(number: usize) -> Result<(), TestCaseError> {
    let mut written = Vec::new();
    write::chunk_size(&mut written, number);
    let digits = written
        .strip_suffix(b"\r\n")
        .and_then(|digits| std::str::from_utf8(digits).ok());
    prop_assert_eq!(digits, Some(&*format!("{number:x}")));

    let body = "x".repeat(number % 100);
    let mut response = Response::new(&body);
    response.headers_mut().append("x-number", HeaderValue::from(number));
    for (close, with_body) in [(false, true), (true, true), (false, false)] {
        let mut written = Vec::new();
        write::whole(&mut written, &response, b"now", close, with_body);
        let kind = if with_body { Kind::Answer } else { Kind::AnswerToHead };
        let Read::Whole(message, length) = message::read(&written, kind) else {
            return Err(TestCaseError::fail(shown(&written)));
        };
        prop_assert_eq!(length, written.len());
        prop_assert_eq!(message.values("x-number"), [number.to_string()]);
        prop_assert_eq!(message.text(), if with_body { &*body } else { "" });
    }
    Ok(())
}

#[test]
fn what_is_read_is_passed_on_with_the_same_meaning() {
    let cases = fuzz::run(SECONDS, || Bytes);
    println!("{cases} cases of bytes");
    assert!(cases >= 10, "{cases} cases");
}
