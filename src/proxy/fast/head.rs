//! The strict reader of request heads.
//!
//! It understands plain HTTP/1.1 calls and nothing else. A head that may mean
//! one thing to us and another to somebody else on the way is
//! [`Read::Doubtful`], as is one whose meaning is not needed often enough to
//! have it here: switches of protocols, `Expect`, trailers, options of
//! `Connection`. Line ends, framing and targets are held to the letter of RFC 9112.

use std::{mem::MaybeUninit, ops::Range};

use http::header;
use httparse::{Header, Status};

use super::{body::Body, chunked::Chunked};
use crate::proxy::headers;

/// Most header fields of a plain head.
pub const MAX_FIELDS: usize = 64;

/// Most digits of a length: none can overflow.
const MAX_DIGITS: usize = 18;

/// Where the fields of a head are kept while it is used.
pub type Storage<'b> = [MaybeUninit<Header<'b>>; MAX_FIELDS];

/// Room for a head's fields.
pub fn storage<'b>() -> Storage<'b> {
    [const { MaybeUninit::uninit() }; MAX_FIELDS]
}

/// What the beginning of a connection's bytes is.
#[derive(Debug)]
pub enum Read<'s, 'b> {
    /// The beginning of a head.
    Partial,
    /// Not for this reader.
    Doubtful,
    /// A plain call.
    Plain(Head<'s, 'b>),
}

/// What the gateway knows of a request's header field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Nothing: it is passed on.
    Other,
    /// `Host`.
    Host,
    /// `traceparent`.
    TraceParent,
    /// `tracestate`.
    TraceState,
    /// It concerns this connection only, or is written anew.
    Hop,
}

/// The head of a plain call.
#[derive(Debug)]
pub struct Head<'s, 'b> {
    /// Its length in bytes, the empty line included.
    pub length: usize,
    /// The method; not `CONNECT`.
    pub method: &'b str,
    /// The request target: a path, and perhaps a query.
    pub target: &'b str,
    /// The one `Host`.
    pub host: &'b [u8],
    /// The body that follows.
    pub body: Body,
    /// Whether the caller will send no further request.
    pub close: bool,
    /// The caller's id of the call, not empty.
    pub call_id: Option<&'b [u8]>,
    /// `traceparent`; empty, and so not valid, when there are several.
    pub trace_parent: Option<&'b [u8]>,
    /// Whether there is an `X-Forwarded-For`.
    pub forwarded_for: bool,
    /// Whether there is an `X-Forwarded-Host`.
    pub forwarded_host: bool,
    /// Whether there is an `X-Forwarded-Proto`.
    pub forwarded_proto: bool,
    /// Whether there is an `X-Forwarded-Prefix`.
    pub forwarded_prefix: bool,
    /// Whether there is an `Origin`.
    pub origin: bool,
    fields: &'s [Header<'b>],
    known: [Known; MAX_FIELDS],
}

impl<'s, 'b> Head<'s, 'b> {
    /// The path of the target, without its query.
    pub fn path(&self) -> &'b str {
        self.target.split_once('?').map_or(self.target, |(path, _)| path)
    }

    /// How many fields there are.
    pub fn field_count(&self) -> usize {
        self.fields.len()
    }

    /// Where the host is in the head's bytes.
    pub fn host_place(&self) -> Range<usize> {
        // The method is at the very beginning.
        let from = (self.host.as_ptr() as usize).wrapping_sub(self.method.as_ptr() as usize);
        if self.host.is_empty() || from >= self.length {
            return 0..0;
        }
        from..from + self.host.len()
    }

    /// The fields in order, as they came but for white space around their values.
    pub fn fields(&self) -> impl Iterator<Item = (Known, &'s Header<'b>)> {
        self.known.iter().copied().zip(self.fields)
    }

    /// Every value of a field.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        self.fields
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value)
    }
}

/// Reads the head at the beginning of `bytes`.
pub fn read<'s, 'b>(storage: &'s mut Storage<'b>, bytes: &'b [u8]) -> Read<'s, 'b> {
    // The parser would pass over empty lines before a request, which are no plain call.
    if bytes.first().is_some_and(|first| matches!(first, b'\r' | b'\n')) {
        return Read::Doubtful;
    }
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, storage) {
        Ok(Status::Complete(length)) => {
            let (Some(method), Some(target), Some(1)) = (request.method, request.path, request.version) else {
                return Read::Doubtful;
            };
            understand(&bytes[..length], method, target, request.headers).map_or(Read::Doubtful, Read::Plain)
        }
        Ok(Status::Partial) => Read::Partial,
        Err(_) => Read::Doubtful,
    }
}

