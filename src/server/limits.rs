//! What is too much of a request's head, whichever lane reads it. Pure.
//!
//! The HTTP library has bounds of its own beyond these, and answers what is
//! beyond those without a word about settings.

use http::{Request, StatusCode, Version};

use crate::{config, problem::Problem};

/// Most header fields that the HTTP library reads where there is no limit.
const MOST_HEADERS: usize = 1000;

/// Fewest that it reads, so that a few too many are told which setting it is.
const FEWEST_READ: usize = 200;

/// A head that is too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Excess {
    /// So many header fields.
    Headers(usize),
    /// A target of so many bytes.
    Uri(usize),
}

/// What is too much about a head with so many fields and a target so long.
pub(super) fn excess(server: &config::Server, fields: usize, target: usize) -> Option<Excess> {
    let above = |count: usize, limit: u64| limit > 0 && count as u64 > limit;
    if above(target, server.max_uri_bytes.0) {
        return Some(Excess::Uri(target));
    }
    above(fields, server.max_headers.into()).then_some(Excess::Headers(fields))
}

/// The same, of a request.
pub(super) fn excess_of<B>(server: &config::Server, request: &Request<B>) -> Option<Excess> {
    let uri = request.uri();
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    // With HTTP/2 these are fields of their own.
    let before = match (uri.scheme_str(), uri.authority()) {
        (Some(scheme), Some(authority)) if request.version() < Version::HTTP_2 => {
            scheme.len() + "://".len() + authority.as_str().len()
        }
        _ => 0,
    };
    excess(server, request.headers().len(), before + path)
}

impl Excess {
    /// What the caller is told.
    pub(super) fn problem(self, server: &config::Server) -> Problem {
        match self {
            Self::Headers(count) => {
                let most = server.max_headers;
                let text = format!("the request has {count} header fields, more than server.max_headers ({most})");
                Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, text).setting("server.max_headers")
            }
            Self::Uri(length) => {
                let most = server.max_uri_bytes;
                let text = format!("the request target has {length} bytes, more than server.max_uri_bytes ({most})");
                Problem::new(StatusCode::URI_TOO_LONG, text).setting("server.max_uri_bytes")
            }
        }
    }
}

/// How many header fields the HTTP library is to read.
pub(super) fn headers_read(server: &config::Server) -> usize {
    match server.max_headers as usize {
        0 => MOST_HEADERS,
        most => (2 * most).clamp(FEWEST_READ, MOST_HEADERS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn server(toml: &str) -> config::Server {
        let toml = format!("provider.kind = \"memory\"\n[server]\n{toml}");
        let loaded = config::parse(Some(&toml), &Sources::default()).expect("the test's configuration is right");
        loaded.config.server
    }

    #[test]
    fn heads_are_measured() {
        let limited = server("max_headers = 3\nmax_uri_bytes = 10");
        let unlimited = server("max_headers = 0\nmax_uri_bytes = 0");
        for (fields, target, expected) in [
            (3, 10, None),
            (4, 10, Some(Excess::Headers(4))),
            (3, 11, Some(Excess::Uri(11))),
            (4, 11, Some(Excess::Uri(11))),
        ] {
            assert_eq!(excess(&limited, fields, target), expected);
            assert_eq!(excess(&unlimited, fields, target), None);
        }
        let request = Request::get("http://a.test/b?c").body(()).expect("a request");
        assert_eq!(excess_of(&limited, &request), Some(Excess::Uri(17)));
        for (most, read) in [(0, 1000), (1, 200), (150, 300), (1000, 1000)] {
            assert_eq!(headers_read(&server(&format!("max_headers = {most}"))), read);
        }
    }
}
