//! What has to be the same on both lanes, and what need not.

use std::{collections::BTreeMap, net::SocketAddr};

use super::caller::{End, Lane, Outcome};
use crate::fuzz::grammar::{Answer, Case, Request};
use crate::fuzz::words::FIELDS;
use crate::support::message::{Fields, Message, find};

/// Fields that the gateway writes, each call anew.
const OWN: &[&str] = &["x-call-id", "x-start-time", "x-duration-seconds", "date"];

type OfStatus = fn(u16) -> bool;
type OfCase = fn(&Case, bool) -> bool;

/// Fields of answers that are not compared, with which status, and why.
const NOT_COMPARED: &[(&str, OfStatus, &str)] = &[
    (
        "connection",
        |_| true,
        "the end is said where it is known in time; it is compared itself",
    ),
    (
        "trailer",
        |_| true,
        "the library joins the lines, and leaves them out where no body can be",
    ),
    (
        "content-length",
        |status| status == 304,
        "the library leaves it out, as it may",
    ),
];

/// Cases, of one call or several, in which the lanes need not do the same, and why.
/// What holds for each lane alone holds for them too.
const MAY_DIFFER: &[(OfCase, &str)] = &[
    (
        |case, several| several && case.answers.iter().any(Answer::is_lost),
        "a call is sent again when its connection was used before, and each lane keeps connections of its own",
    ),
    (
        |case, several| several && case.answers.iter().any(|answer| answer.closes),
        "a function that closes without a word does so before the next request, or a moment after it was sent",
    ),
    (
        |case, _| {
            let part = |answer: &Answer| answer.is_lost() && !answer.bytes(false).is_empty();
            case.answers.iter().any(part)
        },
        "the base lane cannot tell half a head from no answer, and sends the call again; the fast lane does not",
    ),
    (
        |case, _| any(case, has_odd_extension),
        "the library passes over controls in a chunk's extension, the fast lane refuses them",
    ),
    (
        |case, _| any(case, has_odd_trailers),
        "the library takes trailers whose lines end with LF alone, the fast lane refuses them",
    ),
];

/// Whether any message has it.
fn any(case: &Case, has: fn(&[u8]) -> bool) -> bool {
    let requests = case.requests.iter().map(Request::bytes);
    let answers = case.answers.iter().map(|answer| answer.bytes(false));
    requests.chain(answers).any(|bytes| has(&bytes))
}

/// Whether a line has a control behind a semicolon.
fn has_odd_extension(bytes: &[u8]) -> bool {
    bytes.split(|byte| *byte == b'\n').any(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut extension = line.iter().skip_while(|byte| **byte != b';');
        extension.any(|byte| byte.is_ascii_control() && *byte != b'\t')
    })
}

/// Whether there is a bare LF behind the head of a message in chunks.
fn has_odd_trailers(bytes: &[u8]) -> bool {
    let Some(head) = find(bytes, b"\n\r\n") else {
        return false;
    };
    let body = &bytes[head + 1..];
    find(&bytes[..head].to_ascii_lowercase(), b"chunked").is_some()
        && body.windows(2).any(|pair| pair[0] != b'\r' && pair[1] == b'\n')
}

/// A message without what need not be the same.
#[derive(Debug, PartialEq, Eq)]
struct Bare {
    line: String,
    fields: BTreeMap<String, Vec<String>>,
    body: String,
    trailers: BTreeMap<String, Vec<String>>,
}