fn understand<'s, 'b>(
    bytes: &'b [u8],
    method: &'b str,
    target: &'b str,
    fields: &'s [Header<'b>],
) -> Option<Head<'s, 'b>> {
    if method == "CONNECT" || !is_origin_form(target) || !lines_end_with_crlf(bytes) {
        return None;
    }
    let mut head = Head {
        length: bytes.len(),
        method,
        target,
        host: b"",
        body: Body::Ended,
        close: false,
        call_id: None,
        trace_parent: None,
        forwarded_for: false,
        forwarded_host: false,
        forwarded_proto: false,
        forwarded_prefix: false,
        origin: false,
        fields,
        known: [Known::Other; MAX_FIELDS],
    };
    let (mut hosts, mut connections, mut framings) = (0, 0, 0);
    for (index, field) in fields.iter().enumerate() {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        // By length first: most fields are not compared with anything.
        let known = match field.name.len() {
            2 if is(header::TE.as_str()) => return None,
            4 if is(header::HOST.as_str()) => {
                hosts += 1;
                head.host = field.value;
                Known::Host
            }
            6 if is(header::EXPECT.as_str()) => return None,
            6 if is(header::ORIGIN.as_str()) => {
                head.origin = true;
                Known::Other
            }
            7 if is(header::UPGRADE.as_str()) || is(header::TRAILER.as_str()) => return None,
            9 if is(headers::CALL_ID.as_str()) => {
                if head.call_id.is_some() || field.value.is_empty() {
                    return None;
                }
                head.call_id = Some(field.value);
                Known::Other
            }
            10 if is(header::CONNECTION.as_str()) => {
                connections += 1;
                if field.value.eq_ignore_ascii_case(b"close") {
                    head.close = true;
                } else if !field.value.eq_ignore_ascii_case(b"keep-alive") {
                    return None;
                }
                Known::Hop
            }
            10 if is(headers::TRACE_STATE.as_str()) => Known::TraceState,
            11 if is(headers::TRACE_PARENT.as_str()) => {
                let first = head.trace_parent.is_none();
                head.trace_parent = Some(if first { field.value } else { b"" });
                Known::TraceParent
            }
            14 if is(header::CONTENT_LENGTH.as_str()) => {
                framings += 1;
                head.body = Body::of(length(field.value)?);
                Known::Other
            }
            15 if is(headers::FORWARDED_FOR.as_str()) => {
                head.forwarded_for = true;
                Known::Other
            }
            16 if is(headers::FORWARDED_HOST.as_str()) => {
                head.forwarded_host = true;
                Known::Other
            }
            17 if is(headers::FORWARDED_PROTO.as_str()) => {
                head.forwarded_proto = true;
                Known::Other
            }
            17 if is(header::TRANSFER_ENCODING.as_str()) => {
                framings += 1;
                if !field.value.eq_ignore_ascii_case(b"chunked") {
                    return None;
                }
                head.body = Body::Chunked(Chunked::default());
                Known::Hop
            }
            18 if is(headers::FORWARDED_PREFIX.as_str()) => {
                head.forwarded_prefix = true;
                Known::Other
            }
            10 | 16 | 18 | 19 if headers::is_hop_by_hop(field.name) => Known::Hop,
            _ => Known::Other,
        };
        head.known[index] = known;
    }
    (hosts == 1 && connections <= 1 && framings <= 1).then_some(head)
}

/// The value of `Content-Length`: digits and nothing else.
pub(super) fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > MAX_DIGITS || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// Whether a target is a path with perhaps a query, of the characters that
/// RFC 3986 allows there.
fn is_origin_form(target: &str) -> bool {
    target.starts_with('/') && target.bytes().all(|byte| IN_TARGET[usize::from(byte)])
}

const IN_TARGET: [bool; 256] = {
    let mut table = [false; 256];
    let plain = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@%/?";
    let mut index = 0;
    while index < plain.len() {
        table[plain[index] as usize] = true;
        index += 1;
    }
    table
};

