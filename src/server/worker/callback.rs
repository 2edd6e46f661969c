//! Telling a URL what became of a call (compatibility.md section 5.2): sends jobs
//! that [`super::follow`] made.
//!
//! Addresses that the operator denies are refused when they are connected to, so a
//! name that changes its mind does not help. The signature is made when it is sent:
//! the queue keeps none, and a secret that was changed holds at once.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::Utc;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderName, HeaderValue};
use sha2::Sha256;
use url::Url;

use super::Tried;
use crate::{
    client::{self, guard::Guard},
    config::{Config, Jitter},
    queue::{
        Job, State, fields,
        retry::{self, Outcome, Policy},
        settings::Settings,
    },
};

/// `sha256=` and the HMAC of the body in hexadecimal digits.
const SIGNATURE: HeaderName = HeaderName::from_static("x-signature-256");

/// Bound on one try.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Most tries: at once, and after 1, 5, 25 and 125 seconds.
const ATTEMPTS: u32 = 5;

/// Where callbacks may not go, unless the operator says otherwise: this machine
/// and its link, which has the metadata service of clouds.
const DENIED: &[&str] = &[
    "127.0.0.0/8",
    "::1/128",
    "0.0.0.0/8",
    "::/128",
    "169.254.0.0/16",
    "fe80::/10",
];

/// What is said of them.
const REFUSED: &str = "queue.callback_deny has the address of this host";

/// Sends callbacks.
pub(super) struct Callbacks {
    /// The client, and what it was made for.
    client: Mutex<Option<(Guard, reqwest::Client)>>,
}

/// What applies to jobs that go to URLs: they are tried again whenever the other
/// side does not take them, and lead to nothing.
pub(super) fn settings() -> Settings {
    let policy = Policy {
        statuses: (400..=999).collect(),
        attempts: ATTEMPTS,
        min_wait: Duration::from_secs(1),
        factor: 5,
        max_wait: Duration::from_secs(125),
        jitter: Jitter::None,
        // The tries are few; what nobody could send while the gateway stood still is sent late.
        max_age: Duration::MAX,
    };
    Settings {
        policy,
        on_success: None,
        on_failure: None,
    }
}

/// How metrics name the end of a callback.
pub(super) fn result(state: State) -> &'static str {
    match state {
        State::Succeeded => "sent",
        State::Failed => "denied",
        State::Cancelled => "cancelled",
        _ => "failed",
    }
}

impl Callbacks {
    pub(super) fn new() -> Self {
        Self {
            client: Mutex::default(),
        }
    }

    /// Sends a job to its URL once.
    pub(super) async fn deliver(&self, config: &Config, url: &str, job: &Job) -> Tried {
        let guard = guard(config);
        let parsed = Url::parse(url).ok();
        if parsed.as_ref().is_none_or(|url| guard.judge(url).is_err()) {
            return refused();
        }
        let mut headers = fields::map(&job.headers);
        if let Some(secret) = config.queue.callback_secret.as_deref()
            && let Ok(value) = HeaderValue::try_from(signature(secret, &job.body))
        {
            headers.insert(SIGNATURE, value);
        }
        let request = self.client(guard).post(url).headers(headers).body(job.body.clone());
        match request.send().await {
            Ok(answer) => Tried {
                outcome: Outcome {
                    status: Some(answer.status().as_u16()),
                    is_internal: false,
                    retry_after: retry::retry_after_of(answer.headers(), Utc::now()),
                },
                answer: None,
                error: None,
                refused: false,
            },
            Err(error) if Guard::has_refused(&error) => refused(),
            Err(error) => Tried::unanswered(client::describe(&error.without_url())),
        }
    }

    fn client(&self, guard: Guard) -> reqwest::Client {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        match &*client {
            Some((known, client)) if *known == guard => client.clone(),
            _ => {
                let made = client::build_resolving(TIMEOUT, Arc::new(guard.clone()));
                *client = Some((guard, made.clone()));
                made
            }
        }
    }
}

/// The try of a callback that may not be sent.
fn refused() -> Tried {
    Tried {
        refused: true,
        ..Tried::unanswered(REFUSED.to_owned())
    }
}

/// What callbacks may not reach: nothing is denied by itself on a machine of one's
/// own, where the gateway listens on loopback addresses only.
fn guard(config: &Config) -> Guard {
    match &config.queue.callback_deny {
        Some(ranges) => Guard::new(ranges.iter().filter_map(|range| range.parse().ok()), REFUSED),
        None if config.listen().ip().is_loopback() => Guard::of(&[], REFUSED),
        None => Guard::of(DENIED, REFUSED),
    }
}

fn signature(secret: &str, body: &[u8]) -> String {
    use std::fmt::Write as _;

    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key has a good length");
    mac.update(body);
    let mut text = "sha256=".to_owned();
    for byte in mac.finalize().into_bytes() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_and_its_link_are_denied_and_private_networks_are_not() {
        let guard = Guard::of(DENIED, REFUSED);
        for (url, expected) in [
            ("http://127.0.0.1:80/", true),
            ("http://[::1]/", true),
            ("http://169.254.169.254/latest/meta-data", true),
            ("http://0.0.0.0/", true),
            ("http://10.0.0.1/", false),
            ("https://example.com/", false),
        ] {
            assert_eq!(guard.judge(&url.parse().expect("a URL")).is_err(), expected, "{url}");
        }
    }

    #[test]
    fn the_signature_is_that_of_rfc_4231() {
        let found = signature("Jefe", b"what do ya want for nothing?");
        assert_eq!(
            found,
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
