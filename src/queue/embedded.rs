//! The queue that needs nothing else: a SQLite database in the state directory.
//!
//! One thread writes. What waits for it is written in one transaction, so that
//! many callers share one `fsync`; nothing is acknowledged before that. The
//! database is in WAL mode with `synchronous = FULL`: what was acknowledged is
//! there after a crash of the process or the machine. Jobs that ran when the
//! process ended run again.
//!
//! Which job is next is kept in memory ([`Schedule`]) and read anew at the start.

use std::{
    collections::HashMap,
    fs::{DirBuilder, File, TryLockError},
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rusqlite::Connection;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    Allowed, Bounds, Claimed, Count, Entry, Filter, Finished, Job, Lane, Page, Published, Queue, QueueError, Then,
    Waiting, schedule::Schedule,
};
use crate::{config::blocking, model::FunctionRef};

mod place;
mod rows;

use place::{Room, Taken};

/// Writes that wait at most; more wait in their callers.
const WAITING: usize = 1024;

/// Writes of one transaction at most, so that the first one need not wait long.
const BATCH: usize = 256;

/// How soon something is looked at that announces itself nowhere: a bound that
/// was raised, a clock that was set.
const LOOK: Duration = Duration::from_secs(1);

/// How soon a job runs again whose end could not be kept.
const UNKEPT: chrono::TimeDelta = chrono::TimeDelta::seconds(5);

/// How soon a job is looked at again of which another run has not ended yet.
const STILL: chrono::TimeDelta = chrono::TimeDelta::milliseconds(50);

/// Tells who waits whether a write is durable.
type Completion = Box<dyn FnOnce(Result<(), QueueError>) + Send>;

/// A write, within a transaction; without one it is not done, and says so.
type Write = Box<dyn FnOnce(Option<&Connection>) -> Completion + Send>;

/// A SQLite database of jobs.
pub struct Embedded {
    writes: mpsc::Sender<Write>,
    reader: Arc<Mutex<Connection>>,
    state: Arc<Mutex<Inner>>,
    changed: Arc<Notify>,
    /// One gateway at a time; released by the system even after `kill -9`.
    _lock: File,
}

#[derive(Default)]
struct Inner {
    schedule: Schedule,
    running: HashMap<String, (Lane, CancellationToken)>,
    /// Jobs that have not ended, and bytes of their bodies.
    jobs: u64,
    bytes: u64,
    bounds: Bounds,
}

impl Inner {
    /// A job with a body of so many bytes has ended, or is not kept.
    fn release(&mut self, bytes: u64) {
        self.jobs = self.jobs.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Embedded {
    /// Opens, or creates, the database of a directory. May block.
    ///
    /// # Errors
    /// `Unavailable` with the reason.
    pub fn open(directory: &Path, bounds: Bounds) -> Result<Self, QueueError> {
        let failed = |error: &dyn std::fmt::Display| {
            QueueError::Unavailable(format!("{}: {error}", directory.join(rows::FILE).display()))
        };
        // Headers and bodies of calls may hold secrets.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| failed(&error))?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(directory.join("lock"))
            .map_err(|error| failed(&error))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => failed(&"in use by another gateway"),
            TryLockError::Error(error) => failed(&error),
        })?;
        let writer = rows::open(directory).map_err(|error| failed(&error))?;
        let reader = rows::open(directory).map_err(|error| failed(&error))?;
        let mut inner = Inner {
            bounds,
            ..Inner::default()
        };
        rows::recover(&writer, |id, lane, due, bytes| {
            inner.schedule.add(id, lane, due);
            inner.jobs += 1;
            inner.bytes += bytes;
        })
        .map_err(|error| failed(&error))?;
        for function in rows::paused(&writer).map_err(|error| failed(&error))? {
            inner.schedule.pause(function.as_ref(), true);
        }
        let (asking, asked) = mpsc::channel(WAITING);
        std::thread::Builder::new()
            .name("queue".to_owned())
            .spawn(move || write_all(&writer, asked))
            .map_err(|error| failed(&error))?;
        Ok(Self {
            writes: asking,
            reader: Arc::new(Mutex::new(reader)),
            state: Arc::new(Mutex::new(inner)),
            changed: Arc::new(Notify::new()),
            _lock: lock,
        })
    }

