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
    config::{CallAnnotations, FunctionSettings, QueueAnnotations},
    metrics::FunctionMetrics,
    model::{FunctionRef, FunctionStatus},
    policy::Policy,
    proxy::retry::Budget,
    queue::settings::Settings,
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

/// A function as whoever makes asynchronous calls sees it.
#[derive(Debug)]
pub struct QueuedFunction {
    /// What applies to them.
    pub settings: Settings,
    /// The annotations that they have it from.
    pub annotations: QueueAnnotations,
}

/// Functions by the name in the URL.
#[derive(Debug, Default)]
pub struct FunctionTable {
    functions: ArcSwap<HashMap<String, Arc<CalledFunction>>>,
    /// Those of which asynchronous calls were made.
    queued: ArcSwap<HashMap<FunctionRef, Arc<QueuedFunction>>>,
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

    /// A function as whoever makes asynchronous calls sees it, unless that is not known.
    pub fn queued(&self, function: &FunctionRef) -> Option<Arc<QueuedFunction>> {
        self.queued.load().get(function).cloned()
    }

    /// Remembers that. What may have changed since `version` is not remembered.
    pub fn insert_queued(&self, function: &FunctionRef, queued: &Arc<QueuedFunction>, version: u64) {
        self.queued.rcu(|table| {
            let mut next = HashMap::clone(table);
            if self.version() == version {
                next.insert(function.clone(), Arc::clone(queued));
            }
            next
        });
    }

    /// Lets go of functions whose annotations are not those that they were
    /// resolved with: somebody changed them elsewhere.
    pub fn compare<'s>(&self, listed: impl Iterator<Item = &'s FunctionStatus>) {
        let (table, queued) = (self.functions.load(), self.queued.load());
        let annotated = |known: &&Arc<CalledFunction>| known.annotated;
        if queued.is_empty() && !table.values().any(|known| annotated(&known)) {
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
        for (function, known) in queued.iter() {
            let mut listed = by_name.get(function.name.as_str()).into_iter().flatten();
            let is_current = |status: &&FunctionStatus| {
                function.may_be(&status.function())
                    && known.annotations == QueueAnnotations::of(status.annotations.as_ref())
            };
            if !listed.any(is_current) {
                self.forget(function);
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
        self.queued.rcu(|table| {
            let kept = table.iter().filter(|(known, _)| !known.may_be(function));
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
