//! Function names as they appear in URLs: `name` or `name.namespace`.

use std::fmt;

use thiserror::Error;

/// Longest function or namespace name accepted, in bytes (a DNS label's limit
/// would be 63; OpenFaaS providers vary, so only absurd names are refused).
const MAX_LEN: usize = 253;

/// Why a name was refused. The text names the allowed characters.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// Nothing where a name should be.
    #[error("the function name is empty")]
    Empty,
    /// A character outside OpenFaaS's class (compatibility.md section 1.2).
    #[error("'{0}' is not a function name: use letters, digits, '-', '_' and '.'")]
    Character(String),
    /// More than 253 bytes.
    #[error("the function name is longer than {MAX_LEN} bytes")]
    TooLong,
}

/// A function and the namespace it lives in. An empty namespace means "the
/// provider's default", for providers that have none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionRef {
    /// Name without namespace.
    pub name: String,
    /// Namespace, possibly empty.
    pub namespace: String,
}

impl FunctionRef {
    /// Names a function of a namespace.
    pub fn new(name: impl Into<String>, namespace: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            namespace: namespace.into(),
        }
    }

    /// Splits a name from a URL at its last dot (compatibility.md section 1.2):
    /// `a.b.c` is function `a.b` of namespace `c`; without a dot the namespace
    /// is `default_namespace`.
    ///
    /// # Errors
    /// [`NameError`] when the text is empty, too long or has other characters.
    pub fn parse(text: &str, default_namespace: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > MAX_LEN {
            return Err(NameError::TooLong);
        }
        if !text.bytes().all(is_name_byte) {
            return Err(NameError::Character(text.escape_default().to_string()));
        }
        let (name, namespace) = text.rsplit_once('.').unwrap_or((text, default_namespace));
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        Ok(Self::new(name, namespace))
    }

    /// Whether two names may mean one function: where the default namespace is the
    /// provider's own to know, a name without one may be in any.
    pub fn may_be(&self, other: &Self) -> bool {
        let either = self.namespace.is_empty() || other.namespace.is_empty();
        self.name == other.name && (either || self.namespace == other.namespace)
    }
}

/// One of `-`, `a-z`, `A-Z`, `_`, `0-9`, `.`.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

impl fmt::Display for FunctionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}.{}", self.name, self.namespace)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_namespace_may_be_in_any() {
        for (one, other, expected) in [
            (("a", "x"), ("a", "x"), true),
            (("a", "x"), ("a", "y"), false),
            (("a", ""), ("a", "y"), true),
            (("a", "x"), ("a", ""), true),
            (("a", ""), ("b", ""), false),
        ] {
            let (one, other) = (FunctionRef::new(one.0, one.1), FunctionRef::new(other.0, other.1));
            assert_eq!(one.may_be(&other), expected, "{one} {other}");
        }
    }

    #[test]
    fn names_split_at_the_last_dot() {
        for (text, default, name, namespace) in [
            ("figlet", "", "figlet", ""),
            ("figlet", "openfaas-fn", "figlet", "openfaas-fn"),
            ("figlet.dev", "openfaas-fn", "figlet", "dev"),
            ("a.b.c", "x", "a.b", "c"),
            ("figlet.", "x", "figlet", ""),
        ] {
            assert_eq!(
                FunctionRef::parse(text, default),
                Ok(FunctionRef::new(name, namespace)),
                "{text}"
            );
        }
    }

    #[test]
    fn bad_names_say_why() {
        assert_eq!(FunctionRef::parse("", "x"), Err(NameError::Empty));
        assert_eq!(FunctionRef::parse(".x", "x"), Err(NameError::Empty));
        assert!(matches!(FunctionRef::parse("a@b", ""), Err(NameError::Character(_))));
        assert!(matches!(FunctionRef::parse("a\n", ""), Err(NameError::Character(_))));
        assert_eq!(FunctionRef::parse(&"a".repeat(254), ""), Err(NameError::TooLong));
    }

    #[test]
    fn display_is_the_url_form() {
        assert_eq!(FunctionRef::new("a", "b").to_string(), "a.b");
        assert_eq!(FunctionRef::new("a", "").to_string(), "a");
    }
}
