//! The values in one table about calls, each for itself.
//!
//! A function's table, the one of `*` and what a route says of calls have the
//! same keys. What several keys come to, of one table or of those above each
//! other, is in [`super::functions`].

use std::time::Duration;

use http::HeaderValue;

use super::{Found, cut_short, scaling, syntax};
use crate::config::{
    Config,
    calls::{Function, HeaderEdits},
    destination::Destination,
    entry::dotted,
    function::{FAILURES, MOST_ATTEMPTS},
    setting::child,
};

/// Largest body that is kept in memory for another try, in bytes.
const LARGEST_KEPT: u64 = 10 << 20;

/// What a message is framed with, and what is about one connection.
const FRAMING: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "content-length",
];

/// What decides where a request goes and how it is sent.
const ROUTING: &[&str] = &["host", "expect"];

/// What the gateway tells callers and functions about a call. What it says of
/// itself and of the caller (`X-Served-By`, `X-Forwarded-For`) can be changed.
const ABOUT_THE_CALL: &[&str] = &["x-call-id", "x-start-time", "x-duration-seconds", "x-openfaas-internal"];

/// The table and where problems go.
pub(super) struct At<'a> {
    /// Path of the table.
    pub path: &'a [String],
    /// The list of problems.
    pub found: &'a mut Found,
}

impl At<'_> {
    /// The full path of a key of the table.
    pub(super) fn key(&self, dotted: &str) -> Vec<String> {
        let parts = dotted.split('.').map(str::to_owned);
        self.path.iter().cloned().chain(parts).collect()
    }

    /// A mistake in a key of the table.
    pub(super) fn error(&mut self, key: &str, message: impl Into<String>) {
        let key = self.key(key);
        self.found.error_at(vec![key], message);
    }

    /// Checks each text of a list.
    pub(super) fn each(&mut self, key: &str, texts: Option<&Vec<String>>, check: fn(&str) -> Result<(), String>) {
        for (index, text) in texts.into_iter().flatten().enumerate() {
            self.one(&format!("{key}.{index}"), Some(text), check);
        }
    }

    /// Checks a text.
    pub(super) fn one(&mut self, key: &str, text: Option<&String>, check: fn(&str) -> Result<(), String>) {
        if let Some(text) = text
            && let Err(message) = check(text)
        {
            let key = self.key(key);
            self.found.wrong(key, message, text);
        }
    }

    fn statuses(&mut self, key: &str, statuses: Option<&Vec<u16>>) {
        for (index, status) in statuses.into_iter().flatten().enumerate() {
            if !FAILURES.contains(status) {
                let message = format!("must be a status from 400 to 599, not {status}");
                self.error(&format!("{key}.{index}"), message);
            }
        }
    }

    fn headers(&mut self, key: &str, edits: Option<&HeaderEdits>, refused: &[(&[&str], &str)]) {
        let Some(edits) = edits else { return };
        let why_not = |name: &str| {
            let named = |list: &&(&[&str], &str)| list.0.iter().any(|refused| refused.eq_ignore_ascii_case(name));
            refused.iter().find(named).map(|(_, why)| *why)
        };
        let table = self.key(&format!("{key}.set"));
        for (index, (name, value)) in edits.set.iter().enumerate() {
            let path = child(&table, name);
            let mut before = edits.set.keys().take(index);
            if let Err(message) = syntax::header(name) {
                self.found.error_at(vec![path], message);
            } else if let Some(why) = why_not(name) {
                self.found.error_at(vec![path], format!("cannot be set: {why}"));
            } else if let Some(other) = before.find(|other| other.eq_ignore_ascii_case(name)) {
                let message = format!("is the same header as {other}; keep one of them");
                self.found.error_at(vec![path], message);
            } else if value.parse::<HeaderValue>().is_err() {
                let message = "has a line break or another control character, which no header may have";
                self.found.error_at(vec![path], message);
            }
        }
        self.each(&format!("{key}.remove"), edits.remove.as_ref(), syntax::header);
        for (index, name) in edits.remove.iter().flatten().enumerate() {
            if let Some(why) = why_not(name) {
                let key = format!("{key}.remove.{index}");
                self.error(&key, format!("'{}' cannot be removed: {why}", name.escape_debug()));
            }
        }
    }
}

