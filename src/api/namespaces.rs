//! `/system/namespaces` and `/system/namespace/{name}`.
//!
//! Creating goes to `/system/namespace/`, with the name in the body only.
//! poem drops trailing slashes from paths; [`super::routes`] puts this one back.

use poem::http::StatusCode;
use poem_openapi::{OpenApi, param::Path};

use super::{
    Tag,
    admitted::Admitted,
    error::{ApiError, Changing, Listing, Reading},
    payload::{Accepted, Created, Json},
    target,
};
use crate::{model::FunctionNamespace, problem::Problem};

pub(super) struct NamespacesApi;

#[OpenApi(tag = "Tag::Namespaces")]
impl NamespacesApi {
    /// List namespaces
    ///
    /// Their names, the default one included.
    #[oai(path = "/system/namespaces", method = "get", operation_id = "listNamespaces")]
    async fn list(&self, Admitted(snapshot): Admitted) -> Result<Json<Vec<String>>, ApiError<Listing>> {
        Ok(Json(snapshot.provider.list_namespaces().await?))
    }

    /// Create a namespace
    ///
    /// Its name is in the body.
    #[oai(path = "/system/namespace/", method = "post", operation_id = "createNamespace")]
    async fn create(
        &self,
        Admitted(snapshot): Admitted,
        Json(namespace): Json<FunctionNamespace>,
    ) -> Result<Created, ApiError<Changing>> {
        if namespace.name.is_empty() {
            return Err(Problem::new(StatusCode::BAD_REQUEST, "missing field `name`").into());
        }
        target::namespace(&[Some(&namespace.name)])?;
        snapshot.provider.create_namespace(namespace).await?;
        Ok(Created::Created)
    }

    /// Create a namespace by its path
    ///
    /// The body, with labels and annotations, may be absent.
    #[oai(
        path = "/system/namespace/:name",
        method = "post",
        operation_id = "createNamedNamespace"
    )]
    async fn create_named(
        &self,
        Admitted(snapshot): Admitted,
        /// Name of the namespace.
        name: Path<String>,
        Json(namespace): Json<Option<FunctionNamespace>>,
    ) -> Result<Created, ApiError<Changing>> {
        let namespace = named(name.0, namespace)?;
        snapshot.provider.create_namespace(namespace).await?;
        Ok(Created::Created)
    }

    /// One namespace
    ///
    /// With its labels and annotations.
    #[oai(path = "/system/namespace/:name", method = "get", operation_id = "getNamespace")]
    async fn get(
        &self,
        Admitted(snapshot): Admitted,
        /// Name of the namespace.
        name: Path<String>,
    ) -> Result<Json<FunctionNamespace>, ApiError<Reading>> {
        let name = named(name.0, None)?.name;
        Ok(Json(snapshot.provider.namespace(&name).await?))
    }

    /// Replace a namespace's labels and annotations
    ///
    /// Those that the body does not name are gone.
    #[oai(path = "/system/namespace/:name", method = "put", operation_id = "updateNamespace")]
    async fn update(
        &self,
        Admitted(snapshot): Admitted,
        /// Name of the namespace.
        name: Path<String>,
        Json(namespace): Json<FunctionNamespace>,
    ) -> Result<Accepted, ApiError<Changing>> {
        let namespace = named(name.0, Some(namespace))?;
        snapshot.provider.update_namespace(namespace).await?;
        Ok(Accepted::Accepted)
    }

    /// Remove a namespace
    ///
    /// Functions and secrets in it go too. Clients send the name in the body
    /// as well; it may be absent.
    #[oai(
        path = "/system/namespace/:name",
        method = "delete",
        operation_id = "deleteNamespace"
    )]
    async fn delete(
        &self,
        Admitted(snapshot): Admitted,
        /// Name of the namespace.
        name: Path<String>,
        Json(namespace): Json<Option<FunctionNamespace>>,
    ) -> Result<Accepted, ApiError<Changing>> {
        let name = named(name.0, namespace)?.name;
        snapshot.provider.delete_namespace(&name).await?;
        Ok(Accepted::Accepted)
    }
}

/// The namespace of the path, with what the body says about it.
fn named(path: String, body: Option<FunctionNamespace>) -> Result<FunctionNamespace, Problem> {
    target::namespace(&[Some(&path)]).map_err(|problem| Problem::new(StatusCode::NOT_FOUND, problem.detail))?;
    let mut namespace = body.unwrap_or_default();
    if !namespace.name.is_empty() && namespace.name != path {
        let text = format!("field `name` is '{}', but the path says '{path}'", namespace.name);
        return Err(Problem::new(StatusCode::BAD_REQUEST, text));
    }
    namespace.name = path;
    Ok(namespace)
}
