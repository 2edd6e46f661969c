//! One direction of a call: a head and a body, from one connection to another.
//!
//! What was read is written before more is read, so a receiver that is slow
//! slows the sender down, and a buffer is all that is ever held of a body.

use std::{
    io,
    ops::Range,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite};

use super::buffer::{Buffer, LARGE, SMALL};
use crate::{
    config::SizeBound,
    proxy::{
        body::TooLarge,
        fast::{
            body::Body,
            chunked::{Malformed, Runs},
            write,
        },
    },
};

/// Bodies up to this size are copied behind their head and written with it: one
/// call of the system with one piece is cheaper than one with two.
const COPIED: usize = 4 * 1024;

/// Ends a body that is sent in chunks.
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

/// A message on its way.
#[derive(Debug)]
pub(super) struct Transfer {
    /// To be written before `pending`.
    head: Vec<u8>,
    /// How much of `head` is written.
    written: usize,
    /// To be written next, by its place in the buffer.
    pending: Range<usize>,
    /// What is still to come.
    body: Body,
    /// The bound on the data.
    limit: Option<SizeBound>,
    /// Bytes of data so far.
    data: u64,
    /// The body has no length and is sent on in chunks; `true` after the first.
    recoded: Option<bool>,
    /// Bytes read and written so far; tells whether anything moves.
    moved: u64,
    /// Whether anything was written.
    touched: bool,
    waits: Waits,
}

/// Why a message did not get through.
#[derive(Debug)]
pub(super) enum Broken {
    /// It could not be read.
    Read(io::Error),
    /// Its sender broke off.
    Early,
    /// Its body is no body.
    Malformed(Malformed),
    /// Its body is larger than it may be.
    TooLarge(TooLarge),
    /// It could not be written.
    Write(io::Error),
}

/// What a message that is not through waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    /// Its sender.
    Reading,
    /// Its receiver.
    Writing,
}

impl Transfer {
    /// A message with this head, of which nothing was sent yet.
    pub(super) fn new(head: Vec<u8>, body: Body, limit: Option<SizeBound>) -> Self {
        Self {
            head,
            written: 0,
            pending: 0..0,
            recoded: matches!(body, Body::UntilClose).then_some(false),
            body,
            limit,
            data: 0,
            moved: 0,
            touched: false,
            waits: Waits::Writing,
        }
    }

    /// Bytes of data so far.
    pub(super) fn data(&self) -> u64 {
        self.data
    }

    /// A number that grows whenever something moves.
    pub(super) fn moved(&self) -> u64 {
        self.moved
    }

    /// Whether all of the body was received.
    pub(super) fn is_received(&self) -> bool {
        self.body.is_ended()
    }

    /// What has not been received of the body.
    pub(super) fn into_rest(self) -> Body {
        self.body
    }

    /// Whether nothing was written yet.
    pub(super) fn is_untouched(&self) -> bool {
        !self.touched
    }

    /// What the message waits for, while it is not through.
    pub(super) fn waits(&self) -> Waits {
        self.waits
    }

    /// Starts over on another connection; possible as long as nothing was
    /// written, or for a message that is nothing but its head.
    pub(super) fn start_over(&mut self) {
        self.written = 0;
        self.touched = false;
    }

    /// Takes what `buffer` has of the body.
    pub(super) fn take(&mut self, buffer: &mut Buffer) -> Result<(), Broken> {
        let from = buffer.start();
        let runs = self.body.take(buffer.unread()).map_err(Broken::Malformed)?;
        self.data += runs.data as u64;
        self.moved += runs.consumed as u64;
        // Gone even when it is too much: what follows may be the next request.
        buffer.consume(runs.consumed);
        TooLarge::check(self.data, self.limit).map_err(Broken::TooLarge)?;
        let kept = in_one_piece(buffer.all_mut(), from, &runs);
        if self.recoded.is_some() {
            self.open_chunk(kept.len());
        }
        if self.head.len() > self.written && kept.len() <= COPIED {
            self.head.extend_from_slice(buffer.at(kept));
        } else {
            buffer.hold(!kept.is_empty());
            self.pending = kept;
        }
        Ok(())
    }

    /// Begins a chunk of this size, after the one before it.
    fn open_chunk(&mut self, size: usize) {
        if size == 0 {
            return;
        }
        self.forget_written();
        if self.recoded == Some(true) {
            self.head.extend_from_slice(b"\r\n");
        }
        write::chunk_size(&mut self.head, size);
        self.recoded = Some(true);
    }

