//! The gauges of what limits and breakers come to, read when they are asked for.
//!
//! Nothing is counted here: the states are asked, so that a gauge cannot
//! disagree with them and goes when they go.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{
    IntGaugeVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::{BREAKER_OPEN, FUNCTION_NAME, QUEUED};
use crate::policy::States;

/// Reads the states.
pub(super) struct Loads {
    states: Arc<States>,
    /// The gauges are filled anew each time, by one reader at a time.
    reading: Mutex<()>,
    queued: IntGaugeVec,
    breaker_open: IntGaugeVec,
}

impl Loads {
    pub(super) fn new(states: Arc<States>) -> Self {
        let gauge = |name: &str, help: &str| {
            IntGaugeVec::new(Opts::new(name, help), &[FUNCTION_NAME])
                .expect("metric names and labels are constants of the parent module")
        };
        Self {
            states,
            reading: Mutex::default(),
            queued: gauge(QUEUED, "Function calls that wait for their turn."),
            breaker_open: gauge(
                BREAKER_OPEN,
                "1 while a function is not called because it keeps failing, else 0.",
            ),
        }
    }
}

impl Collector for Loads {
    fn desc(&self) -> Vec<&Desc> {
        [self.queued.desc(), self.breaker_open.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        self.queued.reset();
        self.breaker_open.reset();
        for load in self.states.loads() {
            let label = load.function.to_string();
            if let Some(queued) = load.queued {
                self.queued
                    .with_label_values(&[&label])
                    .set(super::clamp(queued as u64));
            }
            if let Some(open) = load.breaker_open {
                self.breaker_open.with_label_values(&[&label]).set(open.into());
            }
        }
        let mut families = self.queued.collect();
        families.extend(self.breaker_open.collect());
        families
    }
}
