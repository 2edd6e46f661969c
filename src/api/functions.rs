//! `/system/functions` and `/system/function/{name}`: listing, deploying,
//! updating, removing.

use poem_openapi::{
    OpenApi,
    param::{Path, Query},
};

use super::{
    Tag,
    admitted::Admitted,
    changed, counts,
    error::{ApiError, Changing, Listing, Reading},
    parameter::{Flag, Last, NameOrNone, flag, text},
    payload::{Accepted, Json},
    target,
};
use crate::model::{DeleteFunctionRequest, FunctionDeployment, FunctionStatus};

pub(super) struct FunctionsApi;

#[OpenApi(tag = "Tag::Functions")]
impl FunctionsApi {
    /// List functions
    ///
    /// All functions of a namespace with their replicas and invocation counts.
    #[oai(path = "/system/functions", method = "get", operation_id = "listFunctions")]
    async fn list(
        &self,
        Admitted(snapshot): Admitted,
        /// Namespace; the provider's default when absent.
        namespace: Query<Option<Last<NameOrNone>>>,
    ) -> Result<Json<Vec<FunctionStatus>>, ApiError<Listing>> {
        let namespace = target::namespace(&[text(namespace.0).as_deref()])?;
        let mut functions = snapshot.provider.list(&namespace).await?;
        counts::add(&snapshot, &namespace, &mut functions).await;
        Ok(Json(functions))
    }

    /// Deploy a function
    ///
    /// A function of that name is replaced. The answer comes when the provider
    /// has accepted the deployment; its status tells when a replica is ready.
    #[oai(path = "/system/functions", method = "post", operation_id = "deployFunction")]
    async fn deploy(
        &self,
        Admitted(snapshot): Admitted,
        Json(deployment): Json<FunctionDeployment>,
    ) -> Result<Accepted, ApiError<Changing>> {
        let namespace = deployment.namespace.as_deref();
        let default = snapshot.provider.default_namespace();
        let function = target::in_body("service", &deployment.service, &[namespace], default)?;
        snapshot.provider.deploy(deployment).await?;
        changed(&snapshot, &function);
        Ok(Accepted::Accepted)
    }

    /// Update a function
    ///
    /// Replaces an existing function without dropping calls.
    #[oai(path = "/system/functions", method = "put", operation_id = "updateFunction")]
    async fn update(
        &self,
        Admitted(snapshot): Admitted,
        Json(deployment): Json<FunctionDeployment>,
    ) -> Result<Accepted, ApiError<Changing>> {
        let namespace = deployment.namespace.as_deref();
        let default = snapshot.provider.default_namespace();
        let function = target::in_body("service", &deployment.service, &[namespace], default)?;
        snapshot.provider.update(deployment).await?;
        changed(&snapshot, &function);
        Ok(Accepted::Accepted)
    }

    /// Remove a function
    ///
    /// Calls under way are finished.
    #[oai(path = "/system/functions", method = "delete", operation_id = "deleteFunction")]
    async fn delete(
        &self,
        Admitted(snapshot): Admitted,
        /// Namespace, where the body gives none.
        namespace: Query<Option<Last<NameOrNone>>>,
        Json(request): Json<DeleteFunctionRequest>,
    ) -> Result<Accepted, ApiError<Changing>> {
        let namespaces = [
            request.namespace.as_deref(),
            namespace.0.as_ref().map(|last| last.0.as_str()),
        ];
        let default = snapshot.provider.default_namespace();
        let function = target::in_body("functionName", &request.function_name, &namespaces, default)?;
        snapshot.provider.delete(&function).await?;
        changed(&snapshot, &function);
        Ok(Accepted::Accepted)
    }

    /// Status of a function
    ///
    /// With its replicas; invocations are counted in the list only.
    #[oai(path = "/system/function/:name", method = "get", operation_id = "getFunction")]
    async fn status(
        &self,
        Admitted(snapshot): Admitted,
        /// Name of the function, `name` or `name.namespace`.
        name: Path<String>,
        /// Namespace; the provider's default when absent.
        namespace: Query<Option<Last<NameOrNone>>>,
        /// `1` or `true` asks for processor and memory use too.
        usage: Query<Option<Last<Flag>>>,
    ) -> Result<Json<FunctionStatus>, ApiError<Reading>> {
        let default = snapshot.provider.default_namespace();
        let function = target::in_path(&name.0, &[text(namespace.0).as_deref()], default)?;
        let status = snapshot.provider.status(&function, flag(usage.0)).await?;
        Ok(Json(status))
    }
}
