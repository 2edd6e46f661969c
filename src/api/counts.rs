//! Invocation counts in function lists: from Prometheus where there is one,
//! else from this gateway's own counters.

use crate::{
    metrics::query::{Prometheus, mix_in},
    model::FunctionStatus,
    snapshot::Snapshot,
};

/// Sets `invocationCount` of each function. Never fails: a list without counts
/// from Prometheus is better than none (compatibility.md section 12).
pub(super) async fn add(snapshot: &Snapshot, namespace: &str, functions: &mut [FunctionStatus]) {
    let counted = match Prometheus::new(&snapshot.config.prometheus) {
        Ok(Some(prometheus)) if !functions.is_empty() => prometheus.invocations(namespace).await,
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(%error, "prometheus cannot be asked; using this gateway's own counts");
            None
        }
    };
    mix_in(functions, counted.as_ref(), &snapshot.metrics);
}
