//! faas-gateway: an API gateway for serverless functions.
//!
//! Wire-compatible with OpenFaaS, driven by live configuration, with an API
//! contract derived from its typed handlers. ARCHITECTURE.md has the map, the
//! flows and the invariants; modules below are in reading order.

pub mod app;
pub mod cli;

pub mod reload;
pub mod telemetry;

pub mod api;
pub mod snapshot;
pub mod watchdog;

pub mod problem;

pub mod auth;
pub mod provider;

pub mod config;
pub mod metrics;
pub mod model;
pub mod shutdown;
pub mod upstream;
