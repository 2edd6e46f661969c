//! What a gateway does with a message that it was handed, by what is known of its job.
//! Pure.

use std::{cmp::Ordering, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

use super::{index::Known, record::Record};
use crate::queue::{Job, State};

/// Jobs that are due so soon are due.
const SOON: TimeDelta = TimeDelta::milliseconds(5);

/// Pause before a message is handed out again whose body cannot be read; it doubles.
const PAUSE: Duration = Duration::from_secs(1);

/// Longest such pause.
const LONGEST: Duration = Duration::from_secs(60);

/// A message of this gateway.
pub(super) struct Received<'m> {
    /// The job that it is about.
    pub(super) job: &'m Job,
    /// For which run.
    pub(super) run: u32,
    /// Its number.
    pub(super) number: u64,
    pub(super) has_object: bool,
}

/// What is done.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// The job is made, and its record, of that revision, is to say so.
    Make(Box<Record>, u64),
    /// There is nothing to do; the message is kept where it may be wanted again.
    Nothing {
        /// Whether it is.
        archive: bool,
    },
    /// It is handed out again then.
    Later(Duration),
}

/// What is to be done. `is_gone` where the job was removed, `is_here` where it runs in
/// this gateway already.
pub(super) fn of(
    received: &Received<'_>,
    known: Option<Known>,
    (is_gone, is_here): (bool, bool),
    now: DateTime<Utc>,
) -> Step {
    let Received { job, run, number, .. } = *received;
    let nothing = Step::Nothing { archive: false };
    let (mut record, revision) = match known {
        None if is_gone => return nothing,
        None => (Record::new(job, number, received.has_object), 0),
        Some(Known { record, revision, .. }) => match record.run.cmp(&run) {
            // It was driven again meanwhile.
            Ordering::Greater => return nothing,
            // Whoever drove it again is about to say so.
            Ordering::Less => (record.again(run, number, now), revision),
            Ordering::Equal if record.state().is_final() => {
                return Step::Nothing {
                    archive: record.state() != State::Succeeded,
                };
            }
            Ordering::Equal if record.state() != State::Running && record.due() > now + SOON => {
                return Step::Later((record.due() - now).to_std().unwrap_or_default());
            }
            Ordering::Equal => (Record::clone(&record), revision),
        },
    };
    if is_here {
        return Step::Later(match record.state() {
            // The server did not hear in time that it is worked on.
            State::Running => PAUSE,
            // The run before this one was taken back, and is about to end.
            _ => PAUSE / 10,
        });
    }
    record.set_state(State::Running);
    record.message = number;
    Step::Make(Box::new(record), revision)
}

/// How long a message waits whose body could not be read, when it was handed out so
/// many times.
pub(super) fn pause(delivered: i64) -> Duration {
    let doubled = u32::try_from(delivered.max(1) - 1).unwrap_or(u32::MAX).min(16);
    (PAUSE * 2_u32.pow(doubled)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::queue::jetstream::record;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).expect("a time")
    }

    #[test]
    fn what_is_done_with_a_message_depends_on_its_record() {
        let job = Job {
            due: at(10),
            ..record::job(at(0))
        };
        let known = |state: State, run: u32| {
            let mut record = Record::new(&job, 1, false);
            record.set_state(state);
            record.run = run;
            Some(Known::new(Arc::new(record), 5))
        };
        let short = |step| match step {
            Step::Make(record, revision) => format!("make {} {} {revision}", record.run, record.state),
            Step::Nothing { archive } => format!("nothing {archive}"),
            Step::Later(wait) => format!("later {wait:?}"),
        };
        for (state, removed, here, now, expected) in [
            (None, false, false, 10, "make 0 running 0"),
            (None, true, false, 10, "nothing false"),
            (known(State::Queued, 1), false, false, 10, "make 1 running 5"),
            (known(State::Queued, 1), false, false, 4, "later 6s"),
            (known(State::Running, 1), false, false, 4, "make 1 running 5"),
            (known(State::Running, 1), false, true, 4, "later 1s"),
            (known(State::Succeeded, 1), false, false, 10, "nothing false"),
            (known(State::Cancelled, 1), false, true, 10, "nothing true"),
            (known(State::Queued, 2), false, false, 10, "nothing false"),
            (known(State::Dead, 0), false, false, 10, "make 1 running 5"),
            (known(State::Cancelled, 0), false, true, 10, "later 100ms"),
        ] {
            let run = u32::from(state.is_some());
            let received = Received {
                job: &job,
                run,
                number: 7,
                has_object: false,
            };
            let shown = format!("{state:?} {removed} {here} {now}");
            assert_eq!(
                short(of(&received, state, (removed, here), at(now))),
                expected,
                "{shown}"
            );
        }
    }

    #[test]
    fn the_pause_doubles_up_to_a_minute() {
        for (delivered, seconds) in [(0, 1), (1, 1), (2, 2), (4, 8), (7, 60), (i64::MAX, 60)] {
            assert_eq!(pause(delivered).as_secs(), seconds, "{delivered}");
        }
    }
}
