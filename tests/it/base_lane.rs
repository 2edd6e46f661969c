//! The tests of the wire once more, with `server.fast_lane` off: both lanes
//! have to pass the same ones.
//!
//! A gateway knows that it belongs here by the name of its test's thread, which
//! begins with this module's: see [`is_wanted`].

use crate::support::runs_in;

#[path = "aborts.rs"]
mod aborts;
#[path = "access_log.rs"]
mod access_log;
#[path = "bulk.rs"]
mod bulk;
#[path = "connections.rs"]
mod connections;
#[path = "direct.rs"]
mod direct;
#[path = "limits.rs"]
mod limits;
#[path = "messages.rs"]
mod messages;
#[path = "policy.rs"]
mod policy;
#[path = "proxy.rs"]
mod proxy;
#[path = "rfc9112.rs"]
mod rfc9112;
#[path = "routing.rs"]
mod routing;
#[path = "smuggling.rs"]
mod smuggling;
#[path = "streaming.rs"]
mod streaming;
#[path = "timeouts.rs"]
mod timeouts;
#[path = "tls.rs"]
mod tls;
#[path = "traces.rs"]
mod traces;
#[path = "unread.rs"]
mod unread;

/// Whether the test that runs on this thread is one of these.
pub(crate) fn is_wanted() -> bool {
    runs_in(module_path!())
}

#[test]
fn the_tests_here_are_known_by_their_thread() {
    assert!(is_wanted());
}
