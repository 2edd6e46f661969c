//! `/system/async`: what became of asynchronous calls, and what is to become of
//! them. Calls come in and are taken back at `/async-function`.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use poem::http::StatusCode;
use poem_openapi::{
    OpenApi,
    param::{Path, Query},
};
use url::Url;

use super::{
    Tag,
    admitted::Admitted,
    error::{ApiError, Queueing},
    parameter::{CallState, Last, Limit, MOST, NameOrNone, Text, text},
    payload::{Accepted, Json},
    target,
};
use crate::{
    model::{
        Amount, AsyncAttempt, AsyncCall, AsyncCalls, AsyncCount, AsyncDone, AsyncResult, AsyncStatus, FunctionRef,
        Timestamp,
    },
    problem::Problem,
    queue::{Answer, Entry, Filter, State, Target},
    snapshot::Snapshot,
};

/// Calls of one part of a list.
const PAGE: u32 = 50;

pub(super) struct AsyncApi;

type Answered<T> = Result<T, ApiError<Queueing>>;

#[OpenApi(tag = "Tag::Async")]
impl AsyncApi {
    /// List asynchronous calls
    ///
    /// The newest first, without bodies.
    #[oai(path = "/system/async", method = "get", operation_id = "listAsyncCalls")]
    async fn list(
        &self,
        Admitted(snapshot): Admitted,
        /// Calls of this function only, `name` or `name.namespace`.
        function: Query<Option<Last<NameOrNone>>>,
        /// Calls in this state only.
        state: Query<Option<Last<CallState>>>,
        /// Where the part before ended.
        after: Query<Option<Last<Text>>>,
        /// How many calls; 50 without it, at most 500.
        limit: Query<Option<Last<Limit>>>,
    ) -> Answered<Json<AsyncCalls>> {
        let filter = filter(&snapshot, text(function.0).as_deref(), text(state.0).as_deref())?;
        let limit = match text(limit.0).as_deref() {
            None => PAGE,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=MOST).contains(limit))
                .ok_or_else(|| bad(format!("`limit` must be a number from 1 to {MOST}")))?,
        };
        let page = snapshot.queue.list(&filter, text(after.0).as_deref(), limit).await?;
        Ok(Json(AsyncCalls {
            calls: page.entries.into_iter().map(|entry| call(entry, false)).collect(),
            next: page.next,
        }))
    }

    /// Forget asynchronous calls
    ///
    /// Removes calls that have ended, with their results: of a function, in a
    /// state, or all.
    #[oai(path = "/system/async", method = "delete", operation_id = "purgeAsyncCalls")]
    async fn purge(
        &self,
        Admitted(snapshot): Admitted,
        /// Calls of this function only, `name` or `name.namespace`.
        function: Query<Option<Last<NameOrNone>>>,
        /// Calls in this state only.
        state: Query<Option<Last<CallState>>>,
    ) -> Answered<Json<AsyncDone>> {
        let filter = filter(&snapshot, text(function.0).as_deref(), text(state.0).as_deref())?;
        let calls = snapshot.queue.purge(&filter).await?;
        Ok(Json(AsyncDone { calls }))
    }

    /// Status and result of an asynchronous call
    ///
    /// With the body of the answer, which lists leave out.
    #[oai(path = "/system/async/:id", method = "get", operation_id = "getAsyncCall")]
    async fn get(
        &self,
        Admitted(snapshot): Admitted,
        /// The call id.
        id: Path<String>,
    ) -> Answered<Json<AsyncCall>> {
        Ok(Json(call(snapshot.queue.get(&id.0).await?, true)))
    }

    /// Make an asynchronous call again
    ///
    /// One that is dead, failed or cancelled, with all its tries.
    #[oai(
        path = "/system/async/:id/redrive",
        method = "post",
        operation_id = "redriveAsyncCall"
    )]
    async fn redrive(
        &self,
        Admitted(snapshot): Admitted,
        /// The call id.
        id: Path<String>,
    ) -> Answered<Accepted> {
        snapshot.queue.redrive(&id.0).await?;
        Ok(Accepted::Accepted)
    }

    /// Make many asynchronous calls again
    ///
    /// Those that are dead, or in the state named: dead, failed or cancelled.
    #[oai(path = "/system/async-redrive", method = "post", operation_id = "redriveAsyncCalls")]
    async fn redrive_all(
        &self,
        Admitted(snapshot): Admitted,
        /// Calls of this function only, `name` or `name.namespace`.
        function: Query<Option<Last<NameOrNone>>>,
        /// Calls in this state.
        state: Query<Option<Last<CallState>>>,
    ) -> Answered<Json<AsyncDone>> {
        let filter = filter(&snapshot, text(function.0).as_deref(), text(state.0).as_deref())?;
        let calls = snapshot.queue.redrive_all(&filter).await?;
        Ok(Json(AsyncDone { calls }))
    }

    /// Numbers of asynchronous calls
    ///
    /// By function and state, and what is paused.
    #[oai(path = "/system/async-status", method = "get", operation_id = "getAsyncStatus")]
    async fn status(&self, Admitted(snapshot): Admitted) -> Answered<Json<AsyncStatus>> {
        let counts = snapshot.queue.counts().await?;
        let (functions, paused) = snapshot.queue.paused();
        Ok(Json(AsyncStatus {
            counts: counts
                .into_iter()
                .map(|count| AsyncCount {
                    function: count.function.name,
                    namespace: count.function.namespace,
                    state: count.state.as_str().to_owned(),
                    calls: count.jobs,
                })
                .collect(),
            paused,
            paused_functions: functions.iter().map(ToString::to_string).collect(),
        }))
    }

    /// Pause asynchronous calls
    ///
    /// Calls are still taken, and none is made: of a function, or of all.
    #[oai(path = "/system/async-pause", method = "post", operation_id = "pauseAsyncCalls")]
    async fn pause(
        &self,
        Admitted(snapshot): Admitted,
        /// Calls of this function only, `name` or `name.namespace`.
        function: Query<Option<Last<NameOrNone>>>,
    ) -> Answered<Accepted> {
        set_paused(&snapshot, text(function.0).as_deref(), true).await
    }

    /// Resume asynchronous calls
    ///
    /// Of a function, or of all. What waited is made as fast as is permitted.
    #[oai(path = "/system/async-resume", method = "post", operation_id = "resumeAsyncCalls")]
    async fn resume(
        &self,
        Admitted(snapshot): Admitted,
        /// Calls of this function only, `name` or `name.namespace`.
        function: Query<Option<Last<NameOrNone>>>,
    ) -> Answered<Accepted> {
        set_paused(&snapshot, text(function.0).as_deref(), false).await
    }
}

