//! Invocation counts in function lists: from Prometheus where there is one,
//! else from this gateway's own counters.

use crate::{metrics::query::mix_in, model::FunctionStatus, snapshot::Snapshot};

/// Sets `invocationCount` of each function. Never fails: a list without counts
/// from Prometheus is better than none (compatibility.md section 12).
pub(super) async fn add(snapshot: &Snapshot, namespace: &str, functions: &mut [FunctionStatus]) {
    let counted = match &snapshot.prometheus {
        Some(prometheus) if !functions.is_empty() => prometheus.invocations(namespace).await,
        _ => None,
    };
    mix_in(functions, counted.as_ref(), &snapshot.metrics);
}
