//! Secrets as clients send them.

use std::fmt;

use poem_openapi::{Object, types::Base64};

/// A secret; its value is never returned by any route.
#[derive(Clone, PartialEq, Eq, Object)]
#[oai(rename = "Secret", rename_all = "camelCase")]
pub struct Secret {
    /// Name: a DNS-1123 subdomain; the file name under which functions read it.
    pub name: String,
    /// Namespace; the provider's default when absent.
    #[oai(skip_serializing_if_is_none)]
    pub namespace: Option<String>,
    /// Value as text. Write-only.
    #[oai(write_only, skip_serializing_if_is_none)]
    pub value: Option<String>,
    /// Value as base64; preferred over `value` when not empty. Write-only.
    #[oai(write_only, skip_serializing_if_is_none)]
    pub raw_value: Option<Base64<Vec<u8>>>,
}

impl Secret {
    /// A secret as lists show it: no value.
    pub fn named(name: impl Into<String>, namespace: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            namespace: Some(namespace.into()).filter(|namespace| !namespace.is_empty()),
            value: None,
            raw_value: None,
        }
    }

    /// The same with a value, to be stored.
    #[must_use]
    pub fn holding(self, bytes: Vec<u8>) -> Self {
        Self {
            raw_value: Some(Base64(bytes)),
            ..self
        }
    }

    /// The bytes to store: `rawValue` when it is not empty, else `value`.
    pub fn bytes(&self) -> &[u8] {
        match (&self.raw_value, &self.value) {
            (Some(Base64(raw)), _) if !raw.is_empty() => raw,
            (_, Some(value)) => value.as_bytes(),
            _ => &[],
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({}, {:?})", self.name, self.namespace)
    }
}
