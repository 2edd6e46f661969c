//! Not calling a function that keeps failing, and noticing when it works again.
//!
//! Closed, calls pass and failures in a row are counted. Open, calls are refused
//! for a time. After it a few trial calls decide: all must succeed to close it,
//! one failure opens it again for twice as long. [`Machine`] is all of that,
//! with time as an argument; [`Breaker`] shares one between calls and costs a
//! call of a healthy function two atomic reads.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::config::BreakerSettings;

/// The breaker of one function.
#[derive(Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    machine: Mutex<Machine>,
    /// The era while it is closed and the last call succeeded, else [`TROUBLED`].
    calm: AtomicU64,
}

/// No era.
const TROUBLED: u64 = u64::MAX;

/// Longest time of being open, so that no point in time overflows.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A call that was let through. Tell how it ended; dropped without, it counts
/// as ended by its caller, which says nothing about the function.
#[derive(Debug)]
pub struct Pass {
    breaker: Arc<Breaker>,
    ticket: Option<Ticket>,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(settings: &BreakerSettings) -> Self {
        Self {
            settings: settings.clone(),
            machine: Mutex::default(),
            calm: AtomicU64::new(0),
        }
    }

    /// Lets a call through.
    ///
    /// # Errors
    /// For how long calls are still refused; zero while trial calls decide.
    pub fn admit(self: &Arc<Self>, now: Instant) -> Result<Pass, Duration> {
        let era = self.calm.load(Ordering::Acquire);
        let ticket = if era == TROUBLED {
            self.change(|machine| machine.admit(&self.settings, now))?
        } else {
            Ticket { era, trial: false }
        };
        Ok(Pass {
            breaker: Arc::clone(self),
            ticket: Some(ticket),
        })
    }

    /// Whether calls are refused, but for trials.
    pub fn is_open(&self) -> bool {
        self.calm.load(Ordering::Acquire) == TROUBLED && !matches!(self.machine().state, State::Closed { .. })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Machine) -> T) -> T {
        let mut machine = self.machine();
        let result = change(&mut machine);
        let calm = match machine.state {
            State::Closed { failures: 0 } => machine.era,
            _ => TROUBLED,
        };
        self.calm.store(calm, Ordering::Release);
        result
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// The function answered with this status.
    pub fn answered(self, status: u16) {
        if self.breaker.settings.statuses.contains(&status) {
            self.end(End::Failure);
        } else {
            self.end(End::Success);
        }
    }

    /// The function gave no answer.
    pub fn unanswered(self) {
        self.end(End::Failure);
    }

    fn end(mut self, end: End) {
        self.tell(end);
    }

    fn tell(&mut self, end: End) {
        let Some(ticket) = self.ticket.take() else { return };
        // What changes nothing needs no lock.
        let idle = match end {
            End::Success => self.breaker.calm.load(Ordering::Acquire) == ticket.era,
            End::Failure => false,
            End::Left => !ticket.trial,
        };
        if !idle {
            let breaker = &self.breaker;
            breaker.change(|machine| machine.ended(&breaker.settings, ticket, end, Instant::now()));
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.tell(End::Left);
    }
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Success,
    Failure,
    /// Its caller ended it.
    Left,
}

/// What a call was let through as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticket {
    era: u64,
    trial: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed {
        /// In a row.
        failures: u32,
    },
    Open {
        until: Instant,
        /// How long it is open this time.
        lasts: Duration,
    },
    HalfOpen {
        /// Trial calls under way or succeeded.
        admitted: u32,
        succeeded: u32,
        /// How long it was open.
        lasted: Duration,
    },
}

/// The state, and how often it has changed: a call counts only in the state
/// that it was let through in.
#[derive(Debug)]
struct Machine {
    state: State,
    era: u64,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            state: State::Closed { failures: 0 },
            era: 0,
        }
    }
}

impl Machine {
    fn admit(&mut self, settings: &BreakerSettings, now: Instant) -> Result<Ticket, Duration> {
        if let State::Open { until, lasts } = self.state {
            if now < until {
                return Err(until - now);
            }
            self.enter(State::HalfOpen {
                admitted: 0,
                succeeded: 0,
                lasted: lasts,
            });
        }
        let trial = match &mut self.state {
            State::HalfOpen { admitted, .. } if *admitted >= settings.trials => return Err(Duration::ZERO),
            State::HalfOpen { admitted, .. } => {
                *admitted += 1;
                true
            }
            _ => false,
        };
        Ok(Ticket { era: self.era, trial })
    }

    fn ended(&mut self, settings: &BreakerSettings, ticket: Ticket, end: End, now: Instant) {
        if ticket.era != self.era {
            return;
        }
        match (&mut self.state, end) {
            (State::Closed { failures }, End::Success) => *failures = 0,
            (State::Closed { failures }, End::Failure) => {
                *failures += 1;
                if *failures >= settings.failures {
                    self.open(settings.open, now);
                }
            }
            (State::HalfOpen { succeeded, .. }, End::Success) => {
                *succeeded += 1;
                if *succeeded >= settings.trials {
                    self.enter(State::Closed { failures: 0 });
                }
            }
            (State::HalfOpen { lasted, .. }, End::Failure) => {
                let longer = lasted.saturating_mul(2).min(settings.open_max);
                self.open(longer, now);
            }
            (State::HalfOpen { admitted, .. }, End::Left) => *admitted -= 1,
            (State::Closed { .. }, End::Left) | (State::Open { .. }, _) => {}
        }
    }

