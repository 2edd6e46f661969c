//! Telling the caller's URL what became of its call (compatibility.md section 5.2).
//!
//! Sent when the call has ended, tried again a few times, and forgotten when the
//! gateway stops meanwhile: the result can be asked for. Addresses that the
//! operator denies are refused when they are connected to, so a name that changes
//! its mind does not help.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use sha2::Sha256;
use url::{Host, Url};

use super::{RETRY, RETRY_MAX};
use crate::{
    client,
    config::Config,
    proxy::headers::{CALL_ID, DURATION_SECONDS, INTERNAL},
    queue::{Answer, Job, fields},
    shutdown::Stop,
    snapshot::Snapshot,
};

const FUNCTION_STATUS: HeaderName = HeaderName::from_static("x-function-status");
const FUNCTION_NAME: HeaderName = HeaderName::from_static("x-function-name");
/// `sha256=` and the HMAC of the body in hexadecimal digits.
const SIGNATURE: HeaderName = HeaderName::from_static("x-signature-256");

/// Bound on one try.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Waits between tries.
const WAITS: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(25),
    Duration::from_secs(125),
];

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

/// What a callback tells.
pub(super) struct Told<'t> {
    pub(super) job: &'t Job,
    pub(super) answer: Option<&'t Answer>,
    /// Of the last try.
    pub(super) took: Duration,
    /// The number of the last try, and how many there may be.
    pub(super) retry: (u32, u32),
}

/// Sends callbacks.
pub(super) struct Callbacks {
    /// The client, and what it was made for.
    client: Mutex<Option<(Vec<IpNet>, reqwest::Client)>>,
}

impl Callbacks {
    pub(super) fn new() -> Self {
        Self {
            client: Mutex::default(),
        }
    }

    /// Tells a URL, trying again where it does not take it.
    pub(super) async fn send(&self, snapshot: &Snapshot, url: &str, told: &Told<'_>, stop: &Stop) {
        let id = &told.job.id;
        let denied = denied(&snapshot.config);
        let shown = Url::parse(url).ok();
        let host = shown.as_ref().and_then(Url::host_str).unwrap_or_default().to_owned();
        if shown.as_ref().is_none_or(|url| is_denied(url, &denied)) {
            tracing::warn!(id, host, "callback refused: queue.callback_deny has its address");
            snapshot.metrics.kept().callback("denied");
            return;
        }
        let client = self.client(denied);
        let headers = headers(told, snapshot.config.queue.callback_secret.as_deref());
        let body = told.answer.map(|answer| answer.body.clone()).unwrap_or_default();
        for wait in WAITS.iter().map(Some).chain([None]) {
            let sent = client
                .post(url)
                .headers(headers.clone())
                .body(body.clone())
                .send()
                .await;
            let error = match sent {
                Ok(answer) if answer.status().is_success() => {
                    snapshot.metrics.kept().callback("sent");
                    tracing::debug!(id, host, "callback sent");
                    return;
                }
                Ok(answer) => format!("status {}", answer.status().as_u16()),
                Err(error) => client::describe(&error.without_url()),
            };
            let Some(wait) = wait else {
                snapshot.metrics.kept().callback("failed");
                tracing::warn!(id, host, error, "callback given up");
                return;
            };
            tracing::debug!(id, host, error, ?wait, "callback not taken; trying again");
            tokio::select! {
                () = tokio::time::sleep(*wait) => {}
                () = stop.cancelled() => {
                    tracing::warn!(id, host, error, "callback given up: the gateway is stopping");
                    return;
                }
            }
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
                return Err("queue.callback_deny has all addresses of this host".into());
            }
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

/// The headers of a callback: the answer's own, and what is said of the call.
fn headers(told: &Told<'_>, secret: Option<&str>) -> HeaderMap {
    let mut map = told
        .answer
        .map(|answer| fields::map(&answer.headers))
        .unwrap_or_default();
    // Its framing is this request's own.
    for name in [header::CONTENT_LENGTH, header::DATE, INTERNAL] {
        map.remove(name);
    }
    let mut set = |name: HeaderName, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            map.insert(name, value);
        }
    };
    set(CALL_ID, told.job.id.clone());
    set(DURATION_SECONDS, format!("{:.6}", told.took.as_secs_f64()));
    set(
        FUNCTION_STATUS,
        told.answer.map_or(503, |answer| answer.status).to_string(),
    );
    set(FUNCTION_NAME, told.job.function.to_string());
    let (number, most) = told.retry;
    set(RETRY, number.to_string());
    set(RETRY_MAX, most.to_string());
    if let Some(secret) = secret {
        let body = told.answer.map(|answer| &*answer.body).unwrap_or_default();
        set(SIGNATURE, signature(secret, body));
    }
    map
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
