//! The gauges of functions that are called by the clock, read when they are asked
//! for.

use std::sync::{Mutex, PoisonError};

use prometheus::{
    IntGaugeVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::{CRON_MISTAKES, CRON_NEXT, FUNCTION_NAME};
use crate::queue::cron::Shown;

/// Reads what there is to show.
pub(super) struct Gauges<S> {
    shown: S,
    /// The gauges are filled anew each time, by one reader at a time.
    reading: Mutex<()>,
    next: IntGaugeVec,
    mistakes: IntGaugeVec,
}

impl<S: Fn() -> Vec<Shown> + Send + Sync> Gauges<S> {
    pub(super) fn new(shown: S) -> Self {
        let gauge = |name: &str, help: &str| {
            IntGaugeVec::new(Opts::new(name, help), &[FUNCTION_NAME])
                .expect("metric names and labels are constants of the parent module")
        };
        Self {
            shown,
            reading: Mutex::default(),
            next: gauge(
                CRON_NEXT,
                "When the clock calls a function next, in seconds since 1970.",
            ),
            mistakes: gauge(
                CRON_MISTAKES,
                "What is wrong with the annotations of a function that the clock is to call.",
            ),
        }
    }
}

impl<S: Fn() -> Vec<Shown> + Send + Sync> Collector for Gauges<S> {
    fn desc(&self) -> Vec<&Desc> {
        [self.next.desc(), self.mistakes.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        self.next.reset();
        self.mistakes.reset();
        for shown in (self.shown)() {
            let label = [shown.function.to_string()];
            if let Some(next) = shown.next {
                self.next.with_label_values(&label).set(next.timestamp());
            }
            self.mistakes
                .with_label_values(&label)
                .set(super::clamp(shown.mistakes as u64));
        }
        let mut families = self.next.collect();
        families.extend(self.mistakes.collect());
        families
    }
}
