//! One deployed function: what is wanted, what is there, and where its calls go.
//!
//! Requests read [`View`], which the function's supervisor replaces; they never
//! wait for it.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::{logs::Logs, store::Record};
use crate::{
    model::FunctionRef,
    provider::{ProviderError, Result},
    upstream::{Endpoint, left_out},
};

/// A function and its replicas.
#[derive(Debug)]
pub(super) struct Function {
    /// Its name and namespace; the namespace is never empty.
    pub(super) name: FunctionRef,
    /// Names this incarnation.
    pub(super) uid: String,
    /// What its replicas wrote.
    pub(super) logs: Logs,
    /// Where its secrets are put; a directory for each revision.
    pub(super) secrets: PathBuf,
    /// What is wanted.
    pub(super) desired: watch::Sender<Desired>,
    /// What is there.
    pub(super) view: ArcSwap<View>,
}

/// What is wanted of a function.
#[derive(Debug, Clone)]
pub(super) struct Desired {
    /// What is kept on disk.
    pub(super) record: Arc<Record>,
    /// Counts every change.
    pub(super) sequence: u64,
    /// Whether the function was deleted.
    pub(super) removed: bool,
}

/// What a function's supervisor last saw.
#[derive(Debug, Default)]
pub(super) struct View {
    /// The change of [`Desired`] that this follows.
    pub(super) sequence: u64,
    /// Replicas that take calls.
    pub(super) ready: Vec<Arc<Endpoint>>,
    /// Watchdogs of all replicas that run.
    pub(super) pids: Vec<u32>,
    /// Why the last replica that ended by itself did, and when it is started
    /// again; until a replica is ready.
    pub(super) trouble: Option<(String, Duration)>,
}

/// Shortest time after which calling again can make sense.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Function {
    /// A function without replicas yet.
    pub(super) fn new(name: FunctionRef, record: Record, logs: Logs, secrets: PathBuf) -> Self {
        Self {
            name,
            uid: record.uid.clone(),
            logs,
            secrets,
            desired: watch::Sender::new(Desired {
                record: Arc::new(record),
                sequence: 1,
                removed: false,
            }),
            view: ArcSwap::default(),
        }
    }

    /// What is kept on disk.
    pub(super) fn record(&self) -> Arc<Record> {
        Arc::clone(&self.desired.borrow().record)
    }

    /// Wants something else from now on. Returns the number of the change.
    pub(super) fn want(&self, record: Record) -> u64 {
        let mut sequence = 0;
        self.desired.send_modify(|desired| {
            desired.record = Arc::new(record);
            desired.sequence += 1;
            sequence = desired.sequence;
        });
        sequence
    }

    /// Wants the function gone.
    pub(super) fn remove(&self) {
        self.desired.send_modify(|desired| {
            desired.removed = true;
            desired.sequence += 1;
        });
    }

    /// The replica that takes the next call.
    ///
    /// # Errors
    /// `NotReady`, saying why no replica takes calls.
    pub(super) fn endpoint(&self) -> Result<Arc<Endpoint>> {
        let view = self.view.load();
        if let Some(endpoint) = choose_healthy(&view.ready, |bound| rand::random_range(0..bound)) {
            return Ok(endpoint);
        }
        let (reason, retry_after) = match &view.trouble {
            _ if self.record().replicas == 0 => (format!("function {} is scaled to zero", self.name), RETRY_AFTER),
            Some((ended, wait)) => (
                format!(
                    "function {} is not ready: its replica ended ({ended}) and is started again",
                    self.name
                ),
                (*wait).max(RETRY_AFTER),
            ),
            None => (format!("function {} is starting", self.name), RETRY_AFTER),
        };
        Err(ProviderError::NotReady {
            reason,
            retry_after,
            setting: None,
        })
    }
}

/// As [`choose`], without the endpoints that are ejected because they keep
/// failing. Where none is, which is nearly always, that costs a load for each.
fn choose_healthy(ready: &[Arc<Endpoint>], random: impl FnMut(usize) -> usize) -> Option<Arc<Endpoint>> {
    if !ready.iter().any(|endpoint| endpoint.health().is_suspect()) {
        return choose(ready, random).cloned();
    }
    let now = Instant::now();
    let left: Vec<_> = ready
        .iter()
        .map(|endpoint| endpoint.health().ejected_for(now))
        .collect();
    let out = left_out(&left);
    let healthy: Vec<_> = ready
        .iter()
        .zip(out)
        .filter(|(_, out)| !out)
        .map(|(endpoint, _)| Arc::clone(endpoint))
        .collect();
    choose(&healthy, random).cloned()
}

/// The less busy of two endpoints taken at random: nearly as even as looking at
/// all of them, and callers that decide at the same moment do not all pick one.
fn choose(ready: &[Arc<Endpoint>], mut random: impl FnMut(usize) -> usize) -> Option<&Arc<Endpoint>> {
    let [first, rest @ ..] = ready else { return None };
    if rest.is_empty() {
        return Some(first);
    }
    let one = random(ready.len());
    // Skips `one`, so that the two always differ.
    let other = (one + 1 + random(ready.len() - 1)) % ready.len();
    let (one, other) = (&ready[one], &ready[other]);
    Some(if other.in_flight() < one.in_flight() {
        other
    } else {
        one
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{Address, PoolLimits};

    #[test]
    fn calls_go_to_the_less_busy_of_two() {
        let endpoints: Vec<_> = (0..3)
            .map(|number| Endpoint::new(Address::Unix(format!("/{number}").into()), PoolLimits::default()))
            .collect();
        let _busy = [endpoints[0].begin(), endpoints[2].begin(), endpoints[2].begin()];
        for (first, second, expected) in [(0, 0, 1), (1, 0, 1), (2, 0, 0), (2, 1, 1), (0, 1, 0)] {
            let mut answers = [first, second].into_iter();
            let chosen = choose(&endpoints, |_| answers.next().expect("asked twice")).expect("some");
            assert!(
                Arc::ptr_eq(chosen, &endpoints[expected]),
                "{first} {second}: {chosen:?}"
            );
        }
        assert!(choose(&endpoints[..1], |_| unreachable!("nothing to choose")).is_some());
        assert!(choose(&[], |_| unreachable!("nothing to choose")).is_none());
    }

    #[test]
    fn calls_do_not_go_to_an_ejected_one() {
        let endpoints: Vec<_> = (0..2)
            .map(|number| Endpoint::new(Address::Unix(format!("/{number}").into()), PoolLimits::default()))
            .collect();
        let hour = Duration::from_secs(3600);
        endpoints[0].health().failed(1, hour, hour);
        let none = |_| unreachable!("nothing to choose");
        let chosen = choose_healthy(&endpoints, none).expect("some");
        assert!(Arc::ptr_eq(&chosen, &endpoints[1]));
        let only = choose_healthy(&endpoints[..1], none).expect("the last is called all the same");
        assert!(Arc::ptr_eq(&only, &endpoints[0]));
        endpoints[0].health().succeeded();
        let chosen = choose_healthy(&endpoints, |_| 0).expect("some");
        assert!(Arc::ptr_eq(&chosen, &endpoints[0]));
    }
}
