//! What the records come to: jobs by function and state, what waits, which lanes have
//! work. Kept as records come and go, so that to ask costs as much as there are
//! functions, not jobs. Pure.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};

use super::record::Record;
use crate::{
    model::FunctionRef,
    queue::{Count, Lane, State, Waiting, time},
};

/// The sums.
#[derive(Debug, Default)]
pub(super) struct Figures {
    /// Jobs of each function in each of [`State::ALL`].
    states: HashMap<FunctionRef, [u64; State::ALL.len()]>,
    /// Calls of each function that have not ended.
    unfinished: HashMap<FunctionRef, Unfinished>,
    /// Jobs of each lane that have not ended.
    lanes: HashMap<Lane, u64>,
    /// Jobs that have not ended, and bytes of their bodies.
    pub(super) jobs: u64,
    pub(super) bytes: u64,
}

/// Calls of a function that have not ended.
#[derive(Debug, Default)]
struct Unfinished {
    jobs: u64,
    /// Those that run nowhere, and were due when they were looked at last.
    due: Times,
    /// Those that were not.
    later: Times,
}

/// How many jobs are due at which time, in microseconds since 1970.
#[derive(Debug, Default)]
struct Times {
    jobs: u64,
    at: BTreeMap<i64, u64>,
}

impl Times {
    fn add(&mut self, due: i64, jobs: u64) {
        self.jobs += jobs;
        *self.at.entry(due).or_default() += jobs;
    }

    /// Whether there was one to remove.
    fn remove(&mut self, due: i64) -> bool {
        let Some(jobs) = self.at.get_mut(&due) else {
            return false;
        };
        *jobs -= 1;
        if *jobs == 0 {
            self.at.remove(&due);
        }
        self.jobs -= 1;
        true
    }

    fn take(&mut self, due: i64) -> u64 {
        let jobs = self.at.remove(&due).unwrap_or_default();
        self.jobs -= jobs;
        jobs
    }
}

impl Unfinished {
    /// Those that are due now; moves only what changed sides since the last look. The
    /// clock may have been set back.
    fn waiting(&mut self, now: i64) -> Waiting {
        while let Some((&due, _)) = self.later.at.first_key_value()
            && due <= now
        {
            let jobs = self.later.take(due);
            self.due.add(due, jobs);
        }
        while let Some((&due, _)) = self.due.at.last_key_value()
            && due > now
        {
            let jobs = self.due.take(due);
            self.later.add(due, jobs);
        }
        Waiting {
            jobs: self.due.jobs,
            since: self.due.at.first_key_value().map(|(due, _)| time(*due)),
        }
    }
}

/// When a call is due that runs nowhere.
fn due(record: &Record) -> Option<i64> {
    (record.state() != State::Running).then(|| record.due().timestamp_micros())
}

fn place(state: State) -> usize {
    State::ALL.iter().position(|other| *other == state).unwrap_or_default()
}

/// One less of a key; nothing is kept of one that has none.
fn less<K: std::hash::Hash + Eq>(sums: &mut HashMap<K, u64>, key: &K) {
    if let Some(sum) = sums.get_mut(key) {
        *sum = sum.saturating_sub(1);
        if *sum == 0 {
            sums.remove(key);
        }
    }
}

impl Figures {
    /// A record came.
    pub(super) fn add(&mut self, record: &Record, lane: Lane) {
        let (function, state) = (record.function(), record.state());
        if !state.is_final() {
            self.jobs += 1;
            self.bytes += record.bytes;
            *self.lanes.entry(lane).or_default() += 1;
            if record.url.is_none() {
                let unfinished = self.unfinished.entry(function.clone()).or_default();
                unfinished.jobs += 1;
                if let Some(due) = due(record) {
                    unfinished.later.add(due, 1);
                }
            }
        }
        self.states.entry(function).or_default()[place(state)] += 1;
    }

    /// A record that came goes.
    pub(super) fn remove(&mut self, record: &Record, lane: &Lane) {
        let (function, state) = (record.function(), record.state());
        if let Some(states) = self.states.get_mut(&function) {
            let jobs = &mut states[place(state)];
            *jobs = jobs.saturating_sub(1);
            if *states == [0; State::ALL.len()] {
                self.states.remove(&function);
            }
        }
        if state.is_final() {
            return;
        }
        self.jobs = self.jobs.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(record.bytes);
        less(&mut self.lanes, lane);
        if record.url.is_some() {
            return;
        }
        if let Some(unfinished) = self.unfinished.get_mut(&function) {
            unfinished.jobs = unfinished.jobs.saturating_sub(1);
            if let Some(due) = due(record)
                && !unfinished.due.remove(due)
            {
                unfinished.later.remove(due);
            }
            if unfinished.jobs == 0 {
                self.unfinished.remove(&function);
            }
        }
    }

    /// Jobs by function and state, in their order.
    pub(super) fn counts(&self) -> Vec<Count> {
        let mut counts = Vec::new();
        for (function, states) in &self.states {
            let there = State::ALL.into_iter().zip(states).filter(|(_, jobs)| **jobs > 0);
            counts.extend(there.map(|(state, jobs)| Count {
                function: function.clone(),
                state,
                jobs: *jobs,
            }));
        }
        counts.sort_by(|one, other| (&one.function, one.state.as_str()).cmp(&(&other.function, other.state.as_str())));
        counts
    }

