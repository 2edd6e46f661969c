//! Integration tests: one binary, so that linking happens once.

#![expect(clippy::disallowed_methods, reason = "tasks of tests end with their runtime")]
#![expect(
    clippy::duplicate_mod,
    reason = "both lanes pass the same tests of the wire: see base_lane"
)]

mod support;

mod activation;
mod api;
mod auth;
mod base_lane;
mod cli;
mod config;
mod config_api;
mod connections;
mod contract;
mod direct;
mod faas_cli;
mod framework;
mod functions;
mod http2;
mod lanes;
mod lifecycle;
mod live;
mod metrics;
mod mirror;
mod openapi;
mod policy;
mod proxy;
mod reload;
mod remote;
mod retries;
mod routing;
mod smuggling;
mod streaming;
mod timeouts;
mod watchdog;
