//! What is said about a function's replicas, and what AlertManager says of its
//! load (compatibility.md sections 3.2 and 3.3).

use std::collections::BTreeMap;

use poem_openapi::Object;

use super::wire::{Amount, Timestamp};

/// Alerts, as AlertManager's webhook receiver gets them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Object)]
#[oai(rename = "AlertNotification")]
pub struct AlertNotification {
    /// The alerts; each tells its own status.
    #[oai(default)]
    pub alerts: Vec<Alert>,
}

/// One alert.
#[derive(Debug, Clone, Default, PartialEq, Eq, Object)]
#[oai(rename = "Alert")]
pub struct Alert {
    /// `firing`; every other word means that it has ended.
    #[oai(default)]
    pub status: String,
    /// Its labels; `function_name` is the function, with its namespace after a dot.
    #[oai(default)]
    pub labels: BTreeMap<String, String>,
}

/// Why a function has the replicas that it has.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(rename = "ScalingStatus", rename_all = "camelCase")]
pub struct ScalingStatus {
    /// Name of the function, without its namespace.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Replicas that are meant to run.
    pub replicas: u64,
    /// Replicas that can take calls.
    pub available_replicas: u64,
    /// Fewest replicas while it is in use.
    pub min: u64,
    /// Most replicas.
    pub max: u64,
    /// `load` (replicas follow the load), `static` (they keep to bounds and schedule), `off` (it asks for neither), `disabled` (`scaling.autoscale` is off) or `standby` (another gateway scales).
    pub mode: String,
    /// The gateway that scales, where there are several.
    #[oai(skip_serializing_if_is_none)]
    pub leader: Option<String>,
    /// What its load is: `rps`, `capacity`, `cpu`, `queue`, `static`, or the name of a query.
    pub signal: String,
    /// Load of one replica.
    pub target: Amount,
    /// Share of it that is aimed at, from 0 to 1.
    pub target_proportion: Amount,
    /// The load over the window, of all replicas together; absent when it was not measured.
    #[oai(skip_serializing_if_is_none)]
    pub load: Option<Amount>,
    /// Replicas that this load needs, before bounds and windows.
    #[oai(skip_serializing_if_is_none)]
    pub needed: Option<u64>,
    /// Replicas that were decided for the last time.
    #[oai(skip_serializing_if_is_none)]
    pub desired: Option<u64>,
    /// Why: `load`, `panic`, `down_window`, `min`, `max`, `schedule`, `idle`, `at_zero`, `called`, `static` or `no_signal`.
    #[oai(skip_serializing_if_is_none)]
    pub reason: Option<String>,
    /// Calls under way.
    pub in_flight: u64,
    /// Calls that wait for a replica.
    pub held: u64,
    /// Calls that wait for their turn.
    pub queued: u64,
    /// Seconds since it was used.
    pub idle_seconds: Amount,
    /// Unused for so many seconds it goes to zero; absent when it does not.
    #[oai(skip_serializing_if_is_none)]
    pub zero_after_seconds: Option<Amount>,
    /// Seconds that a number of replicas which was needed holds against a smaller one.
    pub down_window_seconds: Amount,
    /// Seconds over which the load is taken.
    pub stable_window_seconds: Amount,
    /// Seconds over which a sudden rise is taken.
    pub panic_window_seconds: Amount,
    /// When this was looked at; absent before the first time.
    #[oai(skip_serializing_if_is_none)]
    pub decided_at: Option<Timestamp>,
    /// The latest changes, the newest first.
    pub changes: Vec<ScalingChange>,
}

/// A change of replicas, or an attempt.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(rename = "ScalingChange")]
pub struct ScalingChange {
    /// When.
    pub at: Timestamp,
    /// Replicas before, where they were known.
    #[oai(skip_serializing_if_is_none)]
    pub from: Option<u64>,
    /// Replicas from then on.
    pub to: u64,
    /// Why: a reason of the autoscaler, or `activation`, `manual`, `alert` or `outside`.
    pub reason: String,
    /// The load that it was for.
    #[oai(skip_serializing_if_is_none)]
    pub load: Option<Amount>,
    /// What the provider said against it.
    #[oai(skip_serializing_if_is_none)]
    pub error: Option<String>,
}
