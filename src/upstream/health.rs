//! Whether an endpoint keeps failing, or cannot be reached.
//!
//! Each failure in a row from a number on ejects the endpoint for a while, twice
//! as long each time. What a failure is, the caller says; whether an ejected
//! endpoint is called all the same, who chooses ([`super::choice`]). That nobody
//! listens is noted without anybody asking for it, and for a moment only: an
//! endpoint on which no call ever begins would else always be the least busy.

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
    /// Until when no call should come because no connection could be made, in
    /// the same way.
    unreachable: AtomicU64,
}

/// How long an endpoint is avoided to which no connection could be made.
const AVOIDED: Duration = Duration::from_secs(1);

impl Health {
    pub(super) fn new() -> Self {
        Self {
            created: Instant::now(),
            failures: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            until: AtomicU64::new(0),
            unreachable: AtomicU64::new(0),
        }
    }

    /// No connection could be made.
    pub fn unreachable(&self) {
        let until = self.millis(Instant::now() + AVOIDED);
        self.unreachable.store(until, Ordering::Relaxed);
    }

    /// A connection was made.
    pub fn reached(&self) {
        if self.unreachable.load(Ordering::Relaxed) > 0 {
            self.unreachable.store(0, Ordering::Relaxed);
        }
    }

    /// Whether a connection can probably be made.
    pub fn is_reachable(&self, now: Instant) -> bool {
        let until = self.unreachable.load(Ordering::Relaxed);
        if until == 0 {
            return true;
        }
        let over = self.millis(now) >= until;
        if over {
            // Fails when another attempt has failed, which is right.
            let _ = self
                .unreachable
                .compare_exchange(until, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
        over
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

    /// Whether something kept calls away and nobody has seen the end of it. Two loads.
    pub fn is_suspect(&self) -> bool {
        self.until.load(Ordering::Relaxed) > 0 || self.unreachable.load(Ordering::Relaxed) > 0
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

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(5);
    const LONGEST: Duration = Duration::from_secs(15);

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
    fn an_endpoint_is_avoided_for_a_moment_after_no_connection_could_be_made() {
        let health = Health::new();
        health.unreachable();
        let now = Instant::now();
        assert!(!health.is_reachable(now) && health.is_suspect());
        assert!(health.is_reachable(now + AVOIDED) && !health.is_suspect());
        health.unreachable();
        health.reached();
        assert!(health.is_reachable(now) && !health.is_suspect());
    }

    #[test]
    fn a_long_row_of_ejections_is_no_overflow() {
        assert_eq!(ejection(200, FIRST, LONGEST), LONGEST);
        assert_eq!(ejection(31, Duration::MAX, Duration::MAX), Duration::MAX);
    }
}
