//! Whether a text is a host, a path, an origin, a method or a header's name.
//!
//! Pure; each says what is wrong in words that follow the key.

use http::{HeaderName, Method};

/// Longest name and longest label of the DNS (RFC 1035 section 2.3.4).
const LONGEST: (usize, usize) = (253, 63);

/// What a wildcard begins with.
const WILDCARD: &str = "*.";

/// A path as it is compared with requests: no query, no way around a check.
pub(super) fn path(text: &str) -> Result<(), String> {
    let fail = |message: &str| Err(message.to_owned());
    if !text.starts_with('/') {
        return fail("must begin with '/'");
    }
    if text.contains(['?', '#']) {
        return fail("must be a path alone, without '?' and '#'");
    }
    if text.contains("//") {
        return fail("must not have an empty segment ('//')");
    }
    // With escapes there would be several ways to write one path, and `%2F` is none.
    if text.contains('%') {
        return fail("must not have percent-encoded characters");
    }
    if text.split('/').any(|segment| matches!(segment, "." | "..")) {
        return fail("must not have the segments '.' and '..'");
    }
    // RFC 3986 section 3.3.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte);
    if text.bytes().all(plain) {
        Ok(())
    } else {
        fail("has a character that no path can have")
    }
}

/// A host name or address, or `*.` before a name.
pub(super) fn host(text: &str) -> Result<(), String> {
    if text == "*" {
        return Err("is every host; leave it out, or name the part behind '*.'".to_owned());
    }
    let name = text.strip_prefix(WILDCARD).unwrap_or(text);
    if name.contains('*') {
        return Err("may have '*' at the front only, as in *.example.com".to_owned());
    }
    if let Some(address) = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        return match address.parse::<std::net::Ipv6Addr>() {
            Ok(_) if name == text => Ok(()),
            _ => Err("is not an IPv6 address in brackets".to_owned()),
        };
    }
    if name.contains([':', '/']) {
        return Err("must be a host alone, without scheme, port and path".to_owned());
    }
    let label = |label: &str| {
        (1..=LONGEST.1).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() <= LONGEST.0 && name.split('.').all(label) {
        Ok(())
    } else {
        Err("is not a host name: letters, digits, '-' and '_' between dots (international names as xn--...)".to_owned())
    }
}

/// A media type (RFC 9110 section 8.3.1) without parameters, or all of one kind.
pub(super) fn media_type(text: &str) -> Result<(), String> {
    let token = |part: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
        !part.is_empty() && part.bytes().all(plain)
    };
    match text.split_once('/') {
        Some(("*", "*")) => Ok(()),
        Some((kind, rest)) if token(kind) && (rest == "*" || token(rest)) => Ok(()),
        _ => Err("must be a media type such as application/json or text/*, without parameters".to_owned()),
    }
}

/// An origin as browsers send it (RFC 6454 section 7), `*.` before the host, or `*`.
pub(super) fn origin(text: &str) -> Result<(), String> {
    const FORM: &str = "must be \"*\", \"https://host\", \"https://host:port\" or \"https://*.host\", without a path";
    if text == "*" {
        return Ok(());
    }
    let (scheme, rest) = text.split_once("://").ok_or(FORM)?;
    let first = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphabetic);
    let is_scheme = first(scheme.as_bytes().first())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let (name, port) = match rest.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (rest, None),
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    if !is_scheme || !port.is_none_or(is_port) {
        return Err(FORM.to_owned());
    }
    host(name).map_err(|_| FORM.to_owned())
}

/// A method (RFC 9110 section 9.1). They are case-sensitive, and a small letter is a slip.
pub(super) fn method(text: &str) -> Result<(), String> {
    let is_one = Method::from_bytes(text.as_bytes()).is_ok() && !text.bytes().any(|byte| byte.is_ascii_lowercase());
    is_one
        .then_some(())
        .ok_or_else(|| "is not a method; write it in capitals, as in \"GET\"".to_owned())
}

/// A header's name (RFC 9110 section 5.1).
pub(super) fn header(text: &str) -> Result<(), String> {
    HeaderName::from_bytes(text.as_bytes())
        .map(|_| ())
        .map_err(|_| "is not a header's name".to_owned())
}

/// A cookie's name (RFC 6265 section 4.1.1), which is a token like a header's.
pub(super) fn cookie(text: &str) -> Result<(), String> {
    header(text).map_err(|_| "is not a cookie's name: no blanks, quotes, commas, semicolons and the like".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(what: fn(&str) -> Result<(), String>, right: &[&str], wrong: &[&str]) {
        for text in right {
            assert_eq!(what(text), Ok(()), "{text}");
        }
        for text in wrong {
            assert!(what(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn paths() {
        check(
            path,
            &["/", "/v1", "/v1/", "/a.b/~c", "/...", "/a:b@c"],
            &[
                "",
                "v1",
                "/a?b",
                "/a#b",
                "//a",
                "/a//b",
                "/..",
                "/a/../b",
                "/./a",
                "/%2e%2e/a",
                "/a%2Fb",
                "/a%5cb",
                "/a%00",
                "/%25",
                "/%",
                "/%4",
                "/%zz",
                "/%+1",
                "/a b",
                "/ä",
                "/a\n",
                "/a\\b",
                "/%ää",
                "/{id}",
            ],
        );
    }

    #[test]
    fn hosts() {
        check(
            host,
            &[
                "a",
                "Shop.example.com",
                "*.example.com",
                "10.0.0.1",
                "[::1]",
                "a_b.c",
                "xn--bcher-kva.example",
            ],
            &[
                "",
                "*",
                "*.",
                "a.*.b",
                "*a.b",
                "a:80",
                "[::1]:80",
                "[::x]",
                "*.[::1]",
                "::1",
                "a..b",
                "a.",
                "-a.b",
                "a-.b",
                "a b",
                "http://a",
                "a/b",
                "bücher.example",
                &"a".repeat(64),
            ],
        );
    }

    #[test]
    fn origins() {
        check(
            origin,
            &[
                "*",
                "https://a.example",
                "http://localhost:3000",
                "https://*.a.example",
                "http://[::1]:80",
                "capacitor://localhost",
            ],
            &[
                "",
                "a.example",
                "https://",
                "https://a/",
                "https://a/b",
                "https://u@a",
                "https://a:b",
                "https://a:70000",
                "https://a:",
                "null",
                "https://*",
                "1s://a",
                "https://a?b",
                "https://a:+80",
            ],
        );
    }

    #[test]
    fn methods_headers_and_cookies() {
        check(method, &["GET", "PROPFIND", "X-Y"], &["", "get", "Get", "G T", "GET\n"]);
        check(header, &["X-A", "a"], &["", "a b", "a:", "ä", "a\n"]);
        check(cookie, &["shop-version"], &["", "a=b", "a;b", "\"a\""]);
    }
}
