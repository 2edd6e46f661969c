//! What holds for the asynchronous calls of one function: what the file says of
//! it, beneath that its annotations, and beneath both `[queue]`
//! (compatibility.md section 5.3). Pure.

use super::retry::Policy;
use crate::config::{Destination, FunctionQueue, Queue, QueueAnnotations};

/// What holds for the asynchronous calls of one function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// When they are tried again.
    pub policy: Policy,
    /// Where answers go that are a success.
    pub on_success: Option<Destination>,
    /// Where answers go that are none, and the news that there was no answer.
    pub on_failure: Option<Destination>,
}

impl Settings {
    /// Whether an answer may go further than to who asks for it.
    pub fn has_destination(&self) -> bool {
        self.on_success.is_some() || self.on_failure.is_some()
    }
}

/// The settings of a function, and what is wrong with its annotations: what
/// cannot be read counts as absent.
pub fn of(
    queue: &Queue,
    file: FunctionQueue,
    annotations: &QueueAnnotations,
    default_namespace: &str,
) -> (Settings, Vec<String>) {
    let (table, mistakes) = file.annotate(annotations);
    let min_wait = table.min_wait.unwrap_or(queue.min_wait);
    let destination = |text: Option<String>| Destination::parse(&text?, default_namespace).ok();
    let settings = Settings {
        policy: Policy {
            statuses: table.statuses.unwrap_or_else(|| queue.statuses.clone()),
            attempts: table.attempts.unwrap_or(queue.attempts).max(1),
            min_wait,
            factor: 2,
            // Where one of the two is set, the other's default gives way.
            max_wait: table.max_wait.unwrap_or(queue.max_wait),
            jitter: queue.jitter,
            max_age: queue.max_age,
        },
        on_success: destination(table.on_success),
        on_failure: destination(table.on_failure),
    };
    (settings, mistakes)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;
    use crate::{
        config::{Sources, parse},
        model::FunctionRef,
    };

    /// The settings of `f`, with these annotations, less their common beginning.
    fn settings(file: &str, annotations: &[(&str, &str)]) -> (Settings, Vec<String>) {
        let text = format!("provider.kind = \"memory\"\n{file}");
        let config = parse(Some(&text), &Sources::default()).expect("valid").config;
        let annotations: BTreeMap<String, String> = annotations
            .iter()
            .map(|(name, value)| (format!("com.openfaas.{name}"), (*value).to_owned()))
            .collect();
        let file = config.queue_of(&FunctionRef::new("f", "openfaas-fn"));
        let annotations = QueueAnnotations::of(Some(&annotations));
        of(&config.queue, file, &annotations, config.default_namespace())
    }

    /// Tries, statuses, and both waits in seconds.
    fn retries(file: &str, annotations: &[(&str, &str)]) -> (u32, Vec<u16>, u64, u64, usize) {
        let (Settings { policy, .. }, mistakes) = settings(file, annotations);
        let waits = (policy.min_wait.as_secs(), policy.max_wait.as_secs());
        (policy.attempts, policy.statuses, waits.0, waits.1, mistakes.len())
    }

    #[test]
    fn the_file_is_above_annotations_and_those_above_the_defaults() {
        let defaults = vec![408, 429, 500, 502, 503, 504];
        let annotated = [
            ("retry.attempts", "3"),
            ("retry.codes", "500, 404"),
            ("retry.min_wait", "5s"),
            ("retry.max_wait", "1m"),
        ];
        let table = "[functions.f.queue]\nattempts = 7\nstatuses = [418]\n";
        for (file, annotations, expected) in [
            ("", &[][..], (10, defaults.clone(), 10, 120, 0)),
            ("", &annotated, (3, vec![500, 404], 5, 60, 0)),
            (table, &annotated, (7, vec![418], 5, 60, 0)),
            (table, &[], (7, vec![418], 10, 120, 0)),
            (
                "[queue]\nattempts = 2\n[functions.\"*\".queue]\nmin_wait = \"1s\"",
                &[],
                (2, defaults.clone(), 1, 120, 0),
            ),
            ("", &[("retry.min_wait", "10m")], (10, defaults.clone(), 600, 120, 0)),
        ] {
            assert_eq!(retries(file, annotations), expected, "{file} {annotations:?}");
        }
    }

    #[test]
    fn annotations_that_cannot_be_read_are_not_there() {
        let defaults = vec![408, 429, 500, 502, 503, 504];
        for (name, value) in [
            ("retry.attempts", "0"),
            ("retry.attempts", "many"),
            ("retry.codes", "200"),
            ("retry.codes", ""),
            ("retry.min_wait", "0s"),
            ("retry.max_wait", "soon"),
            ("async.on-success", "a function"),
            ("async.on-failure", "ftp://host/"),
        ] {
            assert_eq!(
                retries("", &[(name, value)]),
                (10, defaults.clone(), 10, 120, 1),
                "{name}: {value}"
            );
        }
        let crossed = [("retry.min_wait", "1m"), ("retry.max_wait", "1s")];
        assert_eq!(retries("", &crossed), (10, defaults, 10, 120, 1));
        let (unread, _) = settings("[functions.f.queue]\nattempts = 4", &[("retry.attempts", "many")]);
        assert_eq!(unread.policy.attempts, 4);
    }

    #[test]
    fn destinations_are_functions_or_urls() {
        let function = |name: &str, space: &str| Some(Destination::Function(FunctionRef::new(name, space)));
        let (found, _) = settings(
            "",
            &[("async.on-success", "next"), ("async.on-failure", "https://host/")],
        );
        assert_eq!(found.on_success, function("next", "openfaas-fn"));
        assert_eq!(
            found.on_failure,
            Some(Destination::Url("https://host/".parse().expect("a URL")))
        );
        assert!(found.has_destination());
        let file = "[functions.\"*\".queue]\non_success = \"all.dev\"\n[functions.f.queue]\non_failure = \"\"\n";
        let (found, mistakes) = settings(file, &[("async.on-failure", "next")]);
        assert_eq!((found.on_success, found.on_failure), (function("all", "dev"), None));
        assert_eq!(mistakes, Vec::<String>::new());
        assert!(!settings("", &[]).0.has_destination());
        assert_eq!(settings("", &[]).0.policy.max_age, Duration::from_secs(24 * 3600));
    }
}
