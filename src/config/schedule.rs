//! Times as cron writes them: of day, at which functions have other bounds
//! (`[functions."NAME"] schedule`), and at which they are called. Pure; the time
//! is an argument.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::{
    Cron,
    parser::{CronParser, Seconds},
};

use super::calls::Scheduled;

/// Whether a time may say seconds, before the minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CronSeconds {
    /// It may.
    Optional,
    /// It may not: minutes are often enough.
    Disallowed,
}

/// What is wrong with a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronMistake {
    /// `cron`, or `tz`.
    pub key: &'static str,
    /// What is wrong, in words that follow the key.
    pub message: String,
}

/// Times in a time zone.
#[derive(Debug, Clone)]
pub struct CronTimes {
    cron: Cron,
    zone: Tz,
}

impl CronTimes {
    /// Reads times; without a zone it is UTC.
    ///
    /// # Errors
    /// What is wrong, and with which of the two.
    pub fn parse(cron: &str, zone: Option<&str>, seconds: CronSeconds) -> Result<Self, CronMistake> {
        let mistake = |key, message| CronMistake { key, message };
        let seconds = match seconds {
            CronSeconds::Optional => Seconds::Optional,
            CronSeconds::Disallowed => Seconds::Disallowed,
        };
        let cron = CronParser::builder()
            .seconds(seconds)
            .build()
            .parse(cron)
            .map_err(|error| mistake("cron", format!("is no time as cron writes it: {error}")))?;
        let zone = match zone {
            None => Tz::UTC,
            Some(name) => name.parse().map_err(|_| {
                let message = "is no time zone; its name is one like Europe/Paris";
                mistake("tz", message.to_owned())
            })?,
        };
        Ok(Self { cron, zone })
    }

    /// The first time after this one; `None` where there is no more.
    pub fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let next = self.cron.find_next_occurrence(&after.with_timezone(&self.zone), false);
        Some(next.ok()?.with_timezone(&Utc))
    }

    /// The last time up to this one; `None` where there was none.
    fn last(&self, until: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let last = self
            .cron
            .find_previous_occurrence(&until.with_timezone(&self.zone), true);
        Some(last.ok()?.with_timezone(&Utc))
    }
}

/// Reads the times of an entry, without seconds: nothing is scaled that often.
fn times(entry: &Scheduled) -> Result<CronTimes, CronMistake> {
    CronTimes::parse(&entry.cron, entry.tz.as_deref(), CronSeconds::Disallowed)
}

/// What is wrong with an entry.
pub(super) fn mistakes(entry: &Scheduled) -> Option<CronMistake> {
    times(entry).err()
}

/// The fewest replicas that a schedule wants at a time: those of the entry that
/// began last. `None` before the first has begun, and where that entry has 0.
pub fn min_at(schedule: &[Scheduled], now: DateTime<Utc>) -> Option<u32> {
    let begun = schedule.iter().filter_map(|entry| {
        // Checked when it was read.
        Some((times(entry).ok()?.last(now)?, entry.min))
    });
    // Of those at the same time the last one written.
    let (_, min) = begun.max_by_key(|(began, _)| *began)?;
    (min > 0).then_some(min)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(cron: &str, tz: Option<&str>, min: u32) -> Scheduled {
        Scheduled {
            cron: cron.to_owned(),
            tz: tz.map(str::to_owned),
            min,
        }
    }

    #[test]
    fn the_entry_that_began_last_holds() {
        let week = [
            entry("0 8 * * 1-5", Some("Europe/Berlin"), 3),
            entry("0 18 * * 1-5", Some("Europe/Berlin"), 0),
        ];
        let lunch = [entry("0 0 * * *", None, 1), entry("30 11 * * *", None, 5)];
        for (schedule, now, expected) in [
            // 2026-11-26 is a Thursday; Berlin is an hour ahead of UTC in winter.
            (&week, "2026-11-26T06:59:59Z", None),
            (&week, "2026-11-26T07:00:00Z", Some(3)),
            (&week, "2026-11-26T16:59:00Z", Some(3)),
            (&week, "2026-11-26T17:00:00Z", None),
            (&week, "2026-11-28T12:00:00Z", None),
            // Two hours ahead in summer.
            (&week, "2026-07-01T06:00:00Z", Some(3)),
            (&lunch, "2026-11-26T11:29:00Z", Some(1)),
            (&lunch, "2026-11-26T23:59:00Z", Some(5)),
            (&lunch, "2026-11-27T00:00:00Z", Some(1)),
        ] {
            let now = now.parse().expect("a time");
            assert_eq!(min_at(schedule, now), expected, "{now}");
        }
        assert_eq!(min_at(&[], Utc::now()), None);
    }

    #[test]
    fn what_is_no_time_is_a_mistake() {
        for (cron, tz, key) in [
            ("0 8 * * 1-5", None, None),
            ("*/15 * * * *", Some("America/New_York"), None),
            ("0 8 * *", None, Some("cron")),
            ("0 0 8 * * *", None, Some("cron")),
            ("0 25 * * *", None, Some("cron")),
            ("tomorrow", None, Some("cron")),
            ("0 8 * * *", Some("Berlin"), Some("tz")),
        ] {
            let found = mistakes(&entry(cron, tz, 1)).map(|mistake| mistake.key);
            assert_eq!(found, key, "{cron} {tz:?}");
        }
    }
}
