//! Where a call is sent: endpoints, their connections, and the path they see.
//!
//! An [`Endpoint`] owns the idle connections to one address, so carrying the
//! endpoint from one snapshot to the next carries its pool. Providers create
//! endpoints; [`crate::proxy`] sends requests over them. Nothing here looks at
//! a request's meaning.

use std::sync::Arc;

mod choice;
mod connect;
mod driven;
mod fate;
mod health;
mod idle;
mod life;
mod multiplexed;
mod plain;
mod pool;
mod pools;
mod preface;
mod replay;
mod turns;
mod ways;

pub use choice::choose;
pub use connect::{Address, ConnectError, TlsConfig};
pub use driven::AnswerBody;
pub use health::Health;
pub use plain::PlainConnection;
pub use pool::{Body, BoxError, Endpoint, InFlight, PoolLimits, Protocol, SendError, SendFailure};
pub use pools::{Connections, Pools};
pub use replay::BodyError;

/// Where one call goes and which path the function sees.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// The address and its connections.
    pub endpoint: Arc<Endpoint>,
    /// Which path to ask for.
    pub path: PathForm,
}

/// Which path an upstream sees for `/function/NAME/rest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathForm {
    /// The path as received, below a base path without trailing slash
    /// (`""` or `/base`): what a provider's own `/function/` route expects.
    Full {
        /// Put before the received path.
        base: Arc<str>,
    },
    /// `/rest`: what a function expects.
    Trimmed,
}
