//! Tests over the public interface and real sockets.

mod contract;
mod watchdog;
