//! Where functions live and how to manage them.
//!
//! [`Provider`] is the one border between the gateway and whatever runs the
//! functions. Implementations are interchangeable: `tests/it/contract/provider.rs`
//! runs the same cases over all of them. Only [`crate::app`] knows which one
//! is in use.
//!
//! This module does not forward calls (see [`crate::proxy`]); it only says,
//! through [`Provider::upstream`], where a call should go.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use thiserror::Error;

use crate::{
    config,
    model::{
        FunctionDeployment, FunctionNamespace, FunctionRef, FunctionStatus, LogMessage, LogQuery, ProviderInfo, Secret,
    },
    upstream::{Connections, PoolLimits, Upstream},
};

pub mod memory;
pub mod process;
pub mod remote;
mod validate;

/// The bounds of `[invoke]` on an upstream's connections.
pub fn pool_limits(invoke: &config::Invoke) -> PoolLimits {
    PoolLimits {
        max_idle: invoke.max_idle_conns_per_host.min(invoke.max_idle_conns),
        idle_timeout: invoke.idle_conn_timeout,
        connect_timeout: invoke.connect_timeout,
        max_conns: invoke.max_conns_per_host,
        max_age: invoke.max_conn_age,
    }
}

/// A stream of log lines; ends when the query is answered, or never with `follow`.
pub type LogStream = BoxStream<'static, Result<LogMessage, ProviderError>>;

/// A list of functions, for those who read it again and again: one that is as it was
/// before is the same list, so that nobody looks through it again.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// The functions, in name order.
    pub functions: Arc<[FunctionStatus]>,
    /// What it was read from, where that was a text.
    text: Bytes,
}

/// What every provider operation returns.
pub type Result<T, E = ProviderError> = std::result::Result<T, E>;

/// Why a provider operation failed. `api/error.rs` maps each to a status.
#[derive(Debug, Clone, Error)]
pub enum ProviderError {
    /// The function, secret or namespace does not exist. 404.
    #[error("{0}")]
    NotFound(String),
    /// It exists already, or is in use. 409.
    #[error("{0}")]
    Conflict(String),
    /// The request is wrong; the text says how. 400.
    #[error("{0}")]
    Invalid(String),
    /// The provider has no such operation. 501.
    #[error("{0}")]
    Unsupported(String),
    /// The function exists but no replica can take a call now. 503 with `Retry-After`.
    #[error("{reason}")]
    NotReady {
        /// Why, for the caller.
        reason: String,
        /// When trying again makes sense.
        retry_after: Duration,
        /// The configuration key that ended the wait, where one did.
        setting: Option<&'static str>,
    },
    /// The provider could not be reached. 502.
    #[error("{0}")]
    Unreachable(String),
    /// The provider did not answer within `setting`. 504.
    #[error("the provider did not answer within {setting} ({after:?})")]
    Timeout {
        /// The configuration key that fired.
        setting: &'static str,
        /// Its value.
        after: Duration,
    },
    /// A remote provider answered with a status of its own, passed on as it is.
    #[error("{body}")]
    Answered {
        /// The provider's status.
        status: u16,
        /// The provider's text.
        body: String,
        /// The provider's `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// Something on our side failed. 500.
    #[error("{0}")]
    Internal(String),
}

impl ProviderError {
    /// The usual text for an unknown function.
    pub fn unknown_function(function: &FunctionRef) -> Self {
        Self::NotFound(format!("function {function} not found"))
    }
}

/// Where functions live and how to manage them.
///
/// Namespaces: every operation that takes one accepts the empty string for the
/// provider's default ([`Provider::default_namespace`]).
///
/// Cancellation: dropping a returned future may leave the operation half done
/// in the caller's eyes but never leaves half-written state.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// Functions of a namespace, in name order.
    async fn list(&self, namespace: &str) -> Result<Vec<FunctionStatus>>;

    /// The same, for who has read it `before`; if nothing has changed, that list.
    async fn list_again(&self, namespace: &str, before: &Listing) -> Result<Listing> {
        let functions = self.list(namespace).await?;
        if *functions == *before.functions {
            return Ok(before.clone());
        }
        Ok(Listing {
            functions: functions.into(),
            text: Bytes::new(),
        })
    }

