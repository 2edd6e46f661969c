//! Where a chunked body ends, and which of its bytes are passed on
//! (RFC 9112 section 7.1).
//!
//! Sizes and data go through as they came; extensions and trailer fields, which
//! nobody announced, are left out. Stricter than the standard asks: lines end
//! with CRLF, sizes have at most 15 digits, and what is left out is bounded.

use std::ops::Range;

/// Most bytes of extensions in one body, and of trailers.
const MAX_LEFT_OUT: usize = 16 * 1024;

/// Most digits of a size: no size can overflow.
const MAX_DIGITS: u8 = 15;

/// Something that is no chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the chunked body is malformed: {0}")]
pub struct Malformed(pub &'static str);

/// A chunked body on its way.
#[derive(Debug, Clone)]
pub struct Chunked {
    state: State,
    /// Of the chunk: its size while it is read, then what is left of its data.
    left: u64,
    /// Digits of the size so far.
    digits: u8,
    left_out: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    /// Behind a size and white space.
    Sized,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the beginning of a trailer's line, or of the last.
    Line,
    TrailerName,
    Trailer,
    TrailerLf,
    LastLf,
    Done,
}

/// What some bytes of a body come to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Runs {
    /// How many of the bytes belong to the body.
    pub consumed: usize,
    /// How many of them are data.
    pub data: usize,
    /// Whether the body ended with them.
    pub ended: bool,
    first: Range<usize>,
    more: Vec<Range<usize>>,
}

impl Runs {
    /// All of the first `consumed` bytes, `data` of them the body's own.
    pub fn all(consumed: usize, ended: bool) -> Self {
        Self {
            consumed,
            data: consumed,
            ended,
            first: 0..consumed,
            more: Vec::new(),
        }
    }

    /// The bytes to pass on, in order.
    pub fn kept(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        std::iter::once(&self.first)
            .chain(&self.more)
            .filter(|run| !run.is_empty())
            .cloned()
    }

    /// The bytes to pass on, when they are in one piece, as they nearly always are.
    pub fn whole(&self) -> Option<Range<usize>> {
        self.more.is_empty().then(|| self.first.clone())
    }

    fn keep(&mut self, run: Range<usize>) {
        let last = self.more.last_mut().unwrap_or(&mut self.first);
        if last.end == run.start {
            last.end = run.end;
        } else if last.start == last.end {
            *last = run;
        } else {
            self.more.push(run);
        }
    }
}

impl Default for Chunked {
    fn default() -> Self {
        Self {
            state: State::Size,
            left: 0,
            digits: 0,
            left_out: 0,
        }
    }
}

impl Chunked {
    /// Reads on in `bytes`, to their end or to the body's.
    ///
    /// # Errors
    /// When this is no chunked body; nothing after it can be believed.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Runs, Malformed> {
        let mut runs = Runs::default();
        let mut at = 0;
        while self.state != State::Done
            && let Some(&byte) = bytes.get(at)
        {
            if self.state == State::Data {
                let rest = bytes.len() - at;
                let taken = usize::try_from(self.left).map_or(rest, |left| left.min(rest));
                runs.keep(at..at + taken);
                runs.data += taken;
                self.left -= taken as u64;
                at += taken;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            if self.step(byte)? {
                runs.keep(at..at + 1);
            } else {
                self.left_out += 1;
                if self.left_out > MAX_LEFT_OUT {
                    return Err(Malformed("its extensions or trailers are too long"));
                }
            }
            at += 1;
        }
        runs.consumed = at;
        runs.ended = self.state == State::Done;
        Ok(runs)
    }

    /// Takes one byte that is not data; `true` when it is passed on.
    fn step(&mut self, byte: u8) -> Result<bool, Malformed> {
        let (next, kept) = match (self.state, byte) {
            (State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if self.digits == MAX_DIGITS {
                    return Err(Malformed("a chunk's size is too large"));
                }
                self.digits += 1;
                self.left = self.left << 4 | u64::from(hex(byte));
                (State::Size, true)
            }
            (State::Size, _) if self.digits == 0 => return Err(Malformed("a chunk has no size")),
            (State::Size | State::Sized | State::Extension, b'\r') => (State::SizeLf, true),
            // No digits behind it, which others may take for more of the size.
            (State::Size | State::Sized, b' ' | b'\t') => (State::Sized, false),
            (State::Size | State::Sized, b';') | (State::Extension, b'\t' | b' '..=b'~' | 0x80..) => {
                (State::Extension, false)
            }
            (State::SizeLf, b'\n') => {
                self.digits = 0;
                (if self.left == 0 { State::Line } else { State::Data }, true)
            }
            (State::DataCr, b'\r') => (State::DataLf, true),
            (State::DataLf, b'\n') => (State::Size, true),
            (State::Line, b'\r') => (State::LastLf, true),
            (State::LastLf, b'\n') => (State::Done, true),
            (State::Line | State::TrailerName, _) if is_token(byte) => (State::TrailerName, false),
            (State::TrailerName, b':') | (State::Trailer, b'\t' | b' '..=b'~' | 0x80..) => (State::Trailer, false),
            (State::Trailer, b'\r') => (State::TrailerLf, false),
            (State::TrailerLf, b'\n') => (State::Line, false),
            (State::Size | State::Sized | State::Extension | State::SizeLf, _) => {
                return Err(Malformed("a chunk's size has something else in it"));
            }
            (State::DataCr | State::DataLf, _) => return Err(Malformed("a chunk is longer than its size")),
            _ => return Err(Malformed("its trailers are no header lines")),
        };
        self.state = next;
        Ok(kept)
    }
}

