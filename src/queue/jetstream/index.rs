//! What this gateway knows of all jobs: the records that it read or wrote, newest
//! revision first come or not, and which job is to be looked for next. Pure.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};

use super::{figures::Figures, record::Record, told};
use crate::queue::{Filter, Lane, State, schedule::Schedule};

/// First wait before a job is looked for again that was not there; it doubles.
const LOOK: TimeDelta = TimeDelta::milliseconds(20);
/// Longest such wait.
const LONGEST_LOOK: TimeDelta = TimeDelta::seconds(1);

/// Where a page of a list goes on: when a job was made, and its id.
pub(super) type Place = (i64, String);

/// A record and the number of its message.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) record: Arc<Record>,
    pub(super) revision: u64,
    reading: u64,
    looks: u32,
}

impl Known {
    /// A record at its revision.
    #[cfg(test)]
    pub(super) fn new(record: Arc<Record>, revision: u64) -> Self {
        Self {
            record,
            revision,
            reading: 0,
            looks: 0,
        }
    }
}

/// Everything that was read.
#[derive(Debug)]
pub(super) struct Index {
    calls: HashMap<String, Known>,
    order: BTreeSet<Place>,
    /// Jobs that are gone, whose last message is still there: when that was, its number.
    graves: HashMap<String, (DateTime<Utc>, u64)>,
    pub(super) schedule: Schedule,
    pub(super) figures: Figures,
    /// How long others hold a job before it is looked for.
    lease: TimeDelta,
    /// Whether all jobs are in one line.
    is_shared: bool,
    reading: u64,
    /// Whether everything was read once: what comes after is news.
    is_settled: bool,
}

impl Index {
    pub(super) fn new(lease: Duration, is_shared: bool) -> Self {
        Self {
            calls: HashMap::new(),
            order: BTreeSet::new(),
            graves: HashMap::new(),
            schedule: Schedule::default(),
            figures: Figures::default(),
            lease: TimeDelta::from_std(lease).unwrap_or(TimeDelta::seconds(30)),
            is_shared,
            reading: 0,
            is_settled: false,
        }
    }

    pub(super) fn get(&self, id: &str) -> Option<&Known> {
        self.calls.get(id)
    }

    /// The number of the last message of a job that is gone.
    pub(super) fn grave(&self, id: &str) -> Option<u64> {
        self.graves.get(id).map(|(_, revision)| *revision)
    }

    /// Where a job stands in line.
    pub(super) fn lane(&self, record: &Record) -> Lane {
        if self.is_shared { Lane::All } else { record.lane() }
    }

    /// Begins to read everything anew.
    pub(super) fn begin(&mut self) {
        self.reading += 1;
    }

