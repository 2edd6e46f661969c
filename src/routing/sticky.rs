//! What keeps a caller with one of several functions: a header's value, or a
//! cookie that callers without one are given.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::config;

/// What is the same in all requests of a caller.
#[derive(Debug)]
pub enum Sticky {
    /// The value of this header.
    Header(HeaderName),
    /// The value of this cookie.
    Cookie(String),
}

impl Sticky {
    pub(super) fn new(written: &config::Sticky) -> Option<Self> {
        match (&written.header, &written.cookie) {
            (Some(name), _) => name.parse().ok().map(Self::Header),
            (None, Some(name)) => Some(Self::Cookie(name.clone())),
            (None, None) => None,
        }
    }

    /// What this caller sends; `None` when it is absent or empty.
    pub fn value<'h>(&self, headers: &'h HeaderMap) -> Option<&'h [u8]> {
        match self {
            Self::Header(name) => headers.get(name).map(HeaderValue::as_bytes),
            Self::Cookie(name) => cookie(headers, name),
        }
        .filter(|value| !value.is_empty())
    }
}

/// The value of a cookie (RFC 6265 section 5.4); HTTP/2 may send several headers.
fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b';'))
        .find_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// `Set-Cookie` for a caller that had none: until the browser is closed, for
/// the route's path only. `None` when the name cannot be that of a cookie.
pub fn set_cookie(name: &str, id: &str, path: &str, secure: bool) -> Option<HeaderValue> {
    // A semicolon would begin another attribute.
    let path = if path.is_empty() || path.contains(';') {
        "/"
    } else {
        path
    };
    let secure = if secure { "; Secure" } else { "" };
    HeaderValue::try_from(format!("{name}={id}; Path={path}; HttpOnly; SameSite=Lax{secure}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_by_their_whole_name() {
        let sticky = Sticky::Cookie("at".to_owned());
        for (cookies, value) in [
            (&["at=1"][..], Some("1")),
            (&["a=0; at=2;b=3"], Some("2")),
            (&["a=0", "at=x=y"], Some("x=y")),
            (&["fat=1; at2=3; at"], None),
            (&["at="], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for cookie in cookies {
                headers.append(header::COOKIE, HeaderValue::from_static(cookie));
            }
            assert_eq!(sticky.value(&headers), value.map(str::as_bytes), "{cookies:?}");
        }
    }

    #[test]
    fn cookies_are_bounded_to_the_route() {
        let cookie = |path, secure| set_cookie("at", "7", path, secure).expect("header text");
        assert_eq!(cookie("/v1", false), "at=7; Path=/v1; HttpOnly; SameSite=Lax");
        assert_eq!(cookie("", true), "at=7; Path=/; HttpOnly; SameSite=Lax; Secure");
        assert_eq!(cookie("/a;Domain=x", false), "at=7; Path=/; HttpOnly; SameSite=Lax");
    }
}
