//! Asynchronous calls: kept until they are done, tried again, and remembered for
//! whoever asks what became of them.
//!
//! [`Queue`] is the one border between the gateway and whatever keeps the jobs.
//! What happens to a job after a try is decided by the pure functions of
//! [`retry`]; which job is next by [`schedule`]; how many of a function's run at
//! a time by [`limiter`]. Nothing here calls functions.

use std::{collections::HashMap, fmt, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use thiserror::Error;
use url::Url;

use crate::model::FunctionRef;

pub mod attempts;
pub mod cron;
pub mod embedded;
pub mod fields;
pub mod heard;
pub mod jetstream;
pub mod limiter;
pub mod offline;
pub mod retry;
pub mod schedule;
pub mod settings;

use fields::Fields;

/// Where a job goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// To its function.
    Function,
    /// To a URL, which is to know what became of a call of the function.
    Url(String),
}

/// Jobs that take turns with others, and are bounded, together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Calls of a function.
    Function(FunctionRef),
    /// Whatever goes to a host, which may be slow.
    Host(String),
    /// Everything, where it is made in the order in which it came.
    All,
}

/// A call to make.
#[derive(Clone, PartialEq, Eq)]
pub struct Job {
    /// Its call id, which is its name.
    pub id: String,
    /// The function that it calls, or whose answer it takes to a URL.
    pub function: FunctionRef,
    /// Where it goes.
    pub target: Target,
    /// The path after the function's name, as it was sent; may be empty.
    pub path: String,
    /// The query, as it was sent, without `?`; may be empty.
    pub query: String,
    /// The header fields for the function, in order.
    pub headers: Fields,
    /// The body.
    pub body: Bytes,
    /// Where the answer goes.
    pub callback: Option<String>,
    /// What makes the same call of the same function the same job.
    pub idempotency_key: Option<String>,
    /// When it was taken.
    pub created: DateTime<Utc>,
    /// When it is to run, at the earliest.
    pub due: DateTime<Utc>,
}

impl Lane {
    /// Of what goes to a URL.
    pub fn to_url(url: &str) -> Self {
        let url = Url::parse(url).ok();
        Self::Host(url.as_ref().and_then(Url::host_str).unwrap_or_default().to_owned())
    }
}

impl Job {
    /// Where it stands in line.
    pub fn lane(&self) -> Lane {
        match self.target {
            Target::Function => Lane::Function(self.function.clone()),
            Target::Url(ref url) => Lane::to_url(url),
        }
    }
}

/// Without headers and body, which may hold secrets.
impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Job({} for {}, {} bytes)", self.id, self.function, self.body.len())
    }
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// It waits to run for the first time.
    Queued,
    /// It runs.
    Running,
    /// It waits to run again.
    Retrying,
    /// The function answered with 2xx or 3xx.
    Succeeded,
    /// The function answered with a status that is not tried again.
    Failed,
    /// Somebody took it back.
    Cancelled,
    /// It was tried as often, or as long, as it may be.
    Dead,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Running,
        Self::Retrying,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Dead,
    ];

    /// As the API and the store name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Dead => "dead",
        }
    }

    /// The state of a name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether nothing more happens to it by itself.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running | Self::Retrying)
    }
}

/// One try of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// When it began.
    pub started: DateTime<Utc>,
    /// How long it took.
    pub took: Duration,
    /// The status of the answer; `None` without one.
    pub status: Option<u16>,
    /// Why there was none, or why it does not count.
    pub error: Option<String>,
}

/// An answer that is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its header fields, in order.
    pub headers: Fields,
    /// Its body, up to a bound.
    pub body: Bytes,
    /// Whether the body was longer than what is kept.
    pub truncated: bool,
}

/// Without headers and body, which may hold secrets.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({}, {} bytes)", self.status, self.body.len())
    }
}

/// Everything about a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The call.
    pub job: Job,
    /// Where it stands.
    pub state: State,
    /// Its tries, the first one first.
    pub attempts: Vec<Attempt>,
    /// When it ended.
    pub finished: Option<DateTime<Utc>>,
    /// The answer to its last try, once it has ended.
    pub answer: Option<Answer>,
}

/// What a finished try makes of its job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    /// It has ended so.
    End(State),
    /// It is tried again at that time.
    Again(DateTime<Utc>),
}

/// A job that whoever took it makes now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The job.
    pub job: Job,
    /// How often it was tried.
    pub tries: u32,
    /// Why it can never be made, though it was kept: what kept it has lost a part of
    /// it. It is to be ended without a try.
    pub lost: Option<String>,
}

/// A try that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// The try.
    pub attempt: Attempt,
    /// What it was answered with.
    pub answer: Option<Answer>,
    /// What it makes of the job.
    pub then: Then,
    /// Jobs that the end of this one gives rise to: kept together with it, or not
    /// at all. They are kept however full the queue is.
    pub follow: Vec<Job>,
}

/// Which jobs are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this function only.
    pub function: Option<FunctionRef>,
    /// In this state only.
    pub state: Option<State>,
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The jobs, the newest first, without bodies.
    pub entries: Vec<Entry>,
    /// What gets the next part; `None` at the end.
    pub next: Option<String>,
}

/// Jobs of one function by state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// The function.
    pub function: FunctionRef,
    /// The state.
    pub state: State,
    /// How many.
    pub jobs: u64,
}

/// Jobs of one function that are due and do not run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// How many.
    pub jobs: u64,
    /// Since when the first of them has been due.
    pub since: Option<DateTime<Utc>>,
}

impl Waiting {
    /// One more, due since then.
    fn add(&mut self, due: DateTime<Utc>) {
        self.jobs += 1;
        self.since = Some(self.since.map_or(due, |since| since.min(due)));
    }
}

