//! Where a message's body ends (RFC 9112 section 6.3). Pure.

use super::chunked::{Chunked, Malformed, Runs};

/// What is left of a body.
#[derive(Debug, Clone)]
pub enum Body {
    /// Nothing: it ended, or there is none.
    Ended,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunked),
    /// Everything until the connection closes; answers only.
    UntilClose,
}

impl Body {
    /// A body of so many bytes.
    pub fn of(length: u64) -> Self {
        if length == 0 { Self::Ended } else { Self::Length(length) }
    }

    /// Whether there is nothing left of it.
    pub fn is_ended(&self) -> bool {
        matches!(self, Self::Ended)
    }

    /// The bytes of data that are left, where that is known.
    pub fn known_length(&self) -> Option<u64> {
        match self {
            Self::Ended => Some(0),
            Self::Length(left) => Some(*left),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    /// Takes what `bytes` has of the body, and says which of them are passed on.
    ///
    /// # Errors
    /// When this is no such body.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Runs, Malformed> {
        let runs = match self {
            Self::Ended => Runs::all(0, true),
            Self::Length(left) => {
                let taken = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= taken as u64;
                Runs::all(taken, *left == 0)
            }
            Self::Chunked(chunked) => chunked.read(bytes)?,
            Self::UntilClose => Runs::all(bytes.len(), false),
        };
        if runs.ended {
            *self = Self::Ended;
        }
        Ok(runs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_end_where_their_length_says() {
        let mut body = Body::of(5);
        assert_eq!(body.take(b"hel").expect("a body"), Runs::all(3, false));
        assert_eq!(body.known_length(), Some(2));
        assert_eq!(body.take(b"loGET").expect("a body"), Runs::all(2, true));
        assert!(body.is_ended());
        assert_eq!(body.take(b"GET").expect("a body"), Runs::all(0, true));
        assert!(Body::of(0).is_ended());
        let mut body = Body::UntilClose;
        assert_eq!(body.take(b"all").expect("a body"), Runs::all(3, false));
        assert_eq!(body.known_length(), None);
    }
}
