//! Which trace a request belongs to, and what a span is: W3C Trace Context as
//! values. Pure, and below everything, so that whatever carries a call on, now
//! or later, can carry its trace.
//!
//! <https://www.w3.org/TR/trace-context/>. `tracestate` is the business of those
//! who wrote it and is passed on as it is; here it is only decided when it has
//! to go. Who exports spans, and how, is [`crate::telemetry`]'s part.

use std::{borrow::Cow, time::SystemTime};

/// Length of a `traceparent` of the version that is written here.
pub const PARENT_LENGTH: usize = 55;

/// Where the parts of a `traceparent` are: `00-<trace id>-<span id>-<flags>`.
const TRACE: std::ops::Range<usize> = 3..35;
const SPAN: std::ops::Range<usize> = 36..52;
const FLAGS: std::ops::Range<usize> = 53..55;
const DASHES: [usize; 3] = [2, 35, 52];

/// The trace is recorded.
const SAMPLED: u8 = 1;
/// The trace's id is random (level 2 of the recommendation).
const RANDOM: u8 = 2;

/// A trace's id; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId([u8; 16]);

/// A span's id; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanId([u8; 8]);

/// A place in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The span that what follows is below.
    pub span: SpanId,
    flags: u8,
}

impl TraceId {
    /// Of random bits, which are not all zero but by an error of whoever made them.
    pub fn new(random: u128) -> Self {
        Self(random.max(1).to_be_bytes())
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As everybody writes it.
    pub fn write_hex(self, out: &mut [u8; 32]) -> &str {
        write_hex(&self.0, out);
        std::str::from_utf8(out).unwrap_or_default()
    }

    /// A number that is evenly spread over traces, as the ratio samplers of
    /// OpenTelemetry use it: all that have the same ratio decide alike.
    fn spread(self) -> u64 {
        let (_, half) = self.0.split_at(8);
        half.try_into().map_or(0, u64::from_be_bytes) >> 1
    }
}

impl SpanId {
    /// Of random bits.
    pub fn new(random: u64) -> Self {
        Self(random.max(1).to_be_bytes())
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TraceContext {
    /// Begins a trace.
    pub fn root(trace: TraceId, span: SpanId, sampled: bool) -> Self {
        Self {
            trace,
            span,
            flags: if sampled { SAMPLED } else { 0 },
        }
    }

    /// The same trace below another span.
    #[must_use]
    pub fn child(self, span: SpanId) -> Self {
        Self { span, ..self }
    }

    /// The flags, as `traceparent` has them.
    pub fn flags(self) -> u8 {
        self.flags
    }

    /// Whether the trace is recorded.
    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Reads the value of the one `traceparent` of a request; `None` when it is
    /// not valid, which is to be taken as none at all (section 4.3).
    pub fn parse(value: &[u8]) -> Option<Self> {
        let version = hex::<1>(value.get(..2)?)?[0];
        let parts = value.get(..PARENT_LENGTH)?;
        // Of a later version what is known, and more only behind a dash.
        let complete = match (version, value.get(PARENT_LENGTH)) {
            (0xff, _) | (0, Some(_)) => false,
            (_, next) => next.is_none_or(|next| *next == b'-'),
        };
        if !complete || DASHES.iter().any(|at| parts[*at] != b'-') {
            return None;
        }
        let trace = hex::<16>(&parts[TRACE])?;
        let span = hex::<8>(&parts[SPAN])?;
        let flags = hex::<1>(&parts[FLAGS])?[0];
        (trace != [0; 16] && span != [0; 8]).then_some(Self {
            trace: TraceId(trace),
            span: SpanId(span),
            // Flags that nobody has defined yet are not passed on (section 3.2.2.5.2).
            flags: flags & (SAMPLED | RANDOM),
        })
    }

    /// The value of `traceparent`.
    pub fn parent(self) -> [u8; PARENT_LENGTH] {
        let mut out = [b'-'; PARENT_LENGTH];
        out[..2].copy_from_slice(b"00");
        write_hex(&self.trace.0, &mut out[TRACE]);
        write_hex(&self.span.0, &mut out[SPAN]);
        write_hex(&[self.flags], &mut out[FLAGS]);
        out
    }
}

/// What is done about the traces of requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Practice {
    propagate: bool,
    record: bool,
    /// The [`TraceId::spread`] from which on a trace is not sampled.
    bound: u64,
}

/// A request's place in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined {
    /// The request's own span, or the caller's where the request gets none.
    pub context: TraceContext,
    /// The caller's span, where the request's own is below it.
    pub parent: Option<SpanId>,
    /// What that means for the request's headers, and for its spans.
    pub how: How,
}

/// How a request belongs to its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// As somebody it passes by: its headers stay as they are.
    Passed,
    /// The trace begins here, and nobody records that.
    Begun,
    /// With spans of its own; `true` when the trace begins with them.
    Recorded(bool),
}

