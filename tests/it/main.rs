//! Tests over the public interface and real sockets.

mod metrics;
mod remote;
mod support;
