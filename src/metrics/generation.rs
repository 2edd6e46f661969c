//! How many generations of the configuration are in use.
//!
//! A snapshot holds a [`LiveGeneration`] and so is counted until the last
//! request, stream or connection that works with it has ended. A count that
//! keeps growing means that something holds on to old ones.

use prometheus::IntGauge;

/// Counts one generation for as long as it exists.
#[derive(Debug)]
pub struct LiveGeneration(IntGauge);

impl LiveGeneration {
    pub(super) fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for LiveGeneration {
    fn drop(&mut self) {
        self.0.dec();
    }
}
