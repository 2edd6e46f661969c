//! Whether a call in HTTP/2 that got no answer was ever begun (RFC 9113 section
//! 8.7). What follows from that is not decided here.

use std::error::Error as _;

/// Why a request got no answer.
pub(super) enum Failed {
    /// The connection did not take it.
    Unsent,
    /// It may have been sent.
    Sent(hyper::Error),
}

/// What became of a call that got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was never begun, because its connection is being closed.
    Closing,
    /// It was never begun, because its server has too much to do.
    Refused,
    /// It may have been.
    Unknown,
}

impl Failed {
    /// What the error says about the call.
    pub(super) fn fate(&self) -> Fate {
        let Self::Sent(error) = self else {
            return Fate::Closing;
        };
        let Some(error) = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>()) else {
            return Fate::Unknown;
        };
        if error.is_go_away() && error.is_remote() {
            // Told of a stream only where it is beyond the last one that was begun.
            Fate::Closing
        } else if error.is_reset() && error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM) {
            Fate::Refused
        } else {
            Fate::Unknown
        }
    }
}
