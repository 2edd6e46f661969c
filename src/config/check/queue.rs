//! `[queue]`: asynchronous calls.

use ipnet::IpNet;

use super::Found;
use crate::config::{Queue, function::FAILURES};

/// Checks `[queue]`.
pub(super) fn check(queue: &Queue, found: &mut Found) {
    for (key, number) in [
        ("queue.max_jobs", queue.max_jobs),
        ("queue.concurrency", queue.concurrency),
        ("queue.function_concurrency", queue.function_concurrency),
        ("queue.attempts", queue.attempts),
    ] {
        if number == 0 {
            found.error(&[key], "must be at least 1");
        }
    }
    for (key, time) in [
        ("queue.min_wait", queue.min_wait),
        ("queue.max_age", queue.max_age),
        ("queue.result_ttl", queue.result_ttl),
        ("queue.dead_ttl", queue.dead_ttl),
    ] {
        if time.is_zero() {
            found.error(&[key], "must be longer than zero");
        }
    }
    if queue.max_wait < queue.min_wait {
        found.error(
            &["queue.max_wait", "queue.min_wait"],
            "must not be shorter than min_wait",
        );
    }
    for (index, status) in queue.statuses.iter().enumerate() {
        if !FAILURES.contains(status) {
            let key = ["queue", "statuses", &index.to_string()].map(str::to_owned).to_vec();
            found.error_at(vec![key], format!("must be a status from 400 to 599, not {status}"));
        }
    }
    for (index, range) in queue.callback_deny.iter().flatten().enumerate() {
        if range.parse::<IpNet>().is_err() {
            let key = ["queue", "callback_deny", &index.to_string()]
                .map(str::to_owned)
                .to_vec();
            found.wrong(key, "must be a range of addresses such as 10.0.0.0/8".to_owned(), range);
        }
    }
}
