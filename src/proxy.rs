//! The road a call takes: one request to one upstream and its answer back.
//!
//! Bodies stream both ways, frame by frame, trailers included; nothing is
//! buffered but small request bodies of functions with retries. What to call and
//! whether it may be called is decided before (routing, authentication, scaling);
//! this module turns a request and an [`Upstream`](crate::upstream::Upstream)
//! into a response or a [`ForwardError`].
//!
//! It knows nothing of poem, so the asynchronous worker can use it too.

pub mod body;
pub mod compression;
pub mod fast;
mod forward;
pub mod headers;
mod keep;
pub mod protocol;
pub mod retry;
pub mod target;
pub mod upgrade;
mod upload;

pub use forward::{Answer, Call, ForwardError, Guards, Switched, connect_again, elsewhere, forward, note};
