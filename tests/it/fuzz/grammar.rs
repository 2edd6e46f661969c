//! What callers and functions send: messages near to the letter, with slips.

use proptest::{prelude::*, sample::Index, sample::select};

use super::words::{
    ANSWER_FIELDS, ANSWER_FRAMINGS, CHUNK_ENDS, FIELDS, FRAMINGS, INTERIMS, METHODS, ODD_FIELDS, ODD_METHODS,
    ODD_STATUSES, ODD_TARGETS, ODD_VERSIONS, PIECES, STATUSES, STRAYS, TARGETS, TOKENS, TRAILERS,
};

type Bytes = &'static [u8];

/// One case: what a caller sends on a connection, and how functions answer.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) requests: Vec<Request>,
    pub(crate) answers: Vec<Answer>,
    /// Where in all that it sends the caller leaves, if it does.
    pub(crate) leaves: Option<Index>,
}

#[derive(Debug, Clone)]
pub(crate) struct Request {
    start: [Bytes; 3],
    fields: Vec<Bytes>,
    padding: Padding,
    framing: Framing,
    slips: Vec<Slip>,
    pub(crate) cuts: Vec<Index>,
    /// Whether it is sent when the answers before it have come.
    pub(crate) waits: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Answer {
    interims: Vec<Bytes>,
    start: [Bytes; 3],
    fields: Vec<Bytes>,
    padding: Padding,
    framing: Framing,
    slips: Vec<Slip>,
    stray: Bytes,
    /// How much of it comes, when not all.
    part: Option<Index>,
    pub(crate) cuts: Vec<Index>,
    /// Whether it comes before the request's body was read.
    pub(crate) early: bool,
    /// Whether the connection is closed behind it.
    pub(crate) closes: bool,
}

/// How a message says where its body ends, and the body.
#[derive(Debug, Clone)]
enum Framing {
    None,
    Length(Data),
    Chunks(Vec<(Data, Bytes)>, Vec<Bytes>),
    /// Lines that say something else.
    Odd(&'static [Bytes], Data, bool),
    UntilClose(Data),
}

/// Bytes of a body: a piece, repeated up to a size.
#[derive(Debug, Clone)]
struct Data(Bytes, usize);

/// Fields that only take room: how many, and how long.
#[derive(Debug, Clone)]
struct Padding(usize, usize);

/// One change of a message's bytes.
#[derive(Debug, Clone)]
enum Slip {
    Insert(Index, Bytes),
    Remove(Index, usize),
    Replace(Index, Bytes),
    RepeatLine(Index, Index),
    RemoveLine(Index),
    Cut(Index),
}

/// Mostly what is usual, now and then something odd.
fn mostly(usual: &'static [Bytes], odd: &'static [Bytes]) -> impl Strategy<Value = Bytes> + Clone {
    prop_oneof![24 => select(usual), 1 => select(odd)]
}

/// Data that is not much where it is taken for requests.
fn few() -> impl Strategy<Value = Data> + Clone {
    (select(PIECES), 0_usize..200).prop_map(|(piece, size)| Data(piece, size))
}

fn data() -> impl Strategy<Value = Data> + Clone {
    let size = prop_oneof![
        20 => 0_usize..40,
        2 => 4_080_usize..4_110,
        2 => 16_300_usize..16_500,
        1 => 60_000_usize..70_000,
        1 => Just(200_000_usize),
    ];
    (select(PIECES), size).prop_map(|(piece, size)| Data(piece, size))
}

fn slips() -> impl Strategy<Value = Vec<Slip>> + Clone {
    let index = any::<Index>;
    let slip = prop_oneof![
        (index(), select(TOKENS)).prop_map(|(at, token)| Slip::Insert(at, token)),
        (index(), 1_usize..6).prop_map(|(at, count)| Slip::Remove(at, count)),
        (index(), select(TOKENS)).prop_map(|(at, token)| Slip::Replace(at, token)),
        (index(), index()).prop_map(|(from, to)| Slip::RepeatLine(from, to)),
        index().prop_map(Slip::RemoveLine),
        index().prop_map(Slip::Cut),
    ];
    prop_oneof![7 => Just(Vec::new()), 1 => prop::collection::vec(slip, 1..3)]
}

fn padding() -> impl Strategy<Value = Padding> + Clone {
    prop_oneof![
        20 => Just(Padding(0, 0)),
        1 => (1_usize..130, 0_usize..30).prop_map(|(count, length)| Padding(count, length)),
        1 => (1_usize..20, 500_usize..3_000).prop_map(|(count, length)| Padding(count, length)),
    ]
}

fn chunks() -> impl Strategy<Value = Framing> + Clone {
    let end = prop_oneof![4 => Just(b"" as Bytes), 1 => select(CHUNK_ENDS)];
    let trailers = prop_oneof![4 => Just(Vec::new()), 1 => prop::collection::vec(select(TRAILERS), 1..3)];
    (prop::collection::vec((data(), end), 0..4), trailers)
        .prop_map(|(chunks, trailers)| Framing::Chunks(chunks, trailers))
}

fn cuts() -> impl Strategy<Value = Vec<Index>> + Clone {
    prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(any::<Index>(), 1..4)]
}

fn requests() -> impl Strategy<Value = Request> + Clone {
    let odd = (select(FRAMINGS), few(), any::<bool>());
    let framing = prop_oneof![
        6 => Just(Framing::None),
        3 => data().prop_map(Framing::Length),
        3 => chunks(),
        1 => odd.prop_map(|(lines, data, chunked)| Framing::Odd(lines, data, chunked)),
    ];
    let start = (
        mostly(METHODS, ODD_METHODS),
        mostly(TARGETS, ODD_TARGETS),
        prop_oneof![24 => Just(b"HTTP/1.1" as Bytes), 1 => select(ODD_VERSIONS)],
    );
    let fields = prop::collection::vec(prop_oneof![40 => select(FIELDS), 1 => select(ODD_FIELDS)], 0..5);
    (start, fields, padding(), framing, slips(), cuts(), any::<bool>()).prop_map(
        |((method, target, version), fields, padding, framing, slips, cuts, waits)| Request {
            start: [method, target, version],
            fields,
            padding,
            framing,
            slips,
            cuts,
            waits,
        },
    )
}

fn answers() -> impl Strategy<Value = Answer> + Clone {
    let odd = (select(ANSWER_FRAMINGS), data(), any::<bool>());
    let framing = prop_oneof![
        6 => data().prop_map(Framing::Length),
        3 => chunks(),
        1 => Just(Framing::None),
        1 => odd.prop_map(|(lines, data, chunked)| Framing::Odd(lines, data, chunked)),
        1 => data().prop_map(Framing::UntilClose),
    ];
    let start = (
        prop_oneof![16 => Just(b"HTTP/1.1" as Bytes), 2 => Just(b"HTTP/1.0" as Bytes), 1 => select(ODD_VERSIONS)],
        mostly(STATUSES, ODD_STATUSES),
        select(&[b" OK" as Bytes, b"", b" ", b" Fine thing", b" \xe9t\xe9"][..]),
    );
    let fields = prop::collection::vec(prop_oneof![40 => select(ANSWER_FIELDS), 1 => select(ODD_FIELDS)], 0..5);
    let interims = prop_oneof![8 => Just(Vec::new()), 1 => prop::collection::vec(select(INTERIMS), 1..3)];
    let stray = prop_oneof![12 => Just(b"" as Bytes), 1 => select(STRAYS)];
    let part = prop::option::weighted(0.08, any::<Index>());
    let (early, closes) = (prop::bool::weighted(0.06), prop::bool::weighted(0.15));
    let head = (interims, start, fields, padding());
    (head, (framing, slips(), stray, part), (cuts(), early, closes)).prop_map(
        |((interims, start, fields, padding), (framing, slips, stray, part), (cuts, early, closes))| Answer {
            interims,
            start: [start.0, start.1, start.2],
            fields,
            padding,
            closes: closes || part.is_some() || matches!(framing, Framing::UntilClose(_)),
            framing,
            slips,
            stray,
            part,
            cuts,
            early,
        },
    )
}

pub(crate) fn cases() -> impl Strategy<Value = Case> {
    let leaves = prop::option::weighted(0.03, any::<Index>());
    let one = prop::collection::vec(requests(), 1..2);
    let several = prop::collection::vec(requests(), 2..4);
    (
        prop_oneof![2 => one, 1 => several],
        prop::collection::vec(answers(), 0..3),
        leaves,
    )
        .prop_map(|(requests, answers, leaves)| Case {
            requests,
            answers,
            leaves,
        })
}

impl Request {
    /// Its bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let [method, target, version] = self.start;
        let mut head = [method, b" ", target, b" ", version, b"\r\nHost: a.test\r\n"].concat();
        let body = self.framing.write(&mut head, &self.fields, &self.padding);
        slipped([head, body].concat(), &self.slips)
    }
}

