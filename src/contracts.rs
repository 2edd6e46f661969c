//! The functions' own contracts: OpenAPI documents that functions are annotated
//! with, checked and put together to one document of all.
//!
//! A function says in its annotation [`OPENAPI`](crate::config::OPENAPI) what it
//! takes, with the document itself or with the path where it serves it. What can
//! be said in OpenAPI 3.0 of it is kept, in names of the function's own
//! ([`Contract::read`]); [`merge`] puts such parts together; the book says when
//! which document is asked for, and what becomes of a bad one. All of this is
//! pure but for the lock in [`Contracts`]; [`crate::app`] does the asking, and
//! [`crate::api`] serves what came of it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::model::FunctionRef;

mod book;
mod document;
mod grammar;
mod merge;
mod names;
mod older;
mod reading;

pub use book::{Asked, Build, Saved, Seen, Source};
pub use document::{Contract, Wrong};

use book::Book;

/// What is known of all functions' contracts. One for the process.
#[derive(Debug, Default)]
pub struct Contracts(Mutex<Book>);

impl Contracts {
    /// Remembers documents that an earlier gateway has fetched, in place of those
    /// it remembered, until it learns of their functions.
    pub fn remember(&self, saved: Vec<Saved>) {
        self.book().remember(saved);
    }

    /// Learns which functions there are. What is not listed any more is forgotten.
    ///
    /// Returns what has become wrong with whose document, for the log.
    pub fn learn(&self, seen: Vec<Seen>, now: Instant) -> Vec<(FunctionRef, String)> {
        self.book().learn(seen, now)
    }

    /// Documents to ask for now. Whoever takes them says what came of each:
    /// [`Contracts::answered`].
    pub fn due(&self, now: Instant) -> Vec<Asked> {
        self.book().due(now)
    }

    /// How long nothing is due, unless something is learned; `None` is for ever.
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        self.book().wait(now)
    }

    /// What came of asking for a document. A good one is asked for again after
    /// `ttl`. Returns what has become wrong, for the log.
    pub fn answered(
        &self,
        asked: &Asked,
        answer: Result<Contract, Wrong>,
        now: Instant,
        ttl: Duration,
    ) -> Option<String> {
        self.book().answered(asked, answer, now, ttl)
    }

    /// Changes whenever [`Contracts::merged`] would.
    pub fn version(&self) -> u64 {
        self.book().version()
    }

    /// The document of all functions but those that are `internal`, for callers
    /// at `server`: a path or a URL, without a trailing slash.
    pub fn merged(&self, server: &str, internal: impl Fn(&FunctionRef) -> bool) -> Value {
        let shown = self.book().shown(internal);
        merge::document(server, shown)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a function is called in paths and names: without its namespace where that
/// is the default one and no part of the name would be taken for one.
pub fn label(function: &FunctionRef, default_namespace: &str) -> String {
    if function.namespace == default_namespace && !function.name.contains('.') {
        function.name.clone()
    } else {
        function.to_string()
    }
}

/// The text of the annotation among all that a function has.
pub fn annotation(all: Option<&BTreeMap<String, String>>) -> Option<&str> {
    let text = all?.get(crate::config::OPENAPI)?.trim();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_how_a_function_is_called() {
        for (name, namespace, expected) in [
            ("a", "x", "a"),
            ("a", "dev", "a.dev"),
            ("a.dev", "x", "a.dev.x"),
            ("a", "", "a"),
        ] {
            let function = FunctionRef::new(name, namespace);
            let label = label(&function, "x");
            assert_eq!(label, expected);
            if !namespace.is_empty() {
                assert_eq!(FunctionRef::parse(&label, "x"), Ok(function));
            }
        }
    }
}