impl Practice {
    /// Whether requests that belong to no trace begin one, whether spans of
    /// sampled requests are recorded, which share of the traces that begin here
    /// is sampled.
    pub fn new(propagate: bool, record: bool, sample: f64) -> Self {
        // One more than `TraceId::spread` can be.
        const WHOLE: f64 = 9_223_372_036_854_775_808.0;
        Self {
            propagate,
            record,
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it is between 0 and 2^63"
            )]
            bound: (sample.clamp(0.0, 1.0) * WHOLE) as u64,
        }
    }

    /// Whether traces are no concern of ours at all.
    pub fn is_off(self) -> bool {
        !self.propagate && !self.record
    }

    /// The place of a request with this valid `traceparent`, or without one.
    /// `random` is asked for ids only where there is a span to begin.
    pub fn join(self, given: Option<TraceContext>, random: impl FnOnce() -> (u128, u64)) -> Option<Joined> {
        match given {
            Some(given) if self.record && given.is_sampled() => Some(Joined {
                context: given.child(SpanId::new(random().1)),
                parent: Some(given.span),
                how: How::Recorded(false),
            }),
            Some(given) => Some(Joined {
                context: given,
                parent: None,
                how: How::Passed,
            }),
            None if self.is_off() => None,
            None => {
                let (trace, span) = random();
                let trace = TraceId::new(trace);
                let sampled = self.samples(trace);
                Some(Joined {
                    context: TraceContext::root(trace, SpanId::new(span), sampled),
                    parent: None,
                    how: if self.record && sampled {
                        How::Recorded(true)
                    } else {
                        How::Begun
                    },
                })
            }
        }
    }

    fn samples(self, trace: TraceId) -> bool {
        trace.spread() < self.bound
    }
}

impl Joined {
    /// What the request's `traceparent` has to be when `span` is sent on below
    /// it; `None` to leave it as it is.
    pub fn carried(self, span: Option<SpanId>) -> Option<Carried> {
        let context = span.map_or(self.context, |span| self.context.child(span));
        let begins = match self.how {
            How::Passed => return None,
            How::Begun => true,
            How::Recorded(begins) => begins,
        };
        Some(Carried { context, begins })
    }
}

/// A request's headers about its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// What `traceparent` says.
    pub context: TraceContext,
    /// The trace begins here, so there can be no `tracestate` (section 4.3).
    pub begins: bool,
}

/// Which side of a request a span shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// Something within this process.
    Internal,
    /// A request that was received.
    Server,
    /// A request that was made.
    Client,
}

/// Something that took time, for whoever looks at traces.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Its own place.
    pub context: TraceContext,
    /// The span it is below; none for the first of a trace.
    pub parent: Option<SpanId>,
    /// The caller's `tracestate`.
    pub state: String,
    /// What it is, without anything that is different each time.
    pub name: String,
    /// Which side of a request it shows.
    pub kind: SpanKind,
    /// When it began.
    pub began: SystemTime,
    /// When it ended.
    pub ended: SystemTime,
    /// What is known of it, by the names of OpenTelemetry's conventions.
    pub attributes: Vec<(&'static str, Value)>,
    /// Whether it failed.
    pub failed: bool,
}

/// What a span says of something.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A text.
    Text(Cow<'static, str>),
    /// A whole number.
    Number(i64),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

/// Bytes written in small hexadecimal digits, as the recommendation has them.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    (text.len() == 2 * N).then_some(bytes)
}

