//! What a call needs to know of its function, resolved once and kept.
//!
//! Keyed by the name as it stands in URLs, or by route and name for calls on
//! routes, so that a warm call costs one look-up and no parsing. Only functions
//! that exist get in, which bounds the table and the label values of the metrics.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;

use crate::{
    config::{CallAnnotations, FunctionSettings},
    metrics::FunctionMetrics,
    model::{FunctionRef, FunctionStatus},
    policy::Policy,
    proxy::retry::Budget,
};

/// A function as calls see it.
#[derive(Debug)]
pub struct CalledFunction {
    /// Its name and namespace.
    pub function: FunctionRef,
    /// Its counters; `None` while it is not known to exist.
    pub metrics: Option<Arc<FunctionMetrics>>,
    /// What applies to its calls.
    pub settings: FunctionSettings,
    /// Whether `settings` leave something to its annotations.
    pub annotated: bool,
    /// What they have from them; `None` where nothing is left to them, and where
    /// they could not be read.
    pub annotations: Option<CallAnnotations>,
    /// How many of its calls may be tried again; with `settings.retries` only.
    pub budget: Option<Arc<Budget>>,
    /// How its settings hold calls up and change them; `None` is not at all.
    pub policy: Option<Arc<Policy>>,
}

/// Functions by the name in the URL.
#[derive(Debug, Default)]
pub struct FunctionTable {
    functions: ArcSwap<HashMap<String, Arc<CalledFunction>>>,
    /// Counts what was forgotten, so that what was read before does not come back.
    forgotten: AtomicU64,
}

impl FunctionTable {
    /// The function of this name, unless it is new or went away meanwhile.
    pub fn get(&self, name: &str) -> Option<Arc<CalledFunction>> {
        let table = self.functions.load();
        let found = table.get(name)?;
        let gone = found.metrics.as_ref().is_none_or(|metrics| metrics.is_forgotten());
        (!gone).then(|| Arc::clone(found))
    }

    /// What [`FunctionTable::insert`] must be given; taken before the function
    /// is looked at.
    pub fn version(&self) -> u64 {
        self.forgotten.load(Ordering::SeqCst)
    }

    /// Remembers a function that is known to exist, and lets go of those that
    /// went away. One that may have changed since `version` is not remembered.
    pub fn insert(&self, name: &str, function: &Arc<CalledFunction>, version: u64) {
        self.functions.rcu(|table| {
            if self.version() != version {
                return Arc::clone(table);
            }
            let mut next: HashMap<_, _> = table
                .iter()
                .filter(|(_, known)| known.metrics.as_ref().is_some_and(|metrics| !metrics.is_forgotten()))
                .map(|(name, known)| (name.clone(), Arc::clone(known)))
                .collect();
            next.insert(name.to_owned(), Arc::clone(function));
            Arc::new(next)
        });
    }

    /// Lets go of functions whose annotations are not those that they were
    /// resolved with: somebody changed them elsewhere.
    pub fn compare<'s>(&self, listed: impl Iterator<Item = &'s FunctionStatus>) {
        let table = self.functions.load();
        let annotated = |known: &&Arc<CalledFunction>| known.annotated;
        if !table.values().any(|known| annotated(&known)) {
            return;
        }
        let mut by_name: HashMap<&str, Vec<&FunctionStatus>> = HashMap::new();
        for status in listed {
            by_name.entry(&status.name).or_default().push(status);
        }
        for known in table.values().filter(annotated) {
            let listed = by_name.get(known.function.name.as_str());
            if !known.is_current(listed.into_iter().flatten().copied()) {
                self.forget(&known.function);
            }
        }
    }

    /// Lets go of a function that was changed: its annotations may have been.
    pub fn forget(&self, function: &FunctionRef) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        self.functions.rcu(|table| {
            let kept = table.iter().filter(|(_, known)| !known.function.may_be(function));
            let next: HashMap<_, _> = kept.map(|(name, known)| (name.clone(), Arc::clone(known))).collect();
            next
        });
    }
}

impl CalledFunction {
    /// Whether it was resolved with the annotations that one of these has, which
    /// may be it; so also when none may.
    fn is_current<'s>(&self, listed: impl Iterator<Item = &'s FunctionStatus>) -> bool {
        let mut may_be_it = listed
            .filter(|status| self.function.may_be(&status.function()))
            .peekable();
        let same = |status: &FunctionStatus| self.annotations == Some(CallAnnotations::of(status.annotations.as_ref()));
        may_be_it.peek().is_none() || may_be_it.any(same)
    }
}
