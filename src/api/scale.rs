//! `/system/scale-function/{name}`: how many replicas a function has.

use poem::http::StatusCode;
use poem_openapi::{
    OpenApi,
    param::{Path, Query},
};

use super::{
    Tag,
    admitted::Admitted,
    changed,
    error::{ApiError, Changing},
    parameter::{Last, Text},
    payload::{Accepted, Json},
    target,
};
use crate::{model::ScaleServiceRequest, problem::Problem, scaling::bounds::Bounds};

pub(super) struct ScaleApi;

#[OpenApi(tag = "Tag::Functions")]
impl ScaleApi {
    /// Scale a function
    ///
    /// Sets the number of replicas; 0 stops the function. Only the function's
    /// own label `com.openfaas.scale.max` bounds it.
    #[oai(
        path = "/system/scale-function/:name",
        method = "post",
        operation_id = "scaleFunction"
    )]
    async fn scale(
        &self,
        Admitted(snapshot): Admitted,
        /// Name of the function, `name` or `name.namespace`.
        name: Path<String>,
        /// Namespace, where the body gives none.
        namespace: Query<Option<Last<Text>>>,
        Json(request): Json<ScaleServiceRequest>,
    ) -> Result<Accepted, ApiError<Changing>> {
        let namespaces = [
            request.namespace.as_deref(),
            namespace.0.as_ref().map(|last| last.0.as_str()),
        ];
        let function = target::in_path(&name.0, &namespaces, snapshot.provider.default_namespace())?;
        // The path may carry the namespace where the field does not, or the other way round.
        if let Some(other) = request.service_name.as_deref().filter(|other| !other.is_empty())
            && ![&*name.0, &*function.name, &*function.to_string()].contains(&other)
        {
            let text = format!("field `serviceName` is '{other}', but the path says '{}'", name.0);
            return Err(Problem::new(StatusCode::BAD_REQUEST, text).into());
        }
        let replicas = if request.replicas == 0 {
            0
        } else {
            let status = snapshot.provider.status(&function, false).await?;
            Bounds::from_labels(status.labels.as_ref()).clamp(request.replicas)
        };
        snapshot.provider.scale(&function, replicas).await?;
        changed(&snapshot, &function);
        Ok(Accepted::Accepted)
    }
}
