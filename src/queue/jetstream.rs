//! The queue that several gateways share: NATS JetStream (compatibility.md
//! section 5.3). What is kept where is told in [`streams`].
//!
//! A job's message hands it out, to one gateway at a time, for as long as that one
//! says that it works on it; its record tells where it stands. Every step writes the
//! record first, at the revision that was read, and then acknowledges the message: a
//! gateway that ends between the two has the job handed out again, and the record
//! says what became of it. Every gateway reads all records as they are written, so
//! lists, counts and whether a job was cancelled are known without asking.
//!
//! The connection mends itself. While there is none, calls are told so.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{
    HeaderMap,
    jetstream::{consumer::PullConsumer, message::Acker},
};
use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    Allowed, Bounds, Claimed, Count, Entry, Filter, Finished, Job, Lane, Page, Published, Queue, QueueError, State,
    Then, Waiting, attempts, fields, time,
};
use crate::{events::Events, model::FunctionRef, nats::Server};

mod claim;
mod figures;
mod index;
mod keep;
mod message;
mod record;
mod step;
mod streams;
mod told;
mod watching;

use index::{Index, Known};
use record::Record;
use streams::{ObjectError, PutError, Streams};

/// How soon something is looked at that announces itself nowhere.
const LOOK: Duration = Duration::from_secs(1);

/// How soon a job is handed out again whose end could not be kept.
const UNKEPT: Duration = Duration::from_secs(5);

/// Jobs that are removed, or driven again, at a time.
const AT_ONCE: usize = 32;

/// How often a record is read and written that others write, too.
const TRIES: usize = 10;

/// How long the last message of a job that is gone stays, for others to see.
const GRAVE: Duration = Duration::from_secs(60);

/// What a queue in NATS is.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server.
    pub server: Server,
    /// Name of the queue, of letters, digits, `-` and `_`.
    pub queue: String,
    /// How many servers keep each message.
    pub replicas: usize,
    /// How long a gateway may be silent before its jobs are handed to others.
    pub ack_wait: Duration,
    /// One line for all functions, in the order in which calls came.
    pub is_shared: bool,
    /// Namespace of functions that others name without one.
    pub default_namespace: String,
    /// How others know this gateway.
    pub name: String,
}

/// A queue in NATS.
pub struct JetStream {
    shared: Arc<Shared>,
    /// Takes what others send, as soon as somebody makes calls here.
    intake: Mutex<Option<AbortOnDropHandle<()>>>,
    _watching: AbortOnDropHandle<()>,
    _tending: AbortOnDropHandle<()>,
}

/// What the tasks of a queue share.
struct Shared {
    options: Options,
    /// Who hears of all that happens to jobs, in whichever gateway.
    events: Arc<Events>,
    inner: Mutex<Inner>,
    changed: Notify,
    /// How often the connection was made again.
    reconnects: Arc<AtomicU64>,
    /// Whether everything was read; or why not.
    ready: watch::Sender<Result<(), String>>,
}

struct Inner {
    index: Index,
    running: HashMap<String, Running>,
    /// Jobs that are claimed and not handed out yet.
    ready: VecDeque<Claimed>,
    consumers: HashMap<Lane, PullConsumer>,
    streams: Option<Arc<Streams>>,
    bounds: Bounds,
}

/// A job that this gateway runs.
struct Running {
    lane: Lane,
    /// Which run of the job.
    run: u32,
    token: CancellationToken,
    headers: HeaderMap,
    payload: Bytes,
    /// What acknowledges its message, and what says that it is worked on.
    held: Option<(Arc<Acker>, AbortOnDropHandle<()>)>,
}

/// Does something as long as it is held.
fn held(future: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    #[expect(clippy::disallowed_methods, reason = "ends with its holder")]
    AbortOnDropHandle::new(tokio::spawn(future))
}

/// Does something to its end, also when who asked has left.
fn finishing<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    #[expect(clippy::disallowed_methods, reason = "a few steps that are bounded each")]
    tokio::spawn(future)
}

