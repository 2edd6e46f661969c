//! A reader of HTTP/1.1 messages for tests: what bytes mean by the letter of
//! RFC 9112, and nothing that a lenient reader would make of them.

use std::fmt;

/// Fields in order, names in small letters.
pub(crate) type Fields = Vec<(String, Vec<u8>)>;

/// A request or an answer.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// The first line.
    pub(crate) line: String,
    pub(crate) fields: Fields,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Fields,
    /// Whether it came to its end.
    pub(crate) whole: bool,
}

/// What has to be known to read a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Answer,
    AnswerToHead,
}

/// What the beginning of some bytes is.
#[derive(Debug)]
pub(crate) enum Read {
    /// A message that has not ended, as far as it is there.
    Partial(Option<Message>),
    /// A message of so many bytes.
    Whole(Message, usize),
    /// No message.
    Wrong(&'static str),
}

impl Message {
    /// The values of a field.
    pub(crate) fn values(&self, name: &str) -> Vec<String> {
        let of_name = self.fields.iter().filter(|(field, _)| field == name);
        of_name
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            .collect()
    }

    /// The method or the version: what stands before the first space.
    pub(crate) fn first(&self) -> &str {
        self.line.split(' ').next().unwrap_or_default()
    }

    /// The target, or the status.
    pub(crate) fn second(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    /// The status of an answer.
    pub(crate) fn status(&self) -> u16 {
        self.second().parse().unwrap_or_default()
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = |fields: &Fields| -> String {
            let lines = fields
                .iter()
                .map(|(name, value)| format!("\n      {name}: {}", shown(value)));
            lines.collect()
        };
        let (fields, trailers) = (listed(&self.fields), listed(&self.trailers));
        let end = if self.whole { "" } else { " …broken off" };
        let body = shown(&self.body);
        write!(
            f,
            "\n    {}{fields}\n      [{body}]{end}{trailers}",
            self.line.escape_debug()
        )
    }
}

/// Reads the message at the beginning of `bytes`.
pub(crate) fn read(bytes: &[u8], kind: Kind) -> Read {
    let Some(length) = find(bytes, b"\r\n\r\n") else {
        return Read::Partial(None);
    };
    match head(&bytes[..length]) {
        Ok(message) => body(message, &bytes[length + 4..], kind, length + 4),
        Err(why) => Read::Wrong(why),
    }
}

/// Reads one message after the other; the last may be a part of one.
pub(crate) fn read_all(bytes: &[u8], mut kind: impl FnMut(&[Message]) -> Kind) -> Result<Vec<Message>, &'static str> {
    let (mut messages, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        match read(&bytes[at..], kind(&messages)) {
            Read::Whole(message, length) => {
                at += length;
                messages.push(message);
            }
            Read::Partial(message) => {
                messages.push(message.unwrap_or_default());
                break;
            }
            Read::Wrong(why) => return Err(why),
        }
    }
    Ok(messages)
}

fn head(bytes: &[u8]) -> Result<Message, &'static str> {
    let mut lines = lines(bytes);
    let line = lines.next().ok_or("there is no first line")??;
    let fields = lines.map(|line| field(line?)).collect::<Result<_, _>>()?;
    Ok(Message {
        line: line.iter().copied().map(char::from).collect(),
        fields,
        ..Message::default()
    })
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = Result<&[u8], &'static str>> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = find(text, b"\r\n");
        rest = end.map(|at| &text[at + 2..]);
        let line = &text[..end.unwrap_or(text.len())];
        let odd = line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | b'\0'));
        Some(if odd {
            Err("a CR, LF or NUL within a line")
        } else {
            Ok(line)
        })
    })
}

fn field(line: &[u8]) -> Result<(String, Vec<u8>), &'static str> {
    let colon = line
        .iter()
        .position(|byte| *byte == b':')
        .ok_or("a field without a colon")?;
    let name = &line[..colon];
    if name.is_empty() || !name.iter().copied().all(is_token) {
        return Err("a field's name is no token");
    }
    Ok((
        String::from_utf8_lossy(name).to_ascii_lowercase(),
        line[colon + 1..].trim_ascii().to_vec(),
    ))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn body(mut message: Message, bytes: &[u8], kind: Kind, head: usize) -> Read {
    let whole = |mut message: Message, length: usize| {
        message.whole = true;
        Read::Whole(message, head + length)
    };
    let without = match kind {
        Kind::Request => false,
        Kind::AnswerToHead => true,
        Kind::Answer => matches!(message.status(), 100..=199 | 204 | 304),
    };
    if without {
        return whole(message, 0);
    }
    let (codings, lengths) = (message.values("transfer-encoding"), message.values("content-length"));
    match (codings.as_slice(), lengths.as_slice()) {
        ([], []) if kind == Kind::Request => whole(message, 0),
        ([], []) => {
            message.body = bytes.to_vec();
            Read::Partial(Some(message))
        }
        ([], [length]) => {
            let Ok(length) = length.parse::<usize>() else {
                return Read::Wrong("Content-Length is no number");
            };
            let there = length.min(bytes.len());
            message.body = bytes[..there].to_vec();
            if there < length {
                Read::Partial(Some(message))
            } else {
                whole(message, length)
            }
        }
        ([coding], []) if coding.eq_ignore_ascii_case("chunked") => match chunks(&mut message, bytes) {
            Ok(Some(length)) => whole(message, length),
            Ok(None) => Read::Partial(Some(message)),
            Err(why) => Read::Wrong(why),
        },
        _ => Read::Wrong("its framing is not clear"),
    }
}

/// Reads chunks; the bytes that they took when the last has come.
fn chunks(message: &mut Message, bytes: &[u8]) -> Result<Option<usize>, &'static str> {
    let mut at = 0;
    loop {
        let Some(line) = find(&bytes[at..], b"\r\n") else {
            return Ok(None);
        };
        let digits = std::str::from_utf8(&bytes[at..at + line]).unwrap_or_default();
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err("a chunk has no size");
        }
        let size = usize::from_str_radix(digits, 16).map_err(|_| "a chunk is too large")?;
        at += line + 2;
        if size == 0 {
            break;
        }
        let there = size.min(bytes.len() - at);
        message.body.extend_from_slice(&bytes[at..at + there]);
        at += there;
        match bytes.get(at..at + 2) {
            Some(b"\r\n") => at += 2,
            Some(_) => return Err("a chunk is longer than its size"),
            None => return Ok(None),
        }
    }
    loop {
        let Some(line) = find(&bytes[at..], b"\r\n") else {
            return Ok(None);
        };
        let text = &bytes[at..at + line];
        at += line + 2;
        if text.is_empty() {
            return Ok(Some(at));
        }
        message.trailers.push(field(text)?);
    }
}

/// Bytes as text, long ones without their middle.
pub(crate) fn shown(bytes: &[u8]) -> String {
    const ENDS: usize = 400;
    match bytes.len() {
        0..=1000 => bytes.escape_ascii().to_string(),
        length => format!(
            "{}…{}… ({length} bytes)",
            bytes[..ENDS].escape_ascii(),
            bytes[length - ENDS..].escape_ascii()
        ),
    }
}

/// Where `needle` begins.
pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
