//! Redirects, which keep the rest of the path and the query.

use http::{HeaderValue, StatusCode};

use crate::{config, policy::Answers};

/// Where a route sends its callers.
#[derive(Debug)]
pub struct Redirect {
    /// The status; without one in the configuration 307, which keeps the method
    /// and is not remembered.
    pub status: StatusCode,
    /// What the route makes of the answer.
    pub answers: Answers,
    to: String,
}

impl Redirect {
    pub(super) fn new(written: &config::Redirect, answers: Answers) -> Self {
        let status = written.status.and_then(|status| StatusCode::from_u16(status).ok());
        Self {
            status: status.unwrap_or(StatusCode::TEMPORARY_REDIRECT),
            answers,
            to: written.to.clone(),
        }
    }

    /// `Location` for a path of which the route took `prefix`.
    ///
    /// Never another host than the one configured: what begins with two slashes,
    /// or with what browsers take for them, is written with one.
    pub fn location(&self, path: &str, prefix: &str, query: Option<&str>) -> Option<HeaderValue> {
        let (to, fragment) = cut(&self.to, '#');
        let (to, own_query) = cut(to, '?');
        let rest = path.strip_prefix(prefix).unwrap_or_default();
        let mut location = match rest {
            "" => to.to_owned(),
            rest => format!("{}{rest}", to.trim_end_matches('/')),
        };
        if !names_a_host(to) {
            let behind = location.trim_start_matches(['/', '\\']);
            location = format!("/{behind}");
        }
        for (mark, part) in [('?', own_query), (if own_query.is_some() { '&' } else { '?' }, query)] {
            if let Some(part) = part {
                location.push(mark);
                location.push_str(part);
            }
        }
        if let Some(fragment) = fragment {
            location.push('#');
            location.push_str(fragment);
        }
        HeaderValue::try_from(location).ok()
    }
}

/// `https://host…` or `//host…`.
fn names_a_host(to: &str) -> bool {
    to.split_once("//").is_some_and(|(scheme, host)| {
        (scheme.is_empty() || scheme.ends_with(':'))
            && !scheme.contains('/')
            && !host.trim_start_matches(['/', '\\']).is_empty()
    })
}

fn cut(text: &str, mark: char) -> (&str, Option<&str>) {
    match text.split_once(mark) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(to: &str, path: &str, prefix: &str, query: Option<&str>) -> String {
        let redirect = Redirect {
            status: StatusCode::FOUND,
            answers: Answers::default(),
            to: to.to_owned(),
        };
        let location = redirect.location(path, prefix, query).expect("header text");
        location.to_str().expect("text").to_owned()
    }

    #[test]
    fn rest_and_query_are_kept() {
        for (to, path, prefix, query, expected) in [
            ("https://new.test/", "/a/b", "", None, "https://new.test/a/b"),
            ("https://new.test", "/a", "", Some("x=1&y"), "https://new.test/a?x=1&y"),
            (
                "https://new.test/v2",
                "/v1/a%20b/",
                "/v1",
                None,
                "https://new.test/v2/a%20b/",
            ),
            ("https://new.test/v2/", "/v1", "/v1", None, "https://new.test/v2/"),
            ("/v2", "/v1/a", "/v1", Some(""), "/v2/a?"),
            ("/v2?old=1#top", "/v1/a", "/v1", Some("b=2"), "/v2/a?old=1&b=2#top"),
            ("//cdn.test/x", "/a", "", None, "//cdn.test/x/a"),
        ] {
            assert_eq!(location(to, path, prefix, query), expected, "{to} {path}");
        }
    }

    #[test]
    fn callers_cannot_name_another_host() {
        for (to, path, prefix, expected) in [
            ("/", "//evil.test/x", "", "/evil.test/x"),
            ("/", "/old//evil.test", "/old", "/evil.test"),
            ("/", "/\\evil.test", "", "/evil.test"),
            ("//", "/evil.test", "", "/evil.test"),
            ("", "//evil.test", "", "/evil.test"),
            ("https://new.test", "//evil.test", "", "https://new.test//evil.test"),
            ("https://new.test", "/@evil.test", "", "https://new.test/@evil.test"),
        ] {
            assert_eq!(location(to, path, prefix, None), expected, "{to} {path}");
        }
    }
}
