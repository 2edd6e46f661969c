//! Where requests may go whose addresses come from elsewhere.
//!
//! An address in a URL is judged before it is connected to, and what a name stands
//! for when it is looked up for the connection, so that a name which changes its mind
//! does not help.

use std::{
    error::Error as _,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Everything that is not the public internet: this machine, its network and link
/// (which has the metadata service of clouds), and what is reserved (RFC 6890). Of
/// IPv6 also the forms that an IPv4 address hides in.
pub const PRIVATE: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",
    "::/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "fc00::/7",
    "fe80::/9",
    "ff00::/8",
];

/// Addresses that are refused, and what those are told who ask for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    denied: Arc<[IpNet]>,
    text: &'static str,
}

/// The address of a host is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denied(&'static str);

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Denied {}

impl Guard {
    /// Refuses addresses in these ranges, with this text.
    pub fn new(denied: impl IntoIterator<Item = IpNet>, text: &'static str) -> Self {
        Self {
            denied: denied.into_iter().collect(),
            text,
        }
    }

    /// Refuses addresses in these ranges, as they are written.
    pub fn of(ranges: &[&str], text: &'static str) -> Self {
        Self::new(ranges.iter().filter_map(|range| range.parse().ok()), text)
    }

    /// Judges the address that a URL names; names are judged when they are looked up.
    ///
    /// # Errors
    /// It is refused.
    pub fn judge(&self, url: &Url) -> Result<(), Denied> {
        let is_denied = match url.host() {
            Some(Host::Ipv4(address)) => self.has(address.into()),
            Some(Host::Ipv6(address)) => self.has(address.into()),
            Some(Host::Domain(_)) => false,
            None => true,
        };
        if is_denied { Err(self.denied()) } else { Ok(()) }
    }

    /// Whether a request failed because an address is refused.
    pub fn has_refused(error: &reqwest::Error) -> bool {
        let mut cause = error.source();
        while let Some(inner) = cause {
            if inner.is::<Denied>() {
                return true;
            }
            cause = inner.source();
        }
        false
    }

    /// What is said of what is refused.
    pub fn denied(&self) -> Denied {
        Denied(self.text)
    }

    fn has(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.denied.iter().any(|range| range.contains(&address))
    }
}

/// Looks names up and leaves out what is refused.
impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let permitted: Vec<SocketAddr> = found.filter(|address| !guard.has(address.ip())).collect();
            if permitted.is_empty() {
                return Err(guard.denied().into());
            }
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_public_is_refused_in_every_form() {
        for range in PRIVATE {
            assert!(range.parse::<IpNet>().is_ok(), "{range}");
        }
        let guard = Guard::of(PRIVATE, "no");
        for (url, expected) in [
            ("http://127.0.0.1:80/", true),
            ("http://127.1/", true),
            ("http://2130706433/", true),
            ("http://0x7f.1/", true),
            ("http://[::1]/", true),
            ("http://[::ffff:127.0.0.1]/", true),
            ("http://[64:ff9b::7f00:1]/", true),
            ("http://[fd00:ec2::254]/", true),
            ("http://[fe80::1]/", true),
            ("http://169.254.169.254/latest/meta-data", true),
            ("http://0.0.0.0/", true),
            ("http://10.0.0.1/", true),
            ("http://192.168.1.1/", true),
            ("http://255.255.255.255/", true),
            ("http://1.1.1.1/", false),
            ("http://[2606:4700::1111]/", false),
            ("https://example.com/", false),
        ] {
            let judged = guard.judge(&url.parse().expect("a URL"));
            assert_eq!(judged.is_err(), expected, "{url}");
        }
    }

    #[tokio::test]
    async fn names_are_judged_by_what_they_stand_for() {
        let guard = Guard::of(PRIVATE, "no");
        let client = crate::client::build_resolving(std::time::Duration::from_secs(5), Arc::new(guard));
        let error = client
            .get("http://localhost:1/")
            .send()
            .await
            .expect_err("this machine");
        assert!(Guard::has_refused(&error), "{error:?}");
    }
}
