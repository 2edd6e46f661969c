//! Joining two connections after `101 Switching Protocols`.

use std::io;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

/// Copies bytes both ways until both sides have closed, and returns how many
/// went up and down. Dropping the future closes both connections.
///
/// # Errors
/// When either side did not switch or its connection failed.
pub async fn join(downstream: OnUpgrade, upstream: OnUpgrade) -> io::Result<(u64, u64)> {
    let (downstream, upstream) = tokio::try_join!(downstream, upstream).map_err(io::Error::other)?;
    tokio::io::copy_bidirectional(&mut TokioIo::new(downstream), &mut TokioIo::new(upstream)).await
}
