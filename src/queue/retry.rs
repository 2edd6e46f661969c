//! What becomes of a job after a try (compatibility.md section 5.3). Pure: time
//! and randomness are arguments.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderMap, header};

use super::{State, Then};
use crate::config::Jitter;

/// When a job is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Statuses that are tried again.
    pub statuses: Vec<u16>,
    /// Most tries, the first one included; at least 1.
    pub attempts: u32,
    /// Wait before the second try.
    pub min_wait: Duration,
    /// How many times as long each further wait is.
    pub factor: u32,
    /// Longest wait.
    pub max_wait: Duration,
    /// How waits are spread, so that those that failed together do not come back
    /// together.
    pub jitter: Jitter,
    /// How old a job gets before it is given up.
    pub max_age: Duration,
}

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The status of the answer; `None` without one.
    pub status: Option<u16>,
    /// Whether the answer is the gateway's own and not the function's.
    pub is_internal: bool,
    /// What the answer says of when to try again.
    pub retry_after: Option<Duration>,
}

/// What a try makes of its job: its number, counted from 1, when the job was
/// taken, and a number in `[0, 1)`.
pub fn decide(
    policy: &Policy,
    outcome: Outcome,
    (number, created): (u32, DateTime<Utc>),
    now: DateTime<Utc>,
    random: f64,
) -> Then {
    let again = match outcome.status {
        None => true,
        // A part of the platform failed: the function may never have seen it.
        Some(400..) if outcome.is_internal && outcome.status != Some(404) => true,
        Some(status) => policy.statuses.contains(&status),
    };
    if !again {
        return Then::End(match outcome.status {
            Some(200..=399) => State::Succeeded,
            _ => State::Failed,
        });
    }
    if number >= policy.attempts {
        return Then::End(State::Dead);
    }
    let wait = match outcome.retry_after {
        Some(asked) if matches!(outcome.status, Some(429 | 503)) => asked.max(policy.min_wait),
        _ => wait(policy, number, random),
    };
    let (at, expires) = (after(now, wait), after(created, policy.max_age));
    if at >= expires {
        return Then::End(State::Dead);
    }
    Then::Again(at)
}