    fn open(&mut self, lasts: Duration, now: Instant) {
        let lasts = lasts.min(FOREVER);
        self.enter(State::Open {
            until: now + lasts,
            lasts,
        });
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.era += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::{End::*, *};
    use Step::{Begins, Call, Ends, Refused};

    fn settings(failures: u32, trials: u32) -> BreakerSettings {
        BreakerSettings {
            failures,
            statuses: vec![502, 503],
            open: Duration::from_secs(10),
            open_max: Duration::from_secs(30),
            trials,
        }
    }

    /// Something that happens at a second, and what comes of it.
    #[derive(Debug)]
    enum Step {
        /// A call passes and ends at once.
        Call(u64, End),
        /// A call is refused, for so many seconds more.
        Refused(u64, u64),
        /// A call passes and keeps running.
        Begins(u64),
        /// The first running one ends.
        Ends(u64, End),
    }

    /// Failures and trials of the settings, and what happens.
    const CASES: &[(&str, u32, u32, &[Step])] = &[
        (
            "only failures in a row count",
            2,
            1,
            &[
                Call(0, Failure),
                Call(0, Success),
                Call(0, Failure),
                Call(0, Left),
                Call(1, Failure),
                Refused(2, 9),
                Refused(10, 1),
            ],
        ),
        (
            "a trial closes it",
            1,
            1,
            &[
                Call(0, Failure),
                Refused(9, 1),
                Begins(10),
                Refused(10, 0),
                Ends(11, Success),
                Call(11, Success),
                Call(11, Success),
            ],
        ),
        (
            "failing trials make it open longer, up to a bound, and a success forgets that",
            1,
            1,
            &[
                Call(0, Failure),
                Call(10, Failure),
                Refused(11, 19),
                Call(30, Failure),
                Refused(30, 30),
                Call(60, Failure),
                Refused(60, 30),
                Call(90, Success),
                Call(91, Failure),
                Refused(91, 10),
            ],
        ),
        (
            "all trials must succeed",
            1,
            2,
            &[
                Call(0, Failure),
                Begins(10),
                Begins(10),
                Refused(10, 0),
                Ends(11, Success),
                Refused(11, 0),
                Ends(12, Failure),
                Refused(12, 20),
            ],
        ),
        (
            "a caller that leaves gives its trial back",
            1,
            1,
            &[
                Call(0, Failure),
                Begins(10),
                Refused(10, 0),
                Ends(11, Left),
                Call(11, Success),
                Call(11, Success),
            ],
        ),
        (
            "calls of an earlier time say nothing",
            1,
            1,
            &[
                Begins(0),
                Begins(0),
                Call(0, Failure),
                Ends(1, Success),
                Refused(1, 9),
                Begins(10),
                Ends(11, Failure),
                Refused(11, 0),
                Ends(12, Success),
                Call(12, Success),
            ],
        ),
    ];

    #[test]
    fn what_it_does_when() {
        let start = Instant::now();
        for (what, failures, trials, steps) in CASES {
            let settings = settings(*failures, *trials);
            let mut machine = Machine::default();
            let mut running = std::collections::VecDeque::new();
            for step in *steps {
                let at = |seconds: u64| start + Duration::from_secs(seconds);
                let admit = |machine: &mut Machine, seconds| machine.admit(&settings, at(seconds));
                match *step {
                    Call(seconds, end) => {
                        let ticket = admit(&mut machine, seconds).unwrap_or_else(|_| panic!("{what}: {step:?}"));
                        machine.ended(&settings, ticket, end, at(seconds));
                    }
                    Refused(seconds, rest) => {
                        let refused = admit(&mut machine, seconds);
                        assert_eq!(refused, Err(Duration::from_secs(rest)), "{what}: {step:?}");
                    }
                    Begins(seconds) => {
                        let ticket = admit(&mut machine, seconds).unwrap_or_else(|_| panic!("{what}: {step:?}"));
                        running.push_back(ticket);
                    }
                    Ends(seconds, end) => {
                        let ticket = running.pop_front().expect("a call runs");
                        machine.ended(&settings, ticket, end, at(seconds));
                    }
                }
            }
        }
    }

    #[test]
    fn shared_between_calls() {
        let now = Instant::now();
        let breaker = Arc::new(Breaker::new(&settings(2, 1)));
        let pass = || breaker.admit(now).expect("closed");
        pass().answered(502);
        pass().answered(200);
        pass().unanswered();
        drop(pass());
        assert!(!breaker.is_open());
        pass().answered(503);
        assert!(breaker.is_open());
        assert!(breaker.admit(now).is_err());
        let later = now + Duration::from_secs(60);
        drop(breaker.admit(later).expect("a trial"));
        let trial = breaker.admit(later).expect("the trial was given back");
        assert_eq!(breaker.admit(later).err(), Some(Duration::ZERO));
        assert!(breaker.is_open(), "until the trial has decided");
        trial.answered(500);
        assert!(!breaker.is_open());
        assert!(breaker.admit(now).is_ok());
    }
}
