//! Checks of `[tracing]`: whether what is to be sent can be.

use http::HeaderValue;

use super::{Found, syntax};
use crate::config::sections::Tracing;

/// Most spans that may wait: what is beyond is no bound any more.
const MAX_QUEUE: usize = 1_000_000;

/// Headers that say how the request itself is framed.
const OURS: &[&str] = &["content-length", "content-type", "host", "transfer-encoding"];

pub(super) fn check(tracing: &Tracing, found: &mut Found) {
    let key = |last: &str| ["tracing", last].map(str::to_owned).to_vec();
    if tracing.timeout.is_zero() {
        found.error(&["tracing.timeout"], "must be longer than zero");
    }
    if !(1..=MAX_QUEUE).contains(&tracing.queue_size) {
        found.error(&["tracing.queue_size"], format!("must be between 1 and {MAX_QUEUE}"));
    }
    if tracing.service_name.is_empty() {
        found.error(&["tracing.service_name"], "is empty; traces need a name to be found by");
    }
    if let Some(endpoint) = &tracing.otlp_endpoint
        && (endpoint.query().is_some() || endpoint.fragment().is_some())
    {
        found.error(
            &["tracing.otlp_endpoint"],
            "must be a base URL, without '?' and '#': /v1/traces is put behind it",
        );
    }
    for (name, value) in &tracing.headers {
        let mut path = key("headers");
        path.push(name.clone());
        if let Err(message) = syntax::header(name) {
            found.error_at(vec![path], message);
        } else if OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
            found.error_at(vec![path], "is the gateway's own to set");
        } else if HeaderValue::from_str(value).is_err() {
            // Without the value, which is a secret.
            found.error_at(vec![path], "has a character that no header can have");
        }
    }
    if tracing.resource.keys().any(String::is_empty) {
        found.error_at(vec![key("resource")], "has an attribute without a name");
    }
    if tracing.otlp_endpoint.is_none() && !tracing.headers.is_empty() {
        found.warn("tracing.headers is set but has no effect: tracing.otlp_endpoint is not set");
    }
}
