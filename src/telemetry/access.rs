//! Lines of the access log: one for each request, in the log's format.
//!
//! They look as the library that writes all other lines would write them, and
//! are written by hand because there are as many as there are calls. What is in
//! a line is [`AccessLine`]'s fields; when there is one is up to
//! [`crate::server`]. Whatever callers put into a field stays within it: text
//! is escaped in either format.

use std::{
    fmt::{self, Write as _},
    io::Write as _,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use super::{Shared, counts::Class};
use crate::trace::TraceId;

/// The target of these lines, by which filters know them.
pub(super) const TARGET: &str = "access";

/// Takes access lines. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AccessLog(pub(super) Arc<Shared>);

/// What is said of a request.
#[derive(Debug, Clone, Copy)]
pub struct AccessLine<'l> {
    /// What it was about.
    pub kind: &'static str,
    /// The lane, unless it is the usual one.
    pub lane: Option<&'static str>,
    /// The method.
    pub method: &'l str,
    /// The path, without the query.
    pub path: &'l str,
    /// The route it took.
    pub route: Option<&'l str>,
    /// The status of the answer.
    pub status: u16,
    /// Bytes of the answer's body.
    pub bytes: u64,
    /// How long it took, to the last byte.
    pub took: Duration,
    /// The caller's address.
    pub peer: SocketAddr,
    /// The call's id.
    pub call_id: Option<&'l str>,
    /// Where it was sent.
    pub upstream: Option<&'l str>,
    /// How often it was tried again.
    pub retries: u32,
    /// Whether it did not end as it should.
    pub aborted: bool,
    /// The trace it belongs to.
    pub trace_id: Option<TraceId>,
}

impl AccessLog {
    /// Whether the filter lets these lines pass.
    pub fn is_on(&self) -> bool {
        self.0.access.load(Ordering::Relaxed)
    }

    /// Writes a line, if the filter lets it pass.
    pub fn write(&self, line: &AccessLine<'_>) {
        let Some(lines) = self.0.lines.as_ref().filter(|_| self.is_on()) else {
            return;
        };
        let json = self.0.json.load(Ordering::Relaxed);
        lines.push(Class::Access, |out, stamp, at| {
            if json {
                Json { out }.line(stamp, at, line);
            } else {
                let colours = self.0.colours;
                Text { out, colours }.line(stamp, at, line);
            }
        });
    }
}

/// A field's name as both formats write it, so that it is one piece.
struct Key {
    name: &'static str,
    /// Behind the field before it, up to its value.
    text: &'static str,
    json: &'static str,
}

macro_rules! key {
    ($name:literal) => {
        &Key {
            name: $name,
            text: concat!(" ", $name, "="),
            json: concat!(",\"", $name, "\":"),
        }
    };
}

impl AccessLine<'_> {
    /// Every field in its order.
    fn fields(&self, out: &mut impl Fields) {
        out.word(key!("kind"), self.kind);
        if let Some(lane) = self.lane {
            out.word(key!("lane"), lane);
        }
        out.token(key!("method"), self.method);
        out.token(key!("path"), self.path);
        if let Some(route) = self.route {
            out.text(key!("route"), route);
        }
        out.number(key!("status"), self.status.into());
        out.number(key!("bytes"), self.bytes);
        out.millis(key!("duration_ms"), self.took);
        out.address(key!("peer"), self.peer);
        if let Some(call_id) = self.call_id {
            out.text(key!("call_id"), call_id);
        }
        if let Some(upstream) = self.upstream {
            out.text(key!("upstream"), upstream);
        }
        if self.retries > 0 {
            out.number(key!("retries"), self.retries.into());
        }
        if self.aborted {
            out.truth(key!("aborted"));
        }
        if let Some(trace_id) = self.trace_id {
            let mut hex = [0; 32];
            out.word(key!("trace_id"), trace_id.write_hex(&mut hex));
        }
    }
}

/// Writes fields in a format.
trait Fields {
    /// Where to.
    fn out(&mut self) -> &mut Vec<u8>;
    /// What is before a value.
    fn name(&mut self, key: &Key);
    /// Text of ours, in quotes.
    fn word(&mut self, key: &Key, word: &str);
    /// Text in quotes, from anywhere.
    fn text(&mut self, key: &Key, text: &str);
    /// Text that people read without quotes, from anywhere.
    fn token(&mut self, key: &Key, text: &str);
    /// An address, which people read without quotes.
    fn address(&mut self, key: &Key, address: SocketAddr);

