//! How many calls may come in a time, by whom (GCRA, by the `governor` crate).
//!
//! At most [`MAX_KEYS`] callers are told apart, so that made-up header values
//! cost no memory: callers beyond that share one allowance. Callers whose
//! allowance is full again are forgotten every [`SWEEP_EVERY`] calls.

use std::{
    fmt,
    net::IpAddr,
    num::NonZeroU32,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, MonotonicClock},
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{
        InMemoryState, NotKeyed, StateStore,
        keyed::{DashMapStateStore, ShrinkableKeyedStateStore},
    },
};
use http::{HeaderMap, HeaderValue};
use sha2::{Digest, Sha256};

use crate::config::{RateBy, RateLimitSettings};

/// Callers of one function that are told apart at a time; about 100 bytes each.
const MAX_KEYS: usize = 65_536;

/// Calls between two looks for callers that can be forgotten.
const SWEEP_EVERY: usize = 4096;

/// Longest time that a limit spans, so that governor's nanoseconds cannot overflow.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The allowances of one function's callers.
pub struct RateLimit<C: Clock = MonotonicClock> {
    by: RateBy,
    limiter: RateLimiter<Key, Bounded, C, NoOpMiddleware<C::Instant>>,
    clock: C,
    calls: AtomicUsize,
}

/// Who shares an allowance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    /// Everyone, or everyone without the header.
    All,
    Client(IpAddr),
    /// A header's value and its length.
    Short([u8; SHORT], u8),
    /// The hash of a longer one.
    Long([u8; 32]),
}

const SHORT: usize = 32;

impl RateLimit {
    /// Full allowances, by the system's clock.
    pub fn new(settings: &RateLimitSettings) -> Self {
        Self::with_clock(settings, MonotonicClock)
    }
}

impl<C: Clock + Clone> RateLimit<C> {
    /// Full allowances, by this clock.
    pub fn with_clock(settings: &RateLimitSettings, clock: C) -> Self {
        Self {
            by: settings.by.clone(),
            limiter: RateLimiter::new(quota(settings), Bounded::default(), clock.clone()),
            clock,
            calls: AtomicUsize::new(0),
        }
    }

    /// Whether a header tells whose call it is.
    pub fn reads_headers(&self) -> bool {
        matches!(self.by, RateBy::Header(_))
    }

    /// Takes one call from its caller's allowance.
    ///
    /// # Errors
    /// How long it takes until there is one.
    pub fn check(&self, headers: &HeaderMap, client: IpAddr) -> Result<(), Duration> {
        let key = match &self.by {
            RateBy::Function => Key::All,
            RateBy::Client => Key::Client(client.to_canonical()),
            RateBy::Header(name) => headers.get(name).map_or(Key::All, value_key),
        };
        if self.calls.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1 {
            self.limiter.retain_recent();
        }
        self.limiter
            .check_key(&key)
            .map_err(|until| until.wait_time_from(self.clock.now()))
    }
}

fn value_key(value: &HeaderValue) -> Key {
    let bytes = value.as_bytes();
    let mut short = [0; SHORT];
    match short.get_mut(..bytes.len()) {
        Some(start) => {
            start.copy_from_slice(bytes);
            Key::Short(short, u8::try_from(bytes.len()).unwrap_or(u8::MAX))
        }
        None => Key::Long(Sha256::digest(bytes).into()),
    }
}

/// `requests` in `per`, evenly, and `burst` at once.
fn quota(settings: &RateLimitSettings) -> Quota {
    let each = (settings.per.min(LONGEST) / settings.requests.max(1)).max(Duration::from_nanos(1));
    let longest_burst = LONGEST.as_nanos() / each.as_nanos();
    let burst = u32::try_from(longest_burst).unwrap_or(u32::MAX).min(settings.burst);
    Quota::with_period(each)
        .expect("a period of at least 1ns")
        .allow_burst(NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN))
}

/// Allowances by key, bounded.
#[derive(Default)]
struct Bounded {
    known: DashMapStateStore<Key>,
    /// For those who found no room.
    others: InMemoryState,
}

impl StateStore for Bounded {
    type Key = Key;

    fn measure_and_replace<T, F, E>(&self, key: &Key, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        if let Some(known) = self.known.get(key) {
            return known.measure_and_replace(&NotKeyed::NonKey, f);
        }
        // Callers that come at the same time may exceed it by a few.
        if self.known.len() < MAX_KEYS {
            return self.known.measure_and_replace(key, f);
        }
        self.others.measure_and_replace(&NotKeyed::NonKey, f)
    }
}

