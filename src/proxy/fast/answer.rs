//! The reader of answers' heads.
//!
//! A function has been called when its answer comes, so there is nobody to hand
//! it to: what cannot be understood is [`Read::Malformed`], a failure of the
//! function. Line ends are not held to the letter, since a head is written anew.

use std::mem::MaybeUninit;

use http::header;
use httparse::{Header, Status};

use super::{body::Body, chunked::Chunked, head::length};
use crate::proxy::headers;

/// Most header fields of an answer: as many as the base lane reads.
pub const MAX_FIELDS: usize = 100;

/// Where the fields of a head are kept while it is used.
pub type Storage<'b> = [MaybeUninit<Header<'b>>; MAX_FIELDS];

/// Room for a head's fields.
pub fn storage<'b>() -> Storage<'b> {
    [const { MaybeUninit::uninit() }; MAX_FIELDS]
}

/// What the beginning of an answer's bytes is.
#[derive(Debug)]
pub enum Read<'s, 'b> {
    /// The beginning of a head.
    Partial,
    /// An interim answer (1xx) of so many bytes; another head follows.
    Interim(usize),
    /// An answer.
    Final(Head<'s, 'b>),
    /// No answer of HTTP/1, or one that has several meanings.
    Malformed(&'static str),
}

/// The head of an answer.
#[derive(Debug)]
pub struct Head<'s, 'b> {
    /// Its length in bytes, the empty line included.
    pub length: usize,
    /// The status.
    pub status: u16,
    /// The words beside the status, as they came.
    pub reason: &'b str,
    /// The body that follows.
    pub body: Body,
    /// Whether the connection can take another request after it.
    pub keeps: bool,
    fields: &'s [Header<'b>],
    /// Fields that are not passed on.
    dropped: [bool; MAX_FIELDS],
}

impl<'s, 'b> Head<'s, 'b> {
    /// The fields that are passed on, in order.
    pub fn kept(&self) -> impl Iterator<Item = &'s Header<'b>> {
        let dropped = self.dropped.iter().zip(self.fields);
        dropped.filter(|(dropped, _)| !**dropped).map(|(_, field)| field)
    }
}

/// Reads the head at the beginning of `bytes`, of an answer to a `HEAD` request
/// or to another.
pub fn read<'s, 'b>(storage: &'s mut Storage<'b>, bytes: &'b [u8], to_head: bool) -> Read<'s, 'b> {
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, storage);
    match parsed {
        Ok(Status::Complete(length)) => {
            let (Some(status), Some(version)) = (response.code, response.version) else {
                return Read::Malformed("its head has no status");
            };
            if status < 100 {
                // Written anew it would have two digits.
                return Read::Malformed("its status has no meaning");
            }
            if status < 200 && status != 101 {
                return Read::Interim(length);
            }
            let head = Head {
                length,
                status,
                reason: response.reason.unwrap_or_default(),
                body: Body::UntilClose,
                keeps: version == 1,
                fields: response.headers,
                dropped: [false; MAX_FIELDS],
            };
            understand(head, version, to_head).map_or_else(Read::Malformed, Read::Final)
        }
        Ok(Status::Partial) => Read::Partial,
        Err(httparse::Error::TooManyHeaders) => Read::Malformed("it has too many header fields"),
        Err(_) => Read::Malformed("its head is not one of HTTP/1"),
    }
}