    /// Everything was read: what did not come is gone.
    pub(super) fn settle(&mut self) {
        self.is_settled = true;
        let reading = self.reading;
        let gone: Vec<String> = self
            .calls
            .iter()
            .filter(|(_, known)| known.reading < reading)
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            self.forget(&id);
        }
    }

    /// Whether this revision of a job's record, or a later one, is known.
    pub(super) fn is_read(&mut self, id: &str, revision: u64) -> bool {
        if self.grave(id).is_some_and(|grave| grave > revision) {
            return true;
        }
        let reading = self.reading;
        let known = self.calls.get_mut(id).filter(|known| known.revision >= revision);
        known.map(|known| known.reading = reading).is_some()
    }

    /// Takes note of a record, and says which states its job got into, each with the
    /// number of its try; `None` for an older one than is known. `is_here` for a job
    /// that this gateway runs.
    pub(super) fn apply(
        &mut self,
        record: Record,
        revision: u64,
        now: DateTime<Utc>,
        is_here: bool,
    ) -> Option<Vec<(State, u32)>> {
        let reading = self.reading;
        if self.is_read(&record.id, revision) {
            return None;
        }
        let id = record.id.clone();
        let changes = if self.is_settled {
            told::changes(self.get(&id).map(|known| &*known.record), &record)
        } else {
            Vec::new()
        };
        self.forget(&id);
        self.graves.remove(&id);
        let lane = self.lane(&record);
        let state = record.state();
        match state {
            State::Queued | State::Retrying => self.schedule.add(&id, &lane, record.due()),
            State::Running if !is_here => self.schedule.add(&id, &lane, now + self.lease),
            _ => {}
        }
        self.figures.add(&record, lane);
        self.order.insert((record.created, id.clone()));
        let known = Known {
            record: Arc::new(record),
            revision,
            reading,
            looks: 0,
        };
        self.calls.insert(id, known);
        Some(changes)
    }

    /// A job is gone.
    pub(super) fn bury(&mut self, id: &str, revision: u64, now: DateTime<Utc>) {
        if self.get(id).is_none_or(|known| known.revision < revision) {
            self.forget(id);
            self.graves.insert(id.to_owned(), (now, revision));
        }
    }

    /// Jobs that are gone since before this time.
    pub(super) fn old_graves(&self, before: DateTime<Utc>) -> Vec<String> {
        let old = self.graves.iter().filter(|(_, (at, _))| *at < before);
        old.map(|(id, _)| id.clone()).collect()
    }

    /// Nothing is there any more of a job that is gone.
    pub(super) fn clear_grave(&mut self, id: &str) {
        self.graves.remove(id);
    }

    fn forget(&mut self, id: &str) {
        let Some(known) = self.calls.remove(id) else { return };
        self.schedule.remove(id);
        self.order.remove(&(known.record.created, id.to_owned()));
        let lane = self.lane(&known.record);
        self.figures.remove(&known.record, &lane);
    }

    /// A job that was taken from the schedule and not run is looked for again: soon
    /// if it was not there, for others may have it; or at `at`.
    pub(super) fn look_again(&mut self, id: &str, now: DateTime<Utc>, at: Option<DateTime<Utc>>) {
        let Some(known) = self.calls.get_mut(id) else { return };
        let state = known.record.state();
        let due = match (at, state) {
            (_, state) if state.is_final() => return,
            (Some(at), _) => at,
            (None, State::Running) => now + self.lease,
            (None, _) => {
                let wait = LOOK * 2_i32.pow(known.looks.min(10));
                known.looks += 1;
                now + wait.min(LONGEST_LOOK)
            }
        };
        let record = Arc::clone(&known.record);
        let lane = self.lane(&record);
        self.schedule.add(id, &lane, due.max(record.due()));
    }

    /// Jobs that a filter means, the newest first, from before a place on.
    pub(super) fn list(&self, filter: &Filter, before: Option<Place>, limit: usize) -> Vec<Arc<Record>> {
        let wanted = |(_, id): &Place| {
            let record = &self.calls.get(id)?.record;
            is_meant(filter, record).then(|| Arc::clone(record))
        };
        match before {
            None => self.order.iter().rev().filter_map(wanted).take(limit).collect(),
            Some(place) => self.order.range(..place).rev().filter_map(wanted).take(limit).collect(),
        }
    }

    /// Jobs that ended before these times; of those that are dead, the second.
    pub(super) fn ended(&self, before: DateTime<Utc>, dead_before: DateTime<Utc>) -> Vec<Arc<Record>> {
        let is_old = |record: &Record| {
            let before = if record.state() == State::Dead {
                dead_before
            } else {
                before
            };
            record.finished.is_some_and(|at| at < before.timestamp_micros())
        };
        let records = self.calls.values().map(|known| &known.record);
        records.filter(|record| is_old(record)).cloned().collect()
    }
}

