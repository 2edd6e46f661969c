//! Tests against real sockets and processes.

mod watchdog;
