//! Telling a URL what became of a call (compatibility.md section 5.2): sends jobs
//! that [`super::follow`] made.
//!
//! Addresses that the operator denies are refused when they are connected to, so a
//! name that changes its mind does not help. The signature is made when it is sent:
//! the queue keeps none, and a secret that was changed holds at once.

use std::{
    error::Error as _,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::Utc;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use sha2::Sha256;
use thiserror::Error;
use url::{Host, Url};

use super::Tried;
use crate::{
    client,
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

/// Sends callbacks.
pub(super) struct Callbacks {
    /// The client, and what it was made for.
    client: Mutex<Option<(Vec<IpNet>, reqwest::Client)>>,
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
        let denied = denied(config);
        let shown = Url::parse(url).ok();
        if shown.as_ref().is_none_or(|url| is_denied(url, &denied)) {
            return refused();
        }
        let mut headers = fields::map(&job.headers);
        if let Some(secret) = config.queue.callback_secret.as_deref()
            && let Ok(value) = HeaderValue::try_from(signature(secret, &job.body))
        {
            headers.insert(SIGNATURE, value);
        }
        let request = self.client(denied).post(url).headers(headers).body(job.body.clone());
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
            Err(error) if is_refusal(&error) => refused(),
            Err(error) => Tried::unanswered(client::describe(&error.without_url())),
        }
    }

    fn client(&self, denied: Vec<IpNet>) -> reqwest::Client {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        match &*client {
            Some((known, client)) if *known == denied => client.clone(),
            _ => {
                let resolver = Filtered {
                    denied: denied.clone().into(),
                };
                let made = client::build_resolving(TIMEOUT, Arc::new(resolver));
                *client = Some((denied, made.clone()));
                made
            }
        }
    }
}

/// The try of a callback that may not be sent.
fn refused() -> Tried {
    Tried {
        refused: true,
        ..Tried::unanswered(Denied.to_string())
    }
}

/// Whether a request failed because its address is denied.
fn is_refusal(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if inner.is::<Denied>() {
            return true;
        }
        cause = inner.source();
    }
    false
}

/// What callbacks may not reach: nothing is denied by itself on a machine of one's
/// own, where the gateway listens on loopback addresses only.
fn denied(config: &Config) -> Vec<IpNet> {
    match &config.queue.callback_deny {
        Some(ranges) => ranges.iter().filter_map(|range| range.parse().ok()).collect(),
        None if config.listen().ip().is_loopback() => Vec::new(),
        None => DENIED.iter().filter_map(|range| range.parse().ok()).collect(),
    }
}

/// Whether a URL names a denied address; names are for [`Filtered`].
fn is_denied(url: &Url, denied: &[IpNet]) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => has(denied, address.into()),
        Some(Host::Ipv6(address)) => has(denied, address.into()),
        Some(Host::Domain(_)) => false,
        None => true,
    }
}

fn has(denied: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    denied.iter().any(|range| range.contains(&address))
}

/// Nothing is left of the addresses of a host.
#[derive(Debug, Error)]
#[error("queue.callback_deny has the address of this host")]
struct Denied;

/// Looks names up and leaves out what is denied.
struct Filtered {
    denied: Arc<[IpNet]>,
}

impl Resolve for Filtered {
    fn resolve(&self, name: Name) -> Resolving {
        let denied = Arc::clone(&self.denied);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let permitted: Vec<SocketAddr> = found.filter(|address| !has(&denied, address.ip())).collect();
            if permitted.is_empty() {
                return Err(Denied.into());
            }
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
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
    fn denied_addresses_are_refused_in_every_form() {
        let denied: Vec<IpNet> = DENIED.iter().map(|range| range.parse().expect("a range")).collect();
        for (url, expected) in [
            ("http://127.0.0.1:80/", true),
            ("http://127.1/", true),
            ("http://2130706433/", true),
            ("http://[::1]/", true),
            ("http://[::ffff:127.0.0.1]/", true),
            ("http://169.254.169.254/latest/meta-data", true),
            ("http://0.0.0.0/", true),
            ("http://10.0.0.1/", false),
            ("https://example.com/", false),
        ] {
            assert_eq!(is_denied(&url.parse().expect("a URL"), &denied), expected, "{url}");
        }
        assert!(!is_denied(&"http://127.0.0.1/".parse().expect("a URL"), &[]));
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
