//! What a function's annotations say about its calls, where the file leaves it
//! to them. Pure; who reads annotations, and when, is not decided here.

use std::{collections::BTreeMap, time::Duration};

use super::{
    calls::{Retries, UpstreamProtocol},
    duration,
    function::{FAILURES, FunctionSettings, MOST_ATTEMPTS, retries},
};

/// The annotation that gives `upstream_protocol`.
const PROTOCOL: &str = "com.openfaas.upstream.protocol";

/// The annotation that gives `retries.attempts`.
const ATTEMPTS: &str = "com.openfaas.retry.attempts";

/// The annotation that gives `retries.statuses`, separated by commas.
const CODES: &str = "com.openfaas.retry.codes";

/// The annotation that gives `retries.backoff`.
const MIN_WAIT: &str = "com.openfaas.retry.min_wait";

/// The annotation that gives `retries.backoff_max`.
const MAX_WAIT: &str = "com.openfaas.retry.max_wait";

/// The annotations of one function that are about its calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallAnnotations(BTreeMap<&'static str, String>);

impl CallAnnotations {
    /// Picks them out of all that a function has.
    pub fn of(all: Option<&BTreeMap<String, String>>) -> Self {
        let text = |name: &'static str| Some((name, all?.get(name)?.trim().to_owned()));
        Self(
            [PROTOCOL, ATTEMPTS, CODES, MIN_WAIT, MAX_WAIT]
                .into_iter()
                .filter_map(text)
                .collect(),
        )
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

impl FunctionSettings {
    /// Takes what the file leaves out from the function's annotations: the
    /// protocol, and what there is of `retries`, where `retries.annotations` says
    /// so. They are bounded as the file's values are.
    ///
    /// Returns what is wrong with them; a value that cannot be read counts as absent.
    pub fn annotate(&mut self, annotations: &CallAnnotations) -> Vec<String> {
        let mut mistakes = Vec::new();
        if self.protocol.is_none() {
            let expected = "h2c or http/1.1";
            mistakes.extend(annotations.fill(&mut self.own_protocol, PROTOCOL, UpstreamProtocol::parse, expected));
        }
        let Some(file) = &self.annotated else {
            return mistakes;
        };
        let mut table = Retries::clone(file);
        let wait = "a duration such as 10s";
        let of_retries = [
            annotations.fill(&mut table.attempts, ATTEMPTS, attempts, "a number of tries"),
            annotations.fill(
                &mut table.statuses,
                CODES,
                statuses,
                "a list of statuses such as 502,503",
            ),
            annotations.fill(&mut table.backoff, MIN_WAIT, duration::parse, wait),
            annotations.fill(&mut table.backoff_max, MAX_WAIT, duration::parse, wait),
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
            mistakes.push(format!(
                "{MIN_WAIT} and {MAX_WAIT}: with them the first wait would be longer than the longest; ignored"
            ));
            table.backoff = file.backoff;
            table.backoff_max = file.backoff_max;
        }
        self.retries = retries(table);
        mistakes
    }
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
