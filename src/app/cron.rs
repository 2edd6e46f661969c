//! Has functions called by the clock: looks at it, and keeps the calls that
//! [`Crontab`] says are due, like those of any caller.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::Utc;
use tokio::sync::watch;

use super::follow::Listed;
use crate::{
    queue::{
        Published,
        cron::{CronAnnotations, Crontab, Due, Shown},
    },
    snapshot::{Current, Snapshot},
};

/// How often the clock is looked at, at least: it may be set.
const LOOK: Duration = Duration::from_secs(1);

/// What the clock calls. One for the process.
#[derive(Clone, Default)]
pub(super) struct Clock(Arc<Mutex<Crontab>>);

impl Clock {
    /// For the metrics.
    pub(super) fn shown(&self) -> Vec<Shown> {
        self.crontab().shown()
    }

    /// Calls functions as long as somebody lists them.
    pub(super) async fn run(self, current: Current, mut listed: watch::Receiver<Listed>) {
        loop {
            let wait = self.crontab().wait(Utc::now()).unwrap_or(LOOK).min(LOOK);
            let read = tokio::select! {
                changed = listed.changed() => match changed {
                    Ok(()) => true,
                    Err(_) => return,
                },
                () = tokio::time::sleep(wait) => false,
            };
            let snapshot = current.get();
            // Before anything is learned: what is due was so for what it was.
            let due = self.crontab().due(Utc::now());
            for due in due {
                keep(&snapshot, &due).await;
            }
            if read {
                self.learn(&snapshot, &listed.borrow_and_update().clone());
            }
        }
    }

    fn learn(&self, snapshot: &Snapshot, listed: &Listed) {
        let Some(functions) = listed.of(&snapshot.provider) else {
            return;
        };
        let by_the_clock = functions.iter().filter_map(|status| {
            let annotations = CronAnnotations::of(status.annotations.as_ref())?;
            Some((status.function(), annotations))
        });
        let wrong = self.crontab().learn(by_the_clock, Utc::now());
        for (function, mistake) in wrong {
            tracing::warn!(%function, "annotation {mistake}");
        }
    }

    fn crontab(&self) -> MutexGuard<'_, Crontab> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn keep(snapshot: &Snapshot, due: &Due) {
    let function = &due.function;
    let result = match snapshot.queue.publish(due.job(Utc::now())).await {
        Ok(Published { is_new: true, id }) => {
            tracing::debug!(id, %function, "called by the clock");
            snapshot.metrics.kept().submitted(&snapshot.config.queue.nats_channel);
            "kept"
        }
        Ok(_) => "known",
        Err(error) => {
            tracing::warn!(%function, at = %due.at, %error, "not called by the clock");
            "failed"
        }
    };
    snapshot.metrics.kept().by_the_clock(result);
}
