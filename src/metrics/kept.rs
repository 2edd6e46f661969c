//! The metrics of asynchronous calls.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGaugeVec};

use super::{
    ASYNC_CALLBACKS, ASYNC_CALLS, ASYNC_ENQUEUE, ASYNC_JOBS, ASYNC_LOOPS, ASYNC_SECONDS, Adder, CRON_CALLS,
    FUNCTION_NAME, WORKER_INFLIGHT, WORKER_PROCESSED, WORKER_SUBMITTED,
};

/// Label of the queue that OpenFaaS Pro's names have.
pub(super) const QUEUE_NAME: &str = "queue_name";
/// Label of the process that they have.
const POD_NAME: &str = "kubernetes_pod_name";

/// Calls that are kept, made and told of.
pub struct Kept {
    calls: IntCounterVec,
    seconds: Histogram,
    enqueue: Histogram,
    callbacks: IntCounterVec,
    loops: IntCounter,
    cron: IntCounterVec,
    submitted: IntCounterVec,
    processed: IntCounterVec,
    in_flight: IntGaugeVec,
    /// Calls under way by queue and function. A series goes with the last of them.
    under_way: Mutex<BTreeMap<[String; 2], i64>>,
    jobs: IntGaugeVec,
    /// The series of `jobs`.
    counted: Mutex<BTreeMap<(String, &'static str), u64>>,
    /// What this process is known by: its host, which in a cluster is its pod.
    pod: String,
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
            submitted: add.counters(
                WORKER_SUBMITTED,
                "Asynchronous calls that were kept.",
                &[QUEUE_NAME, POD_NAME],
            ),
            processed: add.counters(
                WORKER_PROCESSED,
                "Tries of asynchronous calls.",
                &[QUEUE_NAME, POD_NAME],
            ),
            in_flight: add.gauges(
                WORKER_INFLIGHT,
                "Asynchronous calls under way.",
                &[QUEUE_NAME, FUNCTION_NAME],
            ),
            under_way: Mutex::default(),
            jobs: add.gauges(
                ASYNC_JOBS,
                "Asynchronous calls and what they led to, by state.",
                &[FUNCTION_NAME, "state"],
            ),
            counted: Mutex::default(),
            pod: nix::unistd::gethostname()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
        }
    }

    /// A call of a function begins; it is under way as long as the value lives.
    pub fn begins(&self, queue: &str, function: String) -> UnderWay<'_> {
        let labels = [queue.to_owned(), function];
        self.add(&labels, 1);
        UnderWay { kept: self, labels }
    }

    fn add(&self, labels: &[String; 2], change: i64) {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let count = under_way.entry(labels.clone()).or_default();
        *count += change;
        if *count > 0 {
            self.in_flight.with_label_values(labels).set(*count);
        } else {
            under_way.remove(labels);
            // Fails only for a series that is not there, which is what we want.
            let _ = self.in_flight.remove_label_values(labels);
        }
    }

    /// Shows how many jobs there are, by the label of the function and the state.
    pub fn count(&self, jobs: BTreeMap<(String, &'static str), u64>) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        for ((function, state), count) in &jobs {
            let labels = [function.as_str(), *state];
            self.jobs.with_label_values(&labels).set(super::clamp(*count));
        }
        for (function, state) in counted.keys().filter(|series| !jobs.contains_key(*series)) {
            // Fails only for a series that is not there, which is what we want.
            let _ = self.jobs.remove_label_values(&[function.as_str(), *state]);
        }
        *counted = jobs;
    }

    /// Counts a call by the clock; `result` is `kept`, `known` (another gateway
    /// was faster) or `failed`.
    pub fn by_the_clock(&self, result: &'static str) {
        self.cron.with_label_values(&[result]).inc();
    }

    /// Counts a try; `state` is one of a few.
    pub fn tried(&self, queue: &str, state: &'static str, took: Duration) {
        self.processed.with_label_values(&[queue, &self.pod]).inc();
        self.calls.with_label_values(&[state]).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// A new call was kept.
    pub fn submitted(&self, queue: &str) {
        self.submitted.with_label_values(&[queue, &self.pod]).inc();
    }

    /// A call was kept, or known already.
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

/// A call that is under way.
pub struct UnderWay<'k> {
    kept: &'k Kept,
    labels: [String; 2],
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.kept.add(&self.labels, -1);
    }
}
