//! `[queue]`: asynchronous calls.

use ipnet::IpNet;

use super::Found;
use crate::config::{Queue, QueueKind, function::FAILURES};

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
        ("queue.ack_wait", queue.ack_wait),
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
    nats(queue, found);
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

/// Checks what is said of NATS.
fn nats(queue: &Queue, found: &mut Found) {
    if queue.kept_by() == QueueKind::Nats && queue.nats_address.is_none() {
        found.error(&["queue.kind", "queue.nats_address"], "needs queue.nats_address");
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if queue.nats_channel.is_empty() || !queue.nats_channel.bytes().all(is_plain) {
        found.error(&["queue.nats_channel"], "must be a name of letters, digits, - and _");
    }
    if !matches!(queue.nats_replicas, 1 | 3 | 5) {
        found.error(&["queue.nats_replicas"], "must be 1, 3 or 5");
    }
    if queue.nats_cert_file.is_some() != queue.nats_key_file.is_some() {
        found.error(
            &["queue.nats_cert_file", "queue.nats_key_file"],
            "must be set together with the other",
        );
    }
}
