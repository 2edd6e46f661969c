//! What is known of the functions of a provider that does not track replicas
//! itself. Read by every call, so without a lock.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::can_serve;
use crate::model::{FunctionRef, FunctionStatus};

/// Facts kept at most; beyond it the oldest knowledge is dropped and asked for again.
const MAX_FACTS: usize = 10_000;

/// What was last seen of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fact {
    ready: bool,
    /// Until when that is believed.
    until: Instant,
}

/// The facts about all functions.
#[derive(Debug, Default)]
pub(super) struct Facts {
    facts: ArcSwap<HashMap<FunctionRef, Fact>>,
    /// Counts what was forgotten, so that what was read before does not come back.
    forgotten: AtomicU64,
}

impl Facts {
    /// Whether a function is known to have a replica.
    pub(super) fn is_ready(&self, function: &FunctionRef) -> bool {
        let facts = self.facts.load();
        facts
            .get(function)
            .is_some_and(|fact| fact.ready && fact.until >= Instant::now())
    }

    /// Forgets what is known of a function, because it was changed.
    pub(super) fn forget(&self, function: &FunctionRef) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        self.facts.rcu(|facts| {
            let mut facts = HashMap::clone(facts);
            facts.retain(|known, _| !known.may_be(function));
            facts
        });
    }

    /// What [`Facts::learn_all`] must be given; taken before the list is read.
    pub(super) fn version(&self) -> u64 {
        self.forgotten.load(Ordering::SeqCst)
    }

    /// Takes what a list of all functions says, which is believed so long. Nothing
    /// is taken when something changed since `version`.
    pub(super) fn learn_all<'s>(
        &self,
        listed: impl Iterator<Item = &'s FunctionStatus>,
        default_namespace: &str,
        version: u64,
        believed: Duration,
    ) {
        let until = Instant::now() + believed;
        let mut learnt = HashMap::new();
        for status in listed.take(MAX_FACTS) {
            let (function, ready) = (status.function(), can_serve(status));
            if function.namespace == default_namespace {
                learnt.insert(FunctionRef::new(&*status.name, ""), Fact { ready, until });
            }
            learnt.insert(function, Fact { ready, until });
        }
        if self.version() == version {
            self.facts.store(Arc::new(learnt));
        }
    }

    /// Takes what was said of one function; whether that is that it has a replica.
    pub(super) fn learn(&self, function: &FunctionRef, status: &FunctionStatus, believed: Duration) -> bool {
        let ready = can_serve(status);
        let until = Instant::now() + believed;
        self.facts.rcu(|facts| {
            let mut facts = HashMap::clone(facts);
            if facts.len() >= MAX_FACTS && !facts.contains_key(function) {
                facts.clear();
            }
            // What a list said may be believed for longer.
            let known = facts.entry(function.clone()).or_insert(Fact { ready, until });
            if known.ready != ready || known.until < until {
                *known = Fact { ready, until };
            }
            facts
        });
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(available: u64) -> FunctionStatus {
        let text = format!(r#"{{"name":"f","namespace":"fn","image":"i","availableReplicas":{available}}}"#);
        crate::model::from_json(text.as_bytes()).expect("a status")
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_ends_is_forgotten_and_does_not_come_back() {
        let (facts, named, bare) = (Facts::default(), FunctionRef::new("f", "fn"), FunctionRef::new("f", ""));
        let second = Duration::from_secs(1);
        assert!(!facts.is_ready(&named));
        assert!(facts.learn(&named, &status(1), second));
        assert!(facts.is_ready(&named) && !facts.is_ready(&bare));
        tokio::time::advance(2 * second).await;
        assert!(!facts.is_ready(&named));

        let version = facts.version();
        facts.learn_all([status(2)].iter(), "fn", version, 5 * second);
        assert!(facts.is_ready(&named) && facts.is_ready(&bare));
        // The shorter belief does not end the longer one; another fact does.
        facts.learn(&named, &status(1), second);
        tokio::time::advance(2 * second).await;
        assert!(facts.is_ready(&named));
        facts.learn(&named, &status(0), second);
        assert!(!facts.is_ready(&named));

        let version = facts.version();
        facts.forget(&bare);
        facts.learn_all([status(1)].iter(), "fn", version, second);
        assert!(
            !facts.is_ready(&named) && !facts.is_ready(&bare),
            "read before it changed"
        );
    }
}
