//! `/system/alert`: AlertManager's webhook, as OpenFaaS has it
//! (compatibility.md section 3.2). What an alert comes to is
//! [`crate::scaling::alert`]'s matter.

use chrono::Utc;
use poem::http::StatusCode;
use poem_openapi::OpenApi;

use super::{
    Tag,
    admitted::Admitted,
    changed,
    error::{Alerting, ApiError},
    payload::{Done, Json},
};
use crate::{
    metrics::FUNCTION_NAME,
    model::{Alert, AlertNotification, FunctionRef},
    problem::Problem,
    provider::ProviderError,
    scaling::{
        alert::{Status, replicas},
        journal::{Cause, Change},
    },
    snapshot::Snapshot,
};

pub(super) struct AlertApi;

#[OpenApi(tag = "Tag::System")]
impl AlertApi {
    /// Report alerts
    ///
    /// For AlertManager's webhook receiver. An alert that fires adds a share of
    /// the most replicas (`com.openfaas.scale.factor`, in percent; 0 turns this
    /// off for a function), one that ends leaves the fewest. Alerts without
    /// `function_name`, or for a function that is not there, are passed over.
    #[oai(path = "/system/alert", method = "post", operation_id = "reportAlerts")]
    async fn alert(
        &self,
        Admitted(snapshot): Admitted,
        Json(notification): Json<AlertNotification>,
    ) -> Result<Done, ApiError<Alerting>> {
        let mut failed = Vec::new();
        for (index, alert) in notification.alerts.iter().enumerate() {
            if let Err(error) = obey(&snapshot, alert).await {
                failed.push(format!("[{index}] {error}"));
            }
        }
        if failed.is_empty() {
            Ok(Done::Done)
        } else {
            Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, failed.join("\n")).into())
        }
    }
}

async fn obey(snapshot: &Snapshot, alert: &Alert) -> Result<(), ProviderError> {
    let name = alert.labels.get(FUNCTION_NAME).map_or("", String::as_str);
    let Ok(function) = FunctionRef::parse(name, snapshot.provider.default_namespace()) else {
        tracing::debug!(name, "alert without a function");
        return Ok(());
    };
    let status = match snapshot.provider.status(&function, false).await {
        Ok(status) => status,
        Err(error) => {
            tracing::debug!(%function, %error, "alert for a function that cannot be looked at");
            return Ok(());
        }
    };
    let from = status.replicas;
    let to = match replicas(Status::of(&alert.status), from, status.labels.as_ref()) {
        Some(to) if to != from => to,
        _ => return Ok(()),
    };
    let done = snapshot.provider.scale(&function, to).await;
    changed(snapshot, &function);
    let change = Change {
        at: Utc::now(),
        from: Some(from),
        to,
        cause: Cause::Alert,
        load: None,
        error: done.as_ref().err().map(ToString::to_string),
    };
    snapshot.autoscaler.journal().note(&function, &change);
    done
}
