//! Stopping: signals, the soft and the hard token, and tasks that are waited for.
//!
//! Soft: stop taking new work, finish what runs. Hard: end now. Every task of
//! the program is spawned through [`Tasks`], so that `run` returns only when
//! nothing is left.

use std::{future::Future, io};

use tokio::signal::unix::{Signal, SignalKind, signal};
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

/// Signals that ask the process to stop.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Listens from now on; the default action (ending at once) is off.
    ///
    /// # Errors
    /// When the system refuses the handlers.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Resolves with the name of the next signal.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
