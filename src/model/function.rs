//! Deployments and the status of deployed functions.

use std::collections::{BTreeMap, HashMap};

use chrono::DateTime;
use poem_openapi::{Object, types::Any};
use serde_json::Value;

use super::{
    name::FunctionRef,
    wire::{Amount, Timestamp},
};

impl FunctionStatus {
    /// The function that this is about.
    pub fn function(&self) -> FunctionRef {
        FunctionRef::new(&*self.name, self.namespace.as_deref().unwrap_or_default())
    }
}

/// A function to deploy or update.
#[derive(Debug, Clone, Default, PartialEq, Object)]
#[oai(rename = "FunctionDeployment", rename_all = "camelCase")]
pub struct FunctionDeployment {
    /// Name of the function, without its namespace.
    pub service: String,
    /// Container image, or a name from the image table of the process provider.
    #[oai(default)]
    pub image: String,
    /// Namespace; the provider's default when absent.
    #[oai(skip_serializing_if_is_none)]
    pub namespace: Option<String>,
    /// Command that the watchdog runs, quoted as in a shell. Overrides the image's.
    #[oai(skip_serializing_if_is_none)]
    pub env_process: Option<String>,
    /// Environment variables.
    #[oai(default, skip_serializing_if_is_none)]
    pub env_vars: Option<BTreeMap<String, String>>,
    /// Placement constraints, passed to providers that place.
    #[oai(default, skip_serializing_if_is_none)]
    pub constraints: Option<Vec<String>>,
    /// Names of secrets the function reads.
    #[oai(default, skip_serializing_if_is_none)]
    pub secrets: Option<Vec<String>>,
    /// Labels: scaling bounds and other settings read by the gateway.
    #[oai(default, skip_serializing_if_is_none)]
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations: free-form, not used for selection.
    #[oai(default, skip_serializing_if_is_none)]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Most a replica may use.
    #[oai(skip_serializing_if_is_none)]
    pub limits: Option<FunctionResources>,
    /// What a replica is promised.
    #[oai(skip_serializing_if_is_none)]
    pub requests: Option<FunctionResources>,
    /// Whether the function's file system is read-only (providers with containers).
    #[oai(default, skip_serializing_if_is_none)]
    pub read_only_root_filesystem: Option<bool>,
    /// Fields this gateway does not know, passed on to the provider unchanged.
    #[oai(flatten)]
    pub other: HashMap<String, Any<Value>>,
}

/// Resource quantities, as Kubernetes writes them (`128Mi`, `100m`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Object)]
#[oai(rename = "FunctionResources", rename_all = "camelCase")]
pub struct FunctionResources {
    /// Memory in bytes, with an optional suffix (`K`, `Ki`, `M`, `Mi`, `G`, `Gi`).
    #[oai(skip_serializing_if_is_none)]
    pub memory: Option<String>,
    /// Processors, in cores or milli-cores (`0.5`, `100m`).
    #[oai(skip_serializing_if_is_none)]
    pub cpu: Option<String>,
    /// Number of NVIDIA GPUs.
    #[oai(rename = "nvidia.com/gpu", skip_serializing_if_is_none)]
    pub nvidia_gpu: Option<String>,
    /// Number of AMD GPUs.
    #[oai(rename = "amd.com/gpu", skip_serializing_if_is_none)]
    pub amd_gpu: Option<String>,
    /// Number of Intel GPUs.
    #[oai(rename = "intel.com/gpu", skip_serializing_if_is_none)]
    pub intel_gpu: Option<String>,
}

