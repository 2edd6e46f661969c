//! How many replicas a function should have, from its load, its bounds and what
//! was decided before. Pure: time is an argument, and so is everything measured.
//!
//! The formula is OpenFaaS Pro's (compatibility.md section 3.3): as many replicas
//! as the load needs when each takes its target. Around it, as in Knative, a short
//! window lets a sudden rise through at once and a longer one keeps brief dips from
//! stopping replicas that are needed again.
//!
//! Nothing here starts or stops anything.

use std::{collections::VecDeque, time::Duration};

/// What the load of a function is (`com.openfaas.scale.type`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// Calls that ended, per second.
    Rps,
    /// Calls under way.
    Capacity,
    /// Processor time, in milli-cores.
    Cpu,
    /// Asynchronous calls that wait.
    Queue,
    /// The value of a query to Prometheus, by the query's name.
    Custom(String),
    /// Nothing: replicas are what somebody set.
    Static,
}

impl Signal {
    /// The value of the label.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Rps => "rps",
            Self::Capacity => "capacity",
            Self::Cpu => "cpu",
            Self::Queue => "queue",
            Self::Static => "static",
            Self::Custom(name) => name,
        }
    }

    /// The signal that a label names; every other name is a query's.
    pub fn of(label: &str) -> Self {
        match label {
            "rps" => Self::Rps,
            "capacity" => Self::Capacity,
            "cpu" => Self::Cpu,
            "queue" => Self::Queue,
            "static" => Self::Static,
            name => Self::Custom(name.to_owned()),
        }
    }

    /// What the samples of a window come to. Calls under way count by their most,
    /// as in OpenFaaS; what a query says is as it says it.
    fn of_window(&self, samples: impl Iterator<Item = f64>) -> Option<f64> {
        match self {
            Self::Capacity => samples.reduce(f64::max),
            Self::Custom(_) => samples.last(),
            Self::Rps | Self::Cpu | Self::Queue | Self::Static => mean(samples),
        }
    }
}

fn mean(samples: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = samples.fold((0.0, 0_u32), |(sum, count), sample| (sum + sample, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// What holds for one function.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// What its load is.
    pub signal: Signal,
    /// Load that one replica should take, the proportion included; more than 0.
    pub per_replica: f64,
    /// Fewest replicas while it is in use.
    pub min: u64,
    /// Most replicas; at least 1.
    pub max: u64,
    /// How long it is unused before its last replica is stopped; `None` is never.
    pub idle_after: Option<Duration>,
    /// Whether `min` is a schedule's, which keeps replicas that nobody uses.
    pub scheduled: bool,
    /// How long a recommendation holds against a lower one.
    pub down_window: Duration,
    /// Over how long the load is taken.
    pub stable_window: Duration,
    /// Over how long a rise is taken that cannot wait.
    pub panic_window: Duration,
    /// How many times the replicas that are ready such a rise needs, at least.
    pub panic_threshold: f64,
}

/// What was seen of a function.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// When, since an arbitrary beginning.
    pub at: Duration,
    /// Replicas that are meant to run.
    pub desired: u64,
    /// Replicas that can take calls.
    pub ready: u64,
    /// The load of all replicas together; `None` when it could not be measured.
    pub load: Option<f64>,
    /// Whether a call is under way or waits, synchronous or not.
    pub busy: bool,
}

/// Why a number of replicas was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The load needs as many.
    Load,
    /// The load rose so much that it cannot wait.
    Panic,
    /// Fewer would do, but more were needed a moment ago.
    DownWindow,
    /// The load needs fewer than the least.
    Min,
    /// The load needs more than the most.
    Max,
    /// A schedule wants as many.
    Schedule,
    /// Nobody used it for long enough.
    Idle,
    /// It has no replica and nobody calls it.
    AtZero,
    /// It is called and has no replica.
    Called,
    /// Replicas are what somebody set.
    Static,
    /// The load could not be measured.
    NoSignal,
}

impl Reason {
    /// The reason as metrics and explanations name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Panic => "panic",
            Self::DownWindow => "down_window",
            Self::Min => "min",
            Self::Max => "max",
            Self::Schedule => "schedule",
            Self::Idle => "idle",
            Self::AtZero => "at_zero",
            Self::Called => "called",
            Self::Static => "static",
            Self::NoSignal => "no_signal",
        }
    }
}

