//! Connections of HTTP/2: their settings, and a bound on streams whose caller
//! takes nothing.
//!
//! A stream has a window of its own, and a body that cannot be written is not
//! asked for more, so neither the body's deadline nor the connection's notices.
//! Each stream is a task; it is watched from outside and dropped when nothing of
//! its answer was taken for too long, which resets it. Other streams of the
//! connection go on.
//!
//! The last piece of an answer is out of sight once the HTTP library has it: a
//! caller can leave so many bytes lie in each of its streams until the
//! connection ends.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use hyper::rt::Executor;
use hyper_util::{rt::TokioTimer, server::conn::auto};
use tokio::time::{Instant, Sleep};

use crate::config;

/// Largest window that HTTP/2 knows (RFC 9113 section 6.9.1).
const LARGEST_WINDOW: u64 = (1 << 31) - 1;

tokio::task_local! {
    /// Since when a piece of the stream's answer waits to be taken.
    static WAITS: Cell<Option<Instant>>;
}

/// A piece of the stream's answer is handed to the HTTP library.
pub(super) fn hands_over() {
    // Elsewhere than in a stream's task nobody watches.
    let _unwatched = WAITS.try_with(|waits| waits.set(Some(Instant::now())));
}

/// The HTTP library asks for more, so it has taken what it was handed.
pub(super) fn took_over() {
    let _unwatched = WAITS.try_with(|waits| waits.set(None));
}

/// Runs the streams of a connection.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    /// Bound on taking a piece of an answer.
    taking: Duration,
}

impl Streams {
    pub(super) fn new(server: &config::Server) -> Self {
        Self {
            taking: server.write_timeout,
        }
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        #[expect(
            clippy::disallowed_methods,
            reason = "ends with its connection, which the server tracks"
        )]
        tokio::spawn(WAITS.scope(Cell::new(None), watch(stream, self.taking)));
    }
}

/// Runs a stream until it has ended or its caller takes nothing for too long.
async fn watch(stream: impl Future<Output = ()>, taking: Duration) {
    let mut stream = pin!(stream);
    let mut alarm: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(since) = WAITS.with(Cell::get) else {
            return Poll::Pending;
        };
        let due = since + taking;
        let alarm = alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if alarm.deadline() != due {
            alarm.as_mut().reset(due);
        }
        if alarm.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        tracing::debug!("the caller took nothing of a stream for server.write_timeout ({taking:?})");
        Poll::Ready(())
    })
    .await;
}

/// Sets everything about HTTP/2.
pub(super) fn configure(builder: &mut auto::Builder<Streams>, server: &config::Server) {
    let http2 = &server.http2;
    let (stream, connection) = windows(http2);
    let interval = http2.keep_alive_interval.unwrap_or(server.read_timeout);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(server.max_header_bytes.0).unwrap_or(u32::MAX))
        .max_concurrent_streams(http2.max_concurrent_streams)
        .initial_stream_window_size(stream)
        .initial_connection_window_size(connection)
        .keep_alive_interval(Some(interval).filter(|interval| !interval.is_zero()))
        .keep_alive_timeout(http2.keep_alive_timeout)
        // WebSocket (RFC 8441).
        .enable_connect_protocol();
}

/// The windows of a stream and of its connection. The connection's has room for
/// all streams: one whose function reads nothing takes none from the others.
fn windows(http2: &config::Http2) -> (u32, u32) {
    let stream = http2.stream_window.0.min(LARGEST_WINDOW);
    let connection = stream
        .saturating_mul(http2.max_concurrent_streams.into())
        .min(LARGEST_WINDOW);
    let window = |bytes| u32::try_from(bytes).unwrap_or(u32::MAX);
    (window(stream), window(connection))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Size;

    #[test]
    fn a_connection_has_room_for_all_of_its_streams() {
        for (window, streams, expected) in [
            (65_536, 100, (65_536, 6_553_600)),
            (1 << 20, 1, (1 << 20, 1 << 20)),
            (1 << 30, 100, (1 << 30, u32::MAX >> 1)),
        ] {
            let http2 = config::Http2 {
                max_concurrent_streams: streams,
                stream_window: Size(window),
                keep_alive_interval: None,
                keep_alive_timeout: Duration::ZERO,
            };
            assert_eq!(windows(&http2), expected);
        }
    }
}
