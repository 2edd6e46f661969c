//! What systemd is told of this process: ready, reading its configuration
//! again, stopping (`Type=notify` and `Type=notify-reload`).
//!
//! Without `NOTIFY_SOCKET`, which systemd sets and the library reads, nothing
//! is sent. A message that cannot be sent is logged and changes nothing else.

use sd_notify::NotifyState;

/// Calls are taken; after [`reloading`], that the reload is over, whatever came of it.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The configuration is read again because of SIGHUP. [`ready`] must follow.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the clock cannot be read; systemd is not told of the reload"),
    }
}

/// No new calls are taken.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd cannot be told: is NOTIFY_SOCKET right?");
    }
}