/// Checks the values of a table.
pub(super) fn values(path: &[String], table: &Function, config: &Config, found: &mut Found) {
    let mut at = At { path, found };
    durations(table, &mut at);
    scaling::table(table, config, &mut at);
    if let Some(total) = table.timeouts.as_ref().and_then(|timeouts| timeouts.total)
        && total > config.server.write_timeout
    {
        let key = dotted(&at.key("timeouts.total"));
        at.found.warn(cut_short(&key, total, config));
    }
    if let Some(rate) = &table.rate_limit {
        if rate.burst == Some(0) {
            at.error("rate_limit.burst", "must be at least 1");
        }
        at.one("rate_limit.header", rate.header.as_ref(), syntax::header);
    }
    if let Some(retries) = &table.retries {
        if let Some(attempts) = retries.attempts.filter(|attempts| *attempts > MOST_ATTEMPTS) {
            at.error(
                "retries.attempts",
                format!("must be at most {MOST_ATTEMPTS}, not {attempts}"),
            );
        }
        if let Some(size) = retries.max_body.filter(|size| size.0 > LARGEST_KEPT) {
            at.error(
                "retries.max_body",
                format!("must be at most 10MiB, not {size}: bodies are kept in memory"),
            );
        }
        at.statuses("retries.statuses", retries.statuses.as_ref());
        at.each("retries.methods", retries.methods.as_ref(), syntax::method);
    }
    if let Some(queue) = &table.queue {
        if queue.attempts == Some(0) {
            at.error("queue.attempts", "must be at least 1");
        }
        at.statuses("queue.statuses", queue.statuses.as_ref());
        at.one("queue.on_success", queue.on_success.as_ref(), destination);
        at.one("queue.on_failure", queue.on_failure.as_ref(), destination);
    }
    if let Some(breaker) = &table.breaker {
        if breaker.trials == Some(0) {
            at.error("breaker.trials", "must be at least 1");
        }
        at.statuses("breaker.statuses", breaker.statuses.as_ref());
    }
    if let Some(headers) = &table.headers {
        let framing = "it frames the message or is about one connection";
        let ours = "it is what the gateway says about the call";
        at.headers(
            "headers.request",
            headers.request.as_ref(),
            &[
                (FRAMING, framing),
                (ROUTING, "it decides where the request goes and how it is sent"),
                (ABOUT_THE_CALL, ours),
            ],
        );
        at.headers(
            "headers.response",
            headers.response.as_ref(),
            &[(FRAMING, framing), (ABOUT_THE_CALL, ours)],
        );
    }
    if let Some(compression) = &table.compression {
        at.each("compression.types", compression.types.as_ref(), syntax::media_type);
    }
    if let Some(cors) = &table.cors {
        at.each("cors.origins", cors.origins.as_ref(), syntax::origin);
        at.each("cors.methods", cors.methods.as_ref(), syntax::method);
        at.each("cors.headers", cors.headers.as_ref(), syntax::header);
        at.each("cors.expose", cors.expose.as_ref(), syntax::header);
    }
}

/// A destination, or none.
fn destination(text: &str) -> Result<(), String> {
    match text {
        "" => Ok(()),
        text => Destination::parse(text, "").map(drop),
    }
}

/// Those of which zero would be no time at all rather than no bound.
fn durations(table: &Function, at: &mut At) {
    let timeouts = table.timeouts.as_ref();
    let breaker = table.breaker.as_ref();
    let queue = table.queue.as_ref();
    let positive: [(&str, Option<Duration>); 8] = [
        ("timeouts.total", timeouts.and_then(|table| table.total)),
        ("timeouts.activation", timeouts.and_then(|table| table.activation)),
        ("queue_timeout", table.queue_timeout),
        ("queue.min_wait", queue.and_then(|table| table.min_wait)),
        ("queue.max_wait", queue.and_then(|table| table.max_wait)),
        ("rate_limit.per", table.rate_limit.as_ref().and_then(|table| table.per)),
        ("breaker.open", breaker.and_then(|table| table.open)),
        ("breaker.open_max", breaker.and_then(|table| table.open_max)),
    ];
    for (key, duration) in positive {
        if duration.is_some_and(|duration| duration.is_zero()) {
            at.error(key, "must be longer than zero");
        }
    }
}