    /// Has the writing thread do something; it is durable when this returns.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, QueueError> {
        self.write_then(work, |_| ()).await
    }

    /// The same; `then` is told how it went, also when who asked has left.
    async fn write_then<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
        then: impl FnOnce(&Result<T, QueueError>) + Send + 'static,
    ) -> Result<T, QueueError> {
        let (done, result) = oneshot::channel();
        let write: Write = Box::new(move |connection| {
            let worked = connection.map(|connection| rows::in_savepoint(connection, work));
            Box::new(move |committed| {
                let told = match (worked, committed) {
                    (_, Err(error)) => Err(error),
                    (Some(worked), Ok(())) => worked.map_err(|error| QueueError::Unavailable(error.to_string())),
                    (None, Ok(())) => Err(QueueError::Unavailable("there was no transaction".to_owned())),
                };
                then(&told);
                // Who asked may have left.
                let _ = done.send(told);
            })
        });
        let stopped = || QueueError::Unavailable("the gateway is stopping".to_owned());
        self.writes.send(write).await.map_err(|_| stopped())?;
        result.await.map_err(|_| stopped())?
    }

    /// What changes with a write, for the thread that writes.
    fn changing(&self, change: impl FnOnce(&mut Inner) + Send + 'static) -> impl FnOnce() + Send + 'static {
        let (state, changed) = (Arc::clone(&self.state), Arc::clone(&self.changed));
        move || {
            change(&mut state.lock().unwrap_or_else(PoisonError::into_inner));
            changed.notify_one();
        }
    }

    /// Notes that a job runs, for whoever looks: nobody waits for that to be durable,
    /// as what ran when a process ended waits again.
    async fn note_running(&self, id: String) {
        let write: Write = Box::new(move |connection| {
            let noted = connection.map(|connection| rows::run(connection, &id));
            Box::new(move |committed| {
                if let (Some(Err(error)), Ok(())) = (noted, committed) {
                    tracing::debug!(id, %error, "asynchronous call not noted as running");
                }
            })
        });
        // Fails when the gateway is stopping.
        let _ = self.writes.send(write).await;
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, QueueError> {
        let reader = Arc::clone(&self.reader);
        blocking(move || {
            let reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            work(&reader).map_err(|error| QueueError::Unavailable(error.to_string()))
        })
        .await
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes room for a job, or says what has none.
    fn reserve(&self, bytes: u64) -> Result<Room, QueueError> {
        let mut inner = self.inner();
        inner.bounds.admit(inner.jobs, inner.bytes, bytes)?;
        inner.jobs += 1;
        inner.bytes += bytes;
        Ok(Room {
            state: Arc::clone(&self.state),
            bytes: Some(bytes),
        })
    }

    /// What tells who runs a job that it was taken back.
    fn token(&self, id: &str) -> Option<CancellationToken> {
        self.inner().running.get(id).map(|(_, token)| token.clone())
    }
}

/// Writes until nobody can ask for more.
fn write_all(connection: &Connection, mut waiting: mpsc::Receiver<Write>) {
    while let Some(first) = waiting.blocking_recv() {
        let mut completions = Vec::new();
        let began = connection.execute_batch("BEGIN IMMEDIATE");
        let writable = began.is_ok().then_some(connection);
        completions.push(first(writable));
        while completions.len() < BATCH
            && let Ok(next) = waiting.try_recv()
        {
            completions.push(next(writable));
        }
        let ended = began.and_then(|()| connection.execute_batch("COMMIT"));
        if ended.is_err() {
            // Fails where there is no transaction any more, which is what we want.
            let _ = connection.execute_batch("ROLLBACK");
            rows::make_room(connection);
        }
        for completion in completions {
            let ended = ended.as_ref().copied();
            completion(ended.map_err(|error| QueueError::Unavailable(error.to_string())));
        }
    }
}

#[async_trait]
impl Queue for Embedded {
    async fn publish(&self, job: Job) -> Result<Published, QueueError> {
        let room = self.reserve(job.body.len() as u64)?;
        let (id, lane, due) = (job.id.clone(), job.lane(), job.due);
        let keep = self.changing(move |inner| inner.schedule.add(&id, &lane, due));
        self.write_then(
            move |connection| rows::insert(connection, &job),
            move |published| {
                if published.as_ref().is_ok_and(|published| published.is_new) {
                    room.keep();
                    keep();
                }
            },
        )
        .await
    }

    async fn next(&self, allowed: &dyn Allowed) -> Claimed {
        loop {
            let now = Utc::now();
            let (taken, due) = {
                let mut inner = self.inner();
                let mut taken = inner.schedule.take(now, allowed);
                if let Some((id, lane)) = taken.take_if(|(id, _)| inner.running.contains_key(id)) {
                    // It was taken back and driven again, and that run is about to end.
                    inner.schedule.ended(&lane);
                    inner.schedule.add(&id, &lane, now + STILL);
                }
                if let Some((id, lane)) = &taken {
                    let running = (lane.clone(), CancellationToken::new());
                    inner.running.insert(id.clone(), running);
                }
                (taken, inner.schedule.next_due(now))
            };
            let Some((id, lane)) = taken else {
                let wait = due.and_then(|due| (due - now).to_std().ok()).unwrap_or(LOOK).min(LOOK);
                // Only ends the wait sooner.
                let _ = tokio::time::timeout(wait, self.changed.notified()).await;
                continue;
            };
            let mut taken = Taken {
                state: Arc::clone(&self.state),
                changed: Arc::clone(&self.changed),
                job: Some((id.clone(), lane)),
            };
            let wanted = id.clone();
            let found = self.read(move |connection| rows::get(connection, &wanted)).await;
            match found {
                Ok(Some((entry, tries))) if !entry.state.is_final() => {
                    taken.job = None;
                    self.note_running(id).await;
                    return Claimed {
                        job: entry.job,
                        tries,
                        lost: None,
                    };
                }
                // Cancelled or purged meanwhile.
                Ok(_) => drop(taken.give_up()),
                Err(error) => {
                    tracing::error!(%error, id, "asynchronous call not taken; trying again");
                    taken.put_back(now + UNKEPT);
                }
            }
        }
    }

    async fn finish(&self, id: &str, finished: Finished) -> Result<(), QueueError> {
        let name = id.to_owned();
        let then = finished.then.clone();
        let follow: Vec<_> = finished
            .follow
            .iter()
            .map(|job| (job.id.clone(), job.lane(), job.due, job.body.len() as u64))
            .collect();
        let done = self
            .write(move |connection| rows::finish(connection, &name, &finished))
            .await;
        let mut inner = self.inner();
        if matches!(&done, Ok(Some(found)) if !found.was_cancelled) {
            for (id, lane, due, bytes) in follow {
                inner.jobs += 1;
                inner.bytes += bytes;
                inner.schedule.add(&id, &lane, due);
            }
        }
        if let Some((lane, _)) = inner.running.remove(id) {
            inner.schedule.ended(&lane);
            match (&done, then) {
                // Counted when it was cancelled.
                (Ok(None), _) => {}
                (Ok(Some(found)), _) if found.was_cancelled => {}
                (Ok(Some(_)), Then::Again(due)) => inner.schedule.add(id, &lane, due),
                (Ok(Some(found)), Then::End(_)) => inner.release(found.bytes),
                (Err(_), _) => inner.schedule.add(id, &lane, Utc::now() + UNKEPT),
            }
        }
        drop(inner);
        self.changed.notify_one();
        done.map(drop)
    }

    async fn get(&self, id: &str) -> Result<Entry, QueueError> {
        let name = id.to_owned();
        let found = self.read(move |connection| rows::get(connection, &name)).await?;
        found
            .map(|(entry, _)| entry)
            .ok_or_else(|| QueueError::NotFound(id.to_owned()))
    }

    async fn list(&self, filter: &Filter, after: Option<&str>, limit: u32) -> Result<Page, QueueError> {
        let filter = filter.clone();
        let after = after.and_then(|after| after.parse().ok()).unwrap_or(i64::MAX);
        self.read(move |connection| rows::list(connection, &filter, after, limit))
            .await
    }

    async fn cancel(&self, id: &str) -> Result<(), QueueError> {
        let (name, taken) = (id.to_owned(), id.to_owned());
        let now = Utc::now();
        let state = Arc::clone(&self.state);
        let cancelled = self
            .write_then(
                move |connection| rows::cancel(connection, &name, now),
                move |cancelled| {
                    if let Ok((true, Some((_, bytes)))) = cancelled {
                        let mut inner = state.lock().unwrap_or_else(PoisonError::into_inner);
                        inner.schedule.remove(&taken);
                        if let Some((_, token)) = inner.running.get(&taken) {
                            token.cancel();
                        }
                        inner.release(*bytes);
                    }
                },
            )
            .await?;
        match cancelled {
            (_, None) => Err(QueueError::NotFound(id.to_owned())),
            (false, Some((state, _))) => Err(QueueError::has_ended(id, &state)),
            (true, Some(_)) => Ok(()),
        }
    }

    async fn cancelled(&self, id: &str) {
        match self.token(id) {
            Some(token) => token.cancelled().await,
            None => std::future::pending().await,
        }
    }

    async fn redrive(&self, id: &str) -> Result<(), QueueError> {
        let entry = self.get(id).await?;
        QueueError::unless_redrivable(id, entry.state)?;
        let room = self.reserve(entry.job.body.len() as u64)?;
        let (name, now) = (id.to_owned(), Utc::now());
        let (id, lane) = (id.to_owned(), entry.job.lane());
        let keep = self.changing(move |inner| inner.schedule.add(&id, &lane, now));
        let again = self
            .write_then(
                move |connection| rows::redrive(connection, &name, now),
                move |again| {
                    if let Ok(true) = again {
                        room.keep();
                        keep();
                    }
                },
            )
            .await;
        again.map(drop)
    }

    async fn ids(&self, filter: &Filter) -> Result<Vec<String>, QueueError> {
        let filter = filter.clone();
        self.read(move |connection| rows::ids(connection, &filter)).await
    }

    async fn purge(&self, filter: &Filter) -> Result<u64, QueueError> {
        let filter = filter.clone();
        self.write(move |connection| rows::purge(connection, &filter)).await
    }

    async fn pause(&self, function: Option<&FunctionRef>, paused: bool) -> Result<(), QueueError> {
        let (name, shown) = (function.cloned(), function.cloned());
        let pause = self.changing(move |inner| inner.schedule.pause(shown.as_ref(), paused));
        self.write_then(
            move |connection| rows::pause(connection, name.as_ref(), paused),
            |done| {
                if done.is_ok() {
                    pause();
                }
            },
        )
        .await
    }

    fn paused(&self) -> (Vec<FunctionRef>, bool) {
        self.inner().schedule.paused()
    }

    async fn counts(&self) -> Result<Vec<Count>, QueueError> {
        self.read(rows::counts).await
    }

    fn waiting(&self) -> HashMap<FunctionRef, Waiting> {
        self.inner().schedule.waiting(Utc::now())
    }

    async fn forget(&self, ended_before: DateTime<Utc>, dead_before: DateTime<Utc>) -> Result<u64, QueueError> {
        self.write(move |connection| rows::forget(connection, ended_before, dead_before))
            .await
    }

    fn set_bounds(&self, bounds: Bounds) {
        self.inner().bounds = bounds;
    }
}
