//! The gauge of asynchronous calls that are due, read when it is asked for.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use prometheus::{
    IntGaugeVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::{FUNCTION_NAME, WORKER_PENDING, kept::QUEUE_NAME};

/// Calls that are due.
#[derive(Debug, Clone, Default)]
pub struct Waiting {
    /// Name of the queue.
    pub queue: String,
    /// How many, by the label of the function.
    pub jobs: BTreeMap<String, u64>,
}

/// Reads what waits.
pub(super) struct Gauges<W> {
    waiting: W,
    /// The gauge is filled anew each time, by one reader at a time.
    reading: Mutex<()>,
    pending: IntGaugeVec,
}

impl<W: Fn() -> Waiting + Send + Sync> Gauges<W> {
    pub(super) fn new(waiting: W) -> Self {
        let help = "Asynchronous calls that are due and wait.";
        Self {
            waiting,
            reading: Mutex::default(),
            pending: IntGaugeVec::new(Opts::new(WORKER_PENDING, help), &[QUEUE_NAME, FUNCTION_NAME])
                .expect("metric names and labels are constants of the parent module"),
        }
    }
}

impl<W: Fn() -> Waiting + Send + Sync> Collector for Gauges<W> {
    fn desc(&self) -> Vec<&Desc> {
        self.pending.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        self.pending.reset();
        let Waiting { queue, jobs } = (self.waiting)();
        for (function, count) in jobs {
            self.pending
                .with_label_values(&[&*queue, &*function])
                .set(super::clamp(count));
        }
        self.pending.collect()
    }
}
