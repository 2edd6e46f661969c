//! Which job is next. Pure; in memory, beside the store that keeps the jobs.
//!
//! Fair between lanes: the one with the fewest running jobs is served first,
//! and among equals the one that waited longest for its turn, so that a burst for
//! one does not hold up the others. Of one function, what was due first.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::{DateTime, Utc};

use super::{Allowed, Lane, Waiting};
use crate::model::FunctionRef;

/// A job's place: when it is due, the order in which it came, its id.
type Place = (DateTime<Utc>, u64, String);

/// Jobs that wait, and how many of each lane run.
#[derive(Debug, Default)]
pub struct Schedule {
    lanes: BTreeMap<Lane, Standing>,
    /// Where each waiting job stands.
    places: HashMap<String, (Lane, DateTime<Utc>, u64)>,
    paused: HashSet<FunctionRef>,
    all_paused: bool,
    /// Counts jobs that came.
    came: u64,
    /// Counts jobs that were taken.
    turns: u64,
}

#[derive(Debug, Default)]
struct Standing {
    waiting: BTreeSet<Place>,
    running: usize,
    /// The turn at which one was taken last.
    served: u64,
}

impl Schedule {
    /// Puts a job in its standing.
    pub fn add(&mut self, id: &str, lane: &Lane, due: DateTime<Utc>) {
        self.remove(id);
        self.came += 1;
        let standing = self.lanes.entry(lane.clone()).or_default();
        standing.waiting.insert((due, self.came, id.to_owned()));
        self.places.insert(id.to_owned(), (lane.clone(), due, self.came));
    }

    /// Takes a waiting job out; whether it was there.
    pub fn remove(&mut self, id: &str) -> bool {
        let Some((lane, due, number)) = self.places.remove(id) else {
            return false;
        };
        if let Some(standing) = self.lanes.get_mut(&lane) {
            standing.waiting.remove(&(due, number, id.to_owned()));
        }
        self.tidy(&lane);
        true
    }

    /// Takes the next job that is due; it counts as running until [`Schedule::ended`].
    pub fn take(&mut self, now: DateTime<Utc>, allowed: &dyn Allowed) -> Option<(String, Lane)> {
        if self.all_paused {
            return None;
        }
        let is_due = |(lane, standing): &(&Lane, &Standing)| {
            standing.waiting.first().is_some_and(|(due, ..)| *due <= now) && !self.is_paused(lane)
        };
        let mut lanes: Vec<_> = self.lanes.iter().filter(is_due).collect();
        lanes.sort_by_key(|(_, standing)| (standing.running, standing.served));
        // In this order, because to ask is the dearest part, and the first may mostly run.
        let next = lanes
            .into_iter()
            .find(|(lane, standing)| standing.running < allowed.allowed(lane));
        let lane = next?.0.clone();
        let standing = self.lanes.get_mut(&lane)?;
        let (_, _, id) = standing.waiting.pop_first()?;
        self.turns += 1;
        standing.served = self.turns;
        standing.running += 1;
        self.places.remove(&id);
        Some((id, lane))
    }

    /// Only functions are paused; what they led to goes on.
    fn is_paused(&self, lane: &Lane) -> bool {
        matches!(lane, Lane::Function(function) if self.paused.contains(function))
    }

    /// Another job of a lane runs, which was not taken from here.
    pub fn begun(&mut self, lane: &Lane) {
        self.lanes.entry(lane.clone()).or_default().running += 1;
    }

    /// How many jobs of a lane run.
    pub fn running(&self, lane: &Lane) -> usize {
        self.lanes.get(lane).map_or(0, |standing| standing.running)
    }

    /// A job that was taken does not run any more.
    pub fn ended(&mut self, lane: &Lane) {
        if let Some(standing) = self.lanes.get_mut(lane) {
            standing.running = standing.running.saturating_sub(1);
        }
        self.tidy(lane);
    }

    /// When the next job is due that is not due now; whether one is due already
    /// is for [`Schedule::take`] to say.
    pub fn next_due(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let first = |standing: &Standing| standing.waiting.first().map(|(due, ..)| *due);
        self.lanes.values().filter_map(first).filter(|due| *due > now).min()
    }

    /// Stops, or goes on with, a function; all without one.
    pub fn pause(&mut self, function: Option<&FunctionRef>, paused: bool) {
        match function {
            None => self.all_paused = paused,
            Some(function) if paused => {
                self.paused.insert(function.clone());
            }
            Some(function) => {
                self.paused.remove(function);
            }
        }
    }

