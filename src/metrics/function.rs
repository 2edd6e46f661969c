//! The metrics of one function, as cheap as the call path needs them: a call
//! costs a few atomic additions and no lock.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, core::Metric,
};

use super::Tally;

/// Status codes whose series are found without a lock. Functions answer with
/// one or two codes nearly always; further ones are found under a lock.
const FAST_CODES: usize = 6;

/// The metrics that have a `function_name`.
#[derive(Clone)]
pub(super) struct Family {
    pub(super) total: IntCounterVec,
    pub(super) seconds: HistogramVec,
    pub(super) started: IntCounterVec,
    pub(super) in_flight: IntGaugeVec,
    pub(super) refused: IntCounterVec,
    pub(super) retries: IntCounterVec,
    pub(super) decisions: IntCounterVec,
    pub(super) activation: HistogramVec,
}

/// What is counted of a function's calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calls {
    /// That were sent on.
    pub started: u64,
    /// That have ended.
    pub completed: u64,
    /// That are under way.
    pub in_flight: u64,
}

/// The metrics of one function.
pub struct FunctionMetrics {
    label: String,
    family: Family,
    started: IntCounter,
    in_flight: IntGauge,
    retries: IntCounter,
    /// Filled from the front; a slot never changes once it is set.
    fast: [OnceLock<ByCode>; FAST_CODES],
    rest: Mutex<BTreeMap<u16, ByCode>>,
    /// Codes whose series exist in the registry.
    registered: Mutex<BTreeSet<u16>>,
    /// Reasons of refusals whose series exist in the registry.
    refusals: Mutex<BTreeSet<&'static str>>,
    /// Directions and reasons of changed replicas whose series exist in the registry.
    decisions: Mutex<BTreeSet<[&'static str; 2]>>,
    /// Whether the histogram of activations exists in the registry.
    activated: Mutex<bool>,
    forgotten: AtomicBool,
}

#[derive(Clone)]
struct ByCode {
    code: u16,
    total: IntCounter,
    seconds: Histogram,
}

impl FunctionMetrics {
    pub(super) fn new(label: &str, family: &Family) -> Self {
        Self {
            label: label.to_owned(),
            started: family.started.with_label_values(&[label]),
            in_flight: family.in_flight.with_label_values(&[label]),
            retries: family.retries.with_label_values(&[label]),
            family: family.clone(),
            fast: Default::default(),
            rest: Mutex::default(),
            registered: Mutex::default(),
            refusals: Mutex::default(),
            decisions: Mutex::default(),
            activated: Mutex::default(),
            forgotten: AtomicBool::new(false),
        }
    }

    /// The value of `function_name`.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Counts a call that is about to be sent on.
    pub fn started(&self) {
        self.started.inc();
    }

    /// Counts a further try of a call.
    pub fn retried(&self) {
        self.retries.inc();
    }

