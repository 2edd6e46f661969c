//! Bodies that keep time and measure, and keep what must live as long as they do.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{StatusCode, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use thiserror::Error;
use tokio::time::{Instant, Sleep};

use super::ForwardError;
use crate::{
    config::{Bound, SizeBound},
    trace::Carried,
    upstream::{Address, Body, BoxError},
};

/// A bound that a stream ran into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{setting} ({after:?}) has passed")]
pub struct DeadlinePassed {
    /// The configuration key that fired.
    pub setting: &'static str,
    /// Its value.
    pub after: Duration,
}

/// A point in time and the setting it comes from.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    /// When.
    pub at: Instant,
    /// What to report when it passes.
    pub passed: DeadlinePassed,
}

impl Deadline {
    /// `after` from `start`, because of `setting`.
    pub fn new(start: Instant, after: Duration, setting: &'static str) -> Self {
        Self {
            at: start + after,
            passed: DeadlinePassed { setting, after },
        }
    }

    /// The earlier of two.
    #[must_use]
    pub fn or_earlier(self, other: Self) -> Self {
        if other.at < self.at { other } else { self }
    }
}

/// Reads a body that nobody wants and drops it, at most so many bytes; whether that was all.
pub async fn pass_over(mut body: impl HttpBody<Data = Bytes> + Unpin, most: u64) -> bool {
    let mut left = most;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        match left.checked_sub(frame.data_ref().map_or(0, |data| data.len() as u64)) {
            Some(less) => left = less,
            None => return false,
        }
    }
    true
}

/// A body that is larger than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("larger than {setting} ({limit} bytes)")]
pub struct TooLarge {
    /// The configuration key that fired.
    pub setting: &'static str,
    /// Its value, in bytes.
    pub limit: u64,
}

impl TooLarge {
    /// Fails when a body of at least `bytes` cannot keep within `bound`.
    ///
    /// # Errors
    /// Itself.
    pub fn check(bytes: u64, bound: Option<SizeBound>) -> Result<(), Self> {
        match bound {
            Some(bound) if bytes > bound.bytes => Err(Self {
                setting: bound.setting,
                limit: bound.bytes,
            }),
            _ => Ok(()),
        }
    }
}

/// A body that fails when its deadline passes, when it is silent for too long
/// or when it gets too large. It holds a guard until its last frame, or until
/// it is dropped.
pub struct TimedBody<B, G> {
    inner: B,
    deadline: Deadline,
    idle: Option<Bound>,
    limit: Option<SizeBound>,
    /// Bytes of data so far.
    seen: u64,
    /// The end of the wait that is on.
    due: Option<Deadline>,
    sleep: Option<Pin<Box<Sleep>>>,
    guard: Option<G>,
}

impl<B: HttpBody, G: Observe> TimedBody<B, G> {
    /// Wraps `inner`. A body without a frame has ended already: nobody will
    /// ask it for one.
    pub fn new(inner: B, deadline: Deadline, mut guard: G) -> Self {
        let empty = inner.is_end_stream();
        if empty {
            guard.ended();
        }
        Self {
            inner,
            deadline,
            idle: None,
            limit: None,
            seen: 0,
            due: None,
            sleep: None,
            guard: (!empty).then_some(guard),
        }
    }

    /// Bounds the silence between two frames. Only waiting counts: what is
    /// not asked for is not silent.
    #[must_use]
    pub fn idle(mut self, bound: Option<Bound>) -> Self {
        self.idle = bound;
        self
    }

    /// Bounds the data.
    #[must_use]
    pub fn limit(mut self, bound: Option<SizeBound>) -> Self {
        self.limit = bound;
        self
    }

    /// What a frame that has come means for the bounds.
    fn admit(&mut self, frame: &Frame<Bytes>) -> Result<(), BoxError> {
        // A body that is always ready never waits, however late it is.
        if Instant::now() >= self.deadline.at {
            return Err(self.deadline.passed.into());
        }
        if self.idle.is_some() {
            self.due = None;
        }
        let Some(data) = frame.data_ref() else { return Ok(()) };
        if self.limit.is_some() {
            self.seen += data.len() as u64;
            TooLarge::check(self.seen, self.limit)?;
        }
        if let Some(guard) = &mut self.guard {
            guard.data(data.len());
        }
        Ok(())
    }

    /// Resolves when the wait that is on has lasted too long. Armed only once
    /// the body makes us wait: most are there at once.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<DeadlinePassed> {
        let due = match (self.due, self.idle) {
            (Some(due), _) => due,
            (None, None) => self.deadline,
            (None, Some(idle)) => self
                .deadline
                .or_earlier(Deadline::new(Instant::now(), idle.after, idle.setting)),
        };
        self.due = Some(due);
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due.at)));
        if sleep.deadline() != due.at {
            sleep.as_mut().reset(due.at);
        }
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(due.passed)
    }
}

/// Watches a call go by.
pub trait Observe {
    /// The call is about to be sent again.
    fn retried(&mut self) {}
    /// The request is about to go to this address, with this target. Says what
    /// its headers are to tell of its trace, where that is for us to say.
    fn sent(&mut self, _address: &Address, _target: &Uri) -> Option<Carried> {
        None
    }
    /// What was sent was answered with this status, or not at all.
    fn tried(&mut self, _outcome: Result<u16, &ForwardError>) {}
    /// The answer's head arrived with this status.
    fn head(&mut self, status: StatusCode);
    /// Some bytes of data went by.
    fn data(&mut self, bytes: usize);
    /// The body ended as it should; a guard dropped without this saw an abort.
    fn ended(&mut self);
}

impl Observe for () {
    fn head(&mut self, _: StatusCode) {}
    fn data(&mut self, _: usize) {}
    fn ended(&mut self) {}
}

impl<B, G> HttpBody for TimedBody<B, G>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
    G: Observe + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Err(error) = this.admit(&frame) {
                    this.guard = None;
                    return Poll::Ready(Some(Err(error)));
                }
                if this.inner.is_end_stream()
                    && let Some(mut guard) = this.guard.take()
                {
                    guard.ended();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                this.guard = None;
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                if let Some(mut guard) = this.guard.take() {
                    guard.ended();
                }
                Poll::Ready(None)
            }
            Poll::Pending => {
                let passed = ready!(this.poll_due(cx));
                this.guard = None;
                Poll::Ready(Some(Err(passed.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A body of these bytes.
pub fn full(bytes: Bytes) -> Body {
    http_body_util::Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body of nothing.
pub fn empty() -> Body {
    full(Bytes::new())
}

/// The bound that ended a body ([`DeadlinePassed`], [`TooLarge`]), if that is
/// what an error chain is about.
pub fn bound_in<E: std::error::Error + Copy + 'static>(error: &(dyn std::error::Error + 'static)) -> Option<E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(bound) = error.downcast_ref::<E>() {
            return Some(*bound);
        }
        next = error.source();
    }
    None
}