impl Answer {
    /// Its bytes, as they answer a `HEAD` or another request.
    pub(crate) fn bytes(&self, to_head: bool) -> Vec<u8> {
        let [version, status, reason] = self.start;
        let mut head = [&self.interims.concat(), version, b" ", status, reason, b"\r\n"].concat();
        let body = self.framing.write(&mut head, &self.fields, &self.padding);
        let bodyless = to_head || matches!(status, b"101" | b"204" | b"304");
        let body = if bodyless { Vec::new() } else { body };
        let mut bytes = slipped([&*head, &*body, self.stray].concat(), &self.slips);
        if let Some(part) = &self.part {
            bytes.truncate(part.index(bytes.len() + 1));
        }
        bytes
    }

    /// Whether there is no whole head, however long one waits.
    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost_to(false) || self.is_lost_to(true)
    }

    fn is_lost_to(&self, head: bool) -> bool {
        let bytes = self.bytes(head);
        let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
        let mut interim = true;
        while let Some(first) = lines.next() {
            interim = matches!(first, [_, _, _, _, _, _, _, _, b' ', b'1', code @ ..] if !code.starts_with(b"01"));
            if !lines.any(|line| matches!(line, b"\r\n" | b"\n")) {
                return true;
            }
            if !interim {
                break;
            }
        }
        interim
    }
}

