//! `[server] role`: several processes that share the work.

use super::Found;
use crate::config::{Config, QueueKind, role::Role, sections::Leader};

/// Checks `server.role`.
pub(super) fn check(config: &Config, found: &mut Found) {
    let role = config.server.role;
    if role == Role::All {
        return;
    }
    if config.queue.kept_by() == QueueKind::Embedded {
        found.error(
            &["server.role", "queue.kind"],
            format!(
                "is \"{}\", but queue.kind is \"embedded\": that queue is one process's own; use a queue that several \
                 share, or role = \"all\"",
                role.as_str()
            ),
        );
    }
    if config.scaling.autoscale && config.scaling.leader == Leader::Always {
        found.warn(format!(
            "server.role is \"{}\" and scaling.leader is \"always\": each process scales by what it sees itself; set \
             scaling.leader, or turn scaling.autoscale off in all but one",
            role.as_str()
        ));
    }
}
