//! What applies to the asynchronous calls of a function: from the table, or looked
//! up and put there.

use std::sync::Arc;

use crate::{
    config::QueueAnnotations,
    model::FunctionRef,
    provider::ProviderError,
    queue::settings,
    snapshot::{QueuedFunction, Snapshot},
};

/// The settings of a function. When its annotations cannot be read they are those
/// of the file, for this call.
pub(super) async fn of(snapshot: &Snapshot, function: &FunctionRef) -> Arc<QueuedFunction> {
    if let Some(known) = snapshot.functions.queued(function) {
        return known;
    }
    let version = snapshot.functions.version();
    let (annotations, is_known) = match snapshot.provider.status(function, false).await {
        Ok(status) => (QueueAnnotations::of(status.annotations.as_ref()), true),
        // The call will say so itself.
        Err(ProviderError::NotFound(_)) => (QueueAnnotations::default(), false),
        Err(error) => {
            tracing::warn!(%function, %error, "annotations cannot be read; called asynchronously without them");
            (QueueAnnotations::default(), false)
        }
    };
    let config = &snapshot.config;
    let file = config.queue_of(function);
    let (settings, mistakes) = settings::of(&config.queue, file, &annotations, config.default_namespace());
    for mistake in mistakes {
        tracing::warn!(%function, "annotation {mistake}");
    }
    let queued = Arc::new(QueuedFunction { settings, annotations });
    if is_known {
        snapshot.functions.insert_queued(function, &queued, version);
    }
    queued
}