/// How many replicas there should be, and why.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision {
    /// Replicas from now on.
    pub replicas: u64,
    /// Why.
    pub reason: Reason,
    /// The load that was taken.
    pub load: Option<f64>,
    /// Replicas that this load needs, before anything else was considered.
    pub needed: u64,
}

/// What is remembered of a function between decisions.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The load, the oldest first.
    samples: VecDeque<(Duration, f64)>,
    /// Replicas that were needed, the oldest first.
    needed: VecDeque<(Duration, u64)>,
    /// Until when a sudden rise holds, and the most replicas it needed.
    panic: Option<(Duration, u64)>,
    /// When it was in use last.
    used: Option<Duration>,
    /// Since when it is observed.
    since: Option<Duration>,
}

impl History {
    /// Notes that somebody set the replicas: it counts as needed now, so that the
    /// next decision does not take it back at once.
    pub fn set_by_hand(&mut self, at: Duration, replicas: u64) {
        self.needed.push_back((at, replicas));
        self.used = Some(at);
    }

    /// How long the function was not used.
    pub fn idle_for(&self, now: Duration) -> Duration {
        let since = self.used.or(self.since).unwrap_or(now);
        now.saturating_sub(since)
    }

    /// Takes what was seen and decides.
    pub fn decide(&mut self, seen: Seen, rules: &Rules) -> Decision {
        self.since.get_or_insert(seen.at);
        // One that is starting is about to be used.
        let starting = seen.desired > 0 && seen.ready == 0;
        if seen.busy || starting || seen.load.is_some_and(|load| load > 0.0) {
            self.used = Some(seen.at);
        }
        let Seen { at, desired, .. } = seen;
        let decision = |replicas, reason, load, needed| Decision {
            replicas,
            reason,
            load,
            needed,
        };
        let least = rules.min.max(1).min(rules.max);
        if desired < least && rules.scheduled {
            return decision(least, Reason::Schedule, seen.load, least);
        }
        if desired == 0 && !seen.busy {
            self.forget();
            return decision(0, Reason::AtZero, seen.load, 0);
        }
        if desired == 0 {
            return decision(least, Reason::Called, seen.load, least);
        }
        if let Some(idle_after) = rules.idle_after
            && !seen.busy
            && self.idle_for(at) >= idle_after
        {
            self.forget();
            return decision(0, Reason::Idle, seen.load, 0);
        }
        if rules.signal == Signal::Static || rules.min >= rules.max {
            let kept = desired.clamp(least, rules.max);
            return decision(kept, Reason::Static, seen.load, kept);
        }
        let Some(load) = seen.load else {
            return decision(desired.clamp(least, rules.max), Reason::NoSignal, None, desired);
        };
        self.note(at, load, rules);
        let stable = self.load(at, Self::window(rules), &rules.signal).unwrap_or(load);
        let needed = replicas_for(stable, rules);
        let sudden = self.sudden(seen, rules);
        let wanted = needed.max(sudden.unwrap_or(0));
        self.needed.push_back((at, wanted));
        while self
            .needed
            .front()
            .is_some_and(|(then, _)| at.saturating_sub(*then) > rules.down_window)
        {
            self.needed.pop_front();
        }
        let (wanted, reason) = self.held(seen, wanted, sudden.is_some(), rules);
        let replicas = wanted.clamp(least, rules.max);
        let reason = match replicas {
            _ if wanted > rules.max => Reason::Max,
            _ if wanted < least => Reason::Min,
            _ => reason,
        };
        decision(replicas, reason, Some(stable), needed)
    }

    fn note(&mut self, at: Duration, load: f64, rules: &Rules) {
        self.samples.push_back((at, load));
        let longest = Self::window(rules).max(rules.panic_window);
        while self
            .samples
            .front()
            .is_some_and(|(then, _)| at.saturating_sub(*then) >= longest)
        {
            self.samples.pop_front();
        }
    }

    /// Of calls under way it is longer by half, as in OpenFaaS.
    fn window(rules: &Rules) -> Duration {
        match rules.signal {
            Signal::Capacity => rules.stable_window * 3 / 2,
            _ => rules.stable_window,
        }
    }

    /// The load over the time before `at`.
    fn load(&self, at: Duration, window: Duration, signal: &Signal) -> Option<f64> {
        let recent = self
            .samples
            .iter()
            .filter(|(then, _)| at.saturating_sub(*then) < window);
        signal.of_window(recent.map(|(_, load)| *load))
    }

