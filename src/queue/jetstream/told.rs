//! What a record says that has happened, by what was known of its job before: told to
//! those who follow the events of any gateway. Pure.
//!
//! Only the last record of a job is kept for readers, so one that is behind may miss
//! states that went by; it is told of the last.

use super::record::Record;
use crate::queue::State;

/// The states that the job got into, in order, each with the number of its try.
pub(super) fn changes(before: Option<&Record>, now: &Record) -> Vec<(State, u32)> {
    let (state, tries) = (now.state(), now.tries);
    let before = before.filter(|before| before.run == now.run);
    let mut changes = Vec::new();
    if before.is_none() && state != State::Queued {
        // Whoever took it was faster than who kept it.
        changes.push((State::Queued, 0));
    }
    let is_same = |before: &Record| {
        // A try that was taken back is noted after its job was.
        before.state() == state && (state.is_final() || before.tries == tries)
    };
    if state == State::Running {
        // Only who takes a job writes that, be it from a gateway that is gone.
        changes.push((state, tries + 1));
    } else if !before.is_some_and(is_same) {
        changes.push((state, tries));
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::jetstream::record;

    fn record(state: State, tries: u32, run: u32) -> Record {
        let job = record::job(chrono::DateTime::UNIX_EPOCH);
        let mut record = Record::new(&job, 1, false);
        record.set_state(state);
        (record.tries, record.run) = (tries, run);
        record
    }

    #[test]
    fn each_state_is_told_once() {
        use State::{Cancelled, Dead, Queued, Retrying, Running, Succeeded};

        for (before, now, expected) in [
            (None, (Queued, 0, 0), &[(Queued, 0)][..]),
            (None, (Running, 0, 0), &[(Queued, 0), (Running, 1)]),
            (None, (Succeeded, 2, 0), &[(Queued, 0), (Succeeded, 2)]),
            (Some((Queued, 0, 0)), (Queued, 0, 0), &[]),
            (Some((Queued, 0, 0)), (Running, 0, 0), &[(Running, 1)]),
            // From a gateway that is gone.
            (Some((Running, 1, 0)), (Running, 1, 0), &[(Running, 2)]),
            (Some((Running, 0, 0)), (Retrying, 1, 0), &[(Retrying, 1)]),
            // It ran between the two.
            (Some((Retrying, 1, 0)), (Retrying, 2, 0), &[(Retrying, 2)]),
            (Some((Running, 2, 0)), (Dead, 3, 0), &[(Dead, 3)]),
            (Some((Running, 0, 0)), (Cancelled, 0, 0), &[(Cancelled, 0)]),
            (Some((Cancelled, 0, 0)), (Cancelled, 1, 0), &[]),
            (Some((Dead, 3, 0)), (Queued, 0, 1), &[(Queued, 0)]),
            (Some((Dead, 3, 0)), (Running, 0, 1), &[(Queued, 0), (Running, 1)]),
        ] {
            let of = |(state, tries, run)| record(state, tries, run);
            let before_record = before.map(of);
            assert_eq!(
                changes(before_record.as_ref(), &of(now)),
                expected,
                "{before:?} {now:?}"
            );
        }
    }
}
