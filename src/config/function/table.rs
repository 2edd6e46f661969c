//! What one table about a function's calls comes to, defaults included; which
//! table that is has been decided. Pure.

use std::{collections::BTreeMap, time::Duration};

use http::{HeaderName, HeaderValue, Method};

use super::{
    BreakerSettings, CompressionSettings, CorsSettings, HeaderChanges, RateBy, RateLimitSettings, RetrySettings,
};
use crate::config::{
    calls::{Breaker, Compression, Cors, HeaderEdits, RateKey, RateLimit, Retries},
    ratio::Ratio,
};

/// Media types that are worth compressing.
const COMPRESSIBLE: &[&str] = &[
    "text/*",
    "application/json",
    "application/ld+json",
    "application/problem+json",
    "application/manifest+json",
    "application/javascript",
    "application/xml",
    "application/xhtml+xml",
    "application/rss+xml",
    "application/atom+xml",
    "application/wasm",
    "image/svg+xml",
];

pub(super) fn rate_limit(table: RateLimit) -> Option<RateLimitSettings> {
    let requests = table.requests.filter(|requests| *requests > 0)?;
    Some(RateLimitSettings {
        requests,
        per: table.per.unwrap_or(Duration::from_secs(1)),
        burst: table.burst.unwrap_or(requests).max(1),
        by: match table.by.unwrap_or(RateKey::Function) {
            RateKey::Function => RateBy::Function,
            RateKey::Client => RateBy::Client,
            RateKey::Header => RateBy::Header(table.header?.parse().ok()?),
        },
    })
}

pub(in crate::config) fn retries(table: Retries) -> Option<RetrySettings> {
    // Where one of the two is set, the other's default gives way.
    let backoff = table
        .backoff
        .unwrap_or(Duration::from_millis(25))
        .min(table.backoff_max.unwrap_or(Duration::MAX));
    Some(RetrySettings {
        attempts: table.attempts.filter(|attempts| *attempts > 0)?,
        statuses: table.statuses.unwrap_or_else(|| vec![502, 503, 504]),
        methods: table.methods.map_or_else(
            // Those that may be repeated (RFC 9110 section 9.2.2).
            || {
                vec![
                    Method::GET,
                    Method::HEAD,
                    Method::OPTIONS,
                    Method::PUT,
                    Method::DELETE,
                    Method::TRACE,
                ]
            },
            |methods| parsed(&methods),
        ),
        budget: table.budget.unwrap_or(Ratio::percent(20)),
        backoff,
        backoff_max: table.backoff_max.unwrap_or(Duration::from_millis(250)).max(backoff),
        max_body: table.max_body.map_or(64 << 10, |size| size.0),
    })
}

pub(super) fn breaker(table: Breaker) -> Option<BreakerSettings> {
    let longest = table.open_max.unwrap_or(Duration::MAX);
    let open = table.open.unwrap_or(Duration::from_secs(5)).min(longest);
    Some(BreakerSettings {
        failures: table.failures.filter(|failures| *failures > 0)?,
        statuses: table.statuses.unwrap_or_else(|| vec![502, 503, 504]),
        open,
        open_max: table.open_max.unwrap_or(Duration::from_secs(60)).max(open),
        trials: table.trials.unwrap_or(1).max(1),
    })
}

pub(super) fn changes(table: HeaderEdits) -> HeaderChanges {
    // The values of `set_file` are in `set` by now.
    let HeaderEdits { set, remove, .. } = table;
    HeaderChanges {
        set: pairs(set),
        remove: parsed(&remove.unwrap_or_default()),
    }
}

fn pairs(set: BTreeMap<String, String>) -> Vec<(HeaderName, HeaderValue)> {
    set.into_iter()
        .filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)))
        .collect()
}

pub(super) fn cors(table: Cors) -> Option<CorsSettings> {
    Some(CorsSettings {
        origins: table.origins.filter(|origins| !origins.is_empty())?,
        methods: table.methods.map(|methods| parsed(&methods)),
        headers: table.headers.map(|headers| parsed(&headers)),
        expose: table.expose.map_or_else(Vec::new, |headers| parsed(&headers)),
        credentials: table.credentials.unwrap_or(false),
        max_age: table.max_age,
    })
}

pub(super) fn compression(table: Compression) -> Option<CompressionSettings> {
    let types = table
        .types
        .unwrap_or_else(|| COMPRESSIBLE.iter().map(|text| (*text).to_owned()).collect());
    Some(CompressionSettings {
        algorithms: table.algorithms.filter(|algorithms| !algorithms.is_empty())?,
        min_size: table.min_size.map_or(1 << 10, |size| size.0),
        types: types.iter().map(|text| text.to_ascii_lowercase()).collect(),
    })
}

/// The texts as what they name; the checks refused those that name nothing.
fn parsed<T: std::str::FromStr>(texts: &[String]) -> Vec<T> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}
