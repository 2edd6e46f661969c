//! A caller that sends a case's bytes to one gateway, and what it hears.

use std::{collections::VecDeque, fmt, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::function::{Function, LAST, LAST_MARK, PAUSE, pieces};
use crate::fuzz::grammar::{Case, Request};
use crate::support::{
    Gateway, eventually,
    message::{self, Kind, Message},
    soon,
    wire::Wire,
};

/// How long a gateway may take to notice that its caller has half-closed.
const HANGS: Duration = Duration::from_secs(5);

/// A gateway and its function.
pub(super) struct Lane {
    pub(super) gateway: Gateway,
    pub(super) function: Function,
}

/// What came of a case.
#[derive(Clone)]
pub(super) struct Outcome {
    /// What the caller got.
    pub(super) heard: Result<Vec<Message>, &'static str>,
    pub(super) end: End,
    /// What the function got.
    pub(super) saw: Vec<Result<Message, &'static str>>,
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { heard, end, saw } = self;
        writeln!(f, "  the function saw {saw:?}\n  the caller heard {heard:?}\n  {end:?}")
    }
}

/// How the caller's connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It did not: its last request was answered.
    Alive,
    Closed,
    Reset,
    /// Nothing more came, until the caller half-closed it.
    Waits,
    /// Not even then.
    Hangs,
    /// The caller left.
    Left,
}

/// Bytes to be sent.
struct Part {
    bytes: Vec<u8>,
    /// After so many answers.
    after: usize,
    pause: bool,
}

impl Lane {
    pub(super) async fn start(fast: bool) -> Self {
        let function = Function::start().await;
        let gateway = Gateway::before(&format!("http://{}", function.address))
            .env("FAAS__SERVER__FAST_LANE", if fast { "true" } else { "false" })
            .env("FAAS__LOGGING__ACCESS", "false")
            .env("FAAS__TRACING__PROPAGATE", "true")
            .env("FAAS__TRACING__SAMPLE", "1")
            .start()
            .await;
        let lane = Self { gateway, function };
        lane.warm().await;
        lane
    }

    /// Makes sure that there is a connection to the function that was used
    /// before, for calls of both kinds.
    async fn warm(&self) {
        for field in ["", "TE: trailers\r\n"] {
            let call = format!("GET {LAST} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n{field}\r\n");
            let answer = Wire::exchange(self.gateway.address(), &call).await;
            assert!(answer.ends_with("last"), "{answer}");
        }
    }

    /// Sends a case; silence is taken for the end after `patience`.
    pub(super) async fn run(&self, case: &Case, patience: Duration) -> Outcome {
        if case.answers.iter().any(|answer| answer.closes) {
            self.warm().await;
        }
        self.function.will(&case.answers);
        let kinds = kinds(&case.requests.iter().flat_map(Request::bytes).collect::<Vec<_>>());
        let kind = |number: usize| kinds.get(number).copied().unwrap_or(Kind::Answer);
        let (received, end) = self.talk(case, patience, &kind).await;
        if end == End::Left {
            eventually("the end of every call", || async {
                // Again and again: it may still have been answering. Without it, the base
                // lane would not notice who left behind a request that nobody read yet.
                self.function.hang_up();
                let page = self.gateway.metrics().await;
                let mut in_flight = page.lines().filter(|line| line.contains("_inflight{"));
                in_flight.all(|line| line.ends_with(" 0")).then_some(())
            })
            .await;
            self.warm().await;
        }
        Outcome {
            heard: read(&received, kind, end),
            end,
            saw: soon("the end of the function's work", self.function.saw()).await,
        }
    }

    async fn talk(&self, case: &Case, patience: Duration, kind: &impl Fn(usize) -> Kind) -> (Vec<u8>, End) {
        let stream = TcpStream::connect(self.gateway.address()).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        let (mut reader, mut writer) = stream.into_split();
        let (mut parts, mut sent, mut half_closed) = (parts(case), 0, false);
        let (mut received, mut chunk, mut answers) = (Vec::new(), vec![0; 1 << 16], 0);
        let (mut patience, mut hung_up) = (patience, false);
        loop {
            if case.leaves.is_some() && parts.is_empty() {
                return (received, End::Left);
            }
            let part = parts.front().filter(|part| part.after <= answers);
            let pending = part.map_or(&[][..], |part| &part.bytes[sent..]);
            if sent == 0 && part.is_some_and(|part| part.pause) {
                tokio::time::sleep(PAUSE).await;
            }
            tokio::select! {
                biased;
                read = reader.read(&mut chunk) => match read {
                    Ok(0) | Err(_) if half_closed => return (received, End::Waits),
                    Ok(0) => return (received, End::Closed),
                    Err(_) => return (received, End::Reset),
                    Ok(count) => {
                        hung_up = false;
                        received.extend_from_slice(&chunk[..count]);
                        let heard = read_all(&received, kind);
                        answers = heard.iter().filter(|answer| answer.whole && answer.status() >= 200).count();
                        if heard.iter().any(is_last) {
                            return (received, if half_closed { End::Waits } else { End::Alive });
                        }
                    }
                },
                written = writer.write(pending), if !pending.is_empty() => match written {
                    Ok(count) => {
                        sent += count;
                        if parts.front().is_some_and(|part| part.bytes.len() == sent) {
                            parts.pop_front();
                            sent = 0;
                        }
                    }
                    // It takes no more; what it answers is still to be read.
                    Err(_) => parts.clear(),
                },
                () = tokio::time::sleep(patience), if pending.is_empty() => {
                    if let Some(part) = parts.front_mut() {
                        part.after = 0;
                    } else if !hung_up {
                        hung_up = true;
                        self.function.hang_up();
                    } else if half_closed {
                        return (received, End::Hangs);
                    } else {
                        (half_closed, hung_up) = (true, false);
                        patience = HANGS;
                        // Fails when the gateway has just closed it.
                        let _ = writer.shutdown().await;
                    }
                }
            }
        }
    }
}

