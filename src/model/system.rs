//! Namespaces and version information.

use std::collections::BTreeMap;

use poem_openapi::Object;

/// A namespace that functions live in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Object)]
#[oai(rename = "FunctionNamespace")]
pub struct FunctionNamespace {
    /// Name of the namespace; the name in the path when absent or empty.
    #[oai(default)]
    pub name: String,
    /// Annotations.
    #[oai(default, skip_serializing_if_is_none)]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Labels.
    #[oai(default, skip_serializing_if_is_none)]
    pub labels: Option<BTreeMap<String, String>>,
}

/// A version and the commit it was built from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Object)]
#[oai(rename = "VersionInfo")]
pub struct VersionInfo {
    /// First line of the commit's message.
    #[oai(default, skip_serializing_if_is_none)]
    pub commit_message: Option<String>,
    /// Commit hash.
    #[oai(default)]
    pub sha: String,
    /// Released version.
    #[oai(default)]
    pub release: String,
}

impl VersionInfo {
    /// The version of this binary, and its commit when the build said it in
    /// `FAAS_GATEWAY_COMMIT`; never empty, because clients insist on both.
    pub fn of_this_build() -> Self {
        Self {
            commit_message: None,
            sha: option_env!("FAAS_GATEWAY_COMMIT").unwrap_or("unknown").to_owned(),
            release: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// What runs the functions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Object)]
#[oai(rename = "ProviderInfo")]
pub struct ProviderInfo {
    /// Name of the provider.
    #[oai(default)]
    pub provider: String,
    /// Version of the provider.
    #[oai(default)]
    pub version: VersionInfo,
    /// What the provider builds on (`kubernetes`, `containerd`, `process` …).
    #[oai(default)]
    pub orchestration: String,
    /// How resource limits are enforced, where the provider says so.
    #[oai(default, skip_serializing_if_is_none)]
    pub limits: Option<String>,
}

/// The gateway, its version and its provider.
#[derive(Debug, Clone, Default, PartialEq, Eq, Object)]
#[oai(rename = "GatewayInfo")]
pub struct GatewayInfo {
    /// The provider; its fields are empty when it does not answer.
    pub provider: ProviderInfo,
    /// Version of this gateway.
    pub version: VersionInfo,
    /// Processor architecture, as Go names it (`amd64`, `arm64`).
    pub arch: String,
}
