//! What is kept of a request for the retries of its function.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, request::Parts};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;

use super::{
    Call, ForwardError,
    body::{self, TimedBody},
    forward::unreadable,
    upload::Upload,
};
use crate::upstream::{Body, BoxError};

/// A request that can be sent again after an upstream may have seen it.
pub(super) struct Kept {
    parts: Parts,
    body: Bytes,
}

impl Kept {
    /// The request once more.
    pub(super) fn request(&self) -> Request<Body> {
        Request::from_parts(self.parts.clone(), body::full(self.body.clone()))
    }
}

/// What is kept of the request where it may be sent again, the body to send, and
/// who watches that while it comes.
type Sent = (Option<Box<Kept>>, Body, Option<Arc<Upload>>);

/// What becomes of a request's body before it is sent.
pub(super) enum Keep<'c> {
    /// Nothing has to be waited for.
    Now(Sent),
    /// It is read to its end first.
    Read(BoxFuture<'c, Result<Sent, ForwardError>>),
}

/// The body to send, and what is kept of the request where it may be sent
/// again: its method is one that may, and its body is known to be small. Such a
/// body is read to its end; any other is watched while it comes.
pub(super) fn keep<'c, B>(parts: &'c Parts, body: B, call: &'c Call<'_>) -> Keep<'c>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let settings = call.settings;
    let small = |max| body.is_end_stream() || body.size_hint().exact().is_some_and(|length| length <= max);
    let keep = settings
        .retries
        .as_ref()
        .is_some_and(|retries| retries.methods.contains(&parts.method) && small(retries.max_body));
    let kept = |body| {
        let parts = parts.clone();
        Box::new(Kept { parts, body })
    };
    if body.is_end_stream() {
        let kept = keep.then(|| kept(Bytes::new()));
        return Keep::Now((kept, body.map_err(Into::into).boxed_unsync(), None));
    }
    let timed = |deadline| TimedBody::new(body, deadline, ()).limit(settings.max_request);
    if !keep {
        let (upload, body) = Upload::watch(timed(call.receive));
        return Keep::Now((None, body.boxed_unsync(), Some(upload)));
    }
    let whole = timed(call.receive.or_earlier(call.answer));
    Keep::Read(Box::pin(async move {
        let whole = whole.collect().await;
        let bytes = whole.map_err(|error| unreadable(&*error))?.to_bytes();
        Ok((Some(kept(bytes.clone())), body::full(bytes), None))
    }))
}
