//! The tries of a job as they are kept: JSON, times and durations in microseconds.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Attempt, time};

/// Tries that are kept of a job.
const KEPT: usize = 50;

/// The tries in `text` with another; of many, the latest.
pub fn with(text: &str, attempt: &Attempt) -> String {
    let mut list: Vec<Value> = serde_json::from_str(text).unwrap_or_default();
    list.push(json!({
        "started": attempt.started.timestamp_micros(),
        "took": u64::try_from(attempt.took.as_micros()).unwrap_or(u64::MAX),
        "status": attempt.status,
        "error": attempt.error,
    }));
    let surplus = list.len().saturating_sub(KEPT);
    list.drain(..surplus);
    Value::from(list).to_string()
}

/// The tries in `text`, the first one first.
pub fn parse(text: &str) -> Vec<Attempt> {
    let list: Vec<Value> = serde_json::from_str(text).unwrap_or_default();
    list.iter()
        .map(|value| Attempt {
            started: time(value["started"].as_i64().unwrap_or_default()),
            took: Duration::from_micros(value["took"].as_u64().unwrap_or_default()),
            status: value["status"].as_u64().and_then(|status| u16::try_from(status).ok()),
            error: value["error"].as_str().map(str::to_owned),
        })
        .collect()
}
