//! Connections that hyper drives, in the task of the call that uses them.
//!
//! hyper wants a connection polled beside its requests, usually in a task of its
//! own; then each call costs two more wake-ups, and on several cores its bytes
//! change the core. Here whoever waits for an answer, or reads its body, polls
//! the connection too. An idle connection is polled by nobody: whether it is
//! still open is seen when it is taken.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http1::{self, SendRequest},
    },
};
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

use super::{
    Body, Endpoint, PoolLimits,
    connect::Stream,
    life::{Aged, Life},
    multiplexed::Lane,
    ways::{Carrier, Grant, Place, Wish},
};

/// A connection and its way in.
pub(super) struct Driven {
    life: Life,
    sender: SendRequest<Body>,
    connection: Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>,
    ended: bool,
}

impl Driven {
    /// Begins HTTP/1.1 on a connection.
    pub(super) async fn begin(stream: Stream) -> hyper::Result<Self> {
        let (sender, connection) = http1::Builder::new().handshake(TokioIo::new(stream)).await?;
        Ok(Self {
            life: Life::begin(),
            sender,
            connection: Box::pin(connection.with_upgrades()),
            ended: false,
        })
    }

    /// Moves the connection on; whether it has ended. It ends for us when it
    /// switches protocols, and panics when it is polled after that.
    fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        self.ended = self.ended || self.connection.as_mut().poll(cx).is_ready();
        self.ended
    }

    /// Whether a request can be sent on it. Costs no system call, usually.
    pub(super) fn is_usable(&mut self, limits: &PoolLimits) -> bool {
        if self.life.is_over(limits.max_age) {
            return false;
        }
        let mut context = Context::from_waker(Waker::noop());
        !self.drive(&mut context) && self.sender.is_ready()
    }

    /// Sends a request and returns its answer, body unread. Dropping the future
    /// closes the connection.
    pub(super) async fn send(
        mut self,
        request: Box<Request<Body>>,
        endpoint: &Arc<Endpoint>,
    ) -> Result<Response<AnswerBody>, TrySendError<Request<Body>>> {
        let mut answer = Box::pin(self.sender.try_send_request(*request));
        let answered = poll_fn(|cx| {
            let ended = self.drive(cx);
            match answer.as_mut().poll(cx) {
                // Nothing else can come: the request is answered, or it fails now.
                Poll::Pending if ended => answer.as_mut().poll(cx),
                answered => answered,
            }
        })
        .await;
        drop(answer);
        let (parts, incoming) = answered?.into_parts();
        let home = if parts.version == Version::HTTP_10 {
            // The next request would be one of HTTP/1.0 too, and lose its chunked body.
            Weak::new()
        } else {
            Arc::downgrade(endpoint)
        };
        let mut body = AnswerBody {
            incoming,
            driven: Some((self, home)),
            lane: None,
            failed: None,
        };
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            body.switch();
        } else if body.incoming.is_end_stream() {
            poll_fn(|cx| {
                body.finish(cx);
                Poll::Ready(())
            })
            .await;
        }
        Ok(Response::from_parts(parts, body))
    }

    /// Waits until another request can be sent; `None` when none ever can.
    async fn ready(mut self) -> Option<Self> {
        let ready = poll_fn(|cx| {
            let ended = self.drive(cx);
            match self.sender.poll_ready(cx) {
                Poll::Ready(ready) => Poll::Ready(ready.is_ok()),
                Poll::Pending if ended => Poll::Ready(false),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        ready.then_some(self)
    }
}

impl Carrier for Driven {
    type Claim = ();
    type Opening = Place;

    fn kept(endpoint: &Arc<Endpoint>, limits: &PoolLimits) -> Option<Self> {
        let usable = |driven: &mut Self| driven.is_usable(limits);
        endpoint.idle.take_any(limits.idle_timeout, usable)
    }

    fn claim(_: &Arc<Endpoint>) -> Option<()> {
        Some(())
    }

    fn opening((): (), place: Place) -> Place {
        place
    }

    fn wish(fresh: bool, to: oneshot::Sender<Grant<Self>>) -> Wish {
        Wish::Driven { fresh, to }
    }
}

impl Aged for Driven {
    fn life(&self) -> Life {
        self.life
    }
}

/// The body of an answer. Reading it drives the connection that it comes on,
/// which goes back to its endpoint at the end; dropping it before closes that.
pub struct AnswerBody {
    incoming: Incoming,
    driven: Option<(Driven, Weak<Endpoint>)>,
    /// Its part of a connection that others drive.
    lane: Option<Lane>,
    /// Told on the next poll: see [`AnswerBody::poll_frame`].
    failed: Option<hyper::Error>,
}

impl AnswerBody {
    /// That of an answer on a connection that carries others too.
    pub(super) fn shared(incoming: Incoming, lane: Lane) -> Self {
        Self {
            lane: (!incoming.is_end_stream()).then_some(lane),
            incoming,
            driven: None,
            failed: None,
        }
    }

    /// Lets the connection go on for as long as it is used for another protocol.
    fn switch(&mut self) {
        let Some((Driven { connection, ended, .. }, _)) = self.driven.take() else {
            return;
        };
        if ended {
            return;
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "hands the connection to the tunnel, which is tracked, and ends"
        )]
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
    }

    /// The answer has been read.
    fn finish(&mut self, cx: &mut Context<'_>) {
        self.lane = None;
        let Some((mut driven, endpoint)) = self.driven.take() else {
            return;
        };
        if driven.drive(cx) {
            return;
        }
        if driven.sender.is_ready() {
            if let Some(endpoint) = endpoint.upgrade() {
                endpoint.keep(driven);
            }
            return;
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "ends with the rest of the request, which its deadline bounds"
        )]
        tokio::spawn(async move {
            if let Some(driven) = driven.ready().await
                && let Some(endpoint) = endpoint.upgrade()
            {
                endpoint.keep(driven);
            }
        });
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some((driven, _)) = &mut self.driven else {
            return Pin::new(&mut self.incoming).poll_frame(cx);
        };
        // Asking for a frame is what lets the connection read one.
        let frame = Pin::new(&mut self.incoming).poll_frame(cx);
        if frame.is_ready() {
            return frame;
        }
        if driven.drive(cx) {
            self.driven = None;
        }
        Pin::new(&mut self.incoming).poll_frame(cx)
    }
}

impl fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AnswerBody({:?})", self.incoming)
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    /// A failure is told one poll late, so that what came before it is on its way
    /// to the caller: a server gives up what it has not written when a body fails.
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(failed) = self.failed.take() {
            return Poll::Ready(Some(Err(failed)));
        }
        let frame = match ready!(self.poll_incoming(cx)) {
            Some(Err(failed)) => {
                self.failed = Some(failed);
                (self.driven, self.lane) = (None, None);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            frame => frame,
        };
        if frame.is_none() || self.incoming.is_end_stream() {
            self.finish(cx);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
