//! Places that are given back when nobody uses them: whoever asked may have left.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use tokio::sync::Notify;

use super::{Inner, Lane};

/// Room for a job that is not kept yet; dropping it gives it back.
pub(super) struct Room {
    pub(super) state: Arc<Mutex<Inner>>,
    pub(super) bytes: Option<u64>,
}

impl Room {
    /// The job is kept.
    pub(super) fn keep(mut self) {
        self.bytes = None;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(bytes) = self.bytes {
            self.state.lock().unwrap_or_else(PoisonError::into_inner).release(bytes);
        }
    }
}

/// A job that was taken from the schedule and not yet handed out; dropping it puts
/// it back, for who wanted it may have left.
pub(super) struct Taken {
    pub(super) state: Arc<Mutex<Inner>>,
    pub(super) changed: Arc<Notify>,
    pub(super) job: Option<(String, Lane)>,
}

impl Taken {
    pub(super) fn give_up(&mut self) -> Option<(String, Lane)> {
        let (id, lane) = self.job.take()?;
        let mut inner = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        inner.running.remove(&id);
        inner.schedule.ended(&lane);
        Some((id, lane))
    }

    pub(super) fn put_back(&mut self, due: DateTime<Utc>) {
        if let Some((id, lane)) = self.give_up() {
            let mut inner = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            inner.schedule.add(&id, &lane, due);
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.job.is_some() {
            self.put_back(Utc::now());
            self.changed.notify_one();
        }
    }
}