    /// Replicas for a rise that cannot wait, while it lasts.
    fn sudden(&mut self, seen: Seen, rules: &Rules) -> Option<u64> {
        let recent = self
            .samples
            .iter()
            .filter(|(then, _)| seen.at.saturating_sub(*then) < rules.panic_window);
        let needed = replicas_for(mean(recent.map(|(_, load)| *load))?, rules);
        let ready = seen.ready.max(1);
        if needed as f64 >= rules.panic_threshold * ready as f64 && needed > seen.desired.min(seen.ready) {
            let most = self.panic.map_or(needed, |(_, most)| most.max(needed));
            self.panic = Some((seen.at + rules.stable_window, most));
        }
        match self.panic {
            Some((until, most)) if seen.at < until => Some(most),
            _ => {
                self.panic = None;
                None
            }
        }
    }

    /// What recommendations of a moment ago make of a lower one.
    fn held(&self, seen: Seen, wanted: u64, sudden: bool, rules: &Rules) -> (u64, Reason) {
        if wanted >= seen.desired {
            return (wanted, if sudden { Reason::Panic } else { Reason::Load });
        }
        // Who has not seen a whole window does not know what was needed in it.
        let young = self
            .since
            .is_some_and(|since| seen.at.saturating_sub(since) < rules.down_window);
        let most = self.needed.iter().map(|(_, needed)| *needed).max().unwrap_or(wanted);
        let floor = if young { seen.desired } else { most.min(seen.desired) };
        if floor > wanted {
            (floor, Reason::DownWindow)
        } else {
            (wanted, Reason::Load)
        }
    }

    /// Nothing of before matters to a function without replicas.
    fn forget(&mut self) {
        self.samples.clear();
        self.needed.clear();
        self.panic = None;
    }
}

