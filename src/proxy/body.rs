//! Bodies that keep time and keep what must live as long as they do.

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

use crate::upstream::{Address, Body, BoxError};

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

/// A body that fails when its deadline passes and holds a guard until its last
/// frame, or until it is dropped.
pub struct TimedBody<B, G> {
    inner: B,
    deadline: Deadline,
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
            sleep: None,
            guard: (!empty).then_some(guard),
        }
    }
}

/// Watches an answer go by.
pub trait Observe {
    /// The request is about to go to this address, with this target.
    fn sent(&mut self, _address: &Address, _target: &Uri) {}
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
                // A body that is always ready never waits, however late it is.
                if Instant::now() >= this.deadline.at {
                    this.guard = None;
                    return Poll::Ready(Some(Err(this.deadline.passed.into())));
                }
                if let Some(guard) = &mut this.guard {
                    if let Some(data) = frame.data_ref() {
                        guard.data(data.len());
                    }
                    if this.inner.is_end_stream() {
                        guard.ended();
                        this.guard = None;
                    }
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
                // Armed only once the body makes us wait: most are there at once.
                let deadline = this.deadline;
                let sleep = this
                    .sleep
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.at)));
                ready!(sleep.as_mut().poll(cx));
                this.guard = None;
                Poll::Ready(Some(Err(deadline.passed.into())))
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

/// The deadline that ended a body, if that is what an error chain is about.
pub fn passed_deadline(error: &(dyn std::error::Error + 'static)) -> Option<DeadlinePassed> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(passed) = error.downcast_ref::<DeadlinePassed>() {
            return Some(*passed);
        }
        next = error.source();
    }
    None
}
