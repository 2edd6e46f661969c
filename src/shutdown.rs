//! Stopping: signals, the soft and the hard token, and tasks that are waited for.
//!
//! Soft: stop taking new work, finish what runs. Hard: end now. Every task of
//! the program is spawned through [`Tasks`], so that `run` returns only when
//! nothing is left.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFutureOwned},
    task::TaskTracker,
};

/// Spawns tasks and knows when they have all ended.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    soft: Stop,
    hard: Stop,
}

/// Something to stop for, told to many tasks at once.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    told: Arc<AtomicBool>,
    token: CancellationToken,
}

impl Stop {
    /// Not cancelled yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells everybody.
    pub fn cancel(&self) {
        self.told.store(true, Ordering::Release);
        self.token.cancel();
    }

    /// Whether everybody was told. Costs one load.
    pub fn is_cancelled(&self) -> bool {
        self.told.load(Ordering::Acquire)
    }

    /// Resolves when everybody is told. Poll it from one task only.
    pub fn cancelled(&self) -> Cancelled {
        Cancelled {
            waiting: None,
            stop: self.clone(),
        }
    }
}

/// Resolves when its [`Stop`] is cancelled.
///
/// Leaves its waker when it is polled first and only loads a flag from then on:
/// the list of those who wait has a lock that all tasks share, and a connection
/// polls this whenever anything happens on it. So all polls must be for the
/// same task.
#[derive(Debug)]
pub struct Cancelled {
    stop: Stop,
    waiting: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl Future for Cancelled {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.stop.is_cancelled() {
            return Poll::Ready(());
        }
        if self.waiting.is_some() {
            return Poll::Pending;
        }
        let mut waiting = Box::pin(self.stop.token.clone().cancelled_owned());
        let cancelled = waiting.as_mut().poll(cx);
        self.waiting = Some(waiting);
        cancelled
    }
}

impl Tasks {
    /// No task yet, nothing cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs a future until it ends or [`Tasks::abort`] is called.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let abortable = Abortable {
            future,
            hard: self.hard.cancelled(),
        };
        #[expect(clippy::disallowed_methods, reason = "this is the tracked spawn")]
        tokio::spawn(self.tracker.track_future(abortable));
    }

    /// Cancelled when no new work should be taken.
    pub fn draining(&self) -> &Stop {
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

pin_project! {
    /// A future that ends early when its tasks are aborted. A type of its own,
    /// because a task of an `async` block would have room for its future twice.
    struct Abortable<F> {
        #[pin]
        future: F,
        hard: Cancelled,
    }
}

impl<F: Future<Output = ()>> Future for Abortable<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.future.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        Pin::new(this.hard).poll(cx)
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