    /// Calls of each function that are due and run nowhere; also of those that have
    /// none such, but others that have not ended.
    pub(super) fn waiting(&mut self, now: DateTime<Utc>) -> HashMap<FunctionRef, Waiting> {
        let now = now.timestamp_micros();
        let functions = self.unfinished.iter_mut();
        functions
            .map(|(function, unfinished)| (function.clone(), unfinished.waiting(now)))
            .collect()
    }

    /// Whether a lane has a job that has not ended.
    pub(super) fn is_busy(&self, lane: &Lane) -> bool {
        self.lanes.contains_key(lane)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::queue::{Job, Target, jetstream::index::Index};

    /// A step: what becomes of a job's record.
    #[derive(Debug, Clone)]
    enum Step {
        Written {
            id: u8,
            function: u8,
            state: usize,
            due: i64,
            to_url: bool,
            /// At how much newer a revision; none is an older one.
            newer: u64,
        },
        Gone(u8),
        /// Everything is read again, but what is not there any more.
        ReadAgain(Vec<u8>),
        /// Somebody asks, at that time.
        Asked(i64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let written = (
            0..12_u8,
            0..3_u8,
            0..State::ALL.len(),
            0..40_i64,
            any::<bool>(),
            0..4_u64,
        )
            .prop_map(|(id, function, state, due, to_url, newer)| Step::Written {
                id,
                function,
                state,
                due,
                to_url,
                newer,
            });
        prop_oneof![
            8 => written,
            2 => (0..12_u8).prop_map(Step::Gone),
            1 => proptest::collection::vec(0..12_u8, 0..6).prop_map(Step::ReadAgain),
            3 => (0..50_i64).prop_map(Step::Asked),
        ]
    }

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).expect("a time")
    }

    fn record(id: u8, function: u8, state: usize, due: i64, to_url: bool) -> Record {
        let job = Job {
            id: id.to_string(),
            function: FunctionRef::new(format!("f{function}"), "fn"),
            target: if to_url {
                Target::Url("http://host/".to_owned())
            } else {
                Target::Function
            },
            path: String::new(),
            query: String::new(),
            headers: Vec::new(),
            body: vec![0; usize::from(id)].into(),
            callback: None,
            idempotency_key: None,
            created: at(0),
            due: at(due),
        };
        let mut record = Record::new(&job, 1, false);
        record.set_state(State::ALL[state]);
        record
    }

    /// The same figures, from all records.
    fn recounted(index: &Index, now: DateTime<Utc>) -> (Vec<Count>, HashMap<FunctionRef, Waiting>, u64, u64) {
        let records = index.list(&crate::queue::Filter::default(), None, usize::MAX);
        let mut counts: Vec<Count> = Vec::new();
        let mut waiting: HashMap<FunctionRef, Waiting> = HashMap::new();
        let (mut jobs, mut bytes) = (0, 0);
        for record in &records {
            let (function, state) = (record.function(), record.state());
            match counts
                .iter_mut()
                .find(|count| (&count.function, count.state) == (&function, state))
            {
                Some(count) => count.jobs += 1,
                None => counts.push(Count {
                    function: function.clone(),
                    state,
                    jobs: 1,
                }),
            }
            if state.is_final() {
                continue;
            }
            jobs += 1;
            bytes += record.bytes;
            if record.url.is_none() {
                let waiting = waiting.entry(function).or_default();
                if state != State::Running && record.due() <= now {
                    waiting.add(record.due());
                }
            }
        }
        counts.sort_by_key(|count| (count.function.clone(), count.state.as_str()));
        (counts, waiting, jobs, bytes)
    }

    proptest! {
        #[test]
        fn sums_are_what_a_recount_finds(steps in proptest::collection::vec(step(), 1..80), is_shared in any::<bool>()) {
            let mut index = Index::new(std::time::Duration::from_secs(30), is_shared);
            let mut revision = 10;
            for step in steps {
                let now = match step {
                    Step::Written { id, function, state, due, to_url, newer } => {
                        revision += newer;
                        index.apply(record(id, function, state, due, to_url), revision, at(0), false);
                        at(due)
                    }
                    Step::Gone(id) => {
                        revision += 1;
                        index.bury(&id.to_string(), revision, at(0));
                        at(20)
                    }
                    Step::ReadAgain(there) => {
                        index.begin();
                        for id in there {
                            if let Some(known) = index.get(&id.to_string()).cloned() {
                                index.apply(Record::clone(&known.record), known.revision, at(0), false);
                            }
                        }
                        index.settle();
                        at(0)
                    }
                    Step::Asked(now) => at(now),
                };
                let (counts, waiting, jobs, bytes) = recounted(&index, now);
                prop_assert_eq!(index.figures.counts(), counts);
                prop_assert_eq!(index.figures.waiting(now), waiting);
                prop_assert_eq!((index.figures.jobs, index.figures.bytes), (jobs, bytes));
                for record in index.list(&crate::queue::Filter::default(), None, usize::MAX) {
                    let lane = index.lane(&record);
                    prop_assert!(record.state().is_final() || index.figures.is_busy(&lane));
                }
                prop_assert_eq!(index.figures.lanes.values().sum::<u64>(), jobs);
            }
        }
    }
}
