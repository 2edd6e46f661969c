//! What of the process's own accounts was lost, read when it is asked for: it is
//! counted in [`crate::telemetry`], where it happens.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{
    IntCounter, IntCounterVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::{ACCESS_LOG_DROPPED, LOG_DROPPED, TRACES_DROPPED, TRACES_EXPORTED, TRACES_FAILURES};
use crate::telemetry::{Counts, Lost};

/// Reads the counts.
pub(super) struct Telling {
    counts: Arc<Counts>,
    /// The counters are filled anew each time, by one reader at a time.
    reading: Mutex<()>,
    access: IntCounter,
    other: IntCounter,
    exported: IntCounter,
    failures: IntCounter,
    dropped: IntCounterVec,
}

impl Telling {
    pub(super) fn new(counts: Arc<Counts>) -> Self {
        let counter = |name: &str, help: &str| {
            IntCounter::new(name, help).expect("metric names are constants of the parent module")
        };
        let dropped = Opts::new(TRACES_DROPPED, "Spans that were not exported, by reason.");
        Self {
            counts,
            reading: Mutex::default(),
            access: counter(
                ACCESS_LOG_DROPPED,
                "Lines of the access log that were dropped because they were not read fast enough.",
            ),
            other: counter(LOG_DROPPED, "Other log lines that were dropped."),
            exported: counter(TRACES_EXPORTED, "Spans that the receiver took."),
            failures: counter(TRACES_FAILURES, "Requests to the receiver of spans that failed."),
            dropped: IntCounterVec::new(dropped, &["reason"])
                .expect("metric names and labels are constants of the parent module"),
        }
    }

    fn counters(&self) -> [&IntCounter; 4] {
        [&self.access, &self.other, &self.exported, &self.failures]
    }
}

impl Collector for Telling {
    fn desc(&self) -> Vec<&Desc> {
        let counters = self.counters();
        let single = counters.iter().flat_map(|counter| counter.desc());
        single.chain(self.dropped.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = &self.counts;
        let values = [
            counts.access_lines_dropped(),
            counts.other_lines_dropped(),
            counts.spans_exported(),
            counts.export_failures(),
        ];
        let set = |counter: &IntCounter, value| {
            counter.reset();
            counter.inc_by(value);
        };
        for (counter, value) in self.counters().into_iter().zip(values) {
            set(counter, value);
        }
        for why in Lost::ALL {
            set(
                &self.dropped.with_label_values(&[why.as_str()]),
                counts.spans_dropped(why),
            );
        }
        let counters = self.counters();
        let single = counters.iter().flat_map(|counter| counter.collect());
        single.chain(self.dropped.collect()).collect()
    }
}
