//! HTTP clients for the gateway's own requests: provider REST calls, queries
//! to Prometheus, the auth proxy.
//!
//! One place sets what no such request may get wrong: which certificates are
//! trusted, that redirects are not followed and that no proxy is picked up from
//! the environment. Calls to functions do not come through here (see
//! [`crate::upstream`]); they only share [`tls`].

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use reqwest::redirect::Policy;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

use crate::upstream::TlsConfig;

pub mod guard;

/// `User-Agent` of the gateway's own requests.
pub const USER_AGENT: &str = concat!("faas-gateway/", env!("CARGO_PKG_VERSION"));

/// How long an idle connection is kept. Go servers of the OpenFaaS world close
/// theirs after their read timeout, 10 s by default; being the first to close
/// avoids sending a request into a connection that is going away.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// Read once: parsing the system's certificates takes milliseconds.
static TLS: LazyLock<TlsConfig> = LazyLock::new(|| Arc::new(tls_config()));

/// A client whose requests end, body included, within `timeout`.
pub fn build(timeout: Duration) -> reqwest::Client {
    finish(builder().timeout(timeout))
}

/// A client without a bound of its own, for streams: the caller bounds the wait
/// for the response's head (connecting is bounded by `connect_timeout`) and
/// drops the body when it has seen enough.
pub fn build_streaming(connect_timeout: Duration) -> reqwest::Client {
    finish(builder().connect_timeout(connect_timeout))
}

/// A client that looks names up in a way of its own.
pub fn build_resolving(timeout: Duration, resolver: Arc<dyn reqwest::dns::Resolve>) -> reqwest::Client {
    finish(builder().timeout(timeout).dns_resolver(resolver))
}

/// TLS settings of every outbound connection: the certificates the system
/// trusts, TLS 1.2 and 1.3.
///
/// A system without any certificate (an empty container image) is no error
/// until https is used: then every handshake fails.
pub fn tls() -> TlsConfig {
    Arc::clone(&TLS)
}

/// What went wrong, with its causes: the outermost text alone ("error sending
/// request") does not say.
pub fn describe(error: &reqwest::Error) -> String {
    use std::error::Error as _;

    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        // Some layers repeat what they wrap.
        if !text.ends_with(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .tls_backend_preconfigured(ClientConfig::clone(&TLS))
        .redirect(Policy::none())
        .no_proxy()
        .user_agent(USER_AGENT)
        .pool_idle_timeout(IDLE_TIMEOUT)
}

fn finish(builder: reqwest::ClientBuilder) -> reqwest::Client {
    builder
        .build()
        .expect("the options are constants and the TLS settings are built already")
}

fn tls_config() -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring supports TLS 1.2 and 1.3");
    match builder.clone().with_platform_verifier() {
        Ok(builder) => builder.with_no_client_auth(),
        Err(error) => {
            tracing::warn!(%error, "no system certificates, so https connections will fail; set SSL_CERT_FILE");
            builder
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn clients_build_and_know_https() {
        // Nothing listens on port 1, so an https URL fails to connect, not to parse.
        let error = build(Duration::from_secs(5))
            .get("https://127.0.0.1:1/")
            .send()
            .await
            .expect_err("nothing listens there");
        assert!(error.is_connect(), "{error:?}");
    }

    #[test]
    fn tls_is_built_once() {
        assert!(Arc::ptr_eq(&tls(), &tls()));
    }
}
