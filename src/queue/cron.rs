//! Functions that are called by the clock: which they are, when, and what is
//! called now. Pure; the time is an argument.
//!
//! As with OpenFaaS's cron-connector, a function says so itself: annotations
//! `topic: cron-function` and `schedule`, with several schedules divided by `;`
//! or lines, and a `timezone` of which OpenFaaS knows nothing. Each time makes one
//! job, and every gateway gives it the same id, so that several of them make one
//! call. What nobody was there for is not made up for: a clock is about now.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{Job, Target, fields};
use crate::{
    config::{CronSeconds, CronTimes},
    model::FunctionRef,
};

/// The annotation that names what a function wants to be called for.
const TOPIC: &str = "topic";
/// The topic of functions that are called by the clock.
const CRON_TOPIC: &str = "cron-function";
/// The annotation that says when.
const SCHEDULE: &str = "schedule";
/// The annotation that says where that is.
const TIMEZONE: &str = "timezone";

/// Names the topic of a call that no caller made, as connectors do.
const TOPIC_HEADER: HeaderName = HeaderName::from_static("x-topic");
/// Names who made it.
const CONNECTOR_HEADER: HeaderName = HeaderName::from_static("x-connector");
/// What OpenFaaS's own is called.
const CONNECTOR: &str = "cron-connector";

/// What the ids of these calls begin with.
const PREFIX: &str = "cron-";

/// Most schedules of one function. Looking for the next time goes through all.
const MOST: usize = 100;

/// How late a call may be. More than a clock is off, or a machine is busy; less
/// than it sleeps.
const LATE: TimeDelta = TimeDelta::seconds(60);

/// The annotations of a function that are about the clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronAnnotations {
    schedule: String,
    timezone: Option<String>,
}

impl CronAnnotations {
    /// Picks them out of all that a function has; `None` where it is not called by
    /// the clock.
    pub fn of(all: Option<&BTreeMap<String, String>>) -> Option<Self> {
        let all = all?;
        let mut topics = all.get(TOPIC)?.split(',');
        if !topics.any(|topic| topic.trim() == CRON_TOPIC) {
            return None;
        }
        let text = |name: &str| all.get(name).map(|text| text.trim().to_owned());
        Some(Self {
            schedule: text(SCHEDULE).unwrap_or_default(),
            timezone: text(TIMEZONE).filter(|zone| !zone.is_empty()),
        })
    }
}

/// The times of one function.
#[derive(Debug, Default)]
pub struct Timetable {
    times: Vec<CronTimes>,
}

impl Timetable {
    /// Reads the times. Returns what is wrong with them too; a schedule that cannot
    /// be read is left out, and so is one that has no time after `now`: to find that
    /// out takes long, and is not done again and again.
    pub fn new(annotations: &CronAnnotations, now: DateTime<Utc>) -> (Self, Vec<String>) {
        let mut table = Self::default();
        let mut mistakes = BTreeSet::new();
        let zone = annotations.timezone.as_deref();
        let texts = annotations.schedule.split([';', '\n']).map(str::trim);
        let mut texts = texts.filter(|text| !text.is_empty());
        for text in texts.by_ref().take(MOST) {
            match CronTimes::parse(text, zone, CronSeconds::Optional) {
                Ok(times) if times.next(now).is_some() => table.times.push(times),
                Ok(_) => {
                    mistakes.insert(format!("{SCHEDULE}: '{}' never comes", text.escape_debug()));
                }
                Err(mistake) => {
                    let (name, found) = match mistake.key {
                        "tz" => (TIMEZONE, zone.unwrap_or_default()),
                        _ => (SCHEDULE, text),
                    };
                    let message = mistake.message;
                    mistakes.insert(format!("{name}: '{}' {message}", found.escape_debug()));
                }
            }
        }
        if texts.next().is_some() {
            mistakes.insert(format!(
                "{SCHEDULE}: has more than {MOST} times; the others are ignored"
            ));
        }
        if table.times.is_empty() && mistakes.is_empty() {
            mistakes.insert(format!("{SCHEDULE}: is missing, so it is never called by the clock"));
        }
        (table, mistakes.into_iter().collect())
    }

