//! `/system/alert`: where AlertManager reports load. The route is there so that
//! a receiver learns that this version does not scale by alerts.

use poem::http::StatusCode;
use poem_openapi::OpenApi;

use super::{
    Tag,
    admitted::Admitted,
    error::{ApiError, NotYet},
    payload::Done,
};
use crate::problem::Problem;

pub(super) struct AlertApi;

#[OpenApi(tag = "Tag::System")]
impl AlertApi {
    /// Report alerts
    ///
    /// This version answers 501: replicas are set by hand and from zero only.
    #[oai(path = "/system/alert", method = "post", operation_id = "reportAlerts")]
    #[expect(clippy::unused_async, reason = "poem wants operations to be async")]
    async fn alert(&self, _admitted: Admitted) -> Result<Done, ApiError<NotYet>> {
        let text = "this version does not scale by alerts; use /system/scale-function/{name}";
        Err(Problem::new(StatusCode::NOT_IMPLEMENTED, text).into())
    }
}
