//! What is said for the record about a reload: who or what asked, and what
//! became of it.
//!
//! One line with the target `audit`, so that it can be kept apart from the
//! rest. Mistakes and warnings have lines of their own; here they are counted.
//! Keys and files are named, values never.

use std::fmt::Display;

use tracing::info;

use super::{Outcome, Verdict};

/// Writes the line. `failing` is whether the one before failed.
pub(super) fn log(outcome: &Outcome, failing: bool) {
    let message = match outcome.verdict {
        Verdict::Applied => "configuration reloaded",
        Verdict::Unchanged if failing => "configuration is the live one again",
        Verdict::Unchanged => "configuration unchanged",
        Verdict::Failed => "configuration refused",
        Verdict::Superseded => "reload refused: If-Match names another configuration",
    };
    info!(
        target: "audit",
        trigger = outcome.trigger.as_str(),
        callers = list(&outcome.callers),
        result = outcome.verdict.as_str(),
        from = outcome.from,
        to = outcome.generation,
        old_hash = %outcome.old_hash,
        hash = %outcome.hash,
        files = list(&outcome.files),
        changed = list(&outcome.changed),
        pending_restart = list(&outcome.pending_restart),
        errors = (outcome.verdict == Verdict::Failed).then_some(outcome.errors.len()),
        "{message}"
    );
}

/// Items for people; `None`, which leaves the field out, when there are none.
fn list(items: &[impl Display]) -> Option<String> {
    let items: Vec<_> = items.iter().map(ToString::to_string).collect();
    (!items.is_empty()).then(|| items.join(", "))
}
