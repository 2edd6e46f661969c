//! The client that progenitor makes of `openapi/openapi.json`, as it comes: see
//! `build.rs`. Added is only a place for those who want to see every answer.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use progenitor_client::{ClientHooks, ClientInfo as _, OperationInfo};
use reqwest::{Request, Response, Result};

pub use generated::{ByteStream, Client, Error, ResponseValue, builder, prelude, types};

#[allow(
    missing_docs,
    unreachable_patterns,
    unused_imports,
    clippy::all,
    clippy::pedantic,
    reason = "generated"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/client.rs"));
}

/// What comes of a request.
pub type Sent = Pin<Box<dyn Future<Output = Result<Response>> + Send>>;

/// How requests are sent: by the client itself, or by a function that looks at
/// them and at their answers.
#[derive(Clone, Default)]
pub struct Sender(Option<Arc<dyn Fn(reqwest::Client, Request) -> Sent + Send + Sync>>);

impl Sender {
    /// Sends by this function, which gets the client to send with.
    pub fn by(send: impl Fn(reqwest::Client, Request) -> Sent + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(send)))
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sender").field(&self.0.is_some()).finish()
    }
}

impl ClientHooks<Sender> for Client {
    async fn exec(&self, request: Request, _: &OperationInfo) -> Result<Response> {
        match &self.inner().0 {
            Some(send) => send(self.client().clone(), request).await,
            None => self.client().execute(request).await,
        }
    }
}