fn unavailable(error: String) -> QueueError {
    QueueError::Unavailable(error)
}

impl JetStream {
    /// Connects, and goes on trying. What happens to jobs, here and in other gateways,
    /// is told to `events`.
    pub fn start(options: Options, bounds: Bounds, events: Arc<Events>) -> Self {
        let why = format!("not connected to NATS at {} yet", options.server.address());
        let inner = Inner {
            index: Index::new(options.ack_wait, options.is_shared),
            running: HashMap::new(),
            ready: VecDeque::new(),
            consumers: HashMap::new(),
            streams: None,
            bounds,
        };
        let shared = Arc::new(Shared {
            options,
            events,
            inner: Mutex::new(inner),
            changed: Notify::new(),
            reconnects: Arc::default(),
            ready: watch::Sender::new(Err(why)),
        });
        let watching = held(watching::watch(Arc::clone(&shared)));
        let tending = held(watching::tend(Arc::clone(&shared)));
        Self {
            shared,
            intake: Mutex::default(),
            _watching: watching,
            _tending: tending,
        }
    }

    /// Returns when calls can be kept.
    pub async fn ready(&self) {
        let mut ready = self.shared.ready.subscribe();
        // The sender is ours.
        let _ = ready.wait_for(Result::is_ok).await;
    }

    fn start_intake(&self) {
        let mut intake = self.intake.lock().unwrap_or_else(PoisonError::into_inner);
        intake.get_or_insert_with(|| held(watching::take_in(Arc::clone(&self.shared))));
    }
}

impl Shared {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_ready(&self, ready: Result<(), String>) {
        // What it was before is nobody's concern.
        drop(self.ready.send_replace(ready));
    }

    /// The streams, where they can be used now.
    fn streams(&self) -> Result<Arc<Streams>, QueueError> {
        if let Err(why) = &*self.ready.borrow() {
            return Err(unavailable(why.clone()));
        }
        let streams = self.inner().streams.clone();
        streams.filter(|streams| streams.is_connected()).ok_or_else(|| {
            let address = self.options.server.address();
            unavailable(format!("the connection to NATS at {address} is lost"))
        })
    }

    /// What is known of a job.
    async fn known(&self, streams: &Streams, id: &str) -> Result<Option<Known>, QueueError> {
        let known = self.inner().index.get(id).cloned();
        match known {
            Some(known) => Ok(Some(known)),
            // Another gateway may have taken it just now.
            None => self.reread(streams, id).await,
        }
    }

    /// What the server knows of a job.
    async fn reread(&self, streams: &Streams, id: &str) -> Result<Option<Known>, QueueError> {
        let found = streams.get(&streams.call_subject(id)).await.map_err(unavailable)?;
        match found {
            Some(message) => self.note(id, message.sequence, &message.payload),
            // Whoever uses the id again has removed it.
            None => self.inner().index.clear_grave(id),
        }
        Ok(self.inner().index.get(id).cloned())
    }

    /// Takes note of a record as it was written.
    fn note(&self, id: &str, revision: u64, payload: &[u8]) {
        let now = Utc::now();
        {
            let mut inner = self.inner();
            if payload.is_empty() {
                inner.index.bury(id, revision, now);
                return;
            }
            // Mostly what was written here.
            if inner.index.is_read(id, revision) {
                return;
            }
        }
        match serde_json::from_slice::<Record>(payload) {
            Ok(record) => self.apply(record, revision),
            Err(error) => tracing::warn!(id, %error, "record of an asynchronous call cannot be read"),
        }
    }