    /// The first time after this one; `None` where there is no more.
    pub fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.times.iter().filter_map(|times| times.next(after)).min()
    }
}

/// A call whose time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Of this function.
    pub function: FunctionRef,
    /// The time, of a schedule and not of a clock.
    pub at: DateTime<Utc>,
}

impl Due {
    /// The job that makes this call: the same for every gateway.
    pub fn job(&self, now: DateTime<Utc>) -> Job {
        let id = format!("{PREFIX}{}-{}", self.function, self.at.timestamp());
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        headers.insert(TOPIC_HEADER, HeaderValue::from_static(CRON_TOPIC));
        headers.insert(CONNECTOR_HEADER, HeaderValue::from_static(CONNECTOR));
        if let Ok(id) = HeaderValue::try_from(&id) {
            headers.insert(crate::proxy::headers::CALL_ID, id);
        }
        Job {
            function: self.function.clone(),
            target: Target::Function,
            path: String::new(),
            query: String::new(),
            headers: fields::of(&headers),
            body: Bytes::new(),
            callback: None,
            idempotency_key: Some(id.clone()),
            created: now,
            due: now,
            id,
        }
    }
}

/// Whether a call by the clock may have this id or key. A caller that chose it
/// first would keep that call from being made.
pub fn is_reserved(id: &str) -> bool {
    let time = id.strip_prefix(PREFIX).and_then(|rest| rest.rsplit_once('-'));
    time.is_some_and(|(_, time)| !time.is_empty() && time.bytes().all(|byte| byte.is_ascii_digit()))
}

/// What is shown of a function that is called by the clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The function.
    pub function: FunctionRef,
    /// When it is called next; `None` where that is never.
    pub next: Option<DateTime<Utc>>,
    /// How many things are wrong with its annotations.
    pub mistakes: usize,
}

#[derive(Debug)]
struct Entry {
    annotations: CronAnnotations,
    table: Timetable,
    next: Option<DateTime<Utc>>,
    mistakes: usize,
}

/// All functions that are called by the clock.
#[derive(Debug, Default)]
pub struct Crontab {
    functions: BTreeMap<FunctionRef, Entry>,
    /// When it was looked at last.
    looked: Option<DateTime<Utc>>,
}

impl Crontab {
    /// Takes over what functions say now. Returns what is wrong with that of which
    /// it was not told before.
    pub fn learn(
        &mut self,
        listed: impl Iterator<Item = (FunctionRef, CronAnnotations)>,
        now: DateTime<Utc>,
    ) -> Vec<(FunctionRef, String)> {
        let mut before = std::mem::take(&mut self.functions);
        let mut wrong = Vec::new();
        for (function, annotations) in listed {
            let known = before.remove(&function);
            let entry = known
                .filter(|known| known.annotations == annotations)
                .unwrap_or_else(|| {
                    let (table, mistakes) = Timetable::new(&annotations, now);
                    let count = mistakes.len();
                    wrong.extend(mistakes.into_iter().map(|mistake| (function.clone(), mistake)));
                    Entry {
                        next: table.next(now),
                        annotations,
                        table,
                        mistakes: count,
                    }
                });
            self.functions.insert(function, entry);
        }
        wrong
    }

    /// Calls whose time has come since the last look. What is late by more than a
    /// minute is left out; so is what would come again because a clock was set back.
    pub fn due(&mut self, now: DateTime<Utc>) -> Vec<Due> {
        let set_back = self.looked.is_some_and(|looked| now < looked - LATE);
        self.looked = Some(now);
        let mut due = Vec::new();
        for (function, entry) in &mut self.functions {
            if set_back || entry.next.is_some_and(|next| next < now - LATE) {
                let from = if set_back { now } else { now - LATE };
                entry.next = entry.table.next(from);
            }
            while let Some(at) = entry.next.filter(|next| *next <= now) {
                let function = function.clone();
                due.push(Due { function, at });
                entry.next = entry.table.next(at);
            }
        }
        due
    }

    /// How long nothing is due.
    pub fn wait(&self, now: DateTime<Utc>) -> Option<Duration> {
        let next = self.functions.values().filter_map(|entry| entry.next).min()?;
        Some((next - now).to_std().unwrap_or_default())
    }

