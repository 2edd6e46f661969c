//! The labels of OpenFaaS that the gateway reads (compatibility.md section 3).

/// Fewest replicas.
pub const SCALE_MIN: &str = "com.openfaas.scale.min";
/// Most replicas.
pub const SCALE_MAX: &str = "com.openfaas.scale.max";
/// Load a replica is meant to take.
pub const SCALE_TARGET: &str = "com.openfaas.scale.target";
/// Which signal the load is.
pub const SCALE_TYPE: &str = "com.openfaas.scale.type";
