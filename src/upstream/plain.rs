//! Connections that carry HTTP/1.1 as bytes, for the fast lane.
//!
//! Nobody watches one while it is idle, so each is looked at when it is taken:
//! one on which something came is of no use, whether that is its end or bytes
//! that no call asked for.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};

use super::{
    Address, ConnectError, Endpoint, PoolLimits,
    connect::Stream,
    life::{Aged, Life},
    ways::{self, Carrier, Grant, Place, Wish},
};

/// A connection to an endpoint.
#[derive(Debug)]
pub struct PlainConnection {
    stream: Stream,
    life: Life,
    /// Whether it carried a call before.
    reused: bool,
}

impl Endpoint {
    /// Whether calls can be sent to it as bytes; not over TLS.
    pub fn takes_plain(&self) -> bool {
        !matches!(self.address(), Address::Tcp { tls: Some(_), .. })
    }

    /// An idle connection, unless calls that came before wait for one.
    pub fn take_plain(&self) -> Option<PlainConnection> {
        let limits = self.limits();
        if self.has_line(&limits) {
            return None;
        }
        let usable = |connection: &mut PlainConnection| connection.is_usable(&limits);
        self.plain.take(limits.idle_timeout, usable)
    }

    /// A connection: a new one, or one that becomes free where there are as many
    /// as there may be. `fresh` asks for a new one in any case.
    ///
    /// # Errors
    /// When there was none in time, or none could be made; nothing was sent.
    pub async fn open_plain(self: &Arc<Self>, fresh: bool) -> Result<PlainConnection, ConnectError> {
        let limits = self.limits();
        let due = ways::due(&limits);
        match self.way(&limits, fresh, due).await? {
            Grant::Kept(connection) => Ok(connection),
            Grant::Open(place) => Ok(PlainConnection {
                stream: self.connect(place, &limits, due).await?,
                life: Life::begin(),
                reused: false,
            }),
        }
    }

    /// Keeps a connection whose call has ended, its answer read to the end.
    pub fn keep_plain(self: &Arc<Self>, connection: PlainConnection) {
        let limits = self.limits();
        if self.is_surplus(&limits, connection.life) {
            return;
        }
        let kept = PlainConnection {
            reused: true,
            ..connection
        };
        if self.plain.put(kept, limits.max_idle, limits.idle_timeout) {
            self.sweep(|endpoint, limits| endpoint.plain.drop_old(limits));
        }
        self.offer();
    }
}

impl Carrier for PlainConnection {
    type Claim = ();
    type Opening = Place;

    fn kept(endpoint: &Arc<Endpoint>, limits: &PoolLimits) -> Option<Self> {
        let usable = |connection: &mut Self| connection.is_usable(limits);
        endpoint.plain.take_any(limits.idle_timeout, usable)
    }

    fn claim(_: &Arc<Endpoint>) -> Option<()> {
        Some(())
    }

    fn opening((): (), place: Place) -> Place {
        place
    }

    fn wish(fresh: bool, to: oneshot::Sender<Grant<Self>>) -> Wish {
        Wish::Plain { fresh, to }
    }
}

impl Aged for PlainConnection {
    fn life(&self) -> Life {
        self.life
    }
}

impl PlainConnection {
    /// Whether it carried a call before, and so may have been closed just now.
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// Whether it can carry another call: nothing came since the last answer.
    fn is_usable(&self, limits: &PoolLimits) -> bool {
        !self.life.is_over(limits.max_age) && self.stream.is_quiet()
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
