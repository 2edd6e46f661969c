//! What became of each function's replicas and why: told in the log and to those who
//! follow the events, counted in the metrics, and kept for a while for whoever asks
//! (`GET /system/scaling/{name}`).
//!
//! Decides nothing.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};

use crate::{
    events::Events,
    metrics::Metrics,
    model::{Amount, FunctionRef, ScalingChange, Timestamp},
};

/// Changes kept for each function.
const KEPT: usize = 20;

/// Who or what wanted a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The autoscaler, for a reason of [`Reason`](super::decide::Reason).
    Decided(super::decide::Reason),
    /// A call for a function without replicas.
    Activation,
    /// Somebody, by `/system/scale-function`.
    Manual,
    /// An alert.
    Alert,
    /// Somebody else, seen afterwards.
    Outside,
}

impl Cause {
    /// The cause as metrics and explanations name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decided(reason) => reason.as_str(),
            Self::Activation => "activation",
            Self::Manual => "manual",
            Self::Alert => "alert",
            Self::Outside => "outside",
        }
    }
}

/// A change of a function's replicas, or an attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// When.
    pub at: DateTime<Utc>,
    /// Replicas before, where they were known.
    pub from: Option<u64>,
    /// Replicas from then on.
    pub to: u64,
    /// Why.
    pub cause: Cause,
    /// The load that it was for, where it was for a load.
    pub load: Option<f64>,
    /// What the provider said against it.
    pub error: Option<String>,
}

impl From<Change> for ScalingChange {
    fn from(change: Change) -> Self {
        Self {
            at: Timestamp(change.at),
            from: change.from,
            to: change.to,
            reason: change.cause.as_str().to_owned(),
            load: change.load.map(Amount),
            error: change.error,
        }
    }
}

/// The latest changes of all functions.
pub struct Journal {
    metrics: Arc<Metrics>,
    events: Arc<Events>,
    functions: Mutex<HashMap<FunctionRef, VecDeque<Change>>>,
}

impl Journal {
    /// Nothing has happened yet.
    pub fn new(metrics: Arc<Metrics>, events: Arc<Events>) -> Self {
        Self {
            metrics,
            events,
            functions: Mutex::default(),
        }
    }

    /// Notes a change. The same refusal again is not told again.
    pub fn note(&self, function: &FunctionRef, change: &Change) {
        let mut functions = self.functions();
        let changes = functions.entry(function.clone()).or_default();
        let again = |last: &&mut Change| {
            last.error.is_some() && (last.to, last.cause, &last.error) == (change.to, change.cause, &change.error)
        };
        if let Some(last) = changes.back_mut().filter(again) {
            last.at = change.at;
            return;
        }
        changes.push_back(change.clone());
        while changes.len() > KEPT {
            changes.pop_front();
        }
        drop(functions);
        self.events.scaled(function, change.clone().into());
        self.events.touch(function);
        let Change {
            from, to, cause, load, ..
        } = *change;
        let reason = cause.as_str();
        if let Some(error) = &change.error {
            tracing::warn!(target: "scaling", %function, from, to, reason, load, %error, "function not scaled");
            return;
        }
        let is_down = from.map_or(to == 0, |from| to < from);
        self.metrics
            .function(&function.to_string())
            .scaled(if is_down { "down" } else { "up" }, reason);
        tracing::info!(target: "scaling", %function, from, to, reason, load, "function scaled");
    }

    /// The latest changes of a function, the newest first.
    pub fn changes(&self, function: &FunctionRef) -> Vec<Change> {
        let functions = self.functions();
        let changes = functions.get(function).into_iter().flatten();
        changes.rev().cloned().collect()
    }

    /// Lets go of functions that went away.
    pub fn retain(&self, exists: impl Fn(&FunctionRef) -> bool) {
        self.functions().retain(|function, _| exists(function));
    }

    fn functions(&self) -> MutexGuard<'_, HashMap<FunctionRef, VecDeque<Change>>> {
        self.functions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shutdown::Stop;

    #[test]
    fn the_latest_are_kept_and_refusals_told_once() {
        let metrics = Arc::new(Metrics::new());
        let journal = Journal::new(Arc::clone(&metrics), Arc::new(Events::new(1, Stop::new())));
        let function = FunctionRef::new("f", "fn");
        let change = |from, to, error: Option<&str>| Change {
            at: Utc::now(),
            from: Some(from),
            to,
            cause: Cause::Manual,
            load: None,
            error: error.map(str::to_owned),
        };
        for number in 0..30 {
            journal.note(&function, &change(number, number + 1, None));
        }
        for _ in 0..3 {
            journal.note(&function, &change(30, 31, Some("no room")));
        }
        let changes = journal.changes(&function);
        assert_eq!(changes.len(), KEPT);
        assert_eq!((changes[0].to, changes[1].to), (31, 30));
        assert_eq!(changes[0].error.as_deref(), Some("no room"));
        let text = metrics.render();
        let line = r#"gateway_scaling_decisions_total{direction="up",function_name="f.fn",reason="manual"} 30"#;
        assert!(text.lines().any(|found| found == line), "{text}");
        journal.retain(|_| false);
        assert!(journal.changes(&function).is_empty());
    }
}
