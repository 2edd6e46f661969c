//! Integration tests: one binary, so that linking happens once.

mod support;

mod faas_cli;
mod functions;
mod lifecycle;
mod metrics;
mod proxy;
mod remote;
mod streaming;
mod timeouts;
mod watchdog;