    /// Counts a call as under way until the guard is dropped.
    pub fn in_flight(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// Counts a call that was not sent on, for a reason of [`Refused`](crate::policy::Refused).
    pub fn refused(&self, reason: &'static str) {
        let mut refusals = lock(&self.refusals);
        // Under the lock, so that no series comes back once they are removed.
        if !self.is_forgotten() {
            refusals.insert(reason);
            self.family.refused.with_label_values(&[&*self.label, reason]).inc();
        }
    }

    /// Counts a change of replicas; `direction` is `up` or `down`, and there are
    /// only a few reasons.
    pub fn scaled(&self, direction: &'static str, reason: &'static str) {
        let mut decisions = lock(&self.decisions);
        if !self.is_forgotten() {
            decisions.insert([direction, reason]);
            let labels = [&*self.label, direction, reason];
            self.family.decisions.with_label_values(&labels).inc();
        }
    }

    /// Counts a call that waited for a replica.
    pub fn activated(&self, wait: Duration) {
        let mut activated = lock(&self.activated);
        if !self.is_forgotten() {
            *activated = true;
            self.family
                .activation
                .with_label_values(&[&self.label])
                .observe(wait.as_secs_f64());
        }
    }

    /// What is counted now.
    pub fn calls(&self) -> Calls {
        Calls {
            started: self.started.get(),
            completed: self.invocations(),
            in_flight: self.in_flight.get().try_into().unwrap_or_default(),
        }
    }

    /// Counts a call that has ended, with the status its caller got.
    pub fn completed(&self, status: u16, elapsed: Duration) {
        let count = |by_code: &ByCode| {
            by_code.total.inc();
            by_code.seconds.observe(elapsed.as_secs_f64());
        };
        for slot in &self.fast {
            let by_code = slot.get_or_init(|| self.by_code(status));
            if by_code.code == status {
                return count(by_code);
            }
        }
        count(lock(&self.rest).entry(status).or_insert_with(|| self.by_code(status)));
    }

    /// Calls that have ended, whatever their status.
    pub fn invocations(&self) -> u64 {
        let fast: u64 = self.codes().map(|by_code| by_code.total.get()).sum();
        let rest: u64 = lock(&self.rest).values().map(|by_code| by_code.total.get()).sum();
        fast + rest
    }

    /// The same in more detail, which costs more.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally {
            in_flight: self.calls().in_flight,
            ..Tally::default()
        };
        let mut add = |by_code: &ByCode| {
            let calls = by_code.total.get();
            tally.calls += calls;
            if by_code.code >= 500 {
                tally.errors += calls;
            }
            let metric = by_code.seconds.metric();
            for (within, bucket) in tally.within.iter_mut().zip(metric.get_histogram().get_bucket()) {
                *within += bucket.cumulative_count();
            }
        };
        self.codes().for_each(&mut add);
        lock(&self.rest).values().for_each(add);
        tally
    }

    /// Whether the function went away, so that counts made here are not seen
    /// any more. If it is back, [`Metrics::function`](super::Metrics::function)
    /// has its new series.
    pub fn is_forgotten(&self) -> bool {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// Removes the series.
    pub(super) fn forget(&self) {
        let mut registered = lock(&self.registered);
        self.forgotten.store(true, Ordering::Relaxed);
        // Each removal fails only for a series that is not there, which is what we want.
        for code in std::mem::take(&mut *registered) {
            let labels = [self.label.as_str(), &code.to_string()];
            let _ = self.family.total.remove_label_values(&labels);
            let _ = self.family.seconds.remove_label_values(&labels);
        }
        for reason in std::mem::take(&mut *lock(&self.refusals)) {
            let _ = self.family.refused.remove_label_values(&[&*self.label, reason]);
        }
        for [direction, reason] in std::mem::take(&mut *lock(&self.decisions)) {
            let _ = self
                .family
                .decisions
                .remove_label_values(&[&*self.label, direction, reason]);
        }
        if std::mem::take(&mut *lock(&self.activated)) {
            let _ = self.family.activation.remove_label_values(&[&self.label]);
        }
        let _ = self.family.started.remove_label_values(&[&self.label]);
        let _ = self.family.in_flight.remove_label_values(&[&self.label]);
        let _ = self.family.retries.remove_label_values(&[&self.label]);
    }

    fn codes(&self) -> impl Iterator<Item = &ByCode> {
        self.fast.iter().filter_map(OnceLock::get)
    }

    /// The series of a code that comes up for the first time. A call that ends
    /// after its function went away must not bring a series back.
    fn by_code(&self, code: u16) -> ByCode {
        let mut registered = lock(&self.registered);
        if self.is_forgotten() {
            return ByCode::unseen(code);
        }
        registered.insert(code);
        let labels = [self.label.as_str(), &code.to_string()];
        ByCode {
            code,
            total: self.family.total.with_label_values(&labels),
            seconds: self.family.seconds.with_label_values(&labels),
        }
    }
}

impl ByCode {
    /// Counts that no registry knows.
    fn unseen(code: u16) -> Self {
        Self {
            code,
            total: IntCounter::new("unseen", "never exported").expect("a valid name"),
            seconds: Histogram::with_opts(HistogramOpts::new("unseen", "never exported")).expect("a valid name"),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for FunctionMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FunctionMetrics({}, {} calls)", self.label, self.invocations())
    }
}

/// A call counted as under way; dropping it ends the count.
#[derive(Debug)]
pub struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}