/// How full a queue may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Jobs that have not ended.
    pub jobs: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

impl Bounds {
    /// Whether there is room for another job with a body of `more` bytes, beside so
    /// many jobs and bytes.
    ///
    /// # Errors
    /// `Full`, with the key.
    fn admit(self, jobs: u64, bytes: u64, more: u64) -> Result<(), QueueError> {
        let what = if jobs >= self.jobs {
            "queue.max_jobs"
        } else if bytes + more > self.bytes {
            "queue.max_bytes"
        } else {
            return Ok(());
        };
        Err(QueueError::Full { what })
    }
}

/// Why a queue did not do something.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QueueError {
    /// There is no such job. 404.
    #[error("there is no asynchronous call {0}; results are kept for a while only")]
    NotFound(String),
    /// The job is in a state in which this cannot be done. 409.
    #[error("{0}")]
    Conflict(String),
    /// It is full. 503.
    #[error("the queue is full: {what} is reached")]
    Full {
        /// The key that bounds it.
        what: &'static str,
    },
    /// It cannot be used now. 503.
    #[error("asynchronous calls cannot be kept: {0}")]
    Unavailable(String),
}

impl QueueError {
    /// A job that has ended cannot be taken back.
    fn has_ended(id: &str, state: &str) -> Self {
        Self::Conflict(format!("asynchronous call {id} has ended: it is {state}"))
    }

    /// Only what ended badly can be driven again.
    ///
    /// # Errors
    /// `Conflict`, with the state.
    fn unless_redrivable(id: &str, state: State) -> Result<(), Self> {
        if matches!(state, State::Dead | State::Failed | State::Cancelled) {
            return Ok(());
        }
        let state = state.as_str();
        Err(Self::Conflict(format!(
            "asynchronous call {id} is {state}, not dead, failed or cancelled"
        )))
    }
}

/// A time that was kept as microseconds since 1970.
fn time(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}

/// What publishing came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The job's id; another's, where the same call was published before.
    pub id: String,
    /// Whether it is a new job.
    pub is_new: bool,
}

/// How many jobs of a lane may run at a time, now.
pub trait Allowed: Sync {
    /// Of this one.
    fn allowed(&self, lane: &Lane) -> usize;

    /// How many more may run, of whatever lane.
    fn free(&self) -> usize;
}

/// Whatever keeps jobs.
#[async_trait]
pub trait Queue: Send + Sync + 'static {
    /// Keeps a job; it is durable when this returns.
    ///
    /// # Errors
    /// `Full` or `Unavailable`; then it is not kept.
    async fn publish(&self, job: Job) -> Result<Published, QueueError>;

    /// The next job that is due. Waits for one. Dropping the future loses none.
    async fn next(&self, allowed: &dyn Allowed) -> Claimed;

    /// Notes a try and what it makes of the job; it is durable when this returns.
    /// A job that was cancelled meanwhile stays so.
    ///
    /// # Errors
    /// `Unavailable`; then the job runs again.
    async fn finish(&self, id: &str, finished: Finished) -> Result<(), QueueError>;

    /// Everything about a job; the fields and the body of its request may be
    /// left out.
    async fn get(&self, id: &str) -> Result<Entry, QueueError>;

    /// Jobs, the newest first, from after `after` on.
    async fn list(&self, filter: &Filter, after: Option<&str>, limit: u32) -> Result<Page, QueueError>;

    /// Takes a job back. One that runs is to be stopped by who runs it: its
    /// [`Queue::cancelled`] says so.
    ///
    /// # Errors
    /// `Conflict` when it has ended.
    async fn cancel(&self, id: &str) -> Result<(), QueueError>;

    /// Resolves when a running job was cancelled.
    async fn cancelled(&self, id: &str);

    /// Lets a job that is dead, failed or cancelled run again, with all its tries.
    ///
    /// # Errors
    /// `Conflict` in any other state.
    async fn redrive(&self, id: &str) -> Result<(), QueueError>;

    /// Ids of jobs that a filter means, the oldest first.
    async fn ids(&self, filter: &Filter) -> Result<Vec<String>, QueueError>;

    /// Lets all jobs run again that a filter means, or of those the dead ones where it
    /// names no state; how many those are.
    async fn redrive_all(&self, filter: &Filter) -> Result<u64, QueueError> {
        let filter = Filter {
            state: Some(filter.state.unwrap_or(State::Dead)),
            ..filter.clone()
        };
        let mut count = 0;
        for id in self.ids(&filter).await? {
            match self.redrive(&id).await {
                Ok(()) => count += 1,
                // Somebody was faster.
                Err(QueueError::NotFound(_) | QueueError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }

    /// Forgets all jobs that have ended and that a filter means; how many those are.
    async fn purge(&self, filter: &Filter) -> Result<u64, QueueError>;

    /// Stops, or goes on with, taking jobs of a function; of all without one.
    async fn pause(&self, function: Option<&FunctionRef>, paused: bool) -> Result<(), QueueError>;

    /// Functions that are paused, and whether all are.
    fn paused(&self) -> (Vec<FunctionRef>, bool);

    /// Jobs by function and state.
    async fn counts(&self) -> Result<Vec<Count>, QueueError>;

    /// Jobs of each function that wait to run now, for autoscaler and metrics.
    fn waiting(&self) -> HashMap<FunctionRef, Waiting>;

    /// How often a lost connection to what keeps the jobs was made again; `None`
    /// where there is no connection.
    fn reconnects(&self) -> Option<u64> {
        None
    }

    /// Forgets jobs that ended before these times.
    async fn forget(&self, ended_before: DateTime<Utc>, dead_before: DateTime<Utc>) -> Result<u64, QueueError>;

    /// Changes the bounds.
    fn set_bounds(&self, bounds: Bounds);
}