impl Framing {
    /// Writes the rest of a head, and returns the body.
    fn write(&self, head: &mut Vec<u8>, fields: &[Bytes], padding: &Padding) -> Vec<u8> {
        let mut line = |text: &[u8]| {
            head.extend_from_slice(text);
            head.extend_from_slice(b"\r\n");
        };
        for field in fields {
            line(field);
        }
        for number in 0..padding.0 {
            line(format!("X-Pad-{number}: {}", "p".repeat(padding.1)).as_bytes());
        }
        let body = match self {
            Self::None => Vec::new(),
            Self::Length(data) => {
                line(format!("Content-Length: {}", data.1).as_bytes());
                data.bytes()
            }
            Self::Chunks(chunks, trailers) => {
                line(b"Transfer-Encoding: chunked");
                chunked(chunks, trailers)
            }
            Self::Odd(lines, data, in_chunks) => {
                for text in *lines {
                    line(text);
                }
                if *in_chunks {
                    chunked(&[(data.clone(), b"")], &[])
                } else {
                    data.bytes()
                }
            }
            Self::UntilClose(data) => data.bytes(),
        };
        head.extend_from_slice(b"\r\n");
        body
    }
}

impl Data {
    fn bytes(&self) -> Vec<u8> {
        self.0.iter().copied().cycle().take(self.1).collect()
    }
}

fn chunked(chunks: &[(Data, Bytes)], trailers: &[Bytes]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (data, end) in chunks {
        // An empty one would be the last.
        if data.1 > 0 {
            bytes.extend_from_slice(format!("{:x}", data.1).as_bytes());
            bytes.extend_from_slice(end);
            bytes.extend_from_slice(b"\r\n");
            bytes.extend_from_slice(&data.bytes());
            bytes.extend_from_slice(b"\r\n");
        }
    }
    bytes.extend_from_slice(b"0\r\n");
    for trailer in trailers {
        bytes.extend_from_slice(trailer);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

fn slipped(mut bytes: Vec<u8>, slips: &[Slip]) -> Vec<u8> {
    for slip in slips {
        let place = |index: &Index| index.index(bytes.len() + 1);
        match slip {
            Slip::Insert(at, token) => {
                let at = place(at);
                bytes.splice(at..at, token.iter().copied());
            }
            Slip::Remove(at, count) => {
                let at = place(at);
                let end = bytes.len().min(at + count);
                bytes.drain(at..end);
            }
            Slip::Replace(at, token) => {
                let at = place(at);
                let end = bytes.len().min(at + token.len());
                bytes.splice(at..end, token.iter().copied());
            }
            Slip::RepeatLine(..) | Slip::RemoveLine(_) if bytes.is_empty() => {}
            Slip::RepeatLine(from, to) => {
                let mut lines = split(&bytes);
                let line = lines[from.index(lines.len())].clone();
                lines.insert(to.index(lines.len()), line);
                bytes = lines.concat();
            }
            Slip::RemoveLine(at) => {
                let mut lines = split(&bytes);
                lines.remove(at.index(lines.len()));
                bytes = lines.concat();
            }
            Slip::Cut(at) => {
                let at = place(at);
                bytes.truncate(at);
            }
        }
    }
    bytes
}

fn split(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes
        .split_inclusive(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect::<Vec<_>>()
}
