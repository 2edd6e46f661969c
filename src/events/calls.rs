//! Asynchronous calls change their state thousands of times a second, and nobody
//! reads so fast: a few changes a second are told one by one, the others counted.
//! Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

/// Changes told one by one in a [`SPAN`].
pub(super) const ONE_BY_ONE: u32 = 10;

/// How long they are counted together.
pub(super) const SPAN: TimeDelta = TimeDelta::seconds(1);

/// What was told of this second, and what is still to be.
#[derive(Debug, Default)]
pub(super) struct Calls {
    since: DateTime<Utc>,
    told: u32,
    /// Since when something is counted.
    counting: DateTime<Utc>,
    counts: BTreeMap<&'static str, u64>,
}

impl Calls {
    /// Whether this change is to be told by itself; else it is counted. Once
    /// something is counted, everything is until [`Calls::take`], so that what is
    /// told stays in order.
    pub(super) fn changed(&mut self, state: &'static str, now: DateTime<Utc>) -> bool {
        if is_over(self.since, now) {
            self.since = now;
            self.told = 0;
        }
        if self.counts.is_empty() && self.told < ONE_BY_ONE {
            self.told += 1;
            return true;
        }
        if self.counts.is_empty() {
            self.counting = now;
        }
        *self.counts.entry(state).or_default() += 1;
        false
    }

    /// What was counted, if it is time to tell it.
    pub(super) fn take(&mut self, now: DateTime<Utc>) -> Option<BTreeMap<String, u64>> {
        if self.counts.is_empty() || !is_over(self.counting, now) {
            return None;
        }
        let counts = std::mem::take(&mut self.counts);
        Some(
            counts
                .into_iter()
                .map(|(state, calls)| (state.to_owned(), calls))
                .collect(),
        )
    }
}

/// Whether a span that began then is over; it is, too, when the clock was set back.
fn is_over(since: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    !(TimeDelta::zero()..SPAN).contains(&(now - since))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_told_and_many_counted() {
        let at = |millis| DateTime::UNIX_EPOCH + TimeDelta::milliseconds(millis);
        let mut calls = Calls::default();
        for _ in 0..ONE_BY_ONE {
            assert!(calls.changed("queued", at(5000)));
        }
        assert_eq!(calls.take(at(7000)), None, "all is told");
        // Of the second after, which has just begun.
        for number in 0..ONE_BY_ONE + 3 {
            assert_eq!(calls.changed("running", at(7000)), number < ONE_BY_ONE);
        }
        assert!(!calls.changed("dead", at(7100)));
        assert_eq!(calls.take(at(7999)), None, "too early");
        assert!(!calls.changed("dead", at(8100)), "in order");
        assert_eq!(
            calls.take(at(9100)),
            Some([("dead".to_owned(), 2), ("running".to_owned(), 3)].into())
        );
        assert!(calls.changed("dead", at(9100)));
        // A clock that was set back holds nothing up.
        assert!(calls.changed("dead", at(100)));
    }
}
