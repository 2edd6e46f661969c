//! Whether a call waits for its caller to send, or for its function: what
//! decides when the function's time begins and whose fault it is when time runs
//! out.
//!
//! Only a body that is still being received is watched; other calls pay nothing.
//! Nothing here keeps time: see [`super::body`] and [`super::forward()`].

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::Notify;

/// The last look found something to send; since then it is the function that
/// has to take it.
const SENDING: u8 = 0;
/// The last look found nothing: more has to come from the caller.
const AWAITED: u8 = 1;
/// Everything was handed to the connection, or nobody wants the rest.
const ENDED: u8 = 2;

/// How far a request's body is.
#[derive(Debug)]
pub(super) struct Upload {
    state: AtomicU8,
    ended: Notify,
}

impl Upload {
    /// Watches a body.
    pub(super) fn watch<B>(body: B) -> (Arc<Self>, Watched<B>) {
        let upload = Arc::new(Self {
            state: AtomicU8::new(SENDING),
            ended: Notify::new(),
        });
        let watched = Watched {
            inner: body,
            upload: Arc::clone(&upload),
        };
        (upload, watched)
    }

    /// Returns when the body has ended. One may wait at a time.
    pub(super) async fn ended(&self) {
        if self.state.load(Ordering::Acquire) != ENDED {
            // Kept for us if it ends in between.
            self.ended.notified().await;
        }
    }

    /// Whether the caller is what holds the call up.
    pub(super) fn is_awaited(&self) -> bool {
        self.state.load(Ordering::Acquire) == AWAITED
    }

    fn set(&self, state: u8) {
        let before = self.state.swap(state, Ordering::AcqRel);
        if state == ENDED && before != ENDED {
            self.ended.notify_one();
        }
    }
}

/// A body that is watched.
pub(super) struct Watched<B> {
    inner: B,
    upload: Arc<Upload>,
}

impl<B: HttpBody + Unpin> HttpBody for Watched<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        self.upload.set(match &polled {
            Poll::Pending => AWAITED,
            Poll::Ready(Some(Ok(_))) if !self.inner.is_end_stream() => SENDING,
            Poll::Ready(_) => ENDED,
        });
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> Drop for Watched<B> {
    fn drop(&mut self) {
        self.upload.set(ENDED);
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, convert::Infallible, task::Waker};

    use bytes::Bytes;
    use futures_util::FutureExt;

    use super::*;

    /// Gives what it has: a frame, or a wait.
    struct Scripted(VecDeque<Option<&'static str>>);

    impl HttpBody for Scripted {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.0.pop_front() {
                Some(Some(text)) => Poll::Ready(Some(Ok(Frame::data(Bytes::from(text))))),
                Some(None) => Poll::Pending,
                None => Poll::Ready(None),
            }
        }
    }

    fn poll<B: HttpBody + Unpin>(body: &mut B) {
        let _ = Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()));
    }

    #[test]
    fn who_is_waited_for() {
        let (upload, mut body) = Upload::watch(Scripted([Some("a"), None, Some("b"), None].into()));
        let mut seen = vec![upload.is_awaited()];
        for _ in 0..5 {
            poll(&mut body);
            seen.push(upload.is_awaited());
            assert_eq!(upload.ended().now_or_never().is_some(), seen.len() == 6);
        }
        assert_eq!(seen, [false, false, true, false, true, false]);
        assert!(upload.ended().now_or_never().is_some(), "for who asks later, too");
    }

    #[test]
    fn a_body_that_nobody_reads_to_its_end_has_ended() {
        let (upload, mut body) = Upload::watch(Scripted([None].into()));
        poll(&mut body);
        let mut ended = Box::pin(upload.ended());
        assert!(ended.as_mut().now_or_never().is_none());
        drop(body);
        assert!(ended.now_or_never().is_some() && !upload.is_awaited());
    }
}
