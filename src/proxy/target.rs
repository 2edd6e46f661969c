//! Which function a path names and which path that function sees. Pure.

use std::borrow::Cow;

use http::{Uri, uri::InvalidUri};
use percent_encoding::percent_decode_str;

use crate::upstream::PathForm;

/// Where function calls live.
pub const FUNCTION_PREFIX: &str = "/function/";

/// Where asynchronous calls live.
pub const ASYNC_PREFIX: &str = "/async-function/";

/// The name and the rest of `/function/NAME[/rest]`, both as received.
///
/// The rest is empty or begins with a slash.
pub fn split(path: &str) -> Option<(&str, &str)> {
    split_after(FUNCTION_PREFIX, path)
}

/// The same of `PREFIX/NAME[/rest]`.
pub fn split_after<'p>(prefix: &str, path: &'p str) -> Option<(&'p str, &'p str)> {
    let tail = path.strip_prefix(prefix)?;
    Some(match tail.find('/') {
        Some(slash) => tail.split_at(slash),
        None => (tail, ""),
    })
}

/// A name from a path, decoded (`%61` is `a`, compatibility.md section 1.2).
pub fn decode_name(raw: &str) -> Cow<'_, str> {
    percent_decode_str(raw).decode_utf8_lossy()
}

/// The request target for an upstream, with path and query byte for byte as
/// the caller sent them.
///
/// # Errors
/// When the caller's target, valid so far, is not valid behind a base path;
/// this does not happen with bases that come from a URL.
pub fn upstream_uri(form: &PathForm, original: &Uri, rest: &str) -> Result<Uri, InvalidUri> {
    let query = original.query();
    let (base, path) = match form {
        PathForm::Full { base } => (base.as_ref(), original.path()),
        PathForm::Trimmed => ("", if rest.is_empty() { "/" } else { rest }),
    };
    let mut target = String::with_capacity(base.len() + path.len() + query.map_or(0, |query| query.len() + 1));
    target.push_str(base);
    target.push_str(path);
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
    Uri::try_from(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_rests() {
        for (path, expected) in [
            ("/function/figlet", Some(("figlet", ""))),
            ("/function/figlet/", Some(("figlet", "/"))),
            ("/function/figlet.dev/a/b", Some(("figlet.dev", "/a/b"))),
            ("/function/a//b", Some(("a", "//b"))),
            ("/function/", Some(("", ""))),
            ("/function", None),
            ("/system/functions", None),
        ] {
            assert_eq!(split(path), expected, "{path}");
        }
        assert_eq!(decode_name("%61b"), "ab");
    }

    #[test]
    fn paths_and_queries_survive_byte_for_byte() {
        for tail in [
            "",
            "/",
            "/a%2Fb",
            "/%ff",
            "//x",
            "/100%25",
            "/a?x=1;y=%20&z",
            "/a/?",
            "/%2541",
            "/a/../b",
        ] {
            let original: Uri = format!("/function/f{tail}").parse().expect("a target");
            let (_, rest) = split(original.path()).expect("a function path");
            let full = PathForm::Full { base: "/base".into() };
            assert_eq!(
                upstream_uri(&full, &original, rest).expect("valid").to_string(),
                format!("/base/function/f{tail}")
            );
            let trimmed = upstream_uri(&PathForm::Trimmed, &original, rest).expect("valid");
            let expected = match tail {
                "" => "/".to_owned(),
                tail => tail.to_owned(),
            };
            assert_eq!(trimmed.to_string(), expected);
        }
    }
}