    fn number(&mut self, key: &Key, number: u64) {
        self.name(key);
        self.out()
            .extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }

    /// Milliseconds with up to three places.
    fn millis(&mut self, key: &Key, took: Duration) {
        self.name(key);
        millis(self.out(), took);
    }

    fn truth(&mut self, key: &Key) {
        self.name(key);
        self.out().extend_from_slice(b"true");
    }
}

/// For people.
struct Text<'o> {
    out: &'o mut Vec<u8>,
    /// For a terminal.
    colours: bool,
}

const DIM: &[u8] = b"\x1b[2m";
const GREEN: &[u8] = b"\x1b[32m";
const ITALIC: &[u8] = b"\x1b[3m";
const NORMAL: &[u8] = b"\x1b[0m";

impl Text<'_> {
    fn line(mut self, stamp: &mut Stamp, at: Duration, line: &AccessLine<'_>) {
        if self.colours {
            self.add(&[DIM]);
            stamp.write(self.out, at);
            self.add(&[NORMAL, b" ", GREEN, b" INFO", NORMAL, b" "]);
            self.add(&[DIM, TARGET.as_bytes(), NORMAL, DIM, b":", NORMAL]);
        } else {
            stamp.write(self.out, at);
            self.add(&[b"  INFO ", TARGET.as_bytes(), b":"]);
        }
        line.fields(&mut self);
        self.out.push(b'\n');
    }

    fn add(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.out.extend_from_slice(part);
        }
    }
}

impl Fields for Text<'_> {
    fn out(&mut self) -> &mut Vec<u8> {
        self.out
    }

    fn name(&mut self, key: &Key) {
        if self.colours {
            self.add(&[b" ", ITALIC, key.name.as_bytes(), NORMAL, DIM, b"=", NORMAL]);
        } else {
            self.out.extend_from_slice(key.text.as_bytes());
        }
    }

    fn word(&mut self, key: &Key, word: &str) {
        self.name(key);
        self.add(&[b"\"", word.as_bytes(), b"\""]);
    }

    fn text(&mut self, key: &Key, text: &str) {
        self.name(key);
        debugged(self.out, text);
    }

    fn token(&mut self, key: &Key, text: &str) {
        self.name(key);
        shown(self.out, text);
    }

    fn address(&mut self, key: &Key, address: SocketAddr) {
        self.name(key);
        socket_address(self.out, address);
    }
}

/// For programs.
struct Json<'o> {
    out: &'o mut Vec<u8>,
}

impl Json<'_> {
    fn line(mut self, stamp: &mut Stamp, at: Duration, line: &AccessLine<'_>) {
        self.out.extend_from_slice(b"{\"timestamp\":\"");
        stamp.write(self.out, at);
        self.out.extend_from_slice(b"\",\"level\":\"INFO\"");
        line.fields(&mut self);
        self.word(key!("target"), TARGET);
        self.out.extend_from_slice(b"}\n");
    }
}

impl Fields for Json<'_> {
    fn out(&mut self) -> &mut Vec<u8> {
        self.out
    }

    fn name(&mut self, key: &Key) {
        self.out.extend_from_slice(key.json.as_bytes());
    }

    fn word(&mut self, key: &Key, word: &str) {
        self.name(key);
        self.out.push(b'"');
        self.out.extend_from_slice(word.as_bytes());
        self.out.push(b'"');
    }

    fn text(&mut self, key: &Key, text: &str) {
        if is_plain(text, &QUOTED) {
            return self.word(key, text);
        }
        self.name(key);
        self.out.push(b'"');
        text.chars().for_each(|character| escaped(self.out, character));
        self.out.push(b'"');
    }

    fn token(&mut self, key: &Key, text: &str) {
        self.text(key, text);
    }

    fn address(&mut self, key: &Key, address: SocketAddr) {
        self.name(key);
        self.out.push(b'"');
        socket_address(self.out, address);
        self.out.push(b'"');
    }
}

