//! What is kept of a request for the retries of its function.

use std::sync::Arc;

use bytes::Bytes;
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

/// The body to send, and what is kept of the request where it may be sent
/// again: its method is one that may, and its body is known to be small. Such a
/// body is read here to its end; any other is watched while it comes.
pub(super) async fn keep<B>(
    parts: &Parts,
    body: B,
    call: &Call<'_>,
) -> Result<(Option<Kept>, Body, Option<Arc<Upload>>), ForwardError>
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
    let kept = |body| Kept {
        parts: parts.clone(),
        body,
    };
    if body.is_end_stream() {
        return Ok((
            keep.then(|| kept(Bytes::new())),
            body.map_err(Into::into).boxed_unsync(),
            None,
        ));
    }
    let timed = |deadline| TimedBody::new(body, deadline, ()).limit(settings.max_request);
    if !keep {
        let (upload, body) = Upload::watch(timed(call.receive));
        return Ok((None, body.boxed_unsync(), Some(upload)));
    }
    let whole = timed(call.receive.or_earlier(call.answer)).collect().await;
    let bytes = whole.map_err(|error| unreadable(&*error))?.to_bytes();
    Ok((Some(kept(bytes.clone())), body::full(bytes), None))
}
