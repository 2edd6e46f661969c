//! Where the answer of an asynchronous call goes on to. Pure.

use url::Url;

use crate::model::FunctionRef;

/// A place that takes answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A function, which is called with it, asynchronously.
    Function(FunctionRef),
    /// A URL, as callbacks go to.
    Url(Url),
}

impl Destination {
    /// Reads a destination: a URL, or a function's name as calls have it.
    ///
    /// # Errors
    /// What is wrong, in words that follow the key.
    pub fn parse(text: &str, default_namespace: &str) -> Result<Self, String> {
        if !text.contains(':') {
            let function = FunctionRef::parse(text, default_namespace);
            return function
                .map(Self::Function)
                .map_err(|error| format!("is neither a URL nor a function's name: {error}"));
        }
        let url = Url::parse(text).map_err(|error| format!("is no URL: {error}"))?;
        if matches!(url.scheme(), "http" | "https") && url.has_host() {
            Ok(Self::Url(url))
        } else {
            Err("must be a URL of http or https, or a function's name".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_a_url_or_a_function() {
        let function = |name: &str, namespace: &str| Some(Destination::Function(FunctionRef::new(name, namespace)));
        let url = |text: &str| Some(Destination::Url(text.parse().expect("a URL")));
        for (text, expected) in [
            ("next", function("next", "fn")),
            ("next.dev", function("next", "dev")),
            ("https://host/done?a=b", url("https://host/done?a=b")),
            ("http://user:secret@host:81", url("http://user:secret@host:81/")),
            ("ftp://host/", None),
            ("mailto:a@host", None),
            ("http://", None),
            ("a function", None),
            ("/function/next", None),
            ("", None),
        ] {
            assert_eq!(Destination::parse(text, "fn").ok(), expected, "{text}");
        }
    }
}
