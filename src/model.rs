//! The OpenFaaS wire types and the names they are keyed by, and nothing else.
//!
//! Every type here is what clients and providers exchange as JSON
//! (compatibility.md section 1.8). The JSON mapping is derived once, by
//! poem-openapi, and used for the API, for the provider client and for files
//! in the state directory, so a field cannot be spelled two ways.
//!
//! No I/O, no clock, no knowledge of who stores or serves these values.

mod async_call;
mod config;
mod event;
mod function;
mod json;
pub mod label;
mod log;
mod name;
mod scaling;
mod secret;
mod store;
mod system;
mod wire;

pub use async_call::{AsyncAttempt, AsyncCall, AsyncCalls, AsyncCount, AsyncDone, AsyncResult, AsyncStatus};
pub use config::{
    ConfigActor, ConfigAttempt, ConfigCandidate, ConfigCandidateFile, ConfigChange, ConfigCheck, ConfigDiff,
    ConfigEvent, ConfigFileChange, ConfigLayer, ConfigReload, ConfigShadow, ConfigSource, ConfigStatus, ConfigValue,
    Configuration,
};
pub use event::{
    AsyncEvent, ConfigurationEvent, FunctionEvent, FunctionLoad, LoadEvent, ReplicasEvent, ResetEvent, ScalingEvent,
    SnapshotEvent,
};
pub use function::{
    DeleteFunctionRequest, FunctionDeployment, FunctionResources, FunctionStatus, FunctionUsage, ScaleServiceRequest,
};
pub use json::{FromWire, PROBLEM_JSON, from_json, from_value, to_json};
pub use log::{LogMessage, LogQuery};
pub use name::{FunctionRef, NameError};
pub use scaling::{Alert, AlertNotification, ScalingChange, ScalingStatus};
pub use secret::Secret;
pub use store::{LOCAL_IMAGE, Store, StoreFunction, StoreRefusal, StoreSource};
pub use system::{FunctionNamespace, GatewayInfo, ProviderInfo, VersionInfo};
pub use wire::{Amount, Timestamp};
