//! faas-gateway: an API gateway for serverless functions.
//!
//! Wire-compatible with OpenFaaS, driven by live configuration, with an API
//! contract derived from its typed handlers. ARCHITECTURE.md has the map, the
//! flows and the invariants; modules below are in reading order.

pub mod app;
pub mod cli;

pub mod reload;

pub mod api;
pub mod server;

pub mod snapshot;

pub mod problem;
pub mod scaling;

pub mod auth;
pub mod client;
pub mod contracts;
pub mod policy;
pub mod provider;
pub mod proxy;
pub mod routing;
pub mod stores;
pub mod watchdog;

pub mod config;
pub mod events;
pub mod metrics;
pub mod model;
pub mod nats;
pub mod queue;
pub mod shutdown;
pub mod state;
pub mod systemd;
pub mod telemetry;
pub mod tls;
pub mod trace;
pub mod upstream;