async fn set_paused(snapshot: &Snapshot, function: Option<&str>, paused: bool) -> Answered<Accepted> {
    let function = function.map(|name| named(snapshot, name)).transpose()?;
    snapshot.queue.pause(function.as_ref(), paused).await?;
    Ok(Accepted::Accepted)
}

fn bad(text: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, text)
}

fn named(snapshot: &Snapshot, name: &str) -> Result<FunctionRef, Problem> {
    // As calls are kept: without a namespace it is the configuration's.
    target::in_body("function", name, &[], snapshot.config.default_namespace())
}

fn filter(snapshot: &Snapshot, function: Option<&str>, state: Option<&str>) -> Result<Filter, Problem> {
    let state = match state {
        None => None,
        Some(name) => Some(State::of(name).ok_or_else(|| {
            let known: Vec<_> = State::ALL.into_iter().map(State::as_str).collect();
            bad(format!("`state` must be one of {}", known.join(", ")))
        })?),
    };
    Ok(Filter {
        function: function.map(|name| named(snapshot, name)).transpose()?,
        state,
    })
}

fn call(entry: Entry, with_body: bool) -> AsyncCall {
    let is_final = entry.state.is_final();
    AsyncCall {
        id: entry.job.id,
        function: entry.job.function.name,
        namespace: entry.job.function.namespace,
        state: entry.state.as_str().to_owned(),
        path: entry.job.path,
        query: entry.job.query,
        created: Timestamp(entry.job.created),
        due: (!is_final).then_some(Timestamp(entry.job.due)),
        finished: entry.finished.map(Timestamp),
        callback_url: entry.job.callback.as_deref().map(shown),
        target_url: match &entry.job.target {
            Target::Function => None,
            Target::Url(url) => Some(shown(url)),
        },
        attempts: entry
            .attempts
            .into_iter()
            .map(|attempt| AsyncAttempt {
                started: Timestamp(attempt.started),
                duration_seconds: Amount(attempt.took.as_secs_f64()),
                status: attempt.status,
                error: attempt.error,
            })
            .collect(),
        result: entry
            .answer
            .filter(|_| is_final)
            .map(|answer| result(answer, with_body)),
    }
}

/// A URL without what may be a secret.
fn shown(url: &str) -> String {
    let Ok(mut url) = Url::parse(url) else {
        return String::new();
    };
    // Fail only for URLs without a host, which have neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

fn result(answer: Answer, with_body: bool) -> AsyncResult {
    let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in answer.headers {
        let value = String::from_utf8_lossy(&value).into_owned();
        headers.entry(name).or_default().push(value);
    }
    let text = String::from_utf8(answer.body.to_vec()).ok();
    let base64 = text.is_none().then(|| BASE64_STANDARD.encode(&answer.body));
    AsyncResult {
        status: answer.status,
        headers,
        body: text.filter(|_| with_body),
        body_base64: base64.filter(|_| with_body),
        truncated: answer.truncated,
    }
}
