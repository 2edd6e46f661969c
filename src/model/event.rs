//! What `/system/events` says. Not OpenFaaS's.
//!
//! Every event is one of these on one line, under a name of its own.

use std::collections::BTreeMap;

use poem_openapi::Object;

use super::{
    config::ConfigStatus,
    function::FunctionStatus,
    scaling::ScalingChange,
    wire::{Amount, Timestamp},
};

/// `reset`: what the reader knows is to be forgotten; a `snapshot` follows.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(rename = "ResetEvent")]
pub struct ResetEvent {
    /// When.
    pub time: Timestamp,
    /// Why: `connected`, `too_old` or `unknown_id`.
    pub reason: String,
}

/// `snapshot`: everything as it is now.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(rename = "SnapshotEvent")]
pub struct SnapshotEvent {
    /// When.
    pub time: Timestamp,
    /// All functions, by namespace and name.
    pub functions: Vec<FunctionStatus>,
    /// Which configuration is live.
    pub configuration: ConfigStatus,
}

/// `function`: one came, went or is not what it was.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(rename = "FunctionEvent")]
pub struct FunctionEvent {
    /// When it was noticed.
    pub time: Timestamp,
    /// `added`, `updated` or `removed`.
    pub action: String,
    /// Name of the function, without its namespace.
    pub name: String,
    /// Its namespace; empty where the provider has none.
    pub namespace: String,
    /// The function; absent when it was removed.
    #[oai(skip_serializing_if_is_none)]
    pub function: Option<FunctionStatus>,
}

/// `replicas`: a function has, or should have, another number of them.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(rename = "ReplicasEvent", rename_all = "camelCase")]
pub struct ReplicasEvent {
    /// When it was noticed.
    pub time: Timestamp,
    /// Name of the function, without its namespace.
    pub name: String,
    /// Its namespace; empty where the provider has none.
    pub namespace: String,
    /// Replicas that are meant to run.
    pub replicas: u64,
    /// Replicas that can take calls.
    pub available_replicas: u64,
}

/// `load`: what functions are called.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(rename = "LoadEvent")]
pub struct LoadEvent {
    /// When it was measured.
    pub time: Timestamp,
    /// Functions that were called since the gateway started.
    pub functions: Vec<FunctionLoad>,
}

/// What one function is called.
#[derive(Debug, Clone, Default, PartialEq, Object)]
#[oai(rename = "FunctionLoad", rename_all = "camelCase")]
pub struct FunctionLoad {
    /// Name of the function, without its namespace.
    pub name: String,
    /// Its namespace; empty where the provider has none.
    pub namespace: String,
    /// Calls under way.
    pub in_flight: u64,
    /// Calls that have ended, in all.
    pub calls: u64,
    /// Those of them that were answered with 5xx.
    pub errors: u64,
    /// Calls that ended since the last event, per second.
    pub rate: Amount,
    /// Those of them that were answered with 5xx, per second.
    pub error_rate: Amount,
    /// Seconds that half of them took no longer than; absent without any.
    #[oai(skip_serializing_if_is_none)]
    pub p50: Option<Amount>,
    /// Seconds that 95 in 100 of them took no longer than.
    #[oai(skip_serializing_if_is_none)]
    pub p95: Option<Amount>,
    /// Seconds that 99 in 100 of them took no longer than.
    #[oai(skip_serializing_if_is_none)]
    pub p99: Option<Amount>,
}

/// `scaling`: a function was scaled, or was to be.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(rename = "ScalingEvent")]
pub struct ScalingEvent {
    /// When.
    pub time: Timestamp,
    /// Name of the function, without its namespace.
    pub name: String,
    /// Its namespace; empty where the provider has none.
    pub namespace: String,
    /// The change, as `/system/scaling/{name}` lists it.
    #[oai(flatten)]
    pub change: ScalingChange,
}

/// `async`: an asynchronous call got into another state, or many did.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(rename = "AsyncEvent")]
pub struct AsyncEvent {
    /// When; of many, when the last of them did.
    pub time: Timestamp,
    /// The call's id.
    #[oai(skip_serializing_if_is_none)]
    pub id: Option<String>,
    /// Name of its function, without the namespace.
    #[oai(skip_serializing_if_is_none)]
    pub name: Option<String>,
    /// The function's namespace.
    #[oai(skip_serializing_if_is_none)]
    pub namespace: Option<String>,
    /// The state that it is in now.
    #[oai(skip_serializing_if_is_none)]
    pub state: Option<String>,
    /// How often it was tried, the try under way included.
    #[oai(skip_serializing_if_is_none)]
    pub attempts: Option<u32>,
    /// In place of all that: how many calls got into each state, since the last such event.
    #[oai(skip_serializing_if_is_none)]
    pub counts: Option<BTreeMap<String, u64>>,
}

/// `configuration`: it was read again.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(rename = "ConfigurationEvent")]
pub struct ConfigurationEvent {
    /// When that was told.
    pub time: Timestamp,
    /// Which one is live now, and what became of the attempt.
    #[oai(flatten)]
    pub status: ConfigStatus,
}