fn understand<'s, 'b>(mut head: Head<'s, 'b>, version: u8, to_head: bool) -> Result<Head<'s, 'b>, &'static str> {
    let (mut declared, mut chunked, mut options) = (None, false, false);
    for (index, field) in head.fields.iter().enumerate() {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        let dropped = match field.name.len() {
            10 if is(header::CONNECTION.as_str()) => {
                if field.value.eq_ignore_ascii_case(b"close") {
                    head.keeps = false;
                } else if !field.value.eq_ignore_ascii_case(b"keep-alive") {
                    options = true;
                }
                true
            }
            14 if is(header::CONTENT_LENGTH.as_str()) => {
                let length = length(field.value).ok_or("its Content-Length is no number")?;
                let again = declared.replace(length);
                if again.is_some_and(|other| other != length) {
                    return Err("it has several lengths");
                }
                // Said once: not everybody takes it twice.
                again.is_some()
            }
            17 if is(header::TRANSFER_ENCODING.as_str()) => {
                if chunked || !field.value.eq_ignore_ascii_case(b"chunked") {
                    return Err("it has a transfer coding other than chunked");
                }
                chunked = true;
                true
            }
            2 | 5 | 7 | 10 | 16 | 18 | 19 => headers::is_hop_by_hop(field.name),
            _ => false,
        };
        head.dropped[index] = dropped;
    }
    if options {
        drop_named(&mut head);
    }
    let bodyless = to_head || matches!(head.status, 101 | 204 | 304);
    head.body = match (bodyless, chunked, declared) {
        (true, _, _) => Body::Ended,
        (false, true, _) if version == 0 => return Err("it is chunked, which HTTP/1.0 is not"),
        (false, true, _) => Body::Chunked(Chunked::default()),
        (false, false, Some(length)) => Body::of(length),
        (false, false, None) => {
            head.keeps = false;
            Body::UntilClose
        }
    };
    if chunked || head.status == 204 {
        // Chunks rule over a length, which then says something else; and where
        // there cannot be a body there is none to count (RFC 9110 section 8.6).
        drop_length(&mut head);
    }
    Ok(head)
}

fn drop_length(head: &mut Head<'_, '_>) {
    for (dropped, field) in head.dropped.iter_mut().zip(head.fields) {
        *dropped |= field.name.eq_ignore_ascii_case(header::CONTENT_LENGTH.as_str());
    }
}

/// Drops what `Connection` names (RFC 9110 section 7.6.1).
fn drop_named(head: &mut Head<'_, '_>) {
    let of_connection = |field: &&Header<'_>| field.name.eq_ignore_ascii_case(header::CONNECTION.as_str());
    for connection in head.fields.iter().filter(of_connection) {
        for option in connection.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"close") {
                head.keeps = false;
            }
            if headers::is_protected_from_connection(option) {
                continue;
            }
            for (dropped, field) in head.dropped.iter_mut().zip(head.fields) {
                *dropped |= field.name.as_bytes().eq_ignore_ascii_case(option);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str, to_head: bool) -> String {
        let mut storage = storage();
        match read(&mut storage, text.as_bytes(), to_head) {
            Read::Partial => "partial".to_owned(),
            Read::Interim(length) => format!("interim {length}"),
            Read::Malformed(why) => format!("malformed: {why}"),
            Read::Final(head) => {
                let kept: Vec<_> = head.kept().map(|field| field.name).collect();
                let body = match head.body {
                    Body::Chunked(_) => "chunked".to_owned(),
                    Body::UntilClose => "until close".to_owned(),
                    _ => head.body.known_length().expect("known").to_string(),
                };
                let keeps = if head.keeps { " keeps" } else { "" };
                format!("{} {} [{}] {body}{keeps}", head.status, head.reason, kept.join(","))
            }
        }
    }

    #[test]
    fn heads_say_where_their_body_ends() {
        for (text, expected) in [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nA: b\r\n\r\nhello",
                "200 OK [Content-Length,A] 5 keeps",
            ),
            (
                "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
                "200  [] chunked keeps",
            ),
            ("HTTP/1.1 404 Not Here\r\n\r\n", "404 Not Here [] until close"),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n",
                "200 OK [Content-Length] 1",
            ),
            (
                "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
                "204 No Content [] 0 keeps",
            ),
            (
                "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
                "304 Not Modified [Content-Length] 0 keeps",
            ),
            (
                "HTTP/1.1 200 OK\r\nConnection: close, X-Hop, Content-Length\r\nX-Hop: 1\r\nContent-Length: 2\r\nKeep-Alive: 5\r\n\r\n",
                "200 OK [Content-Length] 2",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
                "200 OK [Content-Length] 5 keeps",
            ),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK", "interim 25"),
            (
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
                "101 Switching Protocols [] 0 keeps",
            ),
            ("HTTP/1.1 200 OK\r\nContent-Le", "partial"),
        ] {
            assert_eq!(seen(text, false), expected, "{text:?}");
        }
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(seen(text, true), "200 OK [Content-Length] 0 keeps");
    }

    #[test]
    fn what_has_several_meanings_is_malformed() {
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(MAX_FIELDS + 1));
        for text in [
            "HTTP/2 200 OK\r\n\r\n",
            "hello",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: \0\r\n\r\n",
            &many,
        ] {
            assert!(seen(text, false).starts_with("malformed"), "{text:?}");
        }
    }
}