/// A deployed function and how it is doing.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(rename = "FunctionStatus", rename_all = "camelCase")]
pub struct FunctionStatus {
    /// Name of the function, without its namespace.
    pub name: String,
    /// Container image, or a name from the image table of the process provider.
    #[oai(default)]
    pub image: String,
    /// Namespace the function lives in.
    #[oai(skip_serializing_if_is_none)]
    pub namespace: Option<String>,
    /// Command that the watchdog runs.
    #[oai(skip_serializing_if_is_none)]
    pub env_process: Option<String>,
    /// Environment variables, where the provider reports them.
    #[oai(default, skip_serializing_if_is_none)]
    pub env_vars: Option<BTreeMap<String, String>>,
    /// Placement constraints.
    #[oai(default, skip_serializing_if_is_none)]
    pub constraints: Option<Vec<String>>,
    /// Names of secrets the function reads.
    #[oai(default, skip_serializing_if_is_none)]
    pub secrets: Option<Vec<String>>,
    /// Labels.
    #[oai(default, skip_serializing_if_is_none)]
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations.
    #[oai(default, skip_serializing_if_is_none)]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Most a replica may use.
    #[oai(skip_serializing_if_is_none)]
    pub limits: Option<FunctionResources>,
    /// What a replica is promised.
    #[oai(skip_serializing_if_is_none)]
    pub requests: Option<FunctionResources>,
    /// Whether the function's file system is read-only.
    #[oai(default, skip_serializing_if_is_none)]
    pub read_only_root_filesystem: Option<bool>,
    /// Completed invocations, from Prometheus or this gateway's counters.
    #[oai(skip_serializing_if_is_none)]
    pub invocation_count: Option<Amount>,
    /// Desired replicas. Absent means zero.
    #[oai(default)]
    pub replicas: u64,
    /// Replicas ready to take calls. Absent means zero.
    #[oai(default)]
    pub available_replicas: u64,
    /// When the function was deployed.
    #[oai(default = "zero_time")]
    pub created_at: Timestamp,
    /// Resources in use, when asked for with `usage=1` and known.
    #[oai(skip_serializing_if_is_none)]
    pub usage: Option<FunctionUsage>,
    /// Fields this gateway does not know, passed on from the provider unchanged.
    #[oai(flatten)]
    pub other: HashMap<String, Any<Value>>,
}

/// Resources used by all replicas of a function.
#[derive(Debug, Clone, Default, PartialEq, Object)]
#[oai(rename = "FunctionUsage", rename_all = "camelCase")]
pub struct FunctionUsage {
    /// Processor use, in milli-cores.
    #[oai(skip_serializing_if_is_none)]
    pub cpu: Option<Amount>,
    /// Resident memory, in bytes.
    #[oai(skip_serializing_if_is_none)]
    pub total_memory_bytes: Option<Amount>,
}

/// Which function to delete.
#[derive(Debug, Clone, Default, PartialEq, Eq, Object)]
#[oai(rename = "DeleteFunctionRequest", rename_all = "camelCase")]
pub struct DeleteFunctionRequest {
    /// Name of the function, without its namespace.
    pub function_name: String,
    /// Namespace; the `namespace` query parameter, then the provider's default, when absent.
    #[oai(skip_serializing_if_is_none)]
    pub namespace: Option<String>,
}

/// How many replicas a function should have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Object)]
#[oai(rename = "ScaleServiceRequest", rename_all = "camelCase")]
pub struct ScaleServiceRequest {
    /// Name of the function; the name in the path when absent.
    #[oai(skip_serializing_if_is_none)]
    pub service_name: Option<String>,
    /// Desired number of replicas; 0 stops the function.
    pub replicas: u64,
    /// Namespace; the `namespace` query parameter, then the provider's default, when absent.
    #[oai(skip_serializing_if_is_none)]
    pub namespace: Option<String>,
}

/// What Go prints for a time that was never set (compatibility.md section 1.8).
fn zero_time() -> Timestamp {
    Timestamp(DateTime::from_timestamp(-62_135_596_800, 0).unwrap_or(DateTime::UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{from_json, to_json};

    #[test]
    fn nulls_and_absent_fields_mean_empty() {
        let deployment: FunctionDeployment =
            from_json(br#"{"service":"a","image":"b","labels":null,"envVars":null,"secrets":null}"#)
                .expect("Go clients send null for empty maps");
        assert_eq!(to_json(&deployment), r#"{"image":"b","service":"a"}"#);
    }

    #[test]
    fn unknown_fields_pass_through() {
        let text = br#"{"service":"a","image":"b","tier":{"gold":1}}"#;
        let deployment: FunctionDeployment = from_json(text).expect("parses");
        assert!(to_json(&deployment).contains(r#""tier":{"gold":1}"#));
    }

    #[test]
    fn a_status_without_times_has_gos_zero_time() {
        let status: FunctionStatus = from_json(br#"{"name":"a","image":"b"}"#).expect("parses");
        assert!(to_json(&status).contains(r#""createdAt":"0001-01-01T00:00:00Z""#));
        assert_eq!(status.replicas, 0);
    }

    #[test]
    fn empty_maps_stay_visible() {
        let text = br#"{"name":"a","image":"b","labels":{},"annotations":{}}"#;
        let status: FunctionStatus = from_json(text).expect("parses");
        let json = to_json(&status);
        assert!(
            json.contains(r#""labels":{}"#) && json.contains(r#""annotations":{}"#),
            "{json}"
        );
    }
}