/// A time so much later, or the last that there is: functions ask for any wait.
fn after(time: DateTime<Utc>, wait: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(wait)
        .ok()
        .and_then(|wait| time.checked_add_signed(wait))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// The wait after a try of this number.
fn wait(policy: &Policy, number: u32, random: f64) -> Duration {
    let grown = policy
        .factor
        .checked_pow(number.saturating_sub(1))
        .and_then(|times| policy.min_wait.checked_mul(times))
        .unwrap_or(Duration::MAX);
    let longest = grown.min(policy.max_wait.max(policy.min_wait));
    match policy.jitter {
        Jitter::None => longest,
        Jitter::Full => longest.mul_f64(random),
        Jitter::Equal => longest.mul_f64(0.5 + random / 2.0),
    }
}

/// What the header fields of an answer say of when to try again.
pub fn retry_after_of(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    retry_after(headers.get(header::RETRY_AFTER)?.to_str().ok()?, now)
}

/// A `Retry-After` (RFC 9110 section 10.2.3): seconds, or a date.
pub fn retry_after(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = DateTime::parse_from_rfc2822(value).ok()?;
    Some((date.with_timezone(&Utc) - now).to_std().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(jitter: Jitter) -> Policy {
        Policy {
            statuses: vec![408, 429, 500, 502, 503, 504],
            attempts: 4,
            min_wait: Duration::from_secs(10),
            factor: 2,
            max_wait: Duration::from_secs(30),
            jitter,
            max_age: Duration::from_secs(3600),
        }
    }

    fn status(status: u16) -> Outcome {
        Outcome {
            status: Some(status),
            is_internal: false,
            retry_after: None,
        }
    }

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).expect("a time")
    }

    #[test]
    fn what_is_tried_again_and_what_has_ended() {
        let internal = |code| Outcome {
            is_internal: true,
            ..status(code)
        };
        let unanswered = Outcome {
            status: None,
            ..status(0)
        };
        let again = Then::Again(at(10));
        for (outcome, expected) in [
            (status(200), Then::End(State::Succeeded)),
            (status(302), Then::End(State::Succeeded)),
            (status(400), Then::End(State::Failed)),
            (status(404), Then::End(State::Failed)),
            (status(500), again.clone()),
            (status(501), Then::End(State::Failed)),
            (internal(501), again.clone()),
            (internal(413), again.clone()),
            (internal(404), Then::End(State::Failed)),
            (unanswered, again),
        ] {
            let then = decide(&policy(Jitter::None), outcome, (1, at(0)), at(0), 0.0);
            assert_eq!(then, expected, "{outcome:?}");
        }
    }

    #[test]
    fn waits_double_up_to_the_longest_and_are_spread() {
        for (jitter, number, random, expected) in [
            (Jitter::None, 1, 0.9, 10.0),
            (Jitter::None, 2, 0.9, 20.0),
            (Jitter::None, 3, 0.9, 30.0),
            (Jitter::None, 100, 0.9, 30.0),
            (Jitter::Full, 1, 0.0, 0.0),
            (Jitter::Full, 2, 0.5, 10.0),
            (Jitter::Equal, 2, 0.0, 10.0),
            (Jitter::Equal, 2, 0.5, 15.0),
        ] {
            let found = wait(&policy(jitter), number, random).as_secs_f64();
            assert!((found - expected).abs() < 1e-6, "{jitter:?} {number} {random}: {found}");
        }
        let steep = Policy {
            min_wait: Duration::from_secs(1),
            factor: 5,
            max_wait: Duration::from_secs(125),
            ..policy(Jitter::None)
        };
        let waits = [1, 2, 3, 4, 5, 40].map(|number| wait(&steep, number, 0.0).as_secs());
        assert_eq!(waits, [1, 5, 25, 125, 125, 125]);
    }

    #[test]
    fn tries_and_time_end() {
        let policy = policy(Jitter::None);
        let dead = Then::End(State::Dead);
        assert_eq!(decide(&policy, status(500), (4, at(0)), at(0), 0.0), dead);
        assert_eq!(decide(&policy, status(500), (1, at(0)), at(3595), 0.0), dead);
        assert_eq!(
            decide(&policy, status(500), (1, at(0)), at(3585), 0.0),
            Then::Again(at(3595))
        );
    }

    #[test]
    fn retry_after_is_obeyed_from_the_shortest_wait_on() {
        let asked = |code, seconds| Outcome {
            retry_after: Some(Duration::from_secs(seconds)),
            ..status(code)
        };
        for (outcome, wait) in [
            (asked(429, 25), 25),
            (asked(503, 1), 10),
            (asked(500, 25), 10),
            (asked(503, 90), 90),
        ] {
            let then = decide(&policy(Jitter::None), outcome, (1, at(0)), at(0), 0.0);
            assert_eq!(then, Then::Again(at(wait)), "{outcome:?}");
        }
        let endless = Policy {
            max_age: Duration::MAX,
            ..policy(Jitter::None)
        };
        for policy in [policy(Jitter::None), endless] {
            let then = decide(&policy, asked(503, u64::MAX), (1, at(0)), at(0), 0.0);
            assert_eq!(then, Then::End(State::Dead), "later than any time there is");
        }
        let now = at(0);
        let date = (now + TimeDelta::seconds(42))
            .format("%a, %d %b %Y %H:%M:%S GMT")
            .to_string();
        for (text, expected) in [
            ("7", Some(7)),
            (" 7 ", Some(7)),
            (&*date, Some(42)),
            ("soon", None),
            ("-1", None),
        ] {
            assert_eq!(retry_after(text, now), expected.map(Duration::from_secs), "{text}");
        }
    }
}
