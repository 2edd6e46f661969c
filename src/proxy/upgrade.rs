//! Joining two connections after `101 Switching Protocols`.

use std::{
    io,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::body::DeadlinePassed;
use crate::config::Bound;

/// Copies bytes both ways until both sides have closed, and returns how many
/// went up and down. Dropping the future closes both connections.
///
/// # Errors
/// When either side did not switch, its connection failed, or neither sent
/// anything for as long as `idle`.
pub async fn join(downstream: OnUpgrade, upstream: OnUpgrade, idle: Option<Bound>) -> io::Result<(u64, u64)> {
    let (downstream, upstream) = tokio::try_join!(downstream, upstream).map_err(io::Error::other)?;
    let (mut downstream, mut upstream) = (TokioIo::new(downstream), TokioIo::new(upstream));
    let Some(idle) = idle else {
        return tokio::io::copy_bidirectional(&mut downstream, &mut upstream).await;
    };
    let heard = Heard::new();
    let (mut downstream, mut upstream) = (heard.listen(downstream), heard.listen(upstream));
    tokio::select! {
        copied = tokio::io::copy_bidirectional(&mut downstream, &mut upstream) => copied,
        () = heard.silence(idle.after) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            DeadlinePassed { setting: idle.setting, after: idle.after },
        )),
    }
}

/// When either side was last heard.
struct Heard {
    start: Instant,
    /// Microseconds after `start`.
    last: AtomicU64,
}

impl Heard {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            last: AtomicU64::new(0),
        }
    }

    fn listen(&self, stream: TokioIo<Upgraded>) -> Listening<'_> {
        Listening { stream, heard: self }
    }

    fn note(&self) {
        let micros = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last.store(micros, Ordering::Relaxed);
    }

    /// Resolves when nothing was heard for so long. Looks when the silence would
    /// be too long rather than at each byte.
    async fn silence(&self, bound: Duration) {
        loop {
            let due = self.start + Duration::from_micros(self.last.load(Ordering::Relaxed)) + bound;
            if due <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

/// One side of a tunnel.
struct Listening<'a> {
    stream: TokioIo<Upgraded>,
    heard: &'a Heard,
}

impl AsyncRead for Listening<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.heard.note();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Listening<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
