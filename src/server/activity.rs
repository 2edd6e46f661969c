//! What a connection is waiting for, and since when.
//!
//! A caller that sends nothing, or half a head, holds a connection and nothing
//! else bounds it: the HTTP library's own bound starts after the protocol is
//! known, and a head that begins late in it has what is left. The answer's
//! writing is bounded here too: a caller that stops reading stops the answer's
//! body from being asked, and with it the body's own deadline.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::Version;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;

use crate::{config, upstream::Body};

/// Bounds on a connection's waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// For the next request's head to begin, and again to be complete.
    read: Duration,
    /// For the caller to take bytes of an answer.
    pub(super) write: Duration,
}

impl Limits {
    /// Bound on waiting for a request's head to begin, and again to be complete.
    pub(super) fn read(self) -> Duration {
        self.read
    }

    pub(super) fn new(server: &config::Server) -> Self {
        Self {
            read: server.read_timeout,
            write: server.write_timeout,
        }
    }
}

/// The state of one connection, shared by its socket and its requests.
pub(super) struct Activity {
    limits: Limits,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    /// Frames of HTTP/2 come at any time; they begin no request's head.
    framed: bool,
    /// Bytes of an answer wait for the caller to take them.
    blocked: bool,
    /// Who waits for the connection to be quiet.
    waiting: Option<Waker>,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Nothing is under way, or a head that has `begun`.
    Waiting { since: Instant, begun: bool },
    /// So many requests are being answered.
    Busy { requests: usize },
    /// HTTP is over: the connection belongs to a tunnel.
    Handed,
}

impl Activity {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            state: Mutex::new(State {
                // No second helping for the first byte: who connects has something to say.
                phase: Phase::Waiting {
                    since: Instant::now(),
                    begun: true,
                },
                framed: false,
                blocked: false,
                waiting: None,
            }),
        })
    }

    /// The bounds of this connection.
    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// Bytes came in.
    pub(super) fn received(&self) {
        let mut state = self.state();
        if matches!(state.phase, Phase::Waiting { begun: false, .. }) && !state.framed {
            state.phase = Phase::Waiting {
                since: Instant::now(),
                begun: true,
            };
        }
    }

    /// A request's head is complete; the request lasts until the guard is dropped.
    pub(super) fn request(self: &Arc<Self>, version: Version) -> Request {
        let mut state = self.state();
        state.framed = version == Version::HTTP_2;
        let requests = match state.phase {
            Phase::Busy { requests } => requests + 1,
            _ => 1,
        };
        state.phase = Phase::Busy { requests };
        Request(Arc::clone(self))
    }

    /// The connection left HTTP.
    pub(super) fn hand_over(&self) {
        self.state().phase = Phase::Handed;
    }

    /// Whether the connection left HTTP.
    pub(super) fn is_handed_over(&self) -> bool {
        matches!(self.state().phase, Phase::Handed)
    }

    /// Bytes wait for the caller to take them, or do not any more.
    pub(super) fn blocked(&self, blocked: bool) {
        let mut state = self.state();
        state.blocked = blocked;
        state.wake_when_quiet();
    }

    /// Whether no request is being answered and no answer is left to write.
    pub(super) fn is_quiet(&self) -> bool {
        self.state().is_quiet()
    }

    /// Ready while the connection is quiet.
    pub(super) fn poll_quiet(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.is_quiet() {
            return Poll::Ready(());
        }
        state.waiting = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Resolves when a wait has lasted too long.
    ///
    /// Looks at the state when the wait that was on would be overdue rather than
    /// at each change, which keeps changes cheap and misses nothing: a wait that
    /// begins later is overdue later.
    pub(super) async fn overdue(&self) {
        loop {
            let now = Instant::now();
            let due = self.due(now);
            if due <= now {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }

    /// When the wait that is on has lasted too long.
    fn due(&self, now: Instant) -> Instant {
        match self.state().phase {
            Phase::Waiting { since, .. } => since + self.limits.read,
            // Another look, by when a wait that begins now would be overdue.
            Phase::Busy { .. } | Phase::Handed => now + self.limits.read,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_quiet(&self) -> bool {
        !self.blocked && matches!(self.phase, Phase::Waiting { .. })
    }

    fn wake_when_quiet(&mut self) {
        if self.is_quiet()
            && let Some(waiting) = self.waiting.take()
        {
            waiting.wake();
        }
    }
}

/// A request under way; dropping it ends it.
pub(super) struct Request(Arc<Activity>);

impl Drop for Request {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if let Phase::Busy { requests } = state.phase {
            state.phase = match requests - 1 {
                0 => Phase::Waiting {
                    since: Instant::now(),
                    begun: false,
                },
                requests => Phase::Busy { requests },
            };
            state.wake_when_quiet();
        }
    }
}

/// An answer's body, which keeps its request under way.
pub(super) struct Held {
    body: Body,
    _request: Request,
}

impl Held {
    pub(super) fn new(body: Body, request: Request) -> Self {
        Self {
            body,
            _request: request,
        }
    }
}

impl HttpBody for Held {
    type Data = <Body as HttpBody>::Data;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activity() -> Arc<Activity> {
        Activity::new(Limits {
            read: Duration::from_secs(10),
            write: Duration::from_secs(10),
        })
    }

    /// Whether bytes that come now begin a wait of their own.
    fn prolongs(activity: &Activity) -> bool {
        let now = Instant::now();
        let before = activity.due(now);
        std::thread::sleep(Duration::from_millis(1));
        activity.received();
        activity.due(now) > before
    }

    #[test]
    fn a_head_has_its_own_time_once() {
        let activity = activity();
        assert!(!prolongs(&activity), "the first head's time began with the connection");
        drop(activity.request(Version::HTTP_11));
        assert!(prolongs(&activity));
        assert!(!prolongs(&activity), "one byte after the other is no reason");
        drop(activity.request(Version::HTTP_2));
        assert!(!prolongs(&activity), "a frame is no head");
    }

    #[test]
    fn a_connection_is_quiet_when_the_last_answer_is_out() {
        let activity = activity();
        let (first, second) = (activity.request(Version::HTTP_2), activity.request(Version::HTTP_2));
        drop(first);
        assert!(!activity.is_quiet());
        drop(second);
        activity.blocked(true);
        assert!(!activity.is_quiet(), "its last bytes are not out");
        activity.blocked(false);
        assert!(activity.is_quiet());
    }
}
