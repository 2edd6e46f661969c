//! `/healthz`: whether the provider can work. Open, as load balancers and
//! `faas-cli ready` ask without credentials.

use poem_openapi::{ApiResponse, OpenApi, payload::PlainText};

use super::{
    Tag,
    admitted::View,
    error::{ApiError, Health},
};

pub(super) struct HealthApi;

/// The provider works.
#[derive(ApiResponse)]
enum Healthy {
    /// The provider works.
    #[oai(status = 200)]
    Ok(PlainText<&'static str>),
}

#[OpenApi(tag = "Tag::System")]
impl HealthApi {
    /// Health of the provider
    ///
    /// For load balancers; needs no credentials.
    #[oai(path = "/healthz", method = "get", operation_id = "getHealth")]
    async fn health(&self, View(snapshot): View) -> Result<Healthy, ApiError<Health>> {
        snapshot.provider.health().await?;
        Ok(Healthy::Ok(PlainText("OK")))
    }
}
