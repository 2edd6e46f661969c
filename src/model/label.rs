//! The labels of OpenFaaS that the gateway reads (compatibility.md section 3).

/// Fewest replicas.
pub const SCALE_MIN: &str = "com.openfaas.scale.min";
/// Most replicas.
pub const SCALE_MAX: &str = "com.openfaas.scale.max";
/// Share of the most replicas that one alert adds, in percent.
pub const SCALE_FACTOR: &str = "com.openfaas.scale.factor";
/// Share of the target that is aimed at.
pub const SCALE_PROPORTION: &str = "com.openfaas.scale.target-proportion";
/// Whether the function goes to zero.
pub const SCALE_ZERO: &str = "com.openfaas.scale.zero";
/// How long it is unused before that.
pub const SCALE_ZERO_DURATION: &str = "com.openfaas.scale.zero-duration";
/// How long a number of replicas that was needed holds against a smaller one.
pub const SCALE_DOWN_WINDOW: &str = "com.openfaas.scale.down.window";
/// Load a replica is meant to take.
pub const SCALE_TARGET: &str = "com.openfaas.scale.target";
/// Which signal the load is.
pub const SCALE_TYPE: &str = "com.openfaas.scale.type";