    /// What is shown of each function.
    pub fn shown(&self) -> Vec<Shown> {
        let shown = |(function, entry): (&FunctionRef, &Entry)| Shown {
            function: function.clone(),
            next: entry.next,
            mistakes: entry.mistakes,
        };
        self.functions.iter().map(shown).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    fn annotations(schedule: &str, zone: &str) -> CronAnnotations {
        let pairs = [
            ("topic", "other, cron-function"),
            ("schedule", schedule),
            ("timezone", zone),
        ];
        let all = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        CronAnnotations::of(Some(&all.into())).expect("it is called by the clock")
    }

    fn listed(functions: &[(&str, &str)]) -> Vec<(FunctionRef, CronAnnotations)> {
        let listed = functions.iter();
        listed
            .map(|(name, schedule)| (FunctionRef::new(*name, "fn"), annotations(schedule, "")))
            .collect()
    }

    /// What is due, as `name minute:second`.
    fn due(crontab: &mut Crontab, now: &str) -> Vec<String> {
        let due = crontab.due(at(now)).into_iter();
        due.map(|due| format!("{} {}", due.function.name, due.at.format("%H:%M:%S")))
            .collect()
    }

    #[test]
    fn functions_say_whether_the_clock_calls_them() {
        let of = |pairs: &[(&str, &str)]| {
            let all = pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            CronAnnotations::of(Some(&all.collect()))
        };
        assert_eq!(CronAnnotations::of(None), None);
        assert_eq!(of(&[("schedule", "* * * * *")]), None);
        assert_eq!(of(&[("topic", "kafka"), ("schedule", "* * * * *")]), None);
        assert!(of(&[("topic", "cron-function"), ("schedule", "* * * * *")]).is_some());
        assert!(of(&[("topic", "a,cron-function ")]).is_some());
    }

    #[test]
    fn times_follow_each_other_in_their_zone() {
        for (schedule, zone, after, expected) in [
            (
                "*/5 * * * *",
                "",
                "2026-11-26T12:00:00Z",
                &["26T12:05", "26T12:10", "26T12:15"][..],
            ),
            // Several, in the order of their times, the same one once.
            (
                "0 6 * * *; 30 5 * * *\n0 6 * * *;",
                "",
                "2026-11-26T12:00:00Z",
                &["27T05:30", "27T06:00", "28T05:30"],
            ),
            // Berlin is an hour ahead of UTC in winter, two in summer.
            (
                "0 9 * * 1-5",
                "Europe/Berlin",
                "2026-11-27T12:00:00Z",
                &["30T08:00", "01T08:00"],
            ),
            (
                "0 9 * * *",
                "Europe/Berlin",
                "2026-10-24T00:00:00Z",
                &["24T07:00", "25T08:00"],
            ),
            // The clock jumps from 2 to 3: the time that is not there comes right after.
            (
                "30 2 * * *",
                "Europe/Berlin",
                "2026-03-28T00:00:00Z",
                &["28T01:30", "29T01:00", "30T00:30"],
            ),
            // The hour from 2 to 3 comes twice: once is enough for a time of day.
            (
                "30 2 * * *",
                "Europe/Berlin",
                "2026-10-24T12:00:00Z",
                &["25T00:30", "26T01:30"],
            ),
            // What comes every half hour goes on through it.
            (
                "*/30 * * * *",
                "Europe/Berlin",
                "2026-10-24T23:45:00Z",
                &["25T00:00", "25T00:30", "25T01:00", "25T01:30", "25T02:00"],
            ),
            ("@daily", "", "2026-11-26T12:00:00Z", &["27T00:00"]),
        ] {
            let mut now = at(after);
            let (table, mistakes) = Timetable::new(&annotations(schedule, zone), now);
            assert_eq!(mistakes, Vec::<String>::new(), "{schedule}");
            let found: Vec<_> = expected
                .iter()
                .map(|_| {
                    now = table.next(now).expect("there is more");
                    now.format("%dT%H:%M").to_string()
                })
                .collect();
            assert_eq!(found, expected, "{schedule} {zone}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_once_and_the_rest_goes_on() {
        let now = at("2026-11-26T12:00:30Z");
        let many = "* * * * *;".repeat(MOST + 1);
        for (schedule, zone, count, readable) in [
            ("", "", 1, false),
            ("0 0 31 2 *", "", 1, false),
            (&*many, "", 1, true),
            ("often", "", 1, false),
            ("often; * * * * *; 99 * * * *", "", 2, true),
            ("* * * * *; */2 * * * *", "Berlin", 1, false),
        ] {
            let (table, mistakes) = Timetable::new(&annotations(schedule, zone), now);
            assert!(table.times.len() <= MOST, "{schedule}");
            assert_eq!(mistakes.len(), count, "{schedule}: {mistakes:?}");
            assert_eq!(!table.times.is_empty(), readable, "{schedule}");
        }
        let mut crontab = Crontab::default();
        let functions = listed(&[("bad", "often"), ("good", "* * * * *")]);
        let wrong = crontab.learn(functions.clone().into_iter(), now);
        assert_eq!(wrong.len(), 1);
        assert!(wrong[0].1.starts_with("schedule: 'often' is no time"), "{wrong:?}");
        assert_eq!(crontab.learn(functions.into_iter(), now), []);
        let shown = crontab.shown();
        assert_eq!(
            (&*shown[0].function.name, shown[0].next, shown[0].mistakes),
            ("bad", None, 1)
        );
        assert_eq!(
            (shown[1].next, shown[1].mistakes),
            (Some(at("2026-11-26T12:01:00Z")), 0)
        );
    }

    #[test]
    fn each_time_comes_once() {
        let mut crontab = Crontab::default();
        let functions = listed(&[("a", "* * * * *"), ("b", "*/2 * * * *")]);
        let learn = |crontab: &mut Crontab, now: &str| crontab.learn(functions.clone().into_iter(), at(now));
        learn(&mut crontab, "2026-11-26T12:00:10Z");
        assert_eq!(crontab.wait(at("2026-11-26T12:00:10Z")), Some(Duration::from_secs(50)));
        assert_eq!(due(&mut crontab, "2026-11-26T12:00:59Z"), [""; 0]);
        assert_eq!(due(&mut crontab, "2026-11-26T12:01:00Z"), ["a 12:01:00"]);
        learn(&mut crontab, "2026-11-26T12:01:01Z");
        assert_eq!(due(&mut crontab, "2026-11-26T12:01:30Z"), [""; 0]);
        assert_eq!(due(&mut crontab, "2026-11-26T12:02:01Z"), ["a 12:02:00", "b 12:02:00"]);
        // The machine slept: what is older than a minute has passed.
        assert_eq!(due(&mut crontab, "2026-11-26T12:30:30Z"), ["a 12:30:00", "b 12:30:00"]);
        // The clock was set back by a little, and by much.
        assert_eq!(due(&mut crontab, "2026-11-26T12:29:50Z"), [""; 0]);
        assert_eq!(due(&mut crontab, "2026-11-26T11:00:30Z"), [""; 0]);
        assert_eq!(due(&mut crontab, "2026-11-26T11:01:00Z"), ["a 11:01:00"]);
        assert_eq!(crontab.learn(std::iter::empty(), at("2026-11-26T11:01:10Z")), []);
        assert_eq!(due(&mut crontab, "2026-11-26T11:02:00Z"), [""; 0]);
    }

    #[test]
    fn every_gateway_makes_the_same_job_and_no_caller_does() {
        let due = Due {
            function: FunctionRef::new("f", "fn"),
            at: at("2026-11-26T12:00:00Z"),
        };
        let (first, second) = (due.job(at("2026-11-26T12:00:01Z")), due.job(at("2026-11-26T12:00:09Z")));
        assert_eq!(first.id, "cron-f.fn-1795694400");
        assert_eq!(
            (&first.id, &first.idempotency_key),
            (&second.id, &second.idempotency_key)
        );
        for (id, reserved) in [
            (&*first.id, true),
            ("cron-a-1", true),
            ("cron-a", false),
            ("cron-a-", false),
            ("cron-a-1x", false),
            ("acron-a-1", false),
        ] {
            assert_eq!(is_reserved(id), reserved, "{id}");
        }
    }
}
