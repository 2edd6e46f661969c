//! How long a connection may be used.
//!
//! Connections that were opened together, after a start or a reload, should not
//! all end together, so each has a share of the bound that is its own. The bound
//! itself is asked for each time: it may change.

use std::time::{Duration, Instant};

/// The usual share, and how far shares differ from it, in thousandths.
const USUAL: u32 = 1000;
const JITTER: u32 = 100;

/// When a connection was opened, and its share of the bound.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    began: Instant,
    share: u32,
}

/// Something that has a bound on how long it may be used.
pub(super) trait Aged {
    /// How old it is.
    fn life(&self) -> Life;
}

impl Life {
    /// One that begins now.
    pub(super) fn begin() -> Self {
        Self {
            began: Instant::now(),
            share: rand::random_range(USUAL - JITTER..=USUAL + JITTER),
        }
    }

    /// Whether the connection carries no further call; zero is no bound.
    pub(super) fn is_over(self, bound: Duration) -> bool {
        !bound.is_zero() && self.is_over_at(Instant::now(), bound)
    }

    fn is_over_at(self, now: Instant, bound: Duration) -> bool {
        now.saturating_duration_since(self.began) >= bound.saturating_mul(self.share) / USUAL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_has_its_own_share_of_the_bound() {
        let began = Instant::now();
        let bound = Duration::from_secs(100);
        for (share, lasts) in [(900, 90), (1000, 100), (1100, 110)] {
            let life = Life { began, share };
            let after = |seconds| began + Duration::from_secs(seconds);
            assert!(!life.is_over_at(after(lasts - 1), bound), "{share}");
            assert!(life.is_over_at(after(lasts), bound), "{share}");
            assert!(!life.is_over(Duration::ZERO), "no bound");
        }
    }

    #[test]
    fn connections_that_were_opened_together_do_not_end_together() {
        let shares: Vec<_> = (0..1000).map(|_| Life::begin().share).collect();
        let (least, most) = (shares.iter().min(), shares.iter().max());
        assert!(least.is_some_and(|least| (900..930).contains(least)), "{least:?}");
        assert!(most.is_some_and(|most| (1071..=1100).contains(most)), "{most:?}");
    }
}
