//! What the API says about asynchronous calls. Not OpenFaaS's, which says nothing.

use std::collections::BTreeMap;

use poem_openapi::Object;

use super::wire::{Amount, Timestamp};

/// An asynchronous call.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(rename = "AsyncCall", rename_all = "camelCase")]
pub struct AsyncCall {
    /// Its call id.
    pub id: String,
    /// Name of the function, without its namespace.
    pub function: String,
    /// Namespace of the function.
    pub namespace: String,
    /// `queued`, `running`, `retrying`, `succeeded`, `failed` (the function answered with a status that is not tried again), `cancelled`, or `dead` (tried as often or as long as it may be).
    pub state: String,
    /// The path after the function's name.
    pub path: String,
    /// The query, without `?`.
    pub query: String,
    /// When it was taken.
    pub created: Timestamp,
    /// When it runs next, at the earliest; absent once it has ended.
    #[oai(skip_serializing_if_is_none)]
    pub due: Option<Timestamp>,
    /// When it ended.
    #[oai(skip_serializing_if_is_none)]
    pub finished: Option<Timestamp>,
    /// Where its answer is sent, without user name, password and query.
    #[oai(skip_serializing_if_is_none)]
    pub callback_url: Option<String>,
    /// Where this goes in place of the function, whose answer to another call it is; without user name, password and query.
    #[oai(skip_serializing_if_is_none)]
    pub target_url: Option<String>,
    /// Its tries, the first one first.
    pub attempts: Vec<AsyncAttempt>,
    /// The answer to the last try, once it has ended, for a while.
    #[oai(skip_serializing_if_is_none)]
    pub result: Option<AsyncResult>,
}

/// A try.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(rename = "AsyncAttempt", rename_all = "camelCase")]
pub struct AsyncAttempt {
    /// When it began.
    pub started: Timestamp,
    /// How long it took, in seconds.
    pub duration_seconds: Amount,
    /// The status of the answer; absent without one.
    #[oai(skip_serializing_if_is_none)]
    pub status: Option<u16>,
    /// Why there was no answer, or whose it was instead of the function's.
    #[oai(skip_serializing_if_is_none)]
    pub error: Option<String>,
}

/// An answer that was kept.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(rename = "AsyncResult", rename_all = "camelCase")]
pub struct AsyncResult {
    /// Its status.
    pub status: u16,
    /// Its header fields by name.
    pub headers: BTreeMap<String, Vec<String>>,
    /// Its body, where that is text; absent in lists.
    #[oai(skip_serializing_if_is_none)]
    pub body: Option<String>,
    /// Its body in base64, where it is no text; absent in lists.
    #[oai(skip_serializing_if_is_none)]
    pub body_base64: Option<String>,
    /// Whether the body was longer than what is kept (`queue.max_result`).
    pub truncated: bool,
}

/// A part of the list of asynchronous calls.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(rename = "AsyncCalls")]
pub struct AsyncCalls {
    /// The calls, the newest first.
    pub calls: Vec<AsyncCall>,
    /// What to give as `after` for the next part; absent at the end.
    #[oai(skip_serializing_if_is_none)]
    pub next: Option<String>,
}

/// How many asynchronous calls there are.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(rename = "AsyncStatus")]
pub struct AsyncStatus {
    /// By function and state.
    pub counts: Vec<AsyncCount>,
    /// Whether no call is made.
    pub paused: bool,
    /// Functions whose calls are not made, as `name.namespace`.
    pub paused_functions: Vec<String>,
}

/// Asynchronous calls of one function in one state.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(rename = "AsyncCount")]
pub struct AsyncCount {
    /// Name of the function, without its namespace.
    pub function: String,
    /// Namespace of the function.
    pub namespace: String,
    /// The state.
    pub state: String,
    /// How many.
    pub calls: u64,
}

/// How many calls something was done to.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
#[oai(rename = "AsyncDone")]
pub struct AsyncDone {
    /// How many.
    pub calls: u64,
}