/// Whether both lanes did the same, and each of them right.
pub(super) fn same(case: &Case, lanes: [(&Lane, &Outcome); 2]) -> Result<(), String> {
    for (_, outcome) in lanes {
        right(outcome)?;
    }
    let several = case.requests.len() > 1 || lanes.iter().any(|(_, outcome)| outcome.saw.len() > 2);
    if case.leaves.is_some() || MAY_DIFFER.iter().any(|(applies, _)| applies(case, several)) {
        return Ok(());
    }
    let [fast, base] = lanes.map(|(_, outcome)| heard(outcome));
    if case.answers.iter().any(|answer| answer.early) {
        // The fast lane closes behind an answer whose request has not ended, the
        // base lane takes the rest of it first, and may refuse that before it has
        // the answer. What came is compared, up to there.
        let internal = |bare: &Bare| bare.fields.contains_key("x-openfaas-internal");
        let mut pairs = fast.iter().zip(&base);
        let differ = pairs.find(|(fast, base)| fast != base);
        let same = differ.is_none_or(|(fast, base)| internal(fast) || internal(base));
        return (same && fast.is_empty() == base.is_empty())
            .then_some(())
            .ok_or_else(|| "the caller heard something else, early".to_owned());
    }
    if fast != base {
        return Err("the caller heard something else".to_owned());
    }
    let [fast, base] = lanes.map(|(lane, outcome)| saw(outcome, lane.function.address));
    if fast != base {
        return Err("the function saw something else".to_owned());
    }
    let [fast, base] = lanes.map(|(_, outcome)| match outcome.end {
        // Either tells that there is no answer, or not all of it.
        End::Reset if !outcome.heard.iter().flatten().last().is_some_and(is_final) => End::Closed,
        // The library does not close a connection that was asked to switch when
        // something malformed follows, which can be on one connection or two.
        End::Reset if case.requests.iter().any(asks_to_switch) => End::Closed,
        end => end,
    });
    if fast != base {
        return Err(format!("the connection ends differently: {fast:?}, {base:?}"));
    }
    Ok(())
}

/// What has to be true of every lane alone.
fn right(outcome: &Outcome) -> Result<(), String> {
    if let Some(Err(why)) = outcome.saw.iter().find(|seen| seen.is_err()) {
        return Err(format!("the function got no request: {why}"));
    }
    let answers = outcome.heard.as_ref();
    let answers = answers.map_err(|why| format!("the caller got no answer: {why}"))?;
    if outcome.end == End::Hangs {
        return Err("a half-closed connection hangs".to_owned());
    }
    let mut answers = answers.iter();
    let closing = |answer: &Message| answer.values("connection") == ["close"];
    if answers.any(closing) && (outcome.end == End::Alive || answers.next().is_some()) {
        return Err("a connection goes on that was to be closed".to_owned());
    }
    Ok(())
}

fn asks_to_switch(request: &Request) -> bool {
    let bytes = request.bytes().to_ascii_lowercase();
    find(&bytes, b"upgrade").is_some() || bytes.starts_with(b"connect ")
}

/// Whether a caller knows from an answer that there will be no other.
fn is_final(answer: &Message) -> bool {
    let internal = !answer.values("x-openfaas-internal").is_empty();
    answer.whole && (internal || answer.values("connection") == ["close"])
}

/// The whole requests that the function saw.
fn saw(outcome: &Outcome, function: SocketAddr) -> Vec<Bare> {
    let whole = outcome.saw.iter().flatten().filter(|message| message.whole);
    whole.map(|message| bare(message, &function.to_string())).collect()
}

/// The whole answers that the caller heard. Of one that breaks off, how much gets
/// out is a matter of time.
fn heard(outcome: &Outcome) -> Vec<Bare> {
    let answers = outcome.heard.iter().flatten().filter(|answer| answer.whole);
    answers
        .map(|answer| {
            let mut bare = bare(answer, "");
            for (name, applies, _) in NOT_COMPARED {
                if applies(answer.status()) {
                    bare.fields.remove(*name);
                }
            }
            if bare.fields.contains_key("x-openfaas-internal") {
                // In words of its own.
                bare.body.clear();
                bare.fields.remove("content-length");
            }
            bare
        })
        .collect()
}

fn bare(message: &Message, function: &str) -> Bare {
    Bare {
        line: message.line.clone(),
        fields: group(&message.fields, function),
        body: message.body.escape_ascii().to_string(),
        trailers: group(&message.trailers, function),
    }
}

fn group(fields: &Fields, function: &str) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in fields {
        let text = value.escape_ascii().to_string();
        let written = OWN.contains(&name.as_str()) && !text.starts_with("own");
        let peer = name == "x-forwarded-for" && text.starts_with("127.0.0.1:");
        let here = name == "host" && text == function;
        let text = if name == "traceparent" {
            trace(&text)
        } else if written || peer || here {
            "…".to_owned()
        } else {
            text
        };
        groups.entry(name.clone()).or_default().push(text);
    }
    groups
}

/// A `traceparent` without what is the gateway's own: the span, and the trace
/// where no caller named it.
fn trace(text: &str) -> String {
    let parts: Vec<&str> = text.split('-').collect();
    let [version, trace, _, flags] = *parts else {
        return text.to_owned();
    };
    let named = FIELDS.iter().any(|field| find(field, trace.as_bytes()).is_some());
    format!("{version}-{}-…-{flags}", if named { trace } else { "…" })
}