    fn apply(&self, record: Record, revision: u64) {
        let mut inner = self.inner();
        let running = inner.running.get(&record.id);
        let is_here = running.is_some();
        if let Some(running) = running
            && (record.state() == State::Cancelled || record.run != running.run)
        {
            running.token.cancel();
        }
        let (id, function, now) = (record.id.clone(), record.function(), Utc::now());
        let Some(changes) = inner.index.apply(record, revision, now, is_here) else {
            return;
        };
        // In the order in which they are learned, so with the index locked.
        for (state, attempts) in changes {
            self.events
                .call_changed((&id, &function), state.as_str(), attempts, now);
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// Writes a record over the revision that was read, 0 for none.
    async fn write(&self, streams: &Streams, record: &Record, expected: u64) -> Result<(), PutError> {
        let payload = serde_json::to_vec(record).map_err(|error| PutError::Failed(error.to_string()))?;
        let subject = streams.call_subject(&record.id);
        let revision = streams
            .put(subject, HeaderMap::new(), payload.into(), Some(expected))
            .await?;
        self.apply(record.clone(), revision);
        Ok(())
    }

    /// Changes a job's record; `change` may be asked several times. What it was
    /// before, and what it is now.
    async fn change<T>(
        &self,
        streams: &Streams,
        id: &str,
        mut change: impl FnMut(&mut Record) -> Result<T, QueueError>,
    ) -> Result<T, QueueError> {
        let mut known = self.known(streams, id).await?;
        for _ in 0..TRIES {
            let Some(Known { record, revision, .. }) = known else {
                return Err(QueueError::NotFound(id.to_owned()));
            };
            let mut record = Record::clone(&record);
            let told = change(&mut record)?;
            match self.write(streams, &record, revision).await {
                Ok(()) => return Ok(told),
                Err(PutError::Conflict) => known = self.reread(streams, id).await?,
                Err(PutError::Failed(error)) => return Err(unavailable(error)),
            }
        }
        Err(unavailable(format!("too many gateways change call {id}")))
    }
}

/// The place of a page, and the text for it.
fn place(text: &str) -> Option<index::Place> {
    let (created, id) = text.split_once('-')?;
    Some((created.parse().ok()?, id.to_owned()))
}

#[async_trait]
impl Queue for JetStream {
    async fn publish(&self, job: Job) -> Result<Published, QueueError> {
        self.shared.streams()?;
        self.shared.has_room(job.body.len() as u64)?;
        let shared = Arc::clone(&self.shared);
        let kept = finishing(async move { shared.publish(job).await });
        kept.await.unwrap_or_else(|error| Err(unavailable(error.to_string())))
    }

    async fn next(&self, allowed: &dyn Allowed) -> Claimed {
        self.start_intake();
        claim::next(&self.shared, allowed).await
    }

    async fn finish(&self, id: &str, finished: Finished) -> Result<(), QueueError> {
        claim::finish(&self.shared, id, finished).await
    }

    async fn get(&self, id: &str) -> Result<Entry, QueueError> {
        let streams = self.shared.streams()?;
        let Some(known) = self.shared.known(&streams, id).await? else {
            return Err(QueueError::NotFound(id.to_owned()));
        };
        let mut is_lost = false;
        let body = if known.record.answer.is_some() {
            match streams.get_large(&streams.answer_subject(id)).await {
                Ok(found) => found.map(|(_, body)| body).unwrap_or_default(),
                Err(ObjectError::Unavailable(error)) => return Err(unavailable(error)),
                Err(ObjectError::Gone(error)) => {
                    tracing::warn!(id, error, "the body of an asynchronous call's answer is gone");
                    is_lost = true;
                    Bytes::new()
                }
            }
        } else {
            Bytes::new()
        };
        let mut entry = known.record.entry(body);
        if let Some(answer) = &mut entry.answer {
            answer.truncated |= is_lost;
        }
        Ok(entry)
    }

    async fn list(&self, filter: &Filter, after: Option<&str>, limit: u32) -> Result<Page, QueueError> {
        self.shared.streams()?;
        let found = self
            .shared
            .inner()
            .index
            .list(filter, after.and_then(place), limit as usize);
        let next = found
            .last()
            .filter(|_| found.len() == limit as usize)
            .map(|record| format!("{}-{}", record.created, record.id));
        let entries = found.iter().map(|record| record.entry(Bytes::new())).collect();
        Ok(Page { entries, next })
    }

    async fn cancel(&self, id: &str) -> Result<(), QueueError> {
        let shared = &self.shared;
        let streams = shared.streams()?;
        let cancelled = shared
            .change(&streams, id, |record| {
                let state = record.state();
                if state.is_final() {
                    return Err(QueueError::has_ended(id, &record.state));
                }
                record.set_state(State::Cancelled);
                record.finished = Some(Utc::now().timestamp_micros());
                Ok((state, record.message))
            })
            .await?;
        let (State::Queued | State::Retrying, number) = cancelled else {
            // Whoever runs it stops, and keeps its message.
            return Ok(());
        };
        if let Some(message) = streams.message(number).await.map_err(unavailable)? {
            let archived = shared.archive(&streams, id, &message.headers, message.payload).await;
            archived.map_err(unavailable)?;
            // Where that fails, whoever gets it sees that it was cancelled.
            if let Err(error) = streams.work.delete_message(number).await {
                tracing::debug!(id, %error, "message of a cancelled call not removed");
            }
        }
        Ok(())
    }

    async fn cancelled(&self, id: &str) {
        let token = self.shared.inner().running.get(id).map(|running| running.token.clone());
        match token {
            Some(token) => token.cancelled().await,
            None => std::future::pending().await,
        }
    }

    async fn redrive(&self, id: &str) -> Result<(), QueueError> {
        self.shared.redrive(id).await
    }

    async fn ids(&self, filter: &Filter) -> Result<Vec<String>, QueueError> {
        let found = self.shared.inner().index.list(filter, None, usize::MAX);
        Ok(found.iter().rev().map(|record| record.id.clone()).collect())
    }

    async fn purge(&self, filter: &Filter) -> Result<u64, QueueError> {
        self.shared.streams()?;
        let mut found = self.shared.inner().index.list(filter, None, usize::MAX);
        found.retain(|record| record.state().is_final());
        self.shared.remove_all(found).await
    }

    async fn pause(&self, function: Option<&FunctionRef>, paused: bool) -> Result<(), QueueError> {
        let streams = self.shared.streams()?;
        let payload = if paused {
            Bytes::from_static(b"paused")
        } else {
            Bytes::new()
        };
        let put = streams
            .put(streams.paused_subject(function), HeaderMap::new(), payload, None)
            .await;
        put.map_err(|error| unavailable(error.to_string()))?;
        self.shared.inner().index.schedule.pause(function, paused);
        self.shared.changed.notify_one();
        Ok(())
    }

    fn paused(&self) -> (Vec<FunctionRef>, bool) {
        self.shared.inner().index.schedule.paused()
    }

    async fn counts(&self) -> Result<Vec<Count>, QueueError> {
        self.shared.streams()?;
        Ok(self.shared.inner().index.figures.counts())
    }

    fn waiting(&self) -> HashMap<FunctionRef, Waiting> {
        self.shared.inner().index.figures.waiting(Utc::now())
    }

    fn reconnects(&self) -> Option<u64> {
        Some(self.shared.reconnects.load(Ordering::Relaxed))
    }

    async fn forget(&self, ended_before: DateTime<Utc>, dead_before: DateTime<Utc>) -> Result<u64, QueueError> {
        let shared = &self.shared;
        let streams = shared.streams()?;
        let (old, idle) = {
            let inner = shared.inner();
            let figures = &inner.index.figures;
            let idle: Vec<Lane> = inner
                .consumers
                .keys()
                .filter(|lane| **lane != Lane::All && !figures.is_busy(lane))
                .cloned()
                .collect();
            (inner.index.ended(ended_before, dead_before), idle)
        };
        let count = shared.remove_all(old).await?;
        shared.look_for_strays(&streams).await.map_err(unavailable)?;
        for lane in idle {
            shared.inner().consumers.remove(&lane);
            // Another gateway may have removed it; whoever needs it makes it anew.
            let _ = streams.remove_consumer(&lane).await;
        }
        Ok(count)
    }

    fn set_bounds(&self, bounds: Bounds) {
        self.shared.inner().bounds = bounds;
    }
}
