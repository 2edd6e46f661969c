//! Connections that carry HTTP/1.1 as bytes, for the fast lane.
//!
//! Nobody watches one while it is idle, so each is looked at when it is taken:
//! one on which something came is of no use, whether that is its end or bytes
//! that no call asked for.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Address, ConnectError, Endpoint, connect::Stream};

/// A connection to an endpoint.
#[derive(Debug)]
pub struct PlainConnection {
    stream: Stream,
    /// Whether it carried a call before.
    reused: bool,
}

impl Endpoint {
    /// Whether calls can be sent to it as bytes; not over TLS.
    pub fn takes_plain(&self) -> bool {
        !matches!(self.address(), Address::Tcp { tls: Some(_), .. })
    }

    /// An idle connection.
    pub fn take_plain(&self) -> Option<PlainConnection> {
        self.plain.take(self.limits().idle_timeout, PlainConnection::is_quiet)
    }

    /// A new connection.
    ///
    /// # Errors
    /// When none could be made; nothing was sent.
    pub async fn open_plain(&self) -> Result<PlainConnection, ConnectError> {
        let stream = self.connect().await?;
        Ok(PlainConnection { stream, reused: false })
    }

    /// Keeps a connection whose call has ended, its answer read to the end.
    pub fn keep_plain(self: &Arc<Self>, connection: PlainConnection) {
        let kept = PlainConnection {
            reused: true,
            ..connection
        };
        let limits = self.limits();
        if self.plain.put(kept, limits.max_idle, limits.idle_timeout) {
            self.sweep(|endpoint| &endpoint.plain);
        }
    }
}

impl PlainConnection {
    /// Whether it carried a call before, and so may have been closed just now.
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// Whether nothing came since the last answer. Costs no system call, usually.
    fn is_quiet(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        let mut byte = [0];
        let (ready, read) = match &self.stream {
            Stream::Tcp(stream) => match stream.poll_read_ready(&mut context) {
                Poll::Ready(ready) => (ready, stream.try_read(&mut byte)),
                Poll::Pending => return true,
            },
            Stream::Unix(stream) => match stream.poll_read_ready(&mut context) {
                Poll::Ready(ready) => (ready, stream.try_read(&mut byte)),
                Poll::Pending => return true,
            },
            Stream::Tls(_) => return false,
        };
        ready.is_ok() && read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl AsyncRead for PlainConnection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for PlainConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
