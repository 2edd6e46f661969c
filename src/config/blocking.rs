//! Looking at files where that may block: a network mount that hangs must not
//! take a worker thread with it, and with that everybody's calls.

/// Runs what looks at files on a thread of its own and waits for it. Dropping
/// the future does not stop it.
pub async fn blocking<T: Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(look).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
