//! Which of a route's calls are copied, and where to. Chance is an argument.

use super::split::Target;
use crate::config::{self, Ratio};

/// Largest request body that is copied, unless the route says otherwise.
const MAX_BODY: u64 = 64 * 1024;

/// A function that gets copies of a route's calls.
#[derive(Debug)]
pub struct Mirror {
    /// The function.
    pub target: Target,
    /// Largest request body that is copied, in bytes; calls with a larger one are not.
    pub max_body: u64,
    share: Ratio,
}

impl Mirror {
    pub(super) fn new(route: usize, written: &config::Mirror) -> Self {
        Self {
            target: Target::alone(route, &written.function),
            max_body: written.max_body.map_or(MAX_BODY, |size| size.0),
            share: written.share.unwrap_or(Ratio::ALL),
        }
    }

    /// Whether a call is copied, for a number in `[0, 1)`.
    pub fn takes(&self, number: f64) -> bool {
        number < self.share.as_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_decides_and_all_is_the_default() {
        let mirror = |share: Option<&str>| {
            Mirror::new(
                3,
                &config::Mirror {
                    function: "shadow".to_owned(),
                    share: share.and_then(Ratio::parse),
                    max_body: None,
                },
            )
        };
        for (share, number, expected) in [
            (None, 0.999_999, true),
            (Some("10%"), 0.099, true),
            (Some("10%"), 0.1, false),
            (Some("1"), 0.999_999, true),
        ] {
            assert_eq!(mirror(share).takes(number), expected, "{share:?} {number}");
        }
        assert_eq!(&*mirror(None).target.key, "3/shadow");
        assert_eq!(mirror(None).max_body, 65536);
    }
}
