//! Integration tests: one binary, so that linking happens once.

#![expect(clippy::disallowed_methods, reason = "tasks of tests end with their runtime")]
#![expect(
    clippy::duplicate_mod,
    reason = "both lanes pass the same tests of the wire: see base_lane"
)]

mod support;

mod aborts;
mod access_log;
mod activation;
mod api;
mod async_calls;
mod auth;
mod base_lane;
mod bulk;
mod cli;
mod cli_remote;
mod client;
mod compression;
mod config;
mod config_api;
mod connections;
mod contract;
mod contracts;
mod direct;
mod events;
mod faas_cli;
mod framework;
mod functions;
mod fuzz;
mod h2c;
mod http2;
mod http2_websocket;
mod lanes;
mod lifecycle;
mod limits;
mod live;
mod messages;
mod metrics;
mod mirror;
mod openapi;
mod policy;
mod proxy;
mod queue_in_nats;
mod reload;
mod remote;
mod retries;
mod rfc9112;
mod rfc9113;
mod routing;
mod scaling;
mod smuggling;
mod stores;
mod streaming;
mod timeouts;
mod tls;
mod traces;
mod unread;
mod watchdog;