/// Replicas that a load needs (compatibility.md section 3.3).
fn replicas_for(load: f64, rules: &Rules) -> u64 {
    let needed = (load / rules.per_replica).ceil();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is between 0 and what fits"
    )]
    if needed.is_finite() {
        needed.clamp(0.0, u32::MAX.into()) as u64
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(signal: Signal, target: f64) -> Rules {
        Rules {
            signal,
            per_replica: target,
            min: 1,
            max: 20,
            idle_after: None,
            scheduled: false,
            down_window: Duration::ZERO,
            stable_window: Duration::from_secs(30),
            panic_window: Duration::from_secs(6),
            panic_threshold: 2.0,
        }
    }

    fn seen(seconds: u64, desired: u64, load: f64) -> Seen {
        Seen {
            at: Duration::from_secs(seconds),
            desired,
            ready: desired,
            load: Some(load),
            busy: load > 0.0,
        }
    }

    #[test]
    fn the_formula_is_the_documented_one() {
        // compatibility.md section 3.3: in flight, ready, target, proportion, expected.
        for (load, ready, target, proportion, expected) in [
            (15.0, 1, 5.0, 1.0, 3),
            (25.0, 3, 5.0, 1.0, 5),
            (90.0, 1, 100.0, 0.7, 2),
            (0.0, 4, 5.0, 1.0, 1),
            (1e9, 4, 5.0, 1.0, 20),
        ] {
            let rules = rules(Signal::Capacity, target * proportion);
            let decision = History::default().decide(seen(0, ready, load), &rules);
            assert_eq!(decision.replicas, expected, "{load} in flight, {ready} ready");
        }
    }

    #[test]
    fn bounds_hold_and_are_the_reason() {
        let rules = Rules {
            min: 2,
            max: 4,
            ..rules(Signal::Rps, 10.0)
        };
        for (load, replicas, reason) in [(5.0, 2, Reason::Min), (35.0, 4, Reason::Load), (70.0, 4, Reason::Max)] {
            let decision = History::default().decide(seen(0, 3, load), &rules);
            assert_eq!((decision.replicas, decision.reason), (replicas, reason), "{load}");
        }
    }

    #[test]
    fn a_dip_within_the_window_stops_nothing() {
        let rules = Rules {
            down_window: Duration::from_secs(60),
            stable_window: Duration::from_secs(1),
            ..rules(Signal::Rps, 10.0)
        };
        let mut history = History::default();
        for second in (0..120).step_by(2) {
            history.decide(seen(second, 5, 50.0), &rules);
        }
        for second in (120..178).step_by(2) {
            let decision = history.decide(seen(second, 5, 10.0), &rules);
            assert_eq!(
                (decision.replicas, decision.reason),
                (5, Reason::DownWindow),
                "{second}"
            );
        }
        let decision = history.decide(seen(182, 5, 10.0), &rules);
        assert_eq!((decision.replicas, decision.reason), (1, Reason::Load));
    }

    #[test]
    fn who_has_just_begun_to_look_stops_nothing() {
        let rules = Rules {
            down_window: Duration::from_secs(60),
            ..rules(Signal::Rps, 10.0)
        };
        let mut history = History::default();
        assert_eq!(history.decide(seen(0, 5, 0.0), &rules).replicas, 5);
        assert_eq!(history.decide(seen(58, 5, 0.0), &rules).replicas, 5);
        assert_eq!(history.decide(seen(61, 5, 0.0), &rules).replicas, 1);
    }

    #[test]
    fn a_sudden_rise_does_not_wait_for_the_long_window() {
        let rules = rules(Signal::Rps, 10.0);
        let mut history = History::default();
        for second in (0..30).step_by(2) {
            history.decide(seen(second, 1, 5.0), &rules);
        }
        let decisions: Vec<_> = (30..37)
            .step_by(2)
            .map(|second| history.decide(seen(second, 1, 100.0), &rules))
            .map(|decision| (decision.replicas, decision.reason))
            .collect();
        assert_eq!(decisions[0], (4, Reason::Panic), "{decisions:?}");
        assert_eq!(decisions[2], (10, Reason::Panic), "{decisions:?}");
        // While it lasts, nothing is stopped.
        let after = history.decide(seen(40, 10, 5.0), &rules);
        assert_eq!((after.replicas, after.reason), (10, Reason::Panic));
        let later = (42..90)
            .step_by(2)
            .map(|second| history.decide(seen(second, 10, 5.0), &rules));
        assert_eq!(later.last().map(|decision| decision.replicas), Some(1));
    }

    #[test]
    fn zero_is_for_what_nobody_uses_and_ends_with_a_call() {
        let rules = Rules {
            min: 0,
            idle_after: Some(Duration::from_secs(60)),
            ..rules(Signal::Capacity, 10.0)
        };
        let mut history = History::default();
        let quiet = |at, desired| Seen {
            busy: false,
            ..seen(at, desired, 0.0)
        };
        history.decide(seen(0, 2, 5.0), &rules);
        assert_eq!(history.decide(quiet(59, 2), &rules).replicas, 1);
        let busy = Seen {
            busy: true,
            ..quiet(60, 1)
        };
        assert_eq!(
            history.decide(busy, &rules).replicas,
            1,
            "a call is under way, however quiet"
        );
        assert_eq!(history.decide(quiet(119, 1), &rules).replicas, 1);
        let decision = history.decide(quiet(120, 1), &rules);
        assert_eq!((decision.replicas, decision.reason), (0, Reason::Idle));
        let decision = history.decide(quiet(122, 0), &rules);
        assert_eq!((decision.replicas, decision.reason), (0, Reason::AtZero));
        let decision = history.decide(
            Seen {
                busy: true,
                ..quiet(124, 0)
            },
            &rules,
        );
        assert_eq!((decision.replicas, decision.reason), (1, Reason::Called));
    }

    #[test]
    fn what_cannot_be_measured_changes_nothing_and_what_is_set_stays() {
        let unknown = Seen {
            load: None,
            ..seen(0, 7, 1.0)
        };
        let decision = History::default().decide(unknown, &rules(Signal::Cpu, 10.0));
        assert_eq!((decision.replicas, decision.reason), (7, Reason::NoSignal));
        let decision = History::default().decide(seen(0, 7, 1000.0), &rules(Signal::Static, 10.0));
        assert_eq!((decision.replicas, decision.reason), (7, Reason::Static));
        let fixed = Rules {
            min: 3,
            max: 3,
            ..rules(Signal::Rps, 10.0)
        };
        assert_eq!(History::default().decide(seen(0, 7, 1000.0), &fixed).replicas, 3);
    }

    #[test]
    fn what_somebody_set_is_not_taken_back_at_once() {
        let rules = Rules {
            down_window: Duration::from_secs(10),
            ..rules(Signal::Rps, 10.0)
        };
        let mut history = History::default();
        history.decide(seen(0, 1, 0.0), &rules);
        history.set_by_hand(Duration::from_secs(100), 6);
        assert_eq!(history.decide(seen(101, 6, 0.0), &rules).replicas, 6);
        assert_eq!(history.decide(seen(111, 6, 0.0), &rules).replicas, 1);
    }
}
