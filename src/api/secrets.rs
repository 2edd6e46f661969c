//! `/system/secrets`: values go in, only names come out.

use poem::http::StatusCode;
use poem_openapi::{OpenApi, param::Query};

use super::{
    Tag,
    admitted::Admitted,
    error::{ApiError, Changing, Listing},
    parameter::{Last, NameOrNone, text},
    payload::{Accepted, Created, Json},
    target,
};
use crate::{model::Secret, problem::Problem};

pub(super) struct SecretsApi;

#[OpenApi(tag = "Tag::Secrets")]
impl SecretsApi {
    /// List secrets
    ///
    /// Names and namespaces; values are never returned.
    #[oai(path = "/system/secrets", method = "get", operation_id = "listSecrets")]
    async fn list(
        &self,
        Admitted(snapshot): Admitted,
        /// Namespace; the provider's default when absent.
        namespace: Query<Option<Last<NameOrNone>>>,
    ) -> Result<Json<Vec<Secret>>, ApiError<Listing>> {
        let namespace = target::namespace(&[text(namespace.0).as_deref()])?;
        let secrets = snapshot.provider.list_secrets(&namespace).await?;
        let names = secrets
            .into_iter()
            .map(|secret| Secret::named(secret.name, secret.namespace.unwrap_or_default()));
        Ok(Json(names.collect()))
    }

    /// Create a secret
    ///
    /// The namespace must exist, the secret must not.
    #[oai(path = "/system/secrets", method = "post", operation_id = "createSecret")]
    async fn create(
        &self,
        Admitted(snapshot): Admitted,
        /// Namespace, where the body gives none.
        namespace: Query<Option<Last<NameOrNone>>>,
        Json(secret): Json<Secret>,
    ) -> Result<Created, ApiError<Changing>> {
        let secret = complete(secret, text(namespace.0).as_deref())?;
        snapshot.provider.create_secret(secret).await?;
        Ok(Created::Created)
    }

    /// Replace a secret
    ///
    /// Functions read the new value when they are next started.
    #[oai(path = "/system/secrets", method = "put", operation_id = "updateSecret")]
    async fn update(
        &self,
        Admitted(snapshot): Admitted,
        /// Namespace, where the body gives none.
        namespace: Query<Option<Last<NameOrNone>>>,
        Json(secret): Json<Secret>,
    ) -> Result<Accepted, ApiError<Changing>> {
        let secret = complete(secret, text(namespace.0).as_deref())?;
        snapshot.provider.update_secret(secret).await?;
        Ok(Accepted::Accepted)
    }

    /// Remove a secret
    ///
    /// Providers that look refuse with 409 while a function names it.
    #[oai(path = "/system/secrets", method = "delete", operation_id = "deleteSecret")]
    async fn delete(
        &self,
        Admitted(snapshot): Admitted,
        /// Namespace, where the body gives none.
        namespace: Query<Option<Last<NameOrNone>>>,
        Json(secret): Json<Secret>,
    ) -> Result<Accepted, ApiError<Changing>> {
        let secret = complete(secret, text(namespace.0).as_deref())?;
        let namespace = secret.namespace.as_deref().unwrap_or_default();
        snapshot.provider.delete_secret(&secret.name, namespace).await?;
        Ok(Accepted::Accepted)
    }
}

/// The secret with the namespace that the request means.
fn complete(mut secret: Secret, query: Option<&str>) -> Result<Secret, Problem> {
    if secret.name.is_empty() {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "field `name` is empty"));
    }
    let namespace = target::namespace(&[secret.namespace.as_deref(), query])?;
    secret.namespace = Some(namespace).filter(|namespace| !namespace.is_empty());
    Ok(secret)
}
