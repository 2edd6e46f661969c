//! The host a request is for, in the form that routes have.

use std::borrow::Cow;

use http::{Request, header};

/// Longest host that is looked up, in bytes: that of a domain name (RFC 1035 section 2.3.4).
const MAX_LEN: usize = 253;

/// The request's host in lower case, without port and without a dot at its end:
/// of the request target's authority (HTTP/2, absolute form), else of `Host`
/// (RFC 9112 section 3.2.2). `None` when there is none, or none that a route can have.
pub fn of<B>(request: &Request<B>) -> Option<Cow<'_, str>> {
    let written = match request.uri().authority() {
        Some(authority) => authority.as_str().rsplit('@').next()?,
        None => request.headers().get(header::HOST)?.to_str().ok()?,
    };
    plain(written)
}

/// A host as it was written, in that form.
pub fn plain(written: &str) -> Option<Cow<'_, str>> {
    let host = match written.rfind(':') {
        // The colons of an IPv6 address are inside its brackets.
        Some(colon) if !written[colon..].contains(']') => &written[..colon],
        _ => written,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() || host.len() > MAX_LEN {
        return None;
    }
    Some(if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    })
}

/// The domains that a host is below, the nearest first.
pub(super) fn parents(host: &str) -> impl Iterator<Item = &str> {
    host.match_indices('.')
        .filter(|(dot, _)| *dot > 0)
        .map(|(dot, _)| &host[dot + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lose_port_case_and_last_dot() {
        for (written, host) in [
            ("example.com", Some("example.com")),
            ("Shop.Example.COM:8080", Some("shop.example.com")),
            ("example.com.", Some("example.com")),
            ("example.com.:80", Some("example.com")),
            ("[::1]:8080", Some("[::1]")),
            ("[2001:DB8::1]", Some("[2001:db8::1]")),
            ("", None),
            (":80", None),
            (".", None),
        ] {
            assert_eq!(plain(written).as_deref(), host, "{written}");
        }
        assert_eq!(plain(&"a.".repeat(200)), None);
    }

    #[test]
    fn the_target_s_authority_comes_before_the_header() {
        let request = |target: &str| {
            let request = Request::get(target).header("host", "header.test:1");
            request.body(()).expect("a request")
        };
        assert_eq!(of(&request("/a")).as_deref(), Some("header.test"));
        assert_eq!(
            of(&request("http://u:p@Target.test:2/a")).as_deref(),
            Some("target.test")
        );
        assert_eq!(of(&Request::get("/a").body(()).expect("a request")), None);
    }

    #[test]
    fn parents_are_whole_labels() {
        assert_eq!(parents("a.b.c").collect::<Vec<_>>(), ["b.c", "c"]);
        assert_eq!(parents("c").count(), 0);
        assert_eq!(parents(".c").count(), 0);
    }
}
