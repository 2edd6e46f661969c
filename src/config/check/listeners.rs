//! `[server]`: addresses, limits and certificates.
//!
//! Whether the files of certificates have what they should is not looked at
//! here: see [`crate::tls`].

use std::net::SocketAddr;

use super::{Found, syntax};
use crate::config::{
    Config, overlap,
    sections::{ClientAuth, ProviderKind},
    size::Size,
};

/// Smallest bound on a request's head: what HTTP libraries need to work with.
const MIN_HEADER_BYTES: Size = Size(8 << 10);

/// Most header fields and longest target that the HTTP library takes.
const MOST_HEADERS: u32 = 1000;
const LONGEST_URI: Size = Size(64 << 10);

/// Bounds on the window of a stream: a frame, and half of what HTTP/2 knows.
const SMALLEST_WINDOW: Size = Size(16 << 10);
const LARGEST_WINDOW: Size = Size(1 << 30);

/// Checks `[server]`.
pub(super) fn check(config: &Config, found: &mut Found) {
    limits(config, found);
    addresses(config, found);
    certificates(config, found);
}

fn limits(config: &Config, found: &mut Found) {
    let server = &config.server;
    if server.max_header_bytes < MIN_HEADER_BYTES {
        found.error(
            &["server.max_header_bytes"],
            format!("must be at least {MIN_HEADER_BYTES}"),
        );
    }
    if server.max_headers > MOST_HEADERS {
        found.error(
            &["server.max_headers"],
            format!("must be at most {MOST_HEADERS}, not {}", server.max_headers),
        );
    }
    if server.max_uri_bytes > LONGEST_URI {
        found.error(
            &["server.max_uri_bytes"],
            format!("must be at most {LONGEST_URI}, not {}", server.max_uri_bytes),
        );
    }
    let http2 = &server.http2;
    if http2.max_concurrent_streams == 0 {
        found.error(&["server.http2.max_concurrent_streams"], "must be at least 1");
    }
    if http2.stream_window < SMALLEST_WINDOW || http2.stream_window > LARGEST_WINDOW {
        let message = format!(
            "must be from {SMALLEST_WINDOW} to {LARGEST_WINDOW}, not {}",
            http2.stream_window
        );
        found.error(&["server.http2.stream_window"], message);
    }
}

/// Certificate and key come together, and callers' certificates with what they must lead to.
fn certificates(config: &Config, found: &mut Found) {
    const CERT: &str = "server.tls.cert_file";
    const KEY: &str = "server.tls.key_file";
    const AUTHORITIES: &str = "server.tls.client_ca_file";
    let tls = &config.server.tls;
    match (&tls.cert_file, &tls.key_file) {
        (Some(_), None) => found.error(
            &[KEY, CERT],
            "is needed with server.tls.cert_file: it is the certificate's private key",
        ),
        (None, Some(_)) => found.error(
            &[CERT, KEY],
            "is needed with server.tls.key_file: it is the key's certificate",
        ),
        (Some(_), Some(_)) => {}
        (None, None) => {
            if tls.client_ca_file.is_some() || tls.client_auth.is_some_and(|auth| auth != ClientAuth::Off) {
                found.warn("server.tls.client_ca_file and client_auth have no effect: server.tls.cert_file is not set");
            }
            return;
        }
    }
    match (&tls.client_ca_file, tls.client_auth()) {
        (None, ClientAuth::Optional | ClientAuth::Required) => found.error(
            &[AUTHORITIES, "server.tls.client_auth"],
            format!(
                "is needed with server.tls.client_auth = \"{}\": the certificates of callers must lead to one in it",
                tls.client_auth().as_str()
            ),
        ),
        (Some(_), ClientAuth::Off) => found.warn(format!(
            "{AUTHORITIES} is set but has no effect: server.tls.client_auth is \"off\""
        )),
        _ => {}
    }
}

/// Where they listen: nowhere twice, and nowhere public by accident.
fn addresses(config: &Config, found: &mut Found) {
    let addresses = [
        ("server.listen", Some(config.listen())),
        ("metrics.listen", Some(config.metrics_listen())),
        ("server.internal_listen", config.server.internal_listen),
    ];
    let set = addresses.into_iter().filter_map(|(key, address)| Some((key, address?)));
    let set: Vec<_> = set.collect();
    for (index, (key, address)) in set.iter().enumerate() {
        for (earlier, taken) in set.iter().take(index) {
            if address == taken && address.port() != 0 {
                found.error(
                    &[key, earlier],
                    format!("{address} is already the address of {earlier}"),
                );
            } else if overlap(*address, *taken) {
                found.error(
                    &[key, earlier],
                    format!("{address} overlaps with {taken} of {earlier}; take another port, or addresses of one machine each"),
                );
            }
        }
        if *key != "metrics.listen" {
            public(key, *address, config, found);
        }
    }
    let base = &config.server.base_path;
    if !base.is_empty()
        && let Err(message) = syntax::path(base)
    {
        found.wrong(vec!["server".to_owned(), "base_path".to_owned()], message, base);
    }
}

/// Commands of this machine are not offered to others by accident.
fn public(key: &str, address: SocketAddr, config: &Config, found: &mut Found) {
    if config.provider_kind() == ProviderKind::Process
        && !address.ip().is_loopback()
        && !config.is_protected()
        && !config.server.allow_unauthenticated_public
    {
        found.error(
            &[
                key,
                "auth.basic",
                "auth.proxy_url",
                "server.allow_unauthenticated_public",
                "provider.kind",
                "provider.url",
            ],
            format!(
                "{address} can be reached from other machines, and anyone who reaches it could run commands here: \
                 set auth.basic = true (basic_auth=true), listen on 127.0.0.1, \
                 or set server.allow_unauthenticated_public = true"
            ),
        );
    }
}
