//! `/system/info` and `/system/telemetry`: what runs here.

use poem_openapi::{OpenApi, types::Any};

use super::{
    Tag,
    admitted::Admitted,
    error::{ApiError, Listing, OwnInfo},
    payload::Json,
};
use crate::model::{GatewayInfo, ProviderInfo, VersionInfo};

pub(super) struct InfoApi;

#[OpenApi(tag = "Tag::System")]
impl InfoApi {
    /// Versions of the gateway and its provider
    ///
    /// A provider that does not answer shows as empty strings: clients read
    /// its fields without looking.
    #[oai(path = "/system/info", method = "get", operation_id = "getInfo")]
    async fn info(&self, Admitted(snapshot): Admitted) -> Result<Json<GatewayInfo>, ApiError<OwnInfo>> {
        let provider = snapshot.provider.info().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the provider does not say what it is");
            ProviderInfo::default()
        });
        Ok(Json(GatewayInfo {
            provider,
            version: VersionInfo::of_this_build(),
            arch: go_arch(std::env::consts::ARCH).to_owned(),
        }))
    }

    /// The provider's telemetry document
    ///
    /// As the provider wrote it; 501 where it has none.
    #[oai(path = "/system/telemetry", method = "get", operation_id = "getTelemetry")]
    async fn telemetry(&self, Admitted(snapshot): Admitted) -> Result<Json<Any<serde_json::Value>>, ApiError<Listing>> {
        Ok(Json(Any(snapshot.provider.telemetry().await?)))
    }
}

/// The name Go, and so every OpenFaaS client, has for a processor architecture.
fn go_arch(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}
