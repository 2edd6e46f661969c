//! What a function's annotations say about its calls, where the file leaves it
//! to them. Pure; who reads annotations, and when, is not decided here.

use std::{collections::BTreeMap, time::Duration};

use super::{
    calls::{FunctionQueue, Retries, UpstreamProtocol},
    destination::Destination,
    duration,
    function::{FAILURES, FunctionSettings, MOST_ATTEMPTS, retries},
};

/// The annotation that gives `upstream_protocol`.
const PROTOCOL: &str = "com.openfaas.upstream.protocol";

/// The annotation that gives `queue.attempts`, and `retries.attempts`.
const ATTEMPTS: &str = "com.openfaas.retry.attempts";

/// The annotation that gives `queue.statuses`, and `retries.statuses`, separated by commas.
const CODES: &str = "com.openfaas.retry.codes";

/// The annotation that gives `queue.min_wait`, and `retries.backoff`.
const MIN_WAIT: &str = "com.openfaas.retry.min_wait";

/// The annotation that gives `queue.max_wait`, and `retries.backoff_max`.
const MAX_WAIT: &str = "com.openfaas.retry.max_wait";

/// The annotation that gives `queue.on_success`. OpenFaaS has no such name.
const ON_SUCCESS: &str = "com.openfaas.async.on-success";

/// The annotation that gives `queue.on_failure`. OpenFaaS has no such name.
const ON_FAILURE: &str = "com.openfaas.async.on-failure";

/// The annotation that has a function's OpenAPI document, or the path at which the
/// function serves it. OpenFaaS has no such name.
pub const OPENAPI: &str = "com.openfaas.openapi";

/// What a wait must be.
const WAIT: &str = "a duration such as 10s";

/// What a list of statuses must be.
const STATUSES: &str = "a list of statuses such as 502,503";

/// Texts of annotations by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Texts(BTreeMap<&'static str, String>);

impl Texts {
    /// Picks them out of all that a function has.
    fn of(names: &[&'static str], all: Option<&BTreeMap<String, String>>) -> Self {
        let text = |name: &&'static str| Some((*name, all?.get(*name)?.trim().to_owned()));
        Self(names.iter().filter_map(text).collect())
    }

    /// Fills a key that the file leaves out; returns what is wrong with the text.
    fn fill<T>(
        &self,
        key: &mut Option<T>,
        name: &str,
        read: impl Fn(&str) -> Option<T>,
        expected: &str,
    ) -> Option<String> {
        let text = self.0.get(name).filter(|_| key.is_none())?;
        *key = read(text);
        key.is_none()
            .then(|| format!("{name}: '{}' is not {expected}; ignored", text.escape_debug()))
    }
}

/// The annotations of one function that are about its calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallAnnotations(Texts);

impl CallAnnotations {
    /// Picks them out of all that a function has.
    pub fn of(all: Option<&BTreeMap<String, String>>) -> Self {
        Self(Texts::of(&[PROTOCOL, ATTEMPTS, CODES, MIN_WAIT, MAX_WAIT], all))
    }
}

/// The annotations of one function that are about its asynchronous calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueAnnotations(Texts);

impl QueueAnnotations {
    /// Picks them out of all that a function has.
    pub fn of(all: Option<&BTreeMap<String, String>>) -> Self {
        Self(Texts::of(
            &[ATTEMPTS, CODES, MIN_WAIT, MAX_WAIT, ON_SUCCESS, ON_FAILURE],
            all,
        ))
    }
}

impl FunctionQueue {
    /// Takes what the file leaves out from the function's annotations.
    ///
    /// Returns what is wrong with them too; a value that cannot be read counts as
    /// absent. Names without a namespace are not completed here.
    #[must_use]
    pub fn annotate(mut self, annotations: &QueueAnnotations) -> (Self, Vec<String>) {
        let QueueAnnotations(texts) = annotations;
        let own = (self.min_wait, self.max_wait);
        let tries = |text: &str| attempts(text).filter(|tries| *tries > 0);
        let wait = |text: &str| duration::parse(text).filter(|wait| !wait.is_zero());
        let place = |text: &str| Destination::parse(text, "").is_ok().then(|| text.to_owned());
        let expected = "a function's name or a URL of http or https";
        let mut mistakes: Vec<_> = [
            texts.fill(&mut self.attempts, ATTEMPTS, tries, "a number of tries from 1 on"),
            texts.fill(&mut self.statuses, CODES, statuses, STATUSES),
            texts.fill(&mut self.min_wait, MIN_WAIT, wait, WAIT),
            texts.fill(&mut self.max_wait, MAX_WAIT, wait, WAIT),
            texts.fill(&mut self.on_success, ON_SUCCESS, place, expected),
            texts.fill(&mut self.on_failure, ON_FAILURE, place, expected),
        ]
        .into_iter()
        .flatten()
        .collect();
        if is_longer(self.min_wait, self.max_wait) {
            mistakes.push(crossed());
            (self.min_wait, self.max_wait) = own;
        }
        (self, mistakes)
    }
}

impl FunctionSettings {
    /// Takes what the file leaves out from the function's annotations: the
    /// protocol, and what there is of `retries`, where `retries.annotations` says
    /// so. They are bounded as the file's values are.
    ///
    /// Returns what is wrong with them; a value that cannot be read counts as absent.
    pub fn annotate(&mut self, annotations: &CallAnnotations) -> Vec<String> {
        let CallAnnotations(annotations) = annotations;
        let mut mistakes = Vec::new();
        if self.protocol.is_none() {
            let expected = "h2c or http/1.1";
            mistakes.extend(annotations.fill(&mut self.own_protocol, PROTOCOL, UpstreamProtocol::parse, expected));
        }
        let Some(file) = &self.annotated else {
            return mistakes;
        };
        let mut table = Retries::clone(file);
        let of_retries = [
            annotations.fill(&mut table.attempts, ATTEMPTS, attempts, "a number of tries"),
            annotations.fill(&mut table.statuses, CODES, statuses, STATUSES),
            annotations.fill(&mut table.backoff, MIN_WAIT, duration::parse, WAIT),
            annotations.fill(&mut table.backoff_max, MAX_WAIT, duration::parse, WAIT),
        ]
        .into_iter()
        .flatten();
        mistakes.extend(of_retries);
        if let Some(attempts) = table.attempts.filter(|attempts| *attempts > MOST_ATTEMPTS) {
            mistakes.push(format!(
                "{ATTEMPTS}: {attempts} is more than {MOST_ATTEMPTS}, which is used"
            ));
            table.attempts = Some(MOST_ATTEMPTS);
        }
        if is_longer(table.backoff, table.backoff_max) {
            mistakes.push(crossed());
            table.backoff = file.backoff;
            table.backoff_max = file.backoff_max;
        }
        self.retries = retries(table);
        mistakes
    }
}

/// What is wrong with two waits.
fn crossed() -> String {
    format!("{MIN_WAIT} and {MAX_WAIT}: with them the first wait would be longer than the longest; ignored")
}

fn is_longer(first: Option<Duration>, longest: Option<Duration>) -> bool {
    first.zip(longest).is_some_and(|(first, longest)| first > longest)
}

fn attempts(text: &str) -> Option<u32> {
    let attempts: u64 = text.parse().ok()?;
    Some(u32::try_from(attempts).unwrap_or(u32::MAX))
}

fn statuses(text: &str) -> Option<Vec<u16>> {
    let status = |text: &str| text.trim().parse().ok().filter(|status| FAILURES.contains(status));
    text.split(',').map(status).collect()
}
