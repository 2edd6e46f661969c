//! Whether an endpoint keeps failing, and which of several are then left out.
//!
//! Each failure in a row from a number on ejects the endpoint for a while, twice
//! as long each time. What a failure is, the caller says; whether an ejected
//! endpoint is called all the same, who chooses.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// How the last calls of an endpoint went. Calls race here: one that is counted
/// a little late does no harm.
#[derive(Debug)]
pub struct Health {
    created: Instant,
    /// In a row.
    failures: AtomicU32,
    /// In a row, each longer than the one before.
    ejections: AtomicU32,
    /// End of the last ejection in milliseconds after `created`; 0 without one.
    until: AtomicU64,
}

impl Health {
    pub(super) fn new() -> Self {
        Self {
            created: Instant::now(),
            failures: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            until: AtomicU64::new(0),
        }
    }

    /// A call went well.
    pub fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.ejections.store(0, Ordering::Relaxed);
            self.until.store(0, Ordering::Relaxed);
        }
    }

    /// A call failed; as many as `threshold` in a row eject the endpoint, for
    /// `first` and then twice as long each time, up to `longest`.
    pub fn failed(&self, threshold: u32, first: Duration, longest: Duration) {
        self.failed_at(Instant::now(), threshold, first, longest);
    }

    fn failed_at(&self, now: Instant, threshold: u32, first: Duration, longest: Duration) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        // Calls that were under way say nothing about after the ejection.
        if failures < threshold || self.is_ejected_at(now) {
            return;
        }
        let ejections = self.ejections.fetch_add(1, Ordering::Relaxed);
        let end = now + ejection(ejections, first, longest);
        self.until.store(self.millis(end), Ordering::Relaxed);
    }

    /// Whether the endpoint was ejected and nobody has seen the end of it. One load.
    pub fn is_suspect(&self) -> bool {
        self.until.load(Ordering::Relaxed) > 0
    }

    /// What is left of an ejection; zero without one.
    pub fn ejected_for(&self, now: Instant) -> Duration {
        let until = self.until.load(Ordering::Relaxed);
        let left = until.saturating_sub(self.millis(now));
        if left == 0 && until > 0 {
            // Fails when another one has begun, which is right.
            let _ = self
                .until
                .compare_exchange(until, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
        Duration::from_millis(left)
    }

    fn is_ejected_at(&self, now: Instant) -> bool {
        !self.ejected_for(now).is_zero()
    }

    fn millis(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.created);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// How long an ejection lasts after so many before it.
fn ejection(before: u32, first: Duration, longest: Duration) -> Duration {
    first
        .saturating_mul(1_u32.checked_shl(before).unwrap_or(u32::MAX))
        .min(longest)
}

/// Which endpoints are left out of a choice, given what is left of each one's
/// ejection: at most half of them, those with the most left, and so never the last.
pub fn left_out(left: &[Duration]) -> Vec<bool> {
    let mut ejected: Vec<usize> = (0..left.len()).filter(|&index| !left[index].is_zero()).collect();
    ejected.sort_by_key(|&index| std::cmp::Reverse(left[index]));
    let mut out = vec![false; left.len()];
    for index in ejected.into_iter().take(left.len() / 2) {
        out[index] = true;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(5);
    const LONGEST: Duration = Duration::from_secs(15);

    #[test]
    fn at_most_half_are_left_out_and_never_the_last() {
        for (left, expected) in [
            (&[][..], &[][..]),
            (&[0], &[false]),
            (&[9], &[false]),
            (&[0, 0], &[false, false]),
            (&[0, 9], &[false, true]),
            (&[8, 9], &[false, true]),
            (&[1, 0, 9], &[false, false, true]),
            (&[3, 1, 2, 0], &[true, false, true, false]),
            (&[3, 1, 2, 4, 5], &[false, false, false, true, true]),
        ] {
            let left: Vec<_> = left.iter().copied().map(Duration::from_secs).collect();
            assert_eq!(left_out(&left), expected, "{left:?}");
        }
    }

    #[test]
    fn ejections_double_until_a_call_goes_well() {
        let health = Health::new();
        let mut now = health.created;
        let fail = |now| health.failed_at(now, 3, FIRST, LONGEST);
        fail(now);
        fail(now);
        assert!(!health.is_suspect());
        for expected in [5, 10, 15, 15] {
            fail(now);
            // One that was under way.
            fail(now);
            assert_eq!(health.ejected_for(now).as_secs(), expected);
            now += Duration::from_secs(expected);
            assert!(!health.is_ejected_at(now) && !health.is_suspect());
        }
        health.succeeded();
        assert!(!health.is_suspect());
        fail(now);
        fail(now);
        assert!(!health.is_ejected_at(now), "counted from the start again");
        fail(now);
        assert_eq!(health.ejected_for(now), FIRST);
    }

    #[test]
    fn a_long_row_of_ejections_is_no_overflow() {
        assert_eq!(ejection(200, FIRST, LONGEST), LONGEST);
        assert_eq!(ejection(31, Duration::MAX, Duration::MAX), Duration::MAX);
    }
}