/// A character within a JSON text. What cannot be seen is escaped as well, for
/// people look at such lines on terminals too.
fn escaped(out: &mut Vec<u8>, character: char) {
    match character {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        '\'' => out.push(b'\''),
        visible if visible.escape_debug().len() == 1 => {
            out.extend_from_slice(visible.encode_utf8(&mut [0; 4]).as_bytes());
        }
        hidden => {
            for unit in hidden.encode_utf16(&mut [0; 2]) {
                // Memory does not refuse.
                let _never = write!(out, "\\u{unit:04x}");
            }
        }
    }
}

/// Bytes that are the same in every format, in quotes.
const QUOTED: [bool; 256] = visible_but(b"\"\\");

/// Bytes that are the same in a text without quotes.
const BARE: [bool; 256] = visible_but(b" ");

const fn visible_but(special: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = b' ';
    while byte <= b'~' {
        table[byte as usize] = true;
        byte += 1;
    }
    let mut index = 0;
    while index < special.len() {
        table[special[index] as usize] = false;
        index += 1;
    }
    table
}

/// Whether nothing of a text has to be escaped: it is looked at byte by byte
/// for each line, and nearly never anything is found.
fn is_plain(text: &str, table: &[bool; 256]) -> bool {
    text.bytes().all(|byte| table[usize::from(byte)])
}

/// A text in quotes, as Rust's `Debug` writes it.
fn debugged(out: &mut Vec<u8>, text: &str) {
    if is_plain(text, &QUOTED) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        // Memory does not refuse.
        let _never = write!(out, "{text:?}");
    }
}

/// A text without quotes; what cannot be seen, or does something on a
/// terminal, is escaped.
fn shown(out: &mut Vec<u8>, text: &str) {
    if is_plain(text, &BARE) {
        return out.extend_from_slice(text.as_bytes());
    }
    for character in text.chars() {
        if character.is_ascii_graphic() {
            out.push(character as u8);
        } else if character == ' ' {
            // Whoever reads fields apart does so at blanks.
            out.extend_from_slice(b"\\u{20}");
        } else {
            let _never = write!(out, "{}", character.escape_debug());
        }
    }
}

fn socket_address(out: &mut Vec<u8>, address: SocketAddr) {
    let SocketAddr::V4(address) = address else {
        // Memory does not refuse.
        let _never = write!(out, "{address}");
        return;
    };
    let mut digits = itoa::Buffer::new();
    for (index, octet) in address.ip().octets().into_iter().enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        out.extend_from_slice(digits.format(octet).as_bytes());
    }
    out.push(b':');
    out.extend_from_slice(digits.format(address.port()).as_bytes());
}

/// Rounded to microseconds; at least one place, as numbers with a point have it.
fn millis(out: &mut Vec<u8>, took: Duration) {
    let micros = (took.as_nanos() + 500) / 1000;
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(digits.format(micros / 1000).as_bytes());
    out.push(b'.');
    let places = digits.format(1000 + micros % 1000).as_bytes();
    let end = places.iter().rposition(|digit| *digit != b'0').unwrap_or(0);
    out.extend_from_slice(&places[1..=end.max(1)]);
}

/// Writes times, and remembers the last second's text: most lines are of the
/// same second as the one before.
#[derive(Debug, Default)]
pub(super) struct Stamp {
    second: Option<u64>,
    text: String,
}

impl Stamp {
    /// A time since 1970, as in RFC 3339, to the microsecond.
    fn write(&mut self, out: &mut Vec<u8>, at: Duration) {
        if self.second != Some(at.as_secs()) {
            self.second = Some(at.as_secs());
            self.text.clear();
            let time = chrono::DateTime::<chrono::Utc>::from(SystemTime::UNIX_EPOCH + at);
            let _never: fmt::Result = write!(self.text, "{}", time.format("%Y-%m-%dT%H:%M:%S."));
        }
        out.extend_from_slice(self.text.as_bytes());
        let mut digits = itoa::Buffer::new();
        let micros = digits.format(1_000_000 + at.subsec_micros()).as_bytes();
        out.extend_from_slice(&micros[1..]);
        out.push(b'Z');
    }
}