    /// One function; `usage` asks for processor and memory use too.
    async fn status(&self, function: &FunctionRef, usage: bool) -> Result<FunctionStatus>;

    /// Creates a function; one that exists already is replaced, as OpenFaaS
    /// providers do.
    async fn deploy(&self, deployment: FunctionDeployment) -> Result<()>;

    /// Whether somebody who chooses a function from a list could deploy it here, as far
    /// as that can be told without doing it. May look at the disk, so it may block.
    ///
    /// # Errors
    /// Why not.
    fn could_run(&self, _deployment: &FunctionDeployment) -> Result<()> {
        Ok(())
    }

    /// Replaces an existing function without dropping calls; `NotFound` otherwise.
    async fn update(&self, deployment: FunctionDeployment) -> Result<()>;

    /// Removes a function; `NotFound` when there is none.
    async fn delete(&self, function: &FunctionRef) -> Result<()>;

    /// Sets the number of replicas; 0 stops the function.
    async fn scale(&self, function: &FunctionRef, replicas: u64) -> Result<()>;

    /// Log lines of a function's replicas. `NotFound` when there is no such function.
    async fn logs(&self, query: LogQuery) -> Result<LogStream>;

    /// Secrets of a namespace, without values, in name order.
    async fn list_secrets(&self, namespace: &str) -> Result<Vec<Secret>>;

    /// Stores a new secret; `Conflict` when it exists.
    async fn create_secret(&self, secret: Secret) -> Result<()>;

    /// Replaces a secret; `NotFound` when there is none.
    async fn update_secret(&self, secret: Secret) -> Result<()>;

    /// Removes a secret; `NotFound` when there is none.
    async fn delete_secret(&self, name: &str, namespace: &str) -> Result<()>;

    /// Names of all namespaces, in order.
    async fn list_namespaces(&self) -> Result<Vec<String>>;

    /// One namespace with labels and annotations.
    async fn namespace(&self, name: &str) -> Result<FunctionNamespace>;

    /// Creates a namespace; `Conflict` when it exists.
    async fn create_namespace(&self, namespace: FunctionNamespace) -> Result<()>;

    /// Replaces a namespace's labels and annotations.
    async fn update_namespace(&self, namespace: FunctionNamespace) -> Result<()>;

    /// Removes a namespace and the functions and secrets in it.
    async fn delete_namespace(&self, name: &str) -> Result<()>;

    /// Name and version of the provider.
    async fn info(&self) -> Result<ProviderInfo>;

    /// Whether the provider can work now.
    async fn health(&self) -> Result<()>;

    /// The provider's telemetry document, where it has one.
    async fn telemetry(&self) -> Result<serde_json::Value> {
        Err(ProviderError::Unsupported("this provider has no telemetry".to_owned()))
    }

    /// Where an invocation should be sent right now. Called for every call, so
    /// it must be cheap: a look-up, no I/O, no waiting.
    ///
    /// # Errors
    /// `NotFound` for a function known not to exist, `NotReady` when it has no
    /// ready replica. A remote provider that is asked about an unknown name
    /// answers with itself: the call will tell.
    fn upstream(&self, function: &FunctionRef) -> Result<Upstream>;

    /// Whether [`Provider::upstream`] knows which functions exist and which
    /// have a ready replica. Without it the gateway asks for the status.
    fn tracks_replicas(&self) -> bool {
        true
    }

    /// Whether calls go to the functions themselves, so that what they say about
    /// how they are called counts, and not to somebody who passes them on.
    fn calls_functions(&self) -> bool {
        true
    }

    /// Namespace of functions named without one; may be empty.
    fn default_namespace(&self) -> &str;

    /// The connections that calls use. Providers that have none of their own
    /// say nothing.
    fn connections(&self) -> Connections {
        Connections::default()
    }

    /// Resolves when something about a function changed that a waiting call
    /// would want to know (a replica became ready). Providers that cannot tell
    /// never resolve; callers poll as well.
    async fn changed(&self) {
        std::future::pending::<()>().await;
    }

    /// Stops background work and, where the provider owns them, the functions'
    /// processes. Called once, at shutdown or when a reload replaced the provider.
    async fn close(&self) {}
}
