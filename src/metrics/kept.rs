//! The metrics of asynchronous calls.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntCounterVec};

use super::{ASYNC_CALLBACKS, ASYNC_CALLS, ASYNC_ENQUEUE, ASYNC_LOOPS, ASYNC_SECONDS, Adder, CRON_CALLS};

/// Calls that are kept, made and told of.
pub struct Kept {
    calls: IntCounterVec,
    seconds: Histogram,
    enqueue: Histogram,
    callbacks: IntCounterVec,
    loops: IntCounter,
    cron: IntCounterVec,
}

impl Kept {
    pub(super) fn new(add: &Adder<'_>) -> Self {
        let histogram = |name, help| add.histograms(name, help, &[]).with_label_values::<&str>(&[]);
        Self {
            calls: add.counters(
                ASYNC_CALLS,
                "Tries of asynchronous calls, by what became of the call.",
                &["state"],
            ),
            seconds: histogram(ASYNC_SECONDS, "Time of tries of asynchronous calls."),
            enqueue: histogram(ASYNC_ENQUEUE, "Time until an asynchronous call was kept for good."),
            callbacks: add.counters(ASYNC_CALLBACKS, "Callbacks by how they ended.", &["result"]),
            loops: add.metric(IntCounter::new(
                ASYNC_LOOPS,
                "Answers of asynchronous calls that went no further because they went on too often.",
            )),
            cron: add.counters(
                CRON_CALLS,
                "Calls by the clock, by what came of keeping them.",
                &["result"],
            ),
        }
    }

    /// Counts a call by the clock; `result` is `kept`, `known` (another gateway
    /// was faster) or `failed`.
    pub fn by_the_clock(&self, result: &'static str) {
        self.cron.with_label_values(&[result]).inc();
    }

    /// Counts a try; `state` is one of a few.
    pub fn tried(&self, state: &'static str, took: Duration) {
        self.calls.with_label_values(&[state]).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// A call was kept.
    pub fn enqueued(&self, took: Duration) {
        self.enqueue.observe(took.as_secs_f64());
    }

    /// An answer went no further, because it went on too often.
    pub fn refused(&self) {
        self.loops.inc();
    }

    /// Counts a callback; `result` is `sent`, `failed`, `denied` or `cancelled`.
    pub fn callback(&self, result: &'static str) {
        self.callbacks.with_label_values(&[result]).inc();
    }
}
