//! When a call is tried again, and how often: pure, with time and randomness
//! as arguments. Sending is [`super::forward()`]'s part.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use chrono::DateTime;
use http::HeaderValue;
use tokio::time::Instant;

use crate::config::{Ratio, RetrySettings};

/// Seconds that a budget looks back.
const WINDOW: usize = 10;

/// Retries in that time that are let through however few calls there are.
const FLOOR: u32 = 3;

/// How many calls of a function may be tried again: a share of those of the
/// last ten seconds, and a few more. What fails for everybody is so not also
/// called several times as often. Keeps counts only, so it outlives changes of
/// the share.
pub struct Budget {
    start: Instant,
    window: Mutex<Window>,
}

impl Budget {
    /// A budget that has seen no calls.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            window: Mutex::default(),
        }
    }

    /// Counts a call.
    pub fn call(&self) {
        self.with(Window::call);
    }

    /// Whether another try may be made; then it is counted.
    pub fn withdraw(&self, share: Ratio) -> bool {
        self.with(|window, second| window.withdraw(second, share))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Window, u64) -> T) -> T {
        let second = self.start.elapsed().as_secs();
        work(&mut self.window.lock().unwrap_or_else(PoisonError::into_inner), second)
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").finish_non_exhaustive()
    }
}

/// Counts of the last seconds.
#[derive(Debug, Default)]
struct Window {
    /// By second, modulo their number.
    seconds: [Second; WINDOW],
}

#[derive(Debug, Default, Clone, Copy)]
struct Second {
    /// Which second this is about.
    at: u64,
    calls: u32,
    retries: u32,
}

impl Window {
    fn second(&mut self, now: u64) -> &mut Second {
        let slot = usize::try_from(now % WINDOW as u64).unwrap_or_default();
        let second = &mut self.seconds[slot];
        if second.at != now {
            *second = Second {
                at: now,
                ..Second::default()
            };
        }
        second
    }

    fn call(&mut self, now: u64) {
        let second = self.second(now);
        second.calls = second.calls.saturating_add(1);
    }

    fn withdraw(&mut self, now: u64, share: Ratio) -> bool {
        let recent = |second: &&Second| now.saturating_sub(second.at) < WINDOW as u64;
        let (calls, retries) = self
            .seconds
            .iter()
            .filter(recent)
            .fold((0.0, 0.0), |(calls, retries), second| {
                (calls + f64::from(second.calls), retries + f64::from(second.retries))
            });
        let allowed = retries + 1.0 <= f64::from(FLOOR) + calls * share.as_f64();
        if allowed {
            self.second(now).retries += 1;
        }
        allowed
    }
}

/// The wait before retry number `retry`, counted from 1: anywhere between the
/// first wait and one that doubles each time, so that calls that failed
/// together do not come back together. `random` is from 0 to 1.
fn backoff(settings: &RetrySettings, retry: u32, random: f64) -> Duration {
    let highest = settings
        .backoff
        .saturating_mul(1_u32.checked_shl(retry).unwrap_or(u32::MAX))
        .min(settings.backoff_max);
    let lowest = settings.backoff.min(highest);
    lowest + highest.saturating_sub(lowest).mul_f64(random.clamp(0.0, 1.0))
}

/// The wait before another try; `None` when the failed answer asks for a
/// longer one than is made here.
pub(super) fn wait(settings: &RetrySettings, retry: u32, random: f64, asked: Option<Duration>) -> Option<Duration> {
    let wait = backoff(settings, retry, random);
    match asked {
        Some(asked) if asked > settings.backoff_max => None,
        Some(asked) => Some(wait.max(asked)),
        None => Some(wait),
    }
}

/// The value of `Retry-After`: seconds, or a date (RFC 9110 section 10.2.3).
pub fn retry_after(value: &HeaderValue, now: SystemTime) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = SystemTime::from(DateTime::parse_from_rfc2822(text).ok()?);
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(backoff: u64, backoff_max: u64) -> RetrySettings {
        RetrySettings {
            attempts: 3,
            statuses: vec![],
            methods: vec![],
            budget: Ratio::ALL,
            backoff: Duration::from_millis(backoff),
            backoff_max: Duration::from_millis(backoff_max),
            max_body: 0,
        }
    }

    /// How many retries are let through in this second.
    fn allowed(window: &mut Window, now: u64, share: Ratio) -> u32 {
        let mut count = 0;
        while count < 1000 && window.withdraw(now, share) {
            count += 1;
        }
        count
    }

    #[test]
    fn a_share_of_the_calls_and_a_floor_may_be_tried_again() {
        for (calls, share, expected) in [
            (0, 20, 3),
            (1, 20, 3),
            (5, 20, 4),
            (100, 20, 23),
            (100, 0, 3),
            (100, 100, 103),
        ] {
            let mut window = Window::default();
            (0..calls).for_each(|_| window.call(7));
            assert_eq!(
                allowed(&mut window, 8, Ratio::percent(share)),
                expected,
                "{calls} calls, {share}%"
            );
            assert_eq!(allowed(&mut window, 9, Ratio::percent(share)), 0);
        }
    }

    #[test]
    fn a_budget_looks_ten_seconds_back() {
        let mut window = Window::default();
        (0..50).for_each(|_| window.call(100));
        assert_eq!(allowed(&mut window, 105, Ratio::percent(20)), 13);
        // The calls are out of sight before the retries that they allowed.
        assert_eq!(allowed(&mut window, 110, Ratio::percent(20)), 0);
        assert_eq!(allowed(&mut window, 115, Ratio::percent(20)), 3);
        assert_eq!(allowed(&mut window, 10_000, Ratio::percent(20)), 3);
    }

    #[test]
    fn waits_double_within_their_bounds() {
        for (retry, random, expected) in [
            (1, 0.0, 25),
            (1, 1.0, 50),
            (2, 0.0, 25),
            (2, 1.0, 100),
            (3, 0.5, 112),
            (4, 1.0, 250),
            (40, 1.0, 250),
            (40, 0.0, 25),
        ] {
            let found = backoff(&settings(25, 250), retry, random);
            assert_eq!(found.as_millis(), expected, "{retry} {random}");
        }
        assert_eq!(backoff(&settings(25, 10), 1, 1.0).as_millis(), 10);
        assert_eq!(backoff(&settings(0, 0), 1, 1.0), Duration::ZERO);
    }

    #[test]
    fn the_functions_own_wait_counts_when_it_fits() {
        let millis = Duration::from_millis;
        for (asked, expected) in [
            (None, Some(millis(25))),
            (Some(millis(0)), Some(millis(25))),
            (Some(millis(250)), Some(millis(250))),
            (Some(millis(251)), None),
        ] {
            assert_eq!(wait(&settings(25, 250), 1, 0.0, asked), expected, "{asked:?}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        // RFC 9110's own example.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (text, expected) in [
            ("0", Some(0)),
            ("120", Some(120)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:48:37 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
        ] {
            let value = HeaderValue::from_static(text);
            assert_eq!(retry_after(&value, now), expected.map(Duration::from_secs), "{text}");
        }
    }
}
