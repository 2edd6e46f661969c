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
    /// Filled anew each time, by one reader at a time.
    gauges: Mutex<Gauges>,
}

struct Gauges {
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
            gauges: Mutex::new(Gauges {
                queued: gauge(QUEUED, "Function calls that wait for their turn."),
                breaker_open: gauge(
                    BREAKER_OPEN,
                    "1 while a function is not called because it keeps failing, else 0.",
                ),
            }),
        }
    }
}

impl Collector for Loads {
    fn desc(&self) -> Vec<&Desc> {
        // Fixed when the process starts, but behind the lock: registering without is allowed.
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let gauges = self.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        gauges.queued.reset();
        gauges.breaker_open.reset();
        for load in self.states.loads() {
            let label = load.function.to_string();
            if let Some(queued) = load.queued {
                gauges.queued.with_label_values(&[&label]).set(super::clamp(queued as u64));
            }
            if let Some(open) = load.breaker_open {
                gauges.breaker_open.with_label_values(&[&label]).set(open.into());
            }
        }
        let mut families = gauges.queued.collect();
        families.extend(gauges.breaker_open.collect());
        families
    }
}
