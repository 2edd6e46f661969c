//! A key and its value as people read them: written as TOML writes them, with
//! everything masked that may be a secret.

use url::Url;

use super::{Origins, schema};

/// A key as TOML writes it: parts joined by dots, quoted where they need it.
pub fn dotted<S: AsRef<str>>(path: &[S]) -> String {
    let bare = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    path.iter()
        .map(|part| match part.as_ref() {
            part if bare(part) => part.to_owned(),
            part => toml_text(part),
        })
        .collect::<Vec<_>>()
        .join(".")
}

/// A text in quotes, as TOML writes it. JSON's escapes are TOML's, except that
/// TOML wants DEL escaped too.
pub(super) fn toml_text(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}

/// A text on one line, for messages: with its control characters escaped.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

/// One key with its value, for showing and comparing configurations.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Parts of the key.
    pub path: Vec<String>,
    /// The value as TOML writes it; `None` when the key is not set. May hold a
    /// credential: only [`Entry::shown`] is for people.
    pub value: Option<String>,
}

impl Entry {
    /// The key in its written form.
    pub fn key(&self) -> String {
        dotted(&self.path)
    }

    /// The value with everything that may be a secret masked: user information
    /// and queries of URLs, the environment given to images, headers set for
    /// functions and sent with traces, and what came from a variable or another
    /// file, which only `origins` know.
    pub fn shown(&self, origins: &Origins) -> Option<String> {
        self.masked(origins.is_secret(&self.path))
    }

    /// [`shown`](Self::shown) where it is known whether the value is a secret.
    pub(super) fn masked(&self, secret: bool) -> Option<String> {
        let value = self.value.as_deref()?;
        if secret {
            return Some(toml_text(MASK));
        }
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        Some(match path.as_slice() {
            ["provider", "process", "images", _, "environment", _]
            | ["tracing", "headers", _]
            | ["queue", "callback_secret" | "nats_password"]
            | ["functions" | "routes", _, "headers", "request", "set", _] => toml_text(MASK),
            _ if schema::is_url(&self.path) => toml_text(&mask_url(value.trim_matches('"'))),
            _ => mask_user_info(value),
        })
    }
}

/// Stands for what must not be shown.
pub(super) const MASK: &str = "***";

/// Replaces `user:password` in something that looks like a URL.
pub(super) fn mask_user_info(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..authority].rfind('@') {
        Some(at) => format!("{scheme}://{MASK}{}", &rest[at..]),
        None => text.to_owned(),
    }
}

/// A text that is a URL, or was meant to be one, without its user information
/// and its query, either of which may be a key. In what is no URL everything
/// up to the last `@` counts as user information: a password may have any
/// character.
pub(super) fn mask_url(text: &str) -> String {
    let masked = if Url::parse(text).is_ok_and(|url| url.has_host()) {
        mask_user_info(text)
    } else {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (format!("{scheme}://"), rest),
            None => (String::new(), text),
        };
        match rest.rfind('@') {
            Some(at) => format!("{scheme}{MASK}{}", &rest[at..]),
            None => text.to_owned(),
        }
    };
    match masked.split_once('?') {
        Some((before, _)) => format!("{before}?{MASK}"),
        None => masked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn point_24_urls_are_shown_without_what_may_be_a_key() {
        for (text, shown) in [
            ("http://host/path", "http://host/path"),
            ("http://user:pw@host/path", "http://***@host/path"),
            ("http://host/path?key=pw#part", "http://host/path?***"),
            ("http://host/@scope/x", "http://host/@scope/x"),
            ("user:pw@host", "***@host"),
            ("user:pw@host:80/x?key=pw", "***@host:80/x?***"),
            ("http://user:p/w?p@w@host/", "http://***@host/"),
            ("htp://host?key=pw", "htp://host?***"),
            ("10", "10"),
        ] {
            assert_eq!(mask_url(text), shown, "{text}");
        }
    }
}
