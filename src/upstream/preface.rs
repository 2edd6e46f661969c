//! The first and the last words of a server that speaks HTTP/2, which are easily
//! missed. HTTP/2 itself is hyper's.
//!
//! The first frame has its settings (RFC 9113 section 3.4). A server that was
//! never asked whether it speaks HTTP/2 says so with it, and how many calls it
//! takes at a time. Who waits for it finds out about both before a call is sent.
//!
//! The last ones are answers, and which calls it will not answer. Some servers
//! close the connection right behind them, and then something may just be on its
//! way to them, which fails. What they said before is read all the same.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};

/// Length of a frame's head.
const HEAD: usize = 9;
/// The type of settings, and the setting that bounds the streams.
const SETTINGS: u8 = 4;
const MAX_CONCURRENT_STREAMS: [u8; 2] = [0, 3];
/// The length of one setting, and most of them that a server may begin with.
const SETTING: usize = 6;
const LONGEST: usize = 256 * SETTING;

/// What the frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Greeting {
    /// Streams that the server takes at a time, where it has a bound.
    pub(super) streams: Option<u32>,
}

/// How far the first frame is.
#[derive(Debug, PartialEq, Eq)]
enum Read {
    Partial,
    Whole(Greeting),
    /// It is none of HTTP/2.
    Other,
}

fn read(begun: &[u8]) -> Read {
    let Some((head, rest)) = begun.split_first_chunk::<HEAD>() else {
        // HTTP/1 is told apart by its fourth byte.
        return match begun.get(3) {
            Some(&kind) if kind != SETTINGS => Read::Other,
            _ => Read::Partial,
        };
    };
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    if head[3] != SETTINGS || length > LONGEST || !length.is_multiple_of(SETTING) {
        return Read::Other;
    }
    let Some(settings) = rest.get(..length) else {
        return Read::Partial;
    };
    let mut bounds = settings
        .as_chunks::<SETTING>()
        .0
        .iter()
        .filter(|[a, b, ..]| [*a, *b] == MAX_CONCURRENT_STREAMS)
        .map(|[_, _, value @ ..]| u32::from_be_bytes(*value));
    Read::Whole(Greeting {
        streams: bounds.next_back(),
    })
}

/// A connection whose first frame is told about, and whose last ones are read.
#[derive(Debug)]
pub(super) struct Greeted<S> {
    inner: S,
    /// What came of it so far, and who waits.
    waiting: Option<(Vec<u8>, oneshot::Sender<Option<Greeting>>)>,
    /// Nothing can be written any more, so reading ends soon.
    cut: bool,
}

impl<S> Greeted<S> {
    /// The connection, and its first frame: `None` when that is none of HTTP/2,
    /// an error when it ended before.
    pub(super) fn new(inner: S) -> (Self, oneshot::Receiver<Option<Greeting>>) {
        let (tell, greeting) = oneshot::channel();
        let waiting = Some((Vec::new(), tell));
        let cut = false;
        (Self { inner, waiting, cut }, greeting)
    }

    /// What became of writing: where it fails, it is as if it had not, until
    /// reading has come to the same end.
    fn written<T>(&mut self, written: io::Result<T>, as_if: T) -> T {
        written.unwrap_or_else(|error| {
            tracing::debug!(%error, "an upstream connection takes nothing more");
            self.cut = true;
            as_if
        })
    }

    fn heard(&mut self, bytes: &[u8]) {
        let Some((mut begun, tell)) = self.waiting.take() else {
            return;
        };
        begun.extend_from_slice(&bytes[..bytes.len().min(HEAD + LONGEST)]);
        match read(&begun) {
            Read::Partial => self.waiting = Some((begun, tell)),
            // Nobody may wait any more.
            Read::Whole(greeting) => drop(tell.send(Some(greeting))),
            Read::Other => drop(tell.send(None)),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Greeted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        if self.waiting.is_some() {
            self.heard(&buf.filled()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Greeted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.cut {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, buf));
        Poll::Ready(Ok(self.written(written, buf.len())))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.cut {
            return Poll::Ready(Ok(()));
        }
        let flushed = ready!(Pin::new(&mut self.inner).poll_flush(cx));
        self.written(flushed, ());
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bufs.iter().map(|buf| buf.len()).sum();
        if self.cut {
            return Poll::Ready(Ok(length));
        }
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, bufs));
        Poll::Ready(Ok(self.written(written, length)))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_of_http2_is_known_by_its_first_frame() {
        let whole = |streams| Read::Whole(Greeting { streams });
        let header_table = [0, 1, 0, 0, 16, 0];
        let streams = |most| [0, 3, 0, 0, 0, most];
        let frame = |settings: &[[u8; 6]]| {
            let length = u8::try_from(settings.len() * 6).expect("short");
            let head = [0, 0, length, 4, 0, 0, 0, 0, 0];
            [&head[..], &settings.concat()].concat()
        };
        for (bytes, expected) in [
            (frame(&[]), whole(None)),
            (frame(&[header_table]), whole(None)),
            (frame(&[header_table, streams(7)]), whole(Some(7))),
            (frame(&[streams(7), streams(9)]), whole(Some(9))),
            (frame(&[streams(7)])[..14].to_vec(), Read::Partial),
            (frame(&[streams(7)])[..8].to_vec(), Read::Partial),
            (Vec::new(), Read::Partial),
            ([frame(&[streams(7)]), vec![1; 40]].concat(), whole(Some(7))),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), Read::Other),
            (b"HTTP".to_vec(), Read::Other),
            (b"\0\0\x07\x04\0\0\0\0\0".to_vec(), Read::Other),
            (b"\xff\0\0\x04\0\0\0\0\0".to_vec(), Read::Other),
        ] {
            assert_eq!(read(&bytes), expected, "{bytes:?}");
        }
    }
}
