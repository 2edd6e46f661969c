//! What a function's calls come to between two looks at its counters. Pure.
//!
//! Times are those of the histogram's buckets, read as Prometheus's
//! `histogram_quantile` reads them, so that a page shows what a dashboard shows.

use std::time::Duration;

use super::BUCKETS;

/// A look at the counters of one function.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Calls under way.
    pub in_flight: u64,
    /// Calls that have ended.
    pub calls: u64,
    /// Those of them that were answered with 5xx.
    pub errors: u64,
    /// Those of them that took no longer than each bound of [`BUCKETS`].
    pub within: [u64; BUCKETS.len()],
}

/// What happened between two looks.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pace {
    /// Calls that ended, per second.
    pub rate: f64,
    /// Those of them that were answered with 5xx, per second.
    pub error_rate: f64,
    /// Seconds that 50, 95 and 99 in 100 of them took no longer than; `None` without
    /// a call.
    pub quantiles: Option<[f64; 3]>,
}

impl Tally {
    /// What happened since `before`, in this time. Counters that are smaller than
    /// before began anew.
    pub fn since(&self, before: &Self, time: Duration) -> Pace {
        let began_anew = self.calls < before.calls;
        let before = if began_anew { &Self::default() } else { before };
        let seconds = time.as_secs_f64().max(f64::EPSILON);
        let calls = self.calls - before.calls;
        let mut within = self.within;
        for (now, then) in within.iter_mut().zip(before.within) {
            // Counted one after the other while calls end.
            *now = now.saturating_sub(then);
        }
        Pace {
            rate: calls as f64 / seconds,
            error_rate: self.errors.saturating_sub(before.errors) as f64 / seconds,
            quantiles: (calls > 0).then(|| [0.5, 0.95, 0.99].map(|share| quantile(share, calls, &within))),
        }
    }
}

/// Seconds that this share of so many calls took no longer than: within a bucket they
/// count as spread evenly; beyond the last bound nothing is known but that.
fn quantile(share: f64, calls: u64, within: &[u64; BUCKETS.len()]) -> f64 {
    let rank = share * calls as f64;
    let (mut below, mut lower) = (0, 0.0);
    for (&upper, &count) in BUCKETS.iter().zip(within) {
        if count as f64 >= rank && count > below {
            return lower + (upper - lower) * (rank - below as f64) / (count - below) as f64;
        }
        (below, lower) = (count, upper);
    }
    lower
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many calls in each bucket, and beyond all of them.
    fn tally(buckets: &[(usize, u64)], errors: u64) -> Tally {
        let mut tally = Tally {
            errors,
            ..Tally::default()
        };
        for &(bucket, count) in buckets {
            tally.calls += count;
            for within in tally.within.iter_mut().skip(bucket) {
                *within += count;
            }
        }
        tally
    }

    #[test]
    fn a_pace_is_what_happened_since() {
        let two = Duration::from_secs(2);
        let before = tally(&[(10, 100)], 7);
        let pace = tally(&[(10, 100), (0, 90), (5, 10)], 9).since(&before, two);
        assert_eq!((pace.rate, pace.error_rate), (50.0, 1.0));
        let [p50, p95, p99] = pace.quantiles.expect("calls");
        assert!((p50 - 0.005 * 50.0 / 90.0).abs() < 1e-9, "{p50}");
        assert!((p95 - 0.175).abs() < 1e-9, "{p95}");
        assert!((p99 - 0.235).abs() < 1e-9, "{p99}");

        assert_eq!(before.since(&before, two), Pace::default());
        // The series are gone and come again.
        assert!((tally(&[(0, 4)], 0).since(&before, two).rate - 2.0).abs() < 1e-9);
        // Slower than the last bound.
        let slow = tally(&[(BUCKETS.len(), 3)], 0).since(&Tally::default(), two);
        assert_eq!(slow.quantiles, Some([10.0; 3]));
    }
}
