//! An answer's body on its way into a connection.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Version;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::{activity::Request, http2};
use crate::upstream::Body;

/// Largest piece that is handed to HTTP/2: its frames are no larger either, and
/// what it was handed of an answer is out of our hands.
const PIECE: usize = 16 * 1024;

/// An answer's body, which keeps its request under way.
pub(super) struct Held {
    body: Body,
    /// What is left of the newest piece; with HTTP/2 only.
    rest: Bytes,
    framed: bool,
    _request: Request,
}

impl Held {
    pub(super) fn new(body: Body, version: Version, mut request: Request) -> Self {
        request.answered();
        Self {
            body,
            rest: Bytes::new(),
            framed: version == Version::HTTP_2,
            _request: request,
        }
    }

    fn piece(&mut self) -> Frame<Bytes> {
        let size = self.rest.len().min(PIECE);
        http2::hands_over();
        Frame::data(self.rest.split_to(size))
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if !this.framed {
            return Pin::new(&mut this.body).poll_frame(cx);
        }
        http2::took_over();
        if !this.rest.is_empty() {
            return Poll::Ready(Some(Ok(this.piece())));
        }
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        match polled {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(match frame.into_data() {
                Ok(data) => {
                    this.rest = data;
                    this.piece()
                }
                Err(trailers) => trailers,
            }))),
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let rest = self.rest.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}
