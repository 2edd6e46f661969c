//! Integration tests: one binary, so that linking happens once.

mod support;

mod cli;
mod config;
mod faas_cli;
mod functions;
mod lifecycle;
mod metrics;
mod proxy;
mod remote;
mod streaming;
mod timeouts;
mod watchdog;
