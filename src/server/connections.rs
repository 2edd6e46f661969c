//! How many connections a listener has open, and how many it may have.
//!
//! Beyond the limit nobody is refused: connections stay in the system's queue,
//! where they cost nothing here, until one of those that are open ends. Callers
//! see a slow connect, and of several gateways the others get more.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::{metrics::ListenerMetrics, snapshot::Current};

/// How often it is said that the limit is reached.
const REMINDER: Duration = Duration::from_secs(60);

/// The connections of one listener, wherever it is: one that moves keeps them.
#[derive(Debug)]
pub struct Connections {
    open: AtomicUsize,
    /// One has ended, or more may be allowed.
    room: Notify,
    told: Mutex<Option<Instant>>,
    metrics: ListenerMetrics,
}

/// An open connection; dropping it ends the count.
#[derive(Debug)]
pub(super) struct Open(Arc<Connections>);

impl Connections {
    /// None open yet.
    pub fn new(metrics: ListenerMetrics) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicUsize::new(0),
            room: Notify::new(),
            told: Mutex::default(),
            metrics,
        })
    }

    /// Looks at the limit again, which may have changed.
    pub fn reconsider(&self) {
        self.room.notify_one();
    }

    /// Resolves when another connection may be accepted.
    pub(super) async fn room(&self, current: &Current) {
        loop {
            let most = current.get().config.server.max_connections as usize;
            if most == 0 || self.open.load(Ordering::Relaxed) < most {
                return;
            }
            self.tell(most);
            // Kept for us if it comes before we wait.
            self.room.notified().await;
        }
    }

    /// Counts a connection that was accepted.
    pub(super) fn accepted(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.metrics.accepted();
        Open(Arc::clone(self))
    }

    fn tell(&self, most: usize) {
        let now = Instant::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| now.duration_since(told) >= REMINDER) {
            *told = Some(now);
            tracing::warn!(
                open = most,
                "server.max_connections is reached; further connections wait to be accepted"
            );
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.closed();
        self.0.room.notify_one();
    }
}