impl ShrinkableKeyedStateStore<Key> for Bounded {
    fn retain_recent(&self, drop_below: Nanos) {
        ShrinkableKeyedStateStore::retain_recent(&self.known, drop_below);
    }

    fn len(&self) -> usize {
        self.known.len()
    }

    fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

impl<C: Clock> fmt::Debug for RateLimit<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit")
            .field("by", &self.by)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;
    use http::HeaderName;

    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    fn limit(requests: u32, per: u64, burst: u32, by: RateBy) -> (RateLimit<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let settings = RateLimitSettings {
            requests,
            per: Duration::from_secs(per),
            burst,
            by,
        };
        (RateLimit::with_clock(&settings, clock.clone()), clock)
    }

    fn key(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(
            HeaderName::from_static("x-key"),
            HeaderValue::from_str(value).expect("a value"),
        )])
    }

    #[test]
    fn a_burst_then_the_rate() {
        let (limit, clock) = limit(2, 10, 3, RateBy::Function);
        let call = || limit.check(&HeaderMap::new(), A);
        assert_eq!([call(), call(), call()], [Ok(()); 3]);
        assert_eq!(call(), Err(Duration::from_secs(5)));
        clock.advance(Duration::from_secs(4));
        assert_eq!(call(), Err(Duration::from_secs(1)), "refused calls cost nothing");
        clock.advance(Duration::from_secs(1));
        assert_eq!((call(), call()), (Ok(()), Err(Duration::from_secs(5))));
        clock.advance(Duration::from_secs(1000));
        assert_eq!([call(), call(), call()], [Ok(()); 3]);
        assert!(call().is_err(), "a pause earns no more than the burst");
    }

    #[test]
    fn who_shares_an_allowance() {
        let long = "v".repeat(500);
        let header = || RateBy::Header(HeaderName::from_static("x-key"));
        let none = HeaderMap::new;
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().expect("an address");
        for (by, first, second, shared) in [
            (RateBy::Function, (none(), A), (key("b"), B), true),
            (RateBy::Client, (none(), A), (none(), B), false),
            (RateBy::Client, (key("a"), A), (key("b"), A), true),
            (RateBy::Client, (none(), A), (none(), mapped), true),
            (header(), (key("a"), A), (key("b"), A), false),
            (header(), (key("a"), A), (key("a"), B), true),
            (header(), (none(), A), (none(), B), true),
            (header(), (none(), A), (key(""), B), false),
            (header(), (key(&long), A), (key(&long), B), true),
            (header(), (key(&long), A), (key(&format!("{long}w")), B), false),
        ] {
            let (limit, _) = limit(1, 60, 1, by.clone());
            assert_eq!(limit.check(&first.0, first.1), Ok(()));
            assert_eq!(limit.check(&second.0, second.1).is_err(), shared, "{by:?}");
        }
    }

    #[test]
    fn made_up_callers_cost_no_memory() {
        let (limit, clock) = limit(1, 60, 1, RateBy::Header(HeaderName::from_static("x-key")));
        let known = key("known");
        assert_eq!(limit.check(&known, A), Ok(()));
        let admitted = (0..2 * MAX_KEYS)
            .filter(|caller| limit.check(&key(&caller.to_string()), A).is_ok())
            .count();
        assert!(limit.limiter.len() <= MAX_KEYS);
        assert_eq!(admitted, MAX_KEYS, "those without a place share the last one");
        assert!(limit.check(&known, A).is_err(), "who had a place keeps it");
        // The library keeps them one period longer than it must.
        clock.advance(Duration::from_secs(121));
        for _ in 0..SWEEP_EVERY {
            let _ = limit.check(&known, A);
        }
        assert_eq!(limit.limiter.len(), 1, "forgotten once their allowance is full");
    }

    #[test]
    fn extreme_limits_do_not_overflow() {
        for (requests, per, burst) in [(u32::MAX, 1, u32::MAX), (1, u64::MAX, u32::MAX), (1, 1, 1)] {
            let (limit, clock) = limit(requests, per, burst, RateBy::Function);
            clock.advance(Duration::from_secs(3600));
            assert_eq!(limit.check(&HeaderMap::new(), A), Ok(()), "{requests} in {per}s");
            let _ = limit.check(&HeaderMap::new(), A);
        }
    }
}
