//! `/system/scale-function/{name}` and `/system/scaling/{name}`: how many replicas
//! a function has, and why.

use std::time::Duration;

use chrono::Utc;
use poem::http::StatusCode;
use poem_openapi::{
    OpenApi,
    param::{Path, Query},
};

use super::{
    Tag,
    admitted::Admitted,
    changed,
    error::{ApiError, Changing, Reading},
    parameter::{Last, NameOrNone, text},
    payload::{Accepted, Json},
    target,
};
use crate::{
    model::{Amount, FunctionRef, FunctionStatus, ScaleServiceRequest, ScalingChange, ScalingStatus, Timestamp},
    problem::Problem,
    scaling::{
        autoscaler::Mode,
        bounds::Bounds,
        journal::{Cause, Change},
        rules::{self, Above},
    },
    snapshot::Snapshot,
};

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
        namespace: Query<Option<Last<NameOrNone>>>,
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
        let (from, replicas) = if request.replicas == 0 {
            // Stopping needs no look at the function.
            (None, 0)
        } else {
            let status = snapshot.provider.status(&function, false).await?;
            let bounds = Bounds::from_labels(status.labels.as_ref());
            (Some(status.replicas), bounds.clamp(request.replicas))
        };
        snapshot.provider.scale(&function, replicas).await?;
        changed(&snapshot, &function);
        let seen = || snapshot.autoscaler.desired(&function);
        let from = from.or_else(seen);
        if from != Some(replicas) {
            let change = Change {
                at: Utc::now(),
                from,
                to: replicas,
                cause: Cause::Manual,
                load: None,
                error: None,
            };
            snapshot.autoscaler.journal().note(&function, &change);
        }
        Ok(Accepted::Accepted)
    }

    /// Explain a function's replicas
    ///
    /// Bounds, load and windows as the autoscaler sees them, what it decided
    /// last, and the latest changes with their reasons.
    #[oai(path = "/system/scaling/:name", method = "get", operation_id = "explainScaling")]
    async fn explain(
        &self,
        Admitted(snapshot): Admitted,
        /// Name of the function, `name` or `name.namespace`.
        name: Path<String>,
        /// Namespace; the provider's default when absent.
        namespace: Query<Option<Last<NameOrNone>>>,
    ) -> Result<Json<ScalingStatus>, ApiError<Reading>> {
        let default = snapshot.provider.default_namespace();
        let function = target::in_path(&name.0, &[text(namespace.0).as_deref()], default)?;
        let status = snapshot.provider.status(&function, false).await?;
        Ok(Json(explained(&snapshot, &function, &status)))
    }
}

fn explained(snapshot: &Snapshot, function: &FunctionRef, status: &FunctionStatus) -> ScalingStatus {
    let look = snapshot.autoscaler.look(function);
    let rules = look.as_ref().map_or_else(
        || {
            let above = Above::new(&snapshot.config, function, Utc::now());
            rules::of(status.labels.as_ref(), &above, &snapshot.config.scaling)
        },
        |look| look.rules.clone(),
    );
    let decision = look.as_ref().and_then(|look| look.decision);
    let seconds = |time: Duration| Amount(time.as_secs_f64());
    let mode = look.as_ref().map_or(Mode::Off, |look| look.mode);
    let changes = snapshot.autoscaler.journal().changes(function);
    ScalingStatus {
        name: function.name.clone(),
        namespace: status.namespace.clone().unwrap_or_else(|| function.namespace.clone()),
        replicas: status.replicas,
        available_replicas: status.available_replicas,
        min: rules.rules.min,
        max: rules.rules.max,
        mode: mode.as_str().to_owned(),
        leader: snapshot.lease.holder(),
        signal: rules.rules.signal.as_str().to_owned(),
        target: Amount(rules.target),
        target_proportion: Amount(rules.proportion),
        load: decision.and_then(|decision| decision.load).map(Amount),
        needed: decision.map(|decision| decision.needed),
        desired: decision.map(|decision| decision.replicas),
        reason: decision.map(|decision| decision.reason.as_str().to_owned()),
        in_flight: look.as_ref().map_or(0, |look| look.in_flight),
        held: look.as_ref().map_or(0, |look| look.held),
        queued: look.as_ref().map_or(0, |look| look.queued),
        idle_seconds: seconds(look.as_ref().map_or(Duration::ZERO, |look| look.idle)),
        zero_after_seconds: rules.rules.idle_after.map(seconds),
        down_window_seconds: seconds(rules.rules.down_window),
        stable_window_seconds: seconds(rules.rules.stable_window),
        panic_window_seconds: seconds(rules.rules.panic_window),
        decided_at: look.map(|look| Timestamp(look.at)),
        changes: changes.into_iter().map(ScalingChange::from).collect(),
    }
}