/// Whether a byte may be in a field's name (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        letter => (letter | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `body` in pieces of `step` bytes; what was passed on, the data's
    /// size and what was left.
    fn read(body: &str, step: usize) -> Result<(String, usize, String, bool), Malformed> {
        let mut chunked = Chunked::default();
        let (mut kept, mut data, mut at) = (String::new(), 0, 0);
        while at < body.len() {
            let piece = &body.as_bytes()[at..body.len().min(at + step)];
            let runs = chunked.read(piece)?;
            for run in runs.kept() {
                kept.push_str(std::str::from_utf8(&piece[run]).expect("text"));
            }
            data += runs.data;
            at += runs.consumed;
            if runs.ended {
                return Ok((kept, data, body[at..].to_owned(), true));
            }
        }
        Ok((kept, data, String::new(), false))
    }

    #[test]
    fn bodies_pass_as_they_are_without_what_is_not_data() {
        for (body, kept, data, rest) in [
            ("0\r\n\r\n", "0\r\n\r\n", 0, ""),
            ("5\r\nhello\r\n0\r\n\r\nGET", "5\r\nhello\r\n0\r\n\r\n", 5, "GET"),
            ("A\r\n0123456789\r\n00\r\n\r\n", "A\r\n0123456789\r\n00\r\n\r\n", 10, ""),
            ("3;a=\"b\"\r\nabc\r\n0 \t;x\r\n\r\n", "3\r\nabc\r\n0\r\n\r\n", 3, ""),
            ("3 \r\nabc\r\n0\r\nA-1:\r\n\r\n", "3\r\nabc\r\n0\r\n\r\n", 3, ""),
            ("1\r\nx\r\n0\r\nA: b\r\nC: d\r\n\r\n!", "1\r\nx\r\n0\r\n\r\n", 1, "!"),
        ] {
            for step in [1, 2, 3, 7, 1000] {
                let expected = (kept.to_owned(), data, rest.to_owned(), true);
                assert_eq!(read(body, step), Ok(expected), "{body:?} by {step}");
            }
        }
        let whole = Chunked::default().read(b"5\r\nhello\r\n0\r\n\r\n").expect("a body");
        assert_eq!(whole.whole(), Some(0..15));
    }

    #[test]
    fn a_body_that_has_not_ended_waits() {
        for body in [
            "",
            "5",
            "5\r\nhel",
            "5\r\nhello\r\n",
            "0\r\n",
            "0\r\nA: b\r\n",
            "0\r\n\r",
        ] {
            assert!(!read(body, 4).expect("so far so good").3, "{body:?}");
        }
    }

    #[test]
    fn what_is_no_chunked_body_is_malformed() {
        let long = format!("1;{}\r\nx\r\n0\r\n\r\n", "y".repeat(MAX_LEFT_OUT));
        for body in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "+1\r\nx\r\n",
            "0x1\r\nx\r\n",
            "1\nx\n0\n\n",
            "1\r\nxy\r\n",
            "1\r\nx\n0\r\n\r\n",
            "1;a\nb\r\nx",
            "1\rx\r\n",
            "1000000000000000\r\n",
            "1 0\r\nx\r\n",
            "1 x\r\nx\r\n",
            "0\r\n folded\r\n\r\n",
            "0\r\nno colon\r\n\r\n",
            "0\r\nA : b\r\n\r\n",
            "0\r\n: b\r\n\r\n",
            "0\r\nA: b\n\r\n",
            "0\r\nA: \0\r\n",
            "0\r\n\rx",
            "1;\0\r\nx\r\n",
            "1\u{b}\r\nx",
            &long,
        ] {
            for step in [1, 1000] {
                assert!(read(body, step).is_err(), "{body:?} by {step}");
            }
        }
    }
}
