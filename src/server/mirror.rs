//! Copies of calls, for routes with `mirror`: another function gets the same
//! requests, and its answers are dropped.
//!
//! A copy is what was really called: it goes out once the call itself was sent
//! to its function and its body has been received to its end. Its bytes are
//! kept on the way, so the call waits for nothing. What cannot be copied (a body
//! that is too large, too many copies under way, a caller that broke off, a
//! switch of protocols) is called all the same, once.
//!
//! Which calls are copied is decided in [`crate::routing::mirror`].

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::{Request, header, request::Parts};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{
    Reach, Service,
    access_log::{Kind, Record},
    invoke::{self, ByRoute, Called},
    received::Received,
    way,
};
use crate::{
    problem::Form,
    proxy::{headers, target},
    routing::{Route, mirror::Mirror},
    snapshot::Snapshot,
    trace::Carried,
    upstream::BoxError,
};

/// Copies under way at a time, their bodies in memory; further ones are dropped.
const MAX_COPIES: usize = 128;

/// Why a copy was not made, as metrics name it.
const BUSY: &str = "mirror_busy";
const TOO_LARGE: &str = "mirror_body_too_large";

/// How many more copies may be made.
pub(super) fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_COPIES))
}

/// A call's request body.
pub(super) enum RequestBody {
    /// As it is received.
    Received(Received),
    /// The same, its bytes kept for a copy of the call.
    Copied(Received, Arc<Copying>),
    /// A copy's.
    Kept(Full<Bytes>),
}

/// A copy that is being made. It is sent when both the call was sent and the
/// body is complete, whichever comes last.
pub(super) struct Copying {
    max_body: u64,
    state: Mutex<State>,
}

struct State {
    forwarded: bool,
    complete: bool,
    bytes: BytesMut,
    /// Gone once it was sent or given up.
    sending: Option<Sending>,
}

/// All that a copy needs but its body.
struct Sending {
    service: Service,
    snapshot: Arc<Snapshot>,
    route: Arc<Route>,
    parts: Parts,
    peer: SocketAddr,
    _place: OwnedSemaphorePermit,
}

/// Starts to copy a call that goes along `route`, and is in the form in which
/// [`invoke`] takes it, for a number in `[0, 1)`. The copy's trace is what the
/// call's own says, where it says something.
pub(super) fn copy(
    service: &Service,
    snapshot: &Arc<Snapshot>,
    route: &Arc<Route>,
    mut request: Request<Received>,
    peer: SocketAddr,
    trace: Option<Carried>,
    number: f64,
) -> (Request<RequestBody>, Option<Arc<Copying>>) {
    let copying = (|| {
        let mirror = route.mirror.as_ref().filter(|mirror| mirror.takes(number))?;
        if request.headers().contains_key(header::UPGRADE) {
            return None;
        }
        if request.body().size_hint().lower() > mirror.max_body {
            dropped(snapshot, mirror, TOO_LARGE);
            return None;
        }
        let Ok(place) = Arc::clone(&service.mirrors).try_acquire_owned() else {
            dropped(snapshot, mirror, BUSY);
            return None;
        };
        // Both have the same id: that is how they are compared.
        invoke::ensure_call_id(request.headers_mut());
        let complete = request.body().is_end_stream();
        Some(Arc::new(Copying {
            max_body: mirror.max_body,
            state: Mutex::new(State {
                forwarded: false,
                complete,
                bytes: BytesMut::new(),
                sending: Some(Sending {
                    service: Service {
                        // The gateway itself is the caller, and it is inside.
                        reach: Reach::Internal,
                        ..service.clone()
                    },
                    snapshot: Arc::clone(snapshot),
                    route: Arc::clone(route),
                    parts: parts(&request, mirror, trace)?,
                    peer,
                    _place: place,
                }),
            }),
        }))
    })();
    let request = request.map(|body| match &copying {
        Some(copying) => RequestBody::Copied(body, Arc::clone(copying)),
        None => RequestBody::Received(body),
    });
    (request, copying)
}

