//! Request bodies of the base lane, and what is left of one that was answered before
//! its end.
//!
//! Where the rest of a request is not read, its connection ends after the answer, of
//! which the caller has to know (RFC 9112 section 9.6), and the HTTP library finds
//! out too late to say so. Who sends on may lose the answer, and the next request,
//! which it may not repeat. So what is left is read and dropped first, within
//! bounds, as Go's server does it: a refusal costs no connection.
//!
//! What a body is good for is not decided here.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Version, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::proxy::body::pass_over;

/// Most that is read and dropped of a request that is answered, in bytes: as much as by
/// Go's server.
pub(super) const MOST_DROPPED: u64 = 256 * 1024;

/// Longest that an answer waits for it.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(1);

const BEGUN: u8 = 1;
const ENDED: u8 = 2;
const BROKEN: u8 = 3;

/// How far a body was read, and what is left of it.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Nobody touched it where this is 0.
    state: AtomicU8,
    /// The caller waits to be asked for it; to read is to ask.
    held_back: bool,
    /// The body, once nobody wants the rest.
    left: Mutex<Option<Incoming>>,
}

impl Progress {
    /// Reads and drops what nobody wants, if that is soon done. Whether the request is at its
    /// end: else the connection can carry no other.
    pub(super) async fn pass_over(&self) -> bool {
        let state = self.state.load(Ordering::Acquire);
        if state == ENDED || state == BROKEN {
            return state == ENDED;
        }
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Who still has it may be sending it to a function.
        let Some(body) = left else { return false };
        if self.held_back && state != BEGUN || body.size_hint().lower() > MOST_DROPPED {
            return false;
        }
        let passed_over = tokio::time::timeout(LONGEST_WAIT, pass_over(body, MOST_DROPPED)).await;
        passed_over.unwrap_or(false)
    }
}

/// A body as it is received.
pub(super) struct Received {
    /// Gone once this is dropped.
    body: Option<Incoming>,
    progress: Option<Arc<Progress>>,
}

impl Received {
    /// A request whose body this is, and how far it is read; nothing of one without a body, or
    /// of HTTP/2, whose streams end each for itself.
    pub(super) fn of(request: Request<Incoming>) -> (Request<Self>, Option<Arc<Progress>>) {
        let watched = request.version() < Version::HTTP_2 && !request.body().is_end_stream();
        let progress = watched.then(|| {
            Arc::new(Progress {
                held_back: request.headers().contains_key(header::EXPECT),
                ..Progress::default()
            })
        });
        let body = |body| Self {
            body: Some(body),
            progress: progress.clone(),
        };
        (request.map(body), progress)
    }

    /// The body as the API's framework takes it.
    pub(super) fn into_poem(self) -> poem::Body {
        self.map_err(io::Error::other).boxed().into()
    }

    fn note(&self, state: u8) {
        if let Some(progress) = &self.progress {
            // What is broken does not end.
            progress.state.fetch_max(state, Ordering::AcqRel);
        }
    }
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(&mut *body).poll_frame(cx);
        let ended = match &polled {
            Poll::Ready(Some(Err(_))) => {
                self.note(BROKEN);
                return polled;
            }
            Poll::Ready(None) => true,
            // Nothing comes after trailers, and nobody asks.
            Poll::Ready(Some(Ok(frame))) => frame.is_trailers() || body.is_end_stream(),
            Poll::Pending => body.is_end_stream(),
        };
        self.note(if ended { ENDED } else { BEGUN });
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if let Some(progress) = &self.progress {
            let mut left = progress.left.lock().unwrap_or_else(PoisonError::into_inner);
            *left = self.body.take();
        }
    }
}
