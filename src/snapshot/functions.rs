//! What a call needs to know of its function, resolved once and kept.
//!
//! Keyed by the name as it stands in URLs, so that a warm call costs one look-up
//! and no parsing. Only functions that exist get in, which bounds the table and
//! the label values of the metrics.

use std::{collections::HashMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;

use crate::{metrics::FunctionMetrics, model::FunctionRef};

/// A function as calls see it.
#[derive(Debug)]
pub struct CalledFunction {
    /// Its name and namespace.
    pub function: FunctionRef,
    /// Its counters; `None` while it is not known to exist.
    pub metrics: Option<Arc<FunctionMetrics>>,
    /// Bound on its whole answer, and the key that set it.
    pub answer_timeout: (Duration, &'static str),
    /// Whether only the internal listener leads to it.
    pub internal: bool,
}

/// Functions by the name in the URL.
#[derive(Debug, Default)]
pub struct FunctionTable(ArcSwap<HashMap<String, Arc<CalledFunction>>>);

impl FunctionTable {
    /// The function of this name, unless it is new or went away meanwhile.
    pub fn get(&self, name: &str) -> Option<Arc<CalledFunction>> {
        let table = self.0.load();
        let found = table.get(name)?;
        let gone = found.metrics.as_ref().is_none_or(|metrics| metrics.is_forgotten());
        (!gone).then(|| Arc::clone(found))
    }

    /// Remembers a function that is known to exist, and lets go of those that
    /// went away.
    pub fn insert(&self, name: &str, function: &Arc<CalledFunction>) {
        self.0.rcu(|table| {
            let mut next: HashMap<_, _> = table
                .iter()
                .filter(|(_, known)| known.metrics.as_ref().is_some_and(|metrics| !metrics.is_forgotten()))
                .map(|(name, known)| (name.clone(), Arc::clone(known)))
                .collect();
            next.insert(name.to_owned(), Arc::clone(function));
            next
        });
    }
}
