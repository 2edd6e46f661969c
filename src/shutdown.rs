//! Stopping: signals, the soft and the hard token, and tasks that are waited for.
//!
//! Soft: stop taking new work, finish what runs. Hard: end now. Every task of
//! the program is spawned through [`Tasks`], so that `run` returns only when
//! nothing is left.

use std::future::Future;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Spawns tasks and knows when they have all ended.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    soft: CancellationToken,
    hard: CancellationToken,
}

impl Tasks {
    /// No task yet, nothing cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs a future until it ends or [`Tasks::abort`] is called.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let hard = self.hard.clone();
        #[expect(clippy::disallowed_methods, reason = "this is the tracked spawn")]
        tokio::spawn(self.tracker.track_future(async move {
            tokio::select! {
                () = future => {}
                () = hard.cancelled() => {}
            }
        }));
    }

    /// Cancelled when no new work should be taken.
    pub fn draining(&self) -> &CancellationToken {
        &self.soft
    }

    /// Cancelled when running work should end now.
    pub fn aborting(&self) -> &CancellationToken {
        &self.hard
    }

    /// Tells tasks to take no new work.
    pub fn drain(&self) {
        self.soft.cancel();
    }

    /// Ends every task now.
    pub fn abort(&self) {
        self.soft.cancel();
        self.hard.cancel();
    }

    /// Resolves when every task has ended. Call [`Tasks::drain`] first.
    pub async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}
