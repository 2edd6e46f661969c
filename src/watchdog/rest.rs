//! What is left of a request that was answered before its end.
//!
//! A connection that is closed with something unread takes the answer with it: on a
//! Unix socket the other side gets an error in place of it. So what comes within
//! bounds is read and dropped. Nothing is decided here about answers.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::{proxy::body::pass_over, shutdown::Tasks};

/// Most that is read of it, in bytes.
const MOST: u64 = 1 << 20;

/// Longest that is waited for it.
const LONGEST: Duration = Duration::from_secs(1);

/// The body of a request; whoever drops it early leaves the rest to a task of its own.
pub(super) struct Rest {
    body: Option<Incoming>,
    tasks: Tasks,
}

impl Rest {
    /// The body of a request.
    pub(super) fn new(body: Incoming, tasks: Tasks) -> Self {
        Self {
            body: Some(body),
            tasks,
        }
    }

    /// Whether the sender waits to be asked for the body: to read is to ask for it.
    pub(super) fn is_held_back(headers: &HeaderMap) -> bool {
        headers.contains_key(header::EXPECT)
    }
}

impl Body for Rest {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            // Who sends more, or takes longer, is cut off.
            self.tasks
                .spawn(tokio::time::timeout(LONGEST, pass_over(body, MOST)).map(drop));
        }
    }
}
