//! What is known of asynchronous calls that wait, read when it is asked for.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use prometheus::{
    GaugeVec, IntCounter, IntGaugeVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::{ASYNC_OLDEST, FUNCTION_NAME, NATS_RECONNECTS, WORKER_PENDING, WORKER_RECONNECTS, kept::QUEUE_NAME};

/// Calls that are due.
#[derive(Debug, Clone, Default)]
pub struct Waiting {
    /// Name of the queue.
    pub queue: String,
    /// By the label of the function.
    pub functions: BTreeMap<String, Depth>,
    /// How often the connection to NATS was made again, where there is one.
    pub reconnects: Option<u64>,
}

/// Calls of one function that are due.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// How many.
    pub jobs: u64,
    /// How long the first of them has been due.
    pub oldest: Duration,
}

/// Reads what waits.
pub(super) struct Gauges<W> {
    waiting: W,
    /// The gauges are filled anew each time, by one reader at a time.
    reading: Mutex<()>,
    pending: IntGaugeVec,
    oldest: GaugeVec,
    reconnects: [IntCounter; 2],
}

const CONSTANT: &str = "metric names and labels are constants of the parent module";

impl<W: Fn() -> Waiting + Send + Sync> Gauges<W> {
    pub(super) fn new(waiting: W) -> Self {
        let pending = Opts::new(WORKER_PENDING, "Asynchronous calls that are due and wait.");
        let oldest = Opts::new(
            ASYNC_OLDEST,
            "How long the oldest asynchronous call has been due and waits.",
        );
        let help = "How often the connection to NATS was made again.";
        Self {
            waiting,
            reading: Mutex::default(),
            pending: IntGaugeVec::new(pending, &[QUEUE_NAME, FUNCTION_NAME]).expect(CONSTANT),
            oldest: GaugeVec::new(oldest, &[FUNCTION_NAME]).expect(CONSTANT),
            reconnects: [NATS_RECONNECTS, WORKER_RECONNECTS].map(|name| IntCounter::new(name, help).expect(CONSTANT)),
        }
    }
}

impl<W: Fn() -> Waiting + Send + Sync> Collector for Gauges<W> {
    fn desc(&self) -> Vec<&Desc> {
        let counters = self.reconnects.iter().flat_map(Collector::desc);
        let gauges = self.pending.desc().into_iter().chain(self.oldest.desc());
        gauges.chain(counters).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        self.pending.reset();
        self.oldest.reset();
        let Waiting {
            queue,
            functions,
            reconnects,
        } = (self.waiting)();
        for (function, depth) in functions {
            self.pending
                .with_label_values(&[&*queue, &*function])
                .set(super::clamp(depth.jobs));
            self.oldest
                .with_label_values(&[&*function])
                .set(depth.oldest.as_secs_f64());
        }
        let mut families = self.pending.collect();
        families.extend(self.oldest.collect());
        if let Some(total) = reconnects {
            for counter in &self.reconnects {
                counter.inc_by(total.saturating_sub(counter.get()));
                families.extend(counter.collect());
            }
        }
        families
    }
}