/// The head of the copy: the call's own, for the other function.
fn parts(request: &Request<impl Sized>, mirror: &Mirror, trace: Option<Carried>) -> Option<Parts> {
    let (_, rest) = target::split(request.uri().path())?;
    let path = format!("{}{}{rest}", target::FUNCTION_PREFIX, mirror.target.function);
    let mut copy = Request::new(());
    *copy.method_mut() = request.method().clone();
    *copy.version_mut() = request.version();
    *copy.uri_mut() = way::with_path(request.uri(), &path)?;
    copy.headers_mut().clone_from(request.headers());
    // Its body has a length of its own.
    copy.headers_mut().remove(header::CONTENT_LENGTH);
    copy.headers_mut().remove(header::TRANSFER_ENCODING);
    if let Some(trace) = trace {
        headers::set_trace(copy.headers_mut(), trace, None);
    }
    Some(copy.into_parts().0)
}

/// Counts a copy that was not made, once the function is known.
fn dropped(snapshot: &Snapshot, mirror: &Mirror, reason: &'static str) {
    tracing::debug!(function = mirror.target.function, reason, "call not copied");
    let function = snapshot.functions.get(&mirror.target.key);
    if let Some(metrics) = function.as_ref().and_then(|function| function.metrics.as_ref()) {
        metrics.refused(reason);
    }
}

impl Copying {
    /// The call went out to its function.
    pub(super) fn forwarded(&self) {
        let mut state = self.state();
        state.forwarded = true;
        send_when_ready(&mut state);
    }

    fn received(&self, data: &Bytes) {
        let mut state = self.state();
        if (state.bytes.len() + data.len()) as u64 <= self.max_body {
            state.bytes.extend_from_slice(data);
            return;
        }
        state.bytes = BytesMut::new();
        if let Some(sending) = state.sending.take()
            && let Some(mirror) = &sending.route.mirror
        {
            dropped(&sending.snapshot, mirror, TOO_LARGE);
        }
    }

    fn ended(&self) {
        let mut state = self.state();
        state.complete = true;
        send_when_ready(&mut state);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn send_when_ready(state: &mut State) {
    if state.forwarded
        && state.complete
        && let Some(sending) = state.sending.take()
    {
        sending.send(std::mem::take(&mut state.bytes).freeze());
    }
}

impl Sending {
    /// Calls the other function, in a task of its own that ends with the answer.
    fn send(self, body: Bytes) {
        let tasks = self.service.tasks.clone();
        tasks.spawn(async move {
            let Self {
                service,
                snapshot,
                route,
                parts,
                peer,
                _place,
            } = self;
            let Some(mirror) = &route.mirror else { return };
            let called = Called::ByRoute(ByRoute {
                key: Arc::clone(&mirror.target.key),
                route: Arc::clone(&route),
            });
            let request = Request::from_parts(parts, RequestBody::Kept(Full::new(body)));
            let mut record = Record::new(&snapshot, Kind::Mirror, &request, peer, Instant::now());
            record.route(&route);
            let form = Form::wanted(request.version(), request.headers());
            let answer = invoke::call(snapshot, &service, Box::new(request), &called, record, peer, form).await;
            let mut answer = answer.into_body();
            // To its end, which is what its time and size are counted by.
            while let Some(Ok(_)) = answer.frame().await {}
        });
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.get_mut() {
            Self::Received(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Kept(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|never: Infallible| match never {}),
            Self::Copied(body, copying) => {
                let frame = std::task::ready!(Pin::new(&mut *body).poll_frame(cx));
                match &frame {
                    Some(Ok(frame)) => {
                        if let Some(data) = frame.data_ref() {
                            copying.received(data);
                        }
                        if body.is_end_stream() {
                            copying.ended();
                        }
                    }
                    None => copying.ended(),
                    Some(Err(_)) => {}
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Received(body) | Self::Copied(body, _) => body.is_end_stream(),
            Self::Kept(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Received(body) | Self::Copied(body, _) => body.size_hint(),
            Self::Kept(body) => body.size_hint(),
        }
    }
}
