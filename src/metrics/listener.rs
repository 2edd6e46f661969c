//! The metrics of a listener.

use prometheus::{IntCounter, IntGauge};

/// The connections of one listener.
#[derive(Debug, Clone)]
pub struct ListenerMetrics {
    pub(super) open: IntGauge,
    pub(super) accepted: IntCounter,
}

impl ListenerMetrics {
    /// A connection was accepted.
    pub fn accepted(&self) {
        self.open.inc();
        self.accepted.inc();
    }

    /// One that was accepted has closed.
    pub fn closed(&self) {
        self.open.dec();
    }
}
