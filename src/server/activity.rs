//! What a connection is waiting for, and since when.
//!
//! A caller that sends nothing, or half a head, holds a connection and nothing
//! else bounds it: the HTTP library's own bound starts after the protocol is
//! known, and a head that begins late in it has what is left. The answer's
//! writing is bounded here too: a caller that stops reading stops the answer's
//! body from being asked, and with it the body's own deadline.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::Version;
use tokio::{sync::Notify, time::Instant};

use crate::config;

/// Most requests that a caller may give up, before it matters how many it does not:
/// opening and resetting streams of HTTP/2 costs it nothing and us a call each.
const PATIENCE: u64 = 100;

/// Requests that may be on their way when a caller is told that there were enough.
const NOTICE: u64 = 1000;

/// In place of a bound that is turned off; a year, for instants end somewhere.
pub(super) const FOREVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Bounds on a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// For the next request's head to begin.
    pub(super) idle: Duration,
    /// For a head that has begun to be complete.
    pub(super) head: Duration,
    /// For the caller to take bytes of an answer.
    pub(super) write: Duration,
    /// Requests.
    requests: u64,
}

impl Limits {
    pub(super) fn new(server: &config::Server) -> Self {
        let time = |set: Option<Duration>| match set {
            None => server.read_timeout,
            Some(Duration::ZERO) => FOREVER,
            Some(bound) => bound.min(FOREVER),
        };
        Self {
            idle: time(server.idle_timeout),
            head: time(server.header_timeout),
            write: server.write_timeout,
            requests: match server.max_requests_per_connection {
                0 => u64::MAX,
                most => most.into(),
            },
        }
    }

    /// Whether a connection has no further request after so many.
    pub(super) fn is_last(self, requests: u64) -> bool {
        requests >= self.requests
    }
}

/// The state of one connection, shared by its socket and its requests.
pub(super) struct Activity {
    state: Mutex<State>,
    /// It has to end for another reason than a wait.
    ending: Notify,
}

struct State {
    limits: Limits,
    phase: Phase,
    /// Requests so far.
    served: u64,
    /// Those of them that the caller gave up before their answer began.
    given_up: u64,
    end: Option<End>,
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

/// Why a connection has to end, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Once what is under way is answered: nothing came, or enough did.
    Soon,
    /// At once: its caller does no more than keep us busy.
    AtOnce,
}

