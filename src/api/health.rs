//! `/healthz`: whether the provider can work. Open, as load balancers and
//! `faas-cli ready` ask without credentials.

use poem_openapi::{OpenApi, payload::PlainText};

use super::{
    Tag,
    admitted::View,
    error::{ApiError, Health},
};

pub(super) struct HealthApi;

#[OpenApi(tag = "Tag::System")]
impl HealthApi {
    /// Health of the provider
    #[oai(path = "/healthz", method = "get", operation_id = "getHealth")]
    async fn health(&self, View(snapshot): View) -> Result<PlainText<&'static str>, ApiError<Health>> {
        snapshot.provider.health().await?;
        Ok(PlainText("OK"))
    }
}