    fn close_chunks(&mut self) {
        self.forget_written();
        let from = if self.recoded == Some(true) { 0 } else { 2 };
        self.head.extend_from_slice(&LAST_CHUNK[from..]);
        self.recoded = None;
    }

    fn forget_written(&mut self) {
        if self.written == self.head.len() {
            self.head.clear();
            self.written = 0;
        }
    }

    /// Moves the message on; ready when all of it was written.
    ///
    /// `buffer` has what `from` sent; what of it belongs to a next message stays.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        buffer: &mut Buffer,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<Result<(), Broken>> {
        loop {
            // What is there of the body goes out with the head.
            if self.pending.is_empty() && !self.body.is_ended() && !buffer.is_empty() {
                self.take(buffer)?;
            }
            self.waits = Waits::Writing;
            ready!(self.poll_write(cx, buffer, to)).map_err(Broken::Write)?;
            buffer.hold(false);
            // Of what TLS has taken, some may not be out yet.
            ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(Broken::Write)?;
            if self.body.is_ended() {
                return Poll::Ready(Ok(()));
            }
            if buffer.is_empty() {
                self.waits = Waits::Reading;
                buffer.rewind();
                if self.is_large() {
                    buffer.enlarge();
                }
                if ready!(buffer.poll_fill(cx, from, LARGE)).map_err(Broken::Read)? == 0 {
                    self.end()?;
                }
            }
        }
    }

    /// Writes what was read; ready when nothing of it is left.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &Buffer,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        loop {
            let head = &self.head[self.written..];
            // Once it is written its place may be gone.
            let body = if self.pending.is_empty() {
                &[]
            } else {
                buffer.at(self.pending.clone())
            };
            let count = match (head.is_empty(), body.is_empty()) {
                (true, true) => return Poll::Ready(Ok(())),
                (false, true) => ready!(Pin::new(&mut *to).poll_write(cx, head))?,
                (true, false) => ready!(Pin::new(&mut *to).poll_write(cx, body))?,
                (false, false) => {
                    let pieces = [io::IoSlice::new(head), io::IoSlice::new(body)];
                    ready!(Pin::new(&mut *to).poll_write_vectored(cx, &pieces))?
                }
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.touched = true;
            self.moved += count as u64;
            let of_head = count.min(head.len());
            self.written += of_head;
            self.pending.start += count - of_head;
        }
    }

    /// Whether there is more to come than a small buffer holds.
    fn is_large(&self) -> bool {
        match self.body.known_length() {
            Some(left) => left > SMALL as u64,
            None => self.data >= SMALL as u64,
        }
    }

    /// The sender has closed the connection.
    fn end(&mut self) -> Result<(), Broken> {
        if !matches!(self.body, Body::UntilClose) {
            return Err(Broken::Early);
        }
        self.body = Body::Ended;
        self.close_chunks();
        Ok(())
    }
}

