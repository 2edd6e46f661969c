//! What a function's annotations say about its calls, where the file leaves it
//! to them. Pure; who reads annotations, and when, is not decided here.

use std::collections::BTreeMap;

use super::{
    calls::Retries,
    function::{FunctionSettings, retries},
};

/// The annotation that gives `retries.attempts`.
const RETRY_ATTEMPTS: &str = "com.openfaas.retry.attempts";

/// The annotation that gives `retries.statuses`, separated by commas.
const RETRY_CODES: &str = "com.openfaas.retry.codes";

impl FunctionSettings {
    /// Takes what the file leaves out of `retries` from the function's
    /// annotations, where `retries.annotations` says so.
    ///
    /// Returns what is wrong with them; such a value counts as absent.
    pub fn annotate(&mut self, annotations: &BTreeMap<String, String>) -> Vec<String> {
        let Some(table) = &self.annotated else {
            return Vec::new();
        };
        let mut table = Retries::clone(table);
        let mut mistakes = Vec::new();
        if let (None, Some(text)) = (table.attempts, annotations.get(RETRY_ATTEMPTS)) {
            table.attempts = text.trim().parse().ok();
            if table.attempts.is_none() {
                mistakes.push(format!("{RETRY_ATTEMPTS}: '{text}' is not a number of tries"));
            }
        }
        if let (None, Some(text)) = (&table.statuses, annotations.get(RETRY_CODES)) {
            table.statuses = text.split(',').map(status).collect();
            if table.statuses.is_none() {
                mistakes.push(format!(
                    "{RETRY_CODES}: '{text}' is not a list of statuses such as 502,503"
                ));
            }
        }
        self.retries = retries(table);
        mistakes
    }
}

fn status(text: &str) -> Option<u16> {
    text.trim().parse().ok().filter(|status| (100..1000).contains(status))
}