    /// Functions that are paused, in order, and whether all are.
    pub fn paused(&self) -> (Vec<FunctionRef>, bool) {
        let mut paused: Vec<_> = self.paused.iter().cloned().collect();
        paused.sort();
        (paused, self.all_paused)
    }

    /// Jobs of each function that are due.
    pub fn waiting(&self, now: DateTime<Utc>) -> HashMap<FunctionRef, Waiting> {
        let waiting = |(lane, standing): (&Lane, &Standing)| match lane {
            Lane::Function(function) => {
                let mut waiting = Waiting::default();
                for (due, ..) in standing.waiting.iter().take_while(|(due, ..)| *due <= now) {
                    waiting.add(*due);
                }
                Some((function.clone(), waiting))
            }
            Lane::Host(_) | Lane::All => None,
        };
        self.lanes.iter().filter_map(waiting).collect()
    }

    fn tidy(&mut self, lane: &Lane) {
        if self
            .lanes
            .get(lane)
            .is_some_and(|standing| standing.waiting.is_empty() && standing.running == 0)
        {
            self.lanes.remove(lane);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).expect("a time")
    }

    fn function(name: &str) -> FunctionRef {
        FunctionRef::new(name, "fn")
    }

    fn lane(name: &str) -> Lane {
        Lane::Function(function(name))
    }

    impl Allowed for usize {
        fn allowed(&self, _: &Lane) -> usize {
            *self
        }

        fn free(&self) -> usize {
            *self
        }
    }

    fn take(schedule: &mut Schedule, second: i64, allowed: usize) -> String {
        let taken = schedule.take(at(second), &allowed);
        taken.map_or_else(String::new, |(id, _)| id)
    }

    #[test]
    fn a_burst_for_one_function_does_not_hold_up_another() {
        let mut schedule = Schedule::default();
        for number in 0..1000 {
            schedule.add(&format!("a{number}"), &lane("a"), at(0));
        }
        schedule.add("b0", &lane("b"), at(1));
        schedule.add("b1", &lane("b"), at(1));
        let order: Vec<_> = (0..5).map(|_| take(&mut schedule, 1, 10)).collect();
        assert_eq!(order, ["a0", "b0", "a1", "b1", "a2"]);
    }

    #[test]
    fn what_runs_is_bounded_for_each_function() {
        let mut schedule = Schedule::default();
        for id in ["1", "2", "3"] {
            schedule.add(id, &lane("a"), at(0));
        }
        assert_eq!([take(&mut schedule, 0, 2), take(&mut schedule, 0, 2)], ["1", "2"]);
        assert_eq!(take(&mut schedule, 0, 2), "");
        schedule.ended(&lane("a"));
        assert_eq!(take(&mut schedule, 0, 2), "3");
    }

    #[test]
    fn nothing_runs_before_it_is_due() {
        let mut schedule = Schedule::default();
        schedule.add("later", &lane("a"), at(10));
        schedule.add("now", &lane("a"), at(0));
        assert_eq!(
            (take(&mut schedule, 5, 9), take(&mut schedule, 5, 9)),
            ("now".to_owned(), String::new())
        );
        assert_eq!(schedule.next_due(at(5)), Some(at(10)));
        assert_eq!(schedule.waiting(at(5))[&function("a")], Waiting::default());
        let one = Waiting {
            jobs: 1,
            since: Some(at(10)),
        };
        assert_eq!(schedule.waiting(at(12))[&function("a")], one);
        assert_eq!(take(&mut schedule, 10, 9), "later");
        assert_eq!(schedule.next_due(at(10)), None);
    }

    #[test]
    fn paused_functions_wait_and_what_was_taken_back_is_gone() {
        let mut schedule = Schedule::default();
        schedule.add("a", &lane("a"), at(0));
        schedule.add("b", &lane("b"), at(0));
        schedule.pause(Some(&function("a")), true);
        assert_eq!(
            (take(&mut schedule, 0, 9), take(&mut schedule, 0, 9)),
            ("b".to_owned(), String::new())
        );
        schedule.pause(None, true);
        schedule.pause(Some(&function("a")), false);
        assert_eq!(
            (take(&mut schedule, 0, 9), schedule.paused()),
            (String::new(), (Vec::new(), true))
        );
        schedule.pause(None, false);
        assert!(schedule.remove("a") && !schedule.remove("a"));
        assert_eq!(take(&mut schedule, 0, 9), "");
        schedule.ended(&lane("b"));
        assert!(schedule.lanes.is_empty(), "nothing is kept of functions without jobs");
    }
}
