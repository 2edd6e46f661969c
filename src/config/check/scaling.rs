//! How many replicas functions have: `[scaling]`, and `scaling` and `schedule` of
//! the tables about functions.

use super::{Found, calls::At};
use crate::config::{
    Config,
    calls::Function,
    schedule::{self, CronMistake},
    sections::{Leader, Signals},
};

/// Checks `[scaling]`.
pub(super) fn check(config: &Config, found: &mut Found) {
    let scaling = &config.scaling;
    for (key, zero) in [
        ("scaling.interval", scaling.interval.is_zero()),
        ("scaling.stable_window", scaling.stable_window.is_zero()),
        ("scaling.panic_window", scaling.panic_window.is_zero()),
    ] {
        if zero {
            found.error(&[key], "must be longer than zero");
        }
    }
    for (key, number) in [("scaling.target", scaling.target), ("scaling.max", scaling.max)] {
        if number == 0 {
            found.error(&[key], "must be at least 1");
        }
    }
    if scaling.panic_window > scaling.stable_window {
        found.error(
            &["scaling.panic_window", "scaling.stable_window"],
            "must not be longer than stable_window",
        );
    }
    let prometheus = config.prometheus.host.is_some();
    if scaling.signals == Signals::Prometheus && !prometheus {
        found.error(&["scaling.signals", "prometheus.host"], "needs prometheus.host");
    }
    if !scaling.queries.is_empty() && !prometheus {
        found.warn("scaling.queries is set but has no effect: prometheus.host is not set");
    }
    if scaling.leader == Leader::Nats && config.queue.nats_address.is_none() {
        found.error(&["scaling.leader", "queue.nats_address"], "needs queue.nats_address");
    }
}

/// Signals that are no query's name.
const SIGNALS: &[&str] = &["rps", "capacity", "cpu", "queue", "static"];

/// Checks what a table says of replicas.
pub(super) fn table(table: &Function, config: &Config, at: &mut At<'_>) {
    for (index, entry) in table.schedule.iter().flatten().enumerate() {
        if let Some(CronMistake { key, message }) = schedule::mistakes(entry) {
            let found = if key == "tz" {
                entry.tz.as_ref()
            } else {
                Some(&entry.cron)
            };
            let key = at.key(&format!("schedule.{index}.{key}"));
            at.found.wrong(key, message, found.map_or("", String::as_str));
        }
    }
    let Some(scaling) = &table.scaling else { return };
    if scaling.max == Some(0) {
        at.error(
            "scaling.max",
            "must be at least 1; a min of 0 lets a function go to zero",
        );
    }
    if let (Some(min), Some(max)) = (scaling.min, scaling.max)
        && min > max
    {
        at.error("scaling.min", format!("is {min}, more than scaling.max ({max})"));
    }
    if scaling.target == Some(0) {
        at.error("scaling.target", "must be at least 1");
    }
    if scaling.target_proportion.is_some_and(|share| share.as_f64() <= 0.0) {
        at.error("scaling.target_proportion", "must be more than 0");
    }
    if let Some(signal) = scaling.signal.as_deref()
        && !SIGNALS.contains(&signal)
        && config.prometheus.host.is_none()
    {
        let key = at.key("scaling.signal");
        let known = "rps, capacity, cpu, queue or static";
        let message = format!("is none of {known}, and the name of a query needs prometheus.host");
        at.found.wrong(key, message, signal);
    }
}