fn is_meant(filter: &Filter, record: &Record) -> bool {
    filter
        .function
        .as_ref()
        .is_none_or(|function| function.name == record.name && function.namespace == record.namespace)
        && filter.state.is_none_or(|state| state == record.state())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::FunctionRef,
        queue::{Allowed, Job, Target},
    };

    struct Any;

    impl Allowed for Any {
        fn allowed(&self, _: &Lane) -> usize {
            usize::MAX
        }

        fn free(&self) -> usize {
            usize::MAX
        }
    }

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).expect("a time")
    }

    fn record(id: &str, state: State) -> Record {
        let job = Job {
            id: id.to_owned(),
            function: FunctionRef::new("f", "fn"),
            target: Target::Function,
            path: String::new(),
            query: String::new(),
            headers: Vec::new(),
            body: bytes::Bytes::from_static(b"12345"),
            callback: None,
            idempotency_key: None,
            created: at(0),
            due: at(0),
        };
        let mut record = Record::new(&job, 1, false);
        record.set_state(state);
        record
    }

    fn take(index: &mut Index, second: i64) -> Option<String> {
        index.schedule.take(at(second), &Any).map(|(id, _)| id)
    }

    #[test]
    fn the_newest_revision_counts_in_whatever_order_they_come() {
        let mut index = Index::new(Duration::from_secs(30), false);
        assert!(index.apply(record("a", State::Succeeded), 5, at(0), false).is_some());
        assert!(index.apply(record("a", State::Queued), 3, at(0), false).is_none());
        assert_eq!((index.figures.jobs, take(&mut index, 9)), (0, None));
        index.bury("a", 4, at(0));
        assert!(index.get("a").is_some(), "an older end");
        index.bury("a", 6, at(0));
        let older = index.apply(record("a", State::Queued), 3, at(0), false);
        assert!(index.get("a").is_none() && older.is_none());
        let again = index.apply(record("a", State::Queued), 7, at(0), false);
        assert!(again.is_some(), "the id is used again");
        assert_eq!(
            (index.figures.jobs, index.figures.bytes, index.grave("a")),
            (1, 5, None)
        );
    }

    #[test]
    fn what_others_run_is_looked_for_when_their_lease_is_over() {
        let mut index = Index::new(Duration::from_secs(30), false);
        index.apply(record("a", State::Queued), 1, at(0), false);
        assert_eq!(take(&mut index, 0).as_deref(), Some("a"));
        index.look_again("a", at(0), None);
        assert_eq!(take(&mut index, 0), None, "it was not there");
        assert_eq!(take(&mut index, 1).as_deref(), Some("a"));
        index.apply(record("a", State::Running), 2, at(0), false);
        assert_eq!(
            (take(&mut index, 29), take(&mut index, 30).as_deref()),
            (None, Some("a"))
        );
        index.apply(record("a", State::Running), 3, at(40), true);
        assert_eq!(take(&mut index, 1000), None, "it runs here");
    }

    #[test]
    fn what_was_there_at_the_start_is_no_news_and_nothing_is_told_twice() {
        let mut index = Index::new(Duration::from_secs(30), false);
        let mut apply = |state, revision| index.apply(record("a", state), revision, at(0), false);
        assert_eq!(apply(State::Queued, 1), Some(Vec::new()));
        index.settle();
        let mut apply = |state, revision| index.apply(record("a", state), revision, at(0), false);
        // As it was written here, and as it is read.
        assert_eq!(apply(State::Running, 2), Some(vec![(State::Running, 1)]));
        assert_eq!(apply(State::Running, 2), None);
        index.begin();
        let mut apply = |state, revision| index.apply(record("a", state), revision, at(0), false);
        assert_eq!(apply(State::Running, 2), None, "read again");
        assert_eq!(apply(State::Succeeded, 4), Some(vec![(State::Succeeded, 0)]));
    }

    #[test]
    fn what_is_not_read_again_is_gone() {
        let mut index = Index::new(Duration::from_secs(30), false);
        for id in ["a", "b"] {
            index.apply(record(id, State::Queued), 1, at(0), false);
        }
        index.begin();
        index.apply(record("b", State::Queued), 1, at(0), false);
        index.apply(record("c", State::Dead), 2, at(0), false);
        index.settle();
        let found = index.list(&Filter::default(), None, 9);
        let found: Vec<_> = found.iter().map(|record| &*record.id).collect();
        assert_eq!((found, index.figures.jobs), (vec!["c", "b"], 1));
        assert_eq!(
            index
                .list(&Filter::default(), Some((at(0).timestamp_micros(), "c".to_owned())), 9)
                .len(),
            1
        );
    }
}
