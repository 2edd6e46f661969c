//! Paths: prefixes of whole segments, what a path might mean to somebody else,
//! and what a function sees of it.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The beginnings of a path that end where a segment does, the shortest first:
/// of `/a/b` the empty one, `/a` and `/a/b`. None of what is no path (`*`).
pub(super) fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    let ends = path.match_indices('/').map(|(slash, _)| slash);
    let whole = path.starts_with('/').then_some(path.len());
    ends.chain(whole)
        .take_while(|_| path.starts_with('/'))
        .map(|end| &path[..end])
}

/// The path as a lenient reader sees it: decoded once, `\` taken for `/`, and
/// several slashes for one. `None` when it has nothing to be lenient about.
pub(super) fn normalized(path: &str) -> Option<String> {
    let odd = path.contains(['%', '\\']) || path.contains("/.") || path.contains("//");
    if !odd {
        return None;
    }
    let decoded: Cow<'_, str> = percent_decode_str(path).decode_utf8_lossy();
    let mut plain = String::with_capacity(decoded.len());
    for character in decoded.chars() {
        let character = if character == '\\' { '/' } else { character };
        if !(character == '/' && plain.ends_with('/')) {
            plain.push(character);
        }
    }
    Some(plain)
}

/// Whether a segment is `.` or `..`, parameters (`;x`) apart.
pub(super) fn has_dot_segment(path: &str) -> bool {
    path.split('/')
        .any(|segment| matches!(segment.split(';').next(), Some("." | "..")))
}

/// The path in place of `path`, of which a route took `prefix`: `rewrite` for
/// the prefix, and the rest byte for byte. It begins with a slash.
pub fn rewritten(path: &str, prefix: &str, rewrite: Option<&str>) -> String {
    let rest = path.strip_prefix(prefix).unwrap_or(path);
    let rewrite = rewrite.unwrap_or_default();
    let whole = if rest.is_empty() {
        rewrite.to_owned()
    } else {
        format!("{}{rest}", rewrite.trim_end_matches('/'))
    };
    if whole.starts_with('/') {
        whole
    } else {
        format!("/{whole}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_with_segments() {
        let all = |path| prefixes(path).collect::<Vec<_>>();
        assert_eq!(all("/a/b"), ["", "/a", "/a/b"]);
        assert_eq!(all("/a/"), ["", "/a", "/a/"]);
        assert_eq!(all("/"), ["", "/"]);
        assert_eq!(all("*"), [""; 0]);
        assert_eq!(all("a/b"), [""; 0]);
    }

    #[test]
    fn rewriting() {
        for (path, prefix, rewrite, seen) in [
            ("/v1", "/v1", None, "/"),
            ("/v1/", "/v1", None, "/"),
            ("/v1/x", "/v1", None, "/x"),
            ("/v1//x", "/v1", None, "//x"),
            ("/v1", "/v1", Some("/api"), "/api"),
            ("/v1/", "/v1", Some("/api"), "/api/"),
            ("/v1/a%2Fb%20", "/v1", Some("/api"), "/api/a%2Fb%20"),
            ("/v1/x", "/v1", Some("/api/"), "/api/x"),
            ("/v1", "/v1", Some("/"), "/"),
            ("/v1/x", "/v1", Some("/"), "/x"),
            ("/x/y", "", None, "/x/y"),
            ("/x/y", "", Some("/api"), "/api/x/y"),
            ("/", "", Some("/api"), "/api/"),
        ] {
            assert_eq!(rewritten(path, prefix, rewrite), seen, "{path} {prefix} {rewrite:?}");
        }
    }

    #[test]
    fn lenient_readings() {
        for (path, plain) in [
            ("/a/b.c", None),
            ("/a%2Fb", Some("/a/b")),
            ("/%61", Some("/a")),
            ("/a\\b", Some("/a/b")),
            ("//a///b", Some("/a/b")),
            ("/%252e", Some("/%2e")),
            ("/.well-known", Some("/.well-known")),
        ] {
            assert_eq!(normalized(path).as_deref(), plain, "{path}");
        }
        for (path, dots) in [
            ("/a/../b", true),
            ("/a/.", true),
            ("/..;x/a", true),
            ("/...", false),
            ("/.a", false),
        ] {
            assert_eq!(has_dot_segment(path), dots, "{path}");
        }
    }
}
