//! A queue whose changes are told to those who follow the gateway's events.
//!
//! Around a queue that one gateway has for itself, so that no way for a job to change
//! its state is missed: they all lead through here. A queue that several gateways share
//! hears of what all of them do, and tells of that itself.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{
    Allowed, Bounds, Claimed, Count, Entry, Filter, Finished, Job, Page, Published, Queue, QueueError, State, Then,
    Waiting,
};
use crate::{events::Events, model::FunctionRef};

/// A queue and who hears of it.
pub struct Heard {
    queue: Arc<dyn Queue>,
    events: Arc<Events>,
    jobs: Mutex<Jobs>,
}

#[derive(Default)]
struct Jobs {
    /// Those that run here.
    running: HashMap<String, Change>,
    /// What becomes of others as soon as it is durable. Whoever learns first that it
    /// is tells it, so that a job does not run before it was queued.
    coming: HashMap<String, Change>,
}

/// A job's new state.
struct Change {
    function: FunctionRef,
    state: State,
    attempts: u32,
}

/// Changes that are on their way; dropping it forgets those that were not told.
struct Coming<'a> {
    heard: &'a Heard,
    ids: Vec<String>,
}

impl Coming<'_> {
    /// They are durable: tells those that nobody has told.
    fn are_there(mut self) {
        let mut jobs = self.heard.jobs();
        for id in std::mem::take(&mut self.ids) {
            if let Some(change) = jobs.coming.remove(&id) {
                self.heard.tell(&id, &change);
            }
        }
    }
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        if !self.ids.is_empty() {
            let mut jobs = self.heard.jobs();
            for id in &self.ids {
                jobs.coming.remove(id);
            }
        }
    }
}

impl Heard {
    /// Tells of this queue.
    pub fn new(queue: Arc<dyn Queue>, events: Arc<Events>) -> Self {
        Self {
            queue,
            events,
            jobs: Mutex::default(),
        }
    }

    fn coming(&self, changes: impl IntoIterator<Item = (String, Change)>) -> Coming<'_> {
        let mut jobs = self.jobs();
        let mut ids = Vec::new();
        for (id, change) in changes {
            ids.push(id.clone());
            jobs.coming.insert(id, change);
        }
        Coming { heard: self, ids }
    }

    fn tell(&self, id: &str, change: &Change) {
        self.events.call_changed(
            (id, &change.function),
            change.state.as_str(),
            change.attempts,
            Utc::now(),
        );
    }

    /// Tells of a job that does not run.
    async fn tell_by_id(&self, id: &str, state: State) {
        // A job that nobody knows any more has no state either.
        if let Ok(entry) = self.queue.get(id).await {
            let change = Change {
                function: entry.job.function,
                state,
                attempts: u32::try_from(entry.attempts.len()).unwrap_or(u32::MAX),
            };
            self.tell(id, &change);
        }
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A job that is new.
fn queued(job: &Job) -> (String, Change) {
    let change = Change {
        function: job.function.clone(),
        state: State::Queued,
        attempts: 0,
    };
    (job.id.clone(), change)
}

#[async_trait]
impl Queue for Heard {
    async fn publish(&self, job: Job) -> Result<Published, QueueError> {
        let coming = self.coming([queued(&job)]);
        let published = self.queue.publish(job).await?;
        if published.is_new {
            coming.are_there();
        }
        Ok(published)
    }

    async fn next(&self, allowed: &dyn Allowed) -> Claimed {
        let claimed = self.queue.next(allowed).await;
        let job = &claimed.job;
        let running = Change {
            function: job.function.clone(),
            state: State::Running,
            attempts: claimed.tries + 1,
        };
        let mut jobs = self.jobs();
        if let Some(change) = jobs.coming.remove(&job.id) {
            self.tell(&job.id, &change);
        }
        self.tell(&job.id, &running);
        jobs.running.insert(job.id.clone(), running);
        drop(jobs);
        claimed
    }

    async fn finish(&self, id: &str, finished: Finished) -> Result<(), QueueError> {
        let state = match &finished.then {
            Then::End(state) => *state,
            Then::Again(_) => State::Retrying,
        };
        let ran = self.jobs().running.remove(id);
        let ended = ran.map(|ran| (id.to_owned(), Change { state, ..ran }));
        let follow: Vec<_> = finished.follow.iter().map(queued).collect();
        let coming = self.coming(ended.into_iter().chain(follow));
        self.queue.finish(id, finished).await?;
        coming.are_there();
        Ok(())
    }

    async fn get(&self, id: &str) -> Result<Entry, QueueError> {
        self.queue.get(id).await
    }

    async fn list(&self, filter: &Filter, after: Option<&str>, limit: u32) -> Result<Page, QueueError> {
        self.queue.list(filter, after, limit).await
    }

    async fn cancel(&self, id: &str) -> Result<(), QueueError> {
        self.queue.cancel(id).await?;
        // The end of one that runs comes later, perhaps when it was driven again.
        let ran = self.jobs().running.remove(id);
        match ran {
            Some(ran) => self.tell(
                id,
                &Change {
                    state: State::Cancelled,
                    ..ran
                },
            ),
            None => self.tell_by_id(id, State::Cancelled).await,
        }
        Ok(())
    }

    async fn cancelled(&self, id: &str) {
        self.queue.cancelled(id).await;
    }

    async fn redrive(&self, id: &str) -> Result<(), QueueError> {
        self.queue.redrive(id).await?;
        self.tell_by_id(id, State::Queued).await;
        Ok(())
    }

    async fn ids(&self, filter: &Filter) -> Result<Vec<String>, QueueError> {
        self.queue.ids(filter).await
    }

    async fn purge(&self, filter: &Filter) -> Result<u64, QueueError> {
        self.queue.purge(filter).await
    }

    async fn pause(&self, function: Option<&FunctionRef>, paused: bool) -> Result<(), QueueError> {
        self.queue.pause(function, paused).await
    }

    fn paused(&self) -> (Vec<FunctionRef>, bool) {
        self.queue.paused()
    }

    async fn counts(&self) -> Result<Vec<Count>, QueueError> {
        self.queue.counts().await
    }

    fn waiting(&self) -> HashMap<FunctionRef, Waiting> {
        self.queue.waiting()
    }

    fn reconnects(&self) -> Option<u64> {
        self.queue.reconnects()
    }

    async fn forget(&self, ended_before: DateTime<Utc>, dead_before: DateTime<Utc>) -> Result<u64, QueueError> {
        self.queue.forget(ended_before, dead_before).await
    }

    fn set_bounds(&self, bounds: Bounds) {
        self.queue.set_bounds(bounds);
    }
}
