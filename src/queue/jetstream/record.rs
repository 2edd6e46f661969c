//! What is known of a job beside its message: where it stands and how its tries
//! went. One JSON text for each job, written over with each step.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    model::FunctionRef,
    queue::{Answer, Entry, Job, Lane, State, Target, attempts, fields, time},
};

/// A job's record. Times are microseconds since 1970.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) url: Option<String>,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) callback: Option<String>,
    pub(super) key: Option<String>,
    pub(super) created: i64,
    pub(super) due: i64,
    /// A [`State`] by name.
    pub(super) state: String,
    pub(super) tries: u32,
    pub(super) attempts: String,
    pub(super) finished: Option<i64>,
    /// Status, header fields and whether the body is truncated; the body is by itself.
    pub(super) answer: Option<(u16, String, bool)>,
    /// How often it was driven again.
    pub(super) run: u32,
    /// The number of its message in the stream of work.
    pub(super) message: u64,
    /// Bytes of its body.
    pub(super) bytes: u64,
    /// Whether its body is in an object.
    pub(super) has_object: bool,
}

impl Record {
    /// A job that was sent as the message of this number.
    pub(super) fn new(job: &Job, message: u64, has_object: bool) -> Self {
        Self {
            id: job.id.clone(),
            name: job.function.name.clone(),
            namespace: job.function.namespace.clone(),
            url: match &job.target {
                Target::Function => None,
                Target::Url(url) => Some(url.clone()),
            },
            path: job.path.clone(),
            query: job.query.clone(),
            callback: job.callback.clone(),
            key: job.idempotency_key.clone(),
            created: job.created.timestamp_micros(),
            due: job.due.timestamp_micros(),
            state: State::Queued.as_str().to_owned(),
            tries: 0,
            attempts: "[]".to_owned(),
            finished: None,
            answer: None,
            run: 0,
            message,
            bytes: job.body.len() as u64,
            has_object,
        }
    }

    /// The same job at the beginning of another run.
    pub(super) fn again(&self, run: u32, message: u64, now: DateTime<Utc>) -> Self {
        Self {
            created: now.timestamp_micros(),
            due: now.timestamp_micros(),
            state: State::Queued.as_str().to_owned(),
            tries: 0,
            attempts: "[]".to_owned(),
            finished: None,
            answer: None,
            run,
            message,
            ..self.clone()
        }
    }

    pub(super) fn state(&self) -> State {
        State::of(&self.state).unwrap_or(State::Failed)
    }

    pub(super) fn set_state(&mut self, state: State) {
        state.as_str().clone_into(&mut self.state);
    }

    pub(super) fn function(&self) -> FunctionRef {
        FunctionRef::new(&*self.name, &*self.namespace)
    }

    pub(super) fn lane(&self) -> Lane {
        match &self.url {
            None => Lane::Function(self.function()),
            Some(url) => Lane::to_url(url),
        }
    }

    pub(super) fn due(&self) -> DateTime<Utc> {
        time(self.due)
    }

    /// For whoever asks, with the body of its answer.
    pub(super) fn entry(&self, body: Bytes) -> Entry {
        Entry {
            job: Job {
                id: self.id.clone(),
                function: self.function(),
                target: self.url.clone().map_or(Target::Function, Target::Url),
                path: self.path.clone(),
                query: self.query.clone(),
                headers: Vec::new(),
                body: Bytes::new(),
                callback: self.callback.clone(),
                idempotency_key: self.key.clone(),
                created: time(self.created),
                due: time(self.due),
            },
            state: self.state(),
            attempts: attempts::parse(&self.attempts),
            finished: self.finished.map(time),
            answer: self.answer.as_ref().map(|(status, headers, truncated)| Answer {
                status: *status,
                headers: fields::parse(headers),
                body,
                truncated: *truncated,
            }),
        }
    }
}

/// A job of a test: a call of `f.fn`.
#[cfg(test)]
pub(super) fn job(at: DateTime<Utc>) -> Job {
    Job {
        id: "1".to_owned(),
        function: FunctionRef::new("f", "fn"),
        target: Target::Function,
        path: String::new(),
        query: String::new(),
        headers: Vec::new(),
        body: Bytes::new(),
        callback: None,
        idempotency_key: None,
        created: at,
        due: at,
    }
}