/// Moves the bytes that are passed on together, where something between them is
/// not; `from` is where the body's bytes begin.
fn in_one_piece(bytes: &mut [u8], from: usize, runs: &Runs) -> Range<usize> {
    if let Some(whole) = runs.whole() {
        return from + whole.start..from + whole.end;
    }
    let mut end = from;
    for run in runs.kept() {
        bytes.copy_within(from + run.start..from + run.end, end);
        end += run.len();
    }
    from..end
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::proxy::fast::chunked::Chunked;

    /// Sends `input`, in pieces of `step` bytes, as a message with this body;
    /// what the receiver got, how much of it was data, and what was left.
    async fn send(body: Body, limit: Option<u64>, input: &[u8], step: usize) -> Result<(String, u64, String), Broken> {
        let (mut sender, mut from) = duplex(step);
        let (mut to, mut receiver) = duplex(7);
        let limit = limit.map(|bytes| SizeBound {
            setting: "limit",
            bytes,
        });
        let mut transfer = Transfer::new(b"HEAD ".to_vec(), body, limit);
        let mut buffer = Buffer::default();
        let sent = async {
            sender.write_all(input).await.expect("room");
            drop(sender);
        };
        let moved = async {
            let moved = poll_fn(|cx| transfer.poll(cx, &mut from, &mut buffer, &mut to)).await;
            drop((from, to));
            moved
        };
        let mut got = String::new();
        let ((), moved, read) = tokio::join!(sent, moved, receiver.read_to_string(&mut got));
        read.expect("text");
        moved?;
        let left = String::from_utf8_lossy(buffer.unread()).into_owned();
        Ok((got, transfer.data(), left))
    }

    #[tokio::test]
    async fn messages_arrive_whole_whatever_their_pieces() {
        let long = "x".repeat(3 * LARGE);
        let chunk = format!("{:x}\r\n{long}\r\n0\r\n\r\n", long.len());
        for step in [1000, 100_000] {
            for (body, input, expected, data) in [
                (Body::of(5), "hello", "hello", 5),
                (Body::Ended, "", "", 0),
                (Body::of(long.len() as u64), &*long, &*long, long.len()),
                (Body::Chunked(Chunked::default()), &*chunk, &*chunk, long.len()),
                (
                    Body::Chunked(Chunked::default()),
                    "2;x\r\nab\r\n1\r\nc\r\n0\r\nT: u\r\n\r\n",
                    "2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
                    3,
                ),
                (Body::UntilClose, "", "0\r\n\r\n", 0),
                (Body::UntilClose, "abc", "3\r\nabc\r\n0\r\n\r\n", 3),
            ] {
                let (got, seen, _) = send(body, None, input.as_bytes(), step).await.expect("a message");
                assert!(got == format!("HEAD {expected}"), "{input:.40} by {step}: {got:.80}");
                assert_eq!(seen, data as u64, "{input:.40}");
            }
        }
        let (_, _, left) = send(Body::of(2), None, b"abGET", 100).await.expect("a message");
        assert_eq!(left, "GET", "what follows is the next message");
    }

    #[tokio::test]
    async fn a_body_outlives_the_connection_it_could_not_be_sent_on() {
        let long = "x".repeat(2 * COPIED);
        let (mut sender, mut from) = duplex(SMALL);
        sender.write_all(long.as_bytes()).await.expect("room");
        let mut transfer = Transfer::new(b"HEAD ".to_vec(), Body::of(long.len() as u64), None);
        let mut buffer = Buffer::default();
        let filled = poll_fn(|cx| buffer.poll_fill(cx, &mut from, LARGE)).await;
        assert_eq!(filled.expect("readable"), long.len());
        let (mut closed, other) = duplex(SMALL);
        drop(other);
        let broken = poll_fn(|cx| transfer.poll(cx, &mut from, &mut buffer, &mut closed)).await;
        assert!(matches!(broken, Err(Broken::Write(_))) && transfer.is_untouched());
        // Meanwhile it is noticed whether the caller leaves.
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(buffer.poll_fill(&mut context, &mut from, LARGE).is_pending());
        transfer.start_over();
        let (mut to, mut receiver) = duplex(2 * SMALL);
        let moved = poll_fn(|cx| transfer.poll(cx, &mut from, &mut buffer, &mut to)).await;
        moved.expect("a message");
        drop(to);
        let mut got = String::new();
        receiver.read_to_string(&mut got).await.expect("text");
        assert!(got == format!("HEAD {long}"), "{got:.40}");
    }

    #[tokio::test]
    async fn a_body_without_a_length_goes_out_as_it_comes() {
        let (mut sender, mut from) = duplex(100);
        let (mut to, mut receiver) = duplex(100);
        let mut transfer = Transfer::new(Vec::new(), Body::UntilClose, None);
        let mut buffer = Buffer::default();
        let talk = async {
            for (piece, expected) in [("ab", "2\r\nab"), ("c", "\r\n1\r\nc")] {
                sender.write_all(piece.as_bytes()).await.expect("room");
                let mut got = vec![0; expected.len()];
                receiver.read_exact(&mut got).await.expect("a piece");
                assert_eq!(got, expected.as_bytes());
            }
            drop(sender);
        };
        let moved = poll_fn(|cx| transfer.poll(cx, &mut from, &mut buffer, &mut to));
        let ((), moved) = tokio::join!(talk, moved);
        moved.expect("a message");
    }

    #[tokio::test]
    async fn what_breaks_off_or_is_too_large_is_no_message() {
        for (body, limit, input) in [
            (Body::of(5), None, "hel"),
            (Body::Chunked(Chunked::default()), None, "5\r\nhel"),
            (Body::Chunked(Chunked::default()), None, "hello"),
            (Body::Chunked(Chunked::default()), Some(4), "5\r\nhello\r\n0\r\n\r\n"),
            (Body::UntilClose, Some(4), "hello"),
        ] {
            assert!(send(body, limit, input.as_bytes(), 100).await.is_err(), "{input:?}");
        }
    }
}
