//! Request bodies of the base lane, and how far they were read: an answer that comes
//! before the end of its request ends the connection, of which the caller has to
//! know (RFC 9112 section 9.6), and the HTTP library finds out too late to say so.
//!
//! A body that nobody began to read is the library's to pass over.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Request;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

const BEGUN: u8 = 1;
const ENDED: u8 = 2;

/// How far a body was read; nobody touched it where this is 0.
#[derive(Debug, Default)]
pub(super) struct Progress(AtomicU8);

impl Progress {
    /// Notes in `request` that somebody wants to know; nobody for what has no body.
    pub(super) fn watch(request: &mut Request<Incoming>) -> Option<Arc<Self>> {
        if request.body().is_end_stream() {
            return None;
        }
        let progress = Arc::<Self>::default();
        request.extensions_mut().insert(Arc::clone(&progress));
        Some(progress)
    }

    /// Whether it was begun and is not at its end.
    pub(super) fn is_under_way(&self) -> bool {
        self.0.load(Ordering::Acquire) == BEGUN
    }
}

/// A body as it is received.
pub(super) struct Received {
    body: Incoming,
    progress: Option<Arc<Progress>>,
}

impl Received {
    /// The body of a request.
    pub(super) fn of(request: Request<Incoming>) -> Request<Self> {
        let (mut parts, body) = request.into_parts();
        let progress = parts.extensions.remove::<Arc<Progress>>();
        Request::from_parts(parts, Self { body, progress })
    }

    fn note(&self, state: u8) {
        if let Some(progress) = &self.progress {
            progress.0.store(state, Ordering::Release);
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
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let ended = match &polled {
            Poll::Ready(None) => true,
            // Nothing comes after trailers, and nobody asks.
            Poll::Ready(Some(Ok(frame))) => frame.is_trailers() || self.body.is_end_stream(),
            _ => self.body.is_end_stream(),
        };
        self.note(if ended { ENDED } else { BEGUN });
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
