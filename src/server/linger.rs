//! Closing a connection without losing the answer that was sent on it.
//!
//! Closing a socket with unread bytes makes the kernel reset it, and a reset
//! discards what the peer has not read yet. A caller that is still sending
//! when it is refused (a head too large, no credentials) would see a broken
//! connection in place of the reason (RFC 9112 section 9.6). So the sending
//! side is closed first, and what still arrives is read and dropped for a
//! bounded time and up to a bounded size.
//!
//! It also ends connections whose caller stopped reading: nothing above the
//! socket notices, because a body that cannot be written is not asked for more.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::{Sleep, sleep},
};

use super::activity::Activity;

/// Longest wait for the caller to notice.
const PATIENCE: Duration = Duration::from_secs(1);

/// Most bytes read and dropped.
const MAX_DISCARDED: usize = 1 << 20;

/// A connection whose shutdown lingers.
pub(super) struct Lingering<S> {
    stream: S,
    activity: Arc<Activity>,
    closing: Option<Closing>,
    /// Runs while the caller takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    /// What is stalled was written and waits below to get out.
    flushing: bool,
}

struct Closing {
    give_up: Pin<Box<Sleep>>,
    discarded: usize,
}

impl Closing {
    fn new() -> Self {
        Self {
            give_up: Box::pin(sleep(PATIENCE)),
            discarded: 0,
        }
    }

    /// Drops what comes until the peer has closed, or for long enough.
    fn poll(&mut self, stream: &mut (impl AsyncRead + Unpin), cx: &mut Context<'_>) -> Poll<()> {
        let mut space = [0; 8192];
        loop {
            let mut buf = ReadBuf::new(&mut space);
            match Pin::new(&mut *stream).poll_read(cx, &mut buf) {
                // The peer has closed, or is gone: nothing is left to lose.
                Poll::Ready(Ok(())) if buf.filled().is_empty() => return Poll::Ready(()),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => {
                    self.discarded += buf.filled().len();
                    if self.discarded > MAX_DISCARDED {
                        return Poll::Ready(());
                    }
                }
                Poll::Pending => return self.give_up.as_mut().poll(cx),
            }
        }
    }
}

/// Closes a connection on which everything was written.
pub(super) async fn close(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    if stream.shutdown().await.is_ok() {
        let mut closing = Closing::new();
        std::future::poll_fn(|cx| closing.poll(&mut stream, cx)).await;
    }
}

impl<S> Lingering<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self {
            stream,
            activity,
            closing: None,
            stalled: None,
            flushing: false,
        }
    }

    /// Bounds a write that does not proceed. Tunnels have no such bound.
    fn unless_stalled<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            if self.stalled.take().is_some() {
                self.activity.blocked(false);
            }
            return written;
        }
        if self.activity.is_handed_over() {
            return Poll::Pending;
        }
        let bound = self.activity.limits().write;
        let stalled = self.stalled.get_or_insert_with(|| {
            self.activity.blocked(true);
            Box::pin(sleep(bound))
        });
        ready!(stalled.as_mut().poll(cx));
        let text = format!("the caller took nothing for server.write_timeout ({bound:?})");
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, text)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.received();
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.unless_stalled(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        // Without TLS there is nothing to flush: that says nothing about a write that waits.
        let was_flushing = std::mem::replace(&mut self.flushing, flushed.is_pending());
        if flushed.is_pending() || was_flushing {
            return self.unless_stalled(cx, flushed);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.activity.is_handed_over() {
            // A tunnel closes one direction; what comes in the other is not ours to drop.
            return Pin::new(&mut this.stream).poll_shutdown(cx);
        }
        let closing = match &mut this.closing {
            Some(closing) => closing,
            none => {
                ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
                none.insert(Closing::new())
            }
        };
        closing.poll(&mut this.stream, cx).map(Ok)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.unless_stalled(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