/// Whether no line ends with a line feed alone, which readers disagree about.
fn lines_end_with_crlf(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head).all(|at| at > 0 && head[at - 1] == b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is made of a head: `partial`, `doubtful`, or what was read.
    fn seen(text: &str) -> String {
        let mut storage = storage();
        match read(&mut storage, text.as_bytes()) {
            Read::Partial => "partial".to_owned(),
            Read::Doubtful => "doubtful".to_owned(),
            Read::Plain(head) => {
                let kept = head
                    .fields()
                    .filter(|(known, _)| *known != Known::Hop)
                    .map(|(_, field)| field.name);
                format!(
                    "{} {} {} {:?}{}",
                    head.method,
                    head.target,
                    kept.collect::<Vec<_>>().join(","),
                    head.body.known_length(),
                    if head.close { " close" } else { "" }
                )
            }
        }
    }

    #[test]
    fn plain_calls_are_read() {
        for (text, expected) in [
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET / Host Some(0)"),
            (
                "POST /function/f.ns/a%2Fb?x=;y HTTP/1.1\r\nhost:x\r\nContent-length:  5 \r\nConnection: Close\r\n\r\nhello",
                "POST /function/f.ns/a%2Fb?x=;y host,Content-length Some(5) close",
            ),
            (
                "M-SEARCH /f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\nKeep-Alive: 5\r\nA:\r\n\r\n",
                "M-SEARCH /f Host,A None",
            ),
            (
                "GET /f HTTP/1.1\r\nProxy-Connection: x\r\nProxy-Authorization: b\r\nHost: x\r\nConnection: keep-alive\r\nAuthorization: c\r\n\r\n",
                "GET /f Host,Authorization Some(0)",
            ),
        ] {
            assert_eq!(seen(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_head_that_is_not_complete_is_waited_for() {
        let text = "GET /function/f HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n";
        for end in 0..text.len() {
            assert_eq!(seen(&text[..end]), "partial", "{:?}", &text[..end]);
        }
    }

    #[test]
    fn what_is_unusual_or_may_be_read_in_two_ways_is_doubtful() {
        let many = format!("GET /f HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(MAX_FIELDS));
        for line in [
            "GET /f HTTP/1.0",
            "GET f HTTP/1.1",
            "GET http://x/f HTTP/1.1",
            "OPTIONS * HTTP/1.1",
        ] {
            assert_eq!(seen(&format!("{line}\r\nHost: x\r\n\r\n")), "doubtful", "{line}");
        }
        for line in [
            "CONNECT /f HTTP/1.1",
            "GET /f#g HTTP/1.1",
            "GET  /f HTTP/1.1",
            "GET /f|g HTTP/1.1",
            "GET /\u{e9} HTTP/1.1",
        ] {
            assert_eq!(seen(&format!("{line}\r\nHost: x\r\n\r\n")), "doubtful", "{line}");
        }
        for fields in [
            "",
            "Host: x\r\nHost: x\r\n",
            "Host: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n",
            "Host: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Host: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Host: x\r\nTransfer-Encoding: gzip, chunked\r\n",
            "Host: x\r\nTransfer-Encoding: identity\r\n",
            "Host: x\r\nTransfer-Encoding: \u{b}chunked\r\n",
            "Host: x\r\nContent-Length: +5\r\n",
            "Host: x\r\nContent-Length: 5, 5\r\n",
            "Host: x\r\nContent-Length: 0x5\r\n",
            "Host: x\r\nContent-Length: \r\n",
            "Host: x\r\nContent-Length: 9999999999999999999\r\n",
            "Host: x\r\nContent-Length : 5\r\n",
            "Host: x\r\nExpect: 100-continue\r\n",
            "Host: x\r\nUpgrade: websocket\r\n",
            "Host: x\r\nConnection: upgrade\r\n",
            "Host: x\r\nConnection: close, x-secret\r\n",
            "Host: x\r\nConnection: close\r\nConnection: keep-alive\r\n",
            "Host: x\r\nTE: trailers\r\n",
            "Host: x\r\nTrailer: x-sum\r\n",
            "Host: x\r\nX-Call-Id: \r\n",
            "Host: x\r\nX-Call-Id: a\r\nX-Call-Id: b\r\n",
            "Host: x\nA: b\r\n",
            "Host: x\r\nA: b\r\n folded\r\n",
            "Host: x\r\nA: b\rc\r\n",
            "Host: x\r\nA: \0\r\n",
            "Host: x\r\nA b: c\r\n",
            " Host: x\r\n",
        ] {
            let text = format!("GET /f HTTP/1.1\r\n{fields}\r\n");
            assert_eq!(seen(&text), "doubtful", "{text:?}");
        }
        for text in [
            "\r\nGET /f HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /f HTTP/1.1\nHost: x\n\n",
            "GET /f HTTP/1.1\r\nHost: x\r\n\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "\u{16}\u{3}\u{1}",
            &many,
        ] {
            assert_eq!(seen(text), "doubtful", "{text:?}");
        }
    }
}
