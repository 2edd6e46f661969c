//! What is said for the record about a reload: who or what asked, and what
//! became of it.
//!
//! One line with the target `audit`, so that it can be kept apart from the
//! rest, and a span where spans are exported. Mistakes and warnings have lines of their own; here they are counted.
//! Keys and files are named, values never.

use std::fmt::Display;

use tracing::info;

use super::{Outcome, Verdict};
use crate::trace::{Span, SpanId, SpanKind, TraceContext, TraceId, Value};

/// What a span says of a reload, for which OpenTelemetry has no names.
const TRIGGER: &str = "faas_gateway.reload.trigger";
const RESULT: &str = "faas_gateway.reload.result";
const GENERATION: &str = "faas_gateway.generation";

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

/// The span of a reload that changed something or was to, in a trace of its own:
/// there are few, so each is recorded.
pub(super) fn span(outcome: &Outcome, (trace, span): (u128, u64)) -> Option<Span> {
    let failed = match outcome.verdict {
        Verdict::Applied => false,
        Verdict::Failed => true,
        Verdict::Unchanged | Verdict::Superseded => return None,
    };
    let generation = i64::try_from(outcome.generation).unwrap_or(i64::MAX);
    Some(Span {
        context: TraceContext::root(TraceId::new(trace), SpanId::new(span), true),
        parent: None,
        state: String::new(),
        name: "reload".to_owned(),
        kind: SpanKind::Internal,
        began: outcome.began.into(),
        ended: outcome.at.into(),
        attributes: vec![
            (TRIGGER, outcome.trigger.as_str().into()),
            (RESULT, outcome.verdict.as_str().into()),
            (GENERATION, Value::Number(generation)),
        ],
        failed,
    })
}

/// Items for people; `None`, which leaves the field out, when there are none.
fn list(items: &[impl Display]) -> Option<String> {
    let items: Vec<_> = items.iter().map(ToString::to_string).collect();
    (!items.is_empty()).then(|| items.join(", "))
}