/// What is sent, in order.
fn parts(case: &Case) -> VecDeque<Part> {
    let mut parts = VecDeque::new();
    let last = format!("GET {LAST} HTTP/1.1\r\nHost: a.test\r\n\r\n").into_bytes();
    let mut left = case.leaves.as_ref().map_or(usize::MAX, |leaves| {
        let all: usize = case.requests.iter().map(|request| request.bytes().len()).sum();
        leaves.index(all + 1)
    });
    for (number, request) in case.requests.iter().enumerate() {
        let bytes = request.bytes();
        let bytes = &bytes[..bytes.len().min(left)];
        left -= bytes.len();
        for (piece, bytes) in pieces(bytes, &request.cuts).into_iter().enumerate() {
            parts.push_back(Part {
                bytes: bytes.to_vec(),
                after: if request.waits { number } else { 0 },
                pause: piece > 0,
            });
        }
    }
    if case.leaves.is_none() {
        let waits = case.requests.last().is_some_and(|request| request.waits);
        parts.push_back(Part {
            bytes: last,
            after: if waits { case.requests.len() } else { 0 },
            pause: false,
        });
    }
    parts
}

fn is_last(answer: &Message) -> bool {
    answer.whole && answer.fields.iter().any(|(name, _)| name == LAST_MARK)
}

/// The answers so far; what cannot be read is told in the end.
fn read_all(received: &[u8], kind: &impl Fn(usize) -> Kind) -> Vec<Message> {
    read(received, kind, End::Alive).unwrap_or_default()
}

fn read(received: &[u8], kind: impl Fn(usize) -> Kind, end: End) -> Result<Vec<Message>, &'static str> {
    let finals = |heard: &[Message]| heard.iter().filter(|answer| answer.status() >= 200).count();
    let mut heard = message::read_all(received, |heard| kind(finals(heard)))?;
    if let Some(last) = heard.last_mut()
        && matches!(end, End::Closed | End::Waits)
        && last.values("content-length").is_empty()
        && last.values("transfer-encoding").is_empty()
        && last.status() > 0
    {
        // Its end was the connection's.
        last.whole = true;
    }
    Ok(heard)
}

/// How the answers to these requests are to be read, as far as can be told:
/// lenient, since the gateway may be so too.
fn kinds(bytes: &[u8]) -> Vec<Kind> {
    let (mut kinds, mut rest) = (Vec::new(), bytes);
    while let Some((length, is_head)) = request(rest) {
        kinds.push(if is_head { Kind::AnswerToHead } else { Kind::Answer });
        rest = &rest[length..];
    }
    kinds
}

/// The length of a request, or all there is of it, and whether it is a `HEAD`.
fn request(bytes: &[u8]) -> Option<(usize, bool)> {
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let (mut taken, mut first, mut length, mut chunked) = (0, None, 0, false);
    loop {
        let line = lines.next()?;
        taken += line.len();
        let text = line.to_ascii_lowercase();
        match (first, text.trim_ascii()) {
            (None, b"") => {}
            (Some(is_head), b"") => {
                let rest = &bytes[taken..];
                length = if chunked {
                    chunks(rest).unwrap_or(rest.len())
                } else {
                    length
                };
                return Some((bytes.len().min(taken.saturating_add(length)), is_head));
            }
            (None, _) => first = Some(line.starts_with(b"HEAD ")),
            (Some(_), field) if field.starts_with(b"transfer-encoding") => {
                chunked |= message::find(field, b"chunked").is_some();
            }
            (Some(_), field) if field.starts_with(b"content-length") => length = number(field, 10)?,
            _ => {}
        }
    }
}

/// The length of a body in chunks, trailers included.
fn chunks(bytes: &[u8]) -> Option<usize> {
    let mut taken = 0;
    loop {
        let mut lines = bytes.get(taken..)?.split_inclusive(|byte| *byte == b'\n');
        let line = lines.next()?;
        taken += line.len();
        match number(line, 16)? {
            0 => {
                let empty = lines.position(|line| {
                    taken += line.len();
                    line.trim_ascii().is_empty()
                });
                return empty.map(|_| taken);
            }
            size => taken += size + 2,
        }
    }
}

/// The first number in a text.
fn number(text: &[u8], radix: u32) -> Option<usize> {
    let digits = text.iter().copied().map(char::from);
    let digits: String = digits
        .skip_while(|digit| !digit.is_ascii_digit() && radix == 10)
        .take_while(|digit| digit.is_digit(radix))
        .collect();
    usize::from_str_radix(&digits, radix)
        .ok()
        .filter(|number| *number < 1 << 32)
}
