//! How long to wait before a dead replica is started again.

use std::time::Duration;

/// Failures in a row after a replica died that had been up for `uptime`: one
/// that stayed up as long as the longest wait begins anew.
pub(super) fn failures(before: u32, uptime: Duration, max: Duration) -> u32 {
    if uptime >= max { 1 } else { before.saturating_add(1) }
}

/// The wait after so many failures in a row: `first`, doubled each time, at most `max`.
pub(super) fn delay(failures: u32, first: Duration, max: Duration) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    first.saturating_mul(1 << doublings).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let (first, max) = (Duration::from_millis(200), Duration::from_secs(30));
        for (failures, millis) in [
            (0, 200),
            (1, 200),
            (2, 400),
            (3, 800),
            (8, 25_600),
            (9, 30_000),
            (u32::MAX, 30_000),
        ] {
            assert_eq!(delay(failures, first, max), Duration::from_millis(millis), "{failures}");
        }
        assert_eq!(delay(1, max, first), first, "a longest wait below the first wins");
    }

    #[test]
    fn staying_up_forgives() {
        let max = Duration::from_secs(30);
        assert_eq!(failures(0, Duration::ZERO, max), 1);
        assert_eq!(failures(4, Duration::from_secs(29), max), 5);
        assert_eq!(failures(4, Duration::from_secs(30), max), 1);
    }
}