fn write_hex(bytes: &[u8], out: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(out.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn parse(text: &str) -> Option<TraceContext> {
        TraceContext::parse(text.as_bytes())
    }

    fn shown(context: TraceContext) -> String {
        String::from_utf8(context.parent().to_vec()).expect("text")
    }

    /// The recommendation's examples, and the cases of its own tests.
    #[test]
    fn what_is_valid_is_read_and_written() {
        for (text, expected) in [
            (PARENT, PARENT),
            (
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            ),
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            ),
            // Level 2's flag stays, those that are not defined go.
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03",
            ),
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-fe",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02",
            ),
            // Later versions are read as this one, and become this one.
            (
                "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            ),
            (
                "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-will-be-like",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            ),
        ] {
            assert_eq!(shown(parse(text).expect(text)), expected);
        }
    }

    #[test]
    fn what_is_not_valid_is_none() {
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-011",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.what",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            ".0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00F067AA0BA902B7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0A",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473.-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b.-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-.1",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7_01",
            " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01,00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_request_joins_its_trace_or_begins_one() {
        const SAMPLED: &str = PARENT;
        const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        const OURS: &str = "00-0000000000000000000000000000000a-000000000000000b-01";
        const OURS_UNSAMPLED: &str = "00-0000000000000000000000000000000a-000000000000000b-00";
        const CHILD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-000000000000000b-01";
        let begins = |record| if record { How::Recorded(true) } else { How::Begun };
        for (propagate, record, sample, given, expected) in [
            (false, false, 1.0, None, None),
            (false, false, 1.0, Some(SAMPLED), Some((SAMPLED, How::Passed))),
            (true, false, 1.0, None, Some((OURS, begins(false)))),
            (true, false, 0.0, None, Some((OURS_UNSAMPLED, begins(false)))),
            (true, false, 1.0, Some(UNSAMPLED), Some((UNSAMPLED, How::Passed))),
            (true, false, 1.0, Some(SAMPLED), Some((SAMPLED, How::Passed))),
            (false, true, 1.0, None, Some((OURS, begins(true)))),
            (false, true, 0.0, None, Some((OURS_UNSAMPLED, begins(false)))),
            // The caller has decided.
            (false, true, 0.0, Some(SAMPLED), Some((CHILD, How::Recorded(false)))),
            (false, true, 1.0, Some(UNSAMPLED), Some((UNSAMPLED, How::Passed))),
        ] {
            let practice = Practice::new(propagate, record, sample);
            let joined = practice.join(given.map(|given| parse(given).expect(given)), || (10, 11));
            let seen = joined.map(|joined| (shown(joined.context), joined.how));
            let expected = expected.map(|(text, how)| (text.to_owned(), how));
            assert_eq!(seen, expected, "{practice:?} {given:?}");
            let below = joined.and_then(|joined| joined.parent).is_some();
            assert_eq!(below, joined.is_some_and(|joined| joined.how == How::Recorded(false)));
        }
    }

    #[test]
    fn headers_are_touched_only_where_something_begins() {
        let given = parse(PARENT).expect("valid");
        let joined = |how| Joined {
            context: given,
            parent: None,
            how,
        };
        let carried = |how, span: Option<u64>| {
            let carried = joined(how).carried(span.map(SpanId::new))?;
            Some((shown(carried.context), carried.begins))
        };
        let child = "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000007-01".to_owned();
        assert_eq!(carried(How::Passed, None), None);
        assert_eq!(carried(How::Begun, None), Some((PARENT.to_owned(), true)));
        assert_eq!(carried(How::Recorded(false), Some(7)), Some((child.clone(), false)));
        assert_eq!(carried(How::Recorded(true), Some(7)), Some((child, true)));
    }

    #[test]
    fn a_share_of_the_traces_is_sampled() {
        for (trace, sample, expected) in [
            (u128::MAX, 1.0, true),
            (u128::MAX, 0.999_999, false),
            (u128::MAX, 2.0, true),
            (1 << 64, 0.000_001, true),
            (0, 0.0, false),
            // Only the second half counts.
            (u128::from(u64::MAX / 2), 0.5, true),
            (u128::from(u64::MAX / 2 + 2), 0.5, false),
        ] {
            let practice = Practice::new(true, false, sample);
            assert_eq!(practice.samples(TraceId::new(trace)), expected, "{trace:x} {sample}");
        }
    }

    #[test]
    fn ids_are_never_zero() {
        let context = TraceContext::root(TraceId::new(0), SpanId::new(0), false);
        assert_eq!(
            shown(context),
            "00-00000000000000000000000000000001-0000000000000001-00"
        );
        let mut hex = [0; 32];
        assert_eq!(
            parse(PARENT).expect("valid").trace.write_hex(&mut hex),
            "4bf92f3577b34da6a3ce929d0e0e4736"
        );
    }
}