impl Activity {
    /// Of a connection that had so many requests already.
    pub(super) fn new(limits: Limits, served: u64) -> Arc<Self> {
        Arc::new(Self {
            ending: Notify::new(),
            state: Mutex::new(State {
                limits,
                served,
                given_up: 0,
                end: None,
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
        self.state().limits
    }

    /// How many requests there were.
    pub(super) fn served(&self) -> u64 {
        self.state().served
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

    /// A request's head is complete; the request lasts until the guard is
    /// dropped. The bounds are those of now.
    pub(super) fn request(self: &Arc<Self>, version: Version, limits: Limits) -> Request {
        let mut state = self.state();
        state.limits = limits;
        state.framed = version == Version::HTTP_2;
        let requests = match state.phase {
            Phase::Busy { requests } => requests + 1,
            _ => 1,
        };
        state.phase = Phase::Busy { requests };
        state.served += 1;
        let is_last = limits.is_last(state.served);
        if is_last {
            let ignored = limits.is_last(state.served.saturating_sub(NOTICE));
            self.end(&mut state, if ignored { End::AtOnce } else { End::Soon });
        }
        Request {
            busy: Busy(Arc::clone(self)),
            is_last,
            answered: false,
        }
    }

    /// Keeps the connection from waiting for requests, beside one that is under way.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        if let Phase::Busy { requests } = &mut self.state().phase {
            *requests += 1;
        }
        Busy(Arc::clone(self))
    }

    fn end(&self, state: &mut State, end: End) {
        state.end = Some(end);
        self.ending.notify_one();
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

    /// Resolves when the connection has to end: a wait has lasted too long, or
    /// there were too many requests.
    ///
    /// Looks at the state when a wait that begins now would be overdue rather
    /// than at each change, which keeps changes cheap and misses nothing.
    pub(super) async fn over(&self) -> End {
        loop {
            let now = Instant::now();
            let due = {
                let state = self.state();
                if let Some(end) = state.end {
                    return end;
                }
                state.due(now)
            };
            if due <= now {
                return End::Soon;
            }
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = self.ending.notified() => {}
            }
        }
    }

    /// Resolves when a connection that ends soon has to end at once.
    pub(super) async fn cut_off(&self) {
        while self.state().end != Some(End::AtOnce) {
            self.ending.notified().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// When the wait that is on has lasted too long, or to look again.
    fn due(&self, now: Instant) -> Instant {
        let Limits { idle, head, .. } = self.limits;
        let look = now + idle.min(head);
        match self.phase {
            Phase::Waiting { since, begun: true } => look.min(since + head),
            Phase::Waiting { since, begun: false } => look.min(since + idle),
            Phase::Busy { .. } | Phase::Handed => look,
        }
    }

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

/// Something under way; dropping it ends it.
pub(super) struct Busy(Arc<Activity>);

/// A request under way; dropping it ends it.
pub(super) struct Request {
    busy: Busy,
    is_last: bool,
    answered: bool,
}

impl Request {
    /// Whether the connection has no further one.
    pub(super) fn is_last(&self) -> bool {
        self.is_last
    }

    /// Its answer has begun.
    pub(super) fn answered(&mut self) {
        self.answered = true;
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let activity = &self.busy.0;
        let mut state = activity.state();
        if !self.answered && state.framed {
            state.given_up += 1;
            if state.given_up > PATIENCE && state.given_up > state.served / 2 {
                activity.end(&mut state, End::AtOnce);
            }
        }
    }
}

impl Drop for Busy {
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

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        idle: Duration::from_secs(10),
        head: Duration::from_secs(10),
        write: Duration::from_secs(10),
        requests: u64::MAX,
    };

    fn activity() -> Arc<Activity> {
        Activity::new(LIMITS, 0)
    }

    fn request(activity: &Arc<Activity>, version: Version) -> Request {
        activity.request(version, activity.limits())
    }

    fn answered(mut request: Request) {
        request.answered();
    }

    /// Why it has to end now.
    fn over(activity: &Activity) -> Option<End> {
        activity.state().end
    }

    fn since(activity: &Activity) -> Instant {
        match activity.state().phase {
            Phase::Waiting { since, .. } => since,
            phase => panic!("{phase:?}"),
        }
    }

    /// Whether bytes that come now begin a wait of their own.
    fn prolongs(activity: &Activity) -> bool {
        let before = since(activity);
        std::thread::sleep(Duration::from_millis(1));
        activity.received();
        since(activity) > before
    }

    #[test]
    fn a_head_has_its_own_time_once() {
        let activity = activity();
        assert!(!prolongs(&activity), "the first head's time began with the connection");
        drop(request(&activity, Version::HTTP_11));
        assert!(prolongs(&activity));
        assert!(!prolongs(&activity), "one byte after the other is no reason");
        drop(request(&activity, Version::HTTP_2));
        assert!(!prolongs(&activity), "a frame is no head");
    }

    #[test]
    fn a_connection_is_quiet_when_the_last_answer_is_out() {
        let activity = activity();
        let (first, second) = (request(&activity, Version::HTTP_2), request(&activity, Version::HTTP_2));
        drop(first);
        assert!(!activity.is_quiet());
        drop(second);
        activity.blocked(true);
        assert!(!activity.is_quiet(), "its last bytes are not out");
        activity.blocked(false);
        assert!(activity.is_quiet());
    }

    #[test]
    fn each_wait_has_its_bound_and_is_looked_at_in_time() {
        let secs = Duration::from_secs;
        let since = Instant::now();
        let waiting = |begun| Phase::Waiting { since, begun };
        for (idle, head, phase, elapsed, expected) in [
            (60, 10, waiting(true), 0, 10),
            (60, 10, waiting(true), 9, 10),
            (60, 10, waiting(false), 55, 60),
            // A head may begin at once, and has to be complete then.
            (60, 10, waiting(false), 0, 10),
            (60, 10, Phase::Busy { requests: 1 }, 5, 15),
            (10, 60, waiting(false), 0, 10),
            (10, 60, waiting(true), 0, 10),
            (10, 60, waiting(true), 55, 60),
            (10, 60, Phase::Handed, 0, 10),
        ] {
            let limits = Limits {
                idle: secs(idle),
                head: secs(head),
                ..LIMITS
            };
            let activity = Activity::new(limits, 0);
            let mut state = activity.state();
            state.phase = phase;
            let due = state.due(since + secs(elapsed));
            assert_eq!(due, since + secs(expected), "{idle} {head} {phase:?} {elapsed}");
        }
    }

    #[test]
    fn a_connection_ends_after_its_last_request_even_if_its_caller_does_not_listen() {
        let limits = Limits { requests: 3, ..LIMITS };
        let activity = Activity::new(limits, 1);
        assert!(!request(&activity, Version::HTTP_11).is_last());
        assert_eq!(over(&activity), None);
        let last = request(&activity, Version::HTTP_11);
        assert!(last.is_last() && over(&activity) == Some(End::Soon));
        assert_eq!(activity.served(), 3);
        for _ in 0..NOTICE {
            answered(request(&activity, Version::HTTP_2));
        }
        assert_eq!(over(&activity), Some(End::AtOnce));
    }

    #[test]
    fn a_caller_that_gives_most_requests_up_is_cut_off() {
        for (answers, end) in [(0, Some(End::AtOnce)), (2, None)] {
            let activity = activity();
            for _ in 0..=PATIENCE {
                drop(request(&activity, Version::HTTP_2));
                for _ in 0..answers {
                    answered(request(&activity, Version::HTTP_2));
                }
            }
            assert_eq!(over(&activity), end, "{answers} answers for each");
        }
    }
}
