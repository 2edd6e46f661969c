//! What differs between two configurations, and what of it needs a restart.

use faas_gateway::config::{Config, diff, keep_running};

use super::file;

fn config(content: &str) -> Config {
    file(content).unwrap_or_else(|errors| panic!("{errors:?}")).config
}

const NOTHING: &str = "# nothing";

#[test]
fn nothing_changed() {
    let changes = diff(&config(NOTHING), &config("[server]\nread_timeout = 60"));
    assert!(changes.is_empty(), "{changes:?}");
}

#[test]
fn changed_keys() {
    let new = "[server]\nread_timeout = \"5s\"\n[provider]\nurl = \"http://a:b@p/\"\nkind = \"process\"\n\
               [functions.\"a.b\"]\ntimeouts.total = 1";
    let (old, new) = (config(NOTHING), config(new));
    let changes = diff(&old, &new);
    let keys = [
        "server.read_timeout",
        "provider.kind",
        "provider.url",
        "functions.\"a.b\".timeouts.total",
    ];
    assert_eq!(changes.keys, keys);
    assert!(changes.restart.is_empty());
    assert_eq!(diff(&new, &old).keys.len(), 4, "and back");
}

#[test]
fn state_waits_for_a_restart_and_addresses_do_not() {
    let old = config(NOTHING);
    let new = file(
        "[server]\nlisten = \"127.0.0.1:9000\"\nread_timeout = 5\n[metrics]\nlisten = \"127.0.0.1:9001\"\n\
         [provider.process]\nstate_dir = \"/elsewhere\"",
    )
    .expect("valid");
    let (kept, changes) = keep_running(&old, new).expect("allowed");
    assert_eq!(changes.restart, ["provider.process.state_dir"]);
    assert_eq!(changes.keys, ["server.listen", "server.read_timeout", "metrics.listen"]);
    assert_eq!(kept.config.listen().port(), 9000);
    assert_eq!(kept.config.metrics_listen().port(), 9001);
    assert_eq!(kept.config.provider.process.state_dir, old.provider.process.state_dir);

    // Taking it back leaves only what follows from no setting.
    let (back, changes) = keep_running(&kept.config, file(NOTHING).expect("valid")).expect("allowed");
    assert_eq!(changes.restart, ["server.listen", "metrics.listen"]);
    assert_eq!(back.config.listen(), kept.config.listen());
}

#[test]
fn the_role_waits_for_a_restart_and_does_not_go_with_the_embedded_queue() {
    let (running, other) = (
        "[queue]\nkind = \"off\"",
        "[queue]\nkind = \"off\"\n[server]\nrole = \"worker\"",
    );
    let (kept, changes) = keep_running(&config(running), file(other).expect("valid")).expect("allowed");
    assert_eq!(changes.restart, ["server.role"]);
    assert_eq!(kept.config.server.role.as_str(), "all");
    let errors = file("[server]\nrole = \"worker\"").expect_err("one process's own");
    assert_eq!((errors.len(), &*errors[0].key), (1, "server.role"), "{errors:?}");
    assert!(errors[0].message.contains("queue.kind"), "{errors:?}");
}

#[test]
fn the_provider_changes_live_but_not_the_addresses_that_follow_from_it() {
    let new = file("[provider]\nurl = \"http://p/\"").expect("valid");
    let (kept, changes) = keep_running(&config(NOTHING), new).expect("allowed");
    assert_eq!(changes.keys, ["provider.url"]);
    assert_eq!(changes.restart, ["server.listen", "metrics.listen"]);
    assert_eq!(kept.config.listen().to_string(), "127.0.0.1:8080");
    assert_eq!(kept.config.provider_kind().as_str(), "http");
}

#[test]
fn point_15_the_namespace_of_local_functions_waits_for_a_restart() {
    let other = "[provider]\ndefault_namespace = \"other\"\n";
    let (kept, changes) = keep_running(&config(NOTHING), file(other).expect("valid")).expect("allowed");
    assert_eq!(changes.restart, ["provider.default_namespace"]);
    assert_eq!(kept.config.default_namespace(), "openfaas-fn");
    // Another provider knows no better than what it is told.
    for (before, after) in [
        (
            "[provider]\nkind = \"memory\"",
            "[provider]\nkind = \"memory\"\ndefault_namespace = \"other\"",
        ),
        (
            NOTHING,
            "[provider]\nkind = \"memory\"\ndefault_namespace = \"other\"\n[server]\nlisten = \"127.0.0.1:1\"",
        ),
    ] {
        let (kept, changes) = keep_running(&config(before), file(after).expect("valid")).expect("allowed");
        assert!(!changes.restart.contains(&"provider.default_namespace"), "{changes:?}");
        assert_eq!(kept.config.default_namespace(), "other");
    }
}

#[test]
fn the_state_directory_is_free_while_it_is_not_used() {
    let remote = config("[provider]\nurl = \"http://p/\"\n[auth]\nbasic = true");
    let new = file("[provider.process]\nstate_dir = \"/elsewhere\"\n[auth]\nbasic = true").expect("valid");
    let (kept, changes) = keep_running(&remote, new).expect("allowed");
    assert!(!changes.restart.contains(&"provider.process.state_dir"), "{changes:?}");
    assert_eq!(kept.config.provider.process.state_dir, Some("/elsewhere".into()));
}

#[test]
fn a_public_listener_does_not_get_commands_of_this_machine() {
    // Alone this is fine: it would listen on loopback. The running listener is public.
    let remote = config("[provider]\nurl = \"http://p/\"");
    let errors = keep_running(&remote, file(NOTHING).expect("valid")).expect_err("refused");
    assert_eq!(errors.len(), 1);
    let text = errors[0].to_string();
    assert!(
        text.contains("0.0.0.0:8080 can be reached") && text.contains("until a restart"),
        "{text}"
    );
}

#[test]
fn strict_refuses_what_needs_a_restart_with_the_place_of_each_key() {
    let strict = |content: &str| {
        let next = file(&format!("reload.strict = true\n{content}")).expect("valid");
        keep_running(&config(NOTHING), next).map(|(_, changes)| changes)
    };
    let refused = |content: &str| -> Vec<String> {
        let errors = strict(content).expect_err("refused");
        errors
            .iter()
            .map(|error| format!("{}: {}", error.origin, error.key))
            .collect()
    };
    assert_eq!(
        refused("server.read_timeout = 5\nprovider.process.state_dir = \"/elsewhere\""),
        ["gateway.toml:3:18: provider.process.state_dir"]
    );
    assert_eq!(
        refused("[provider]\nurl = \"http://p/\""),
        ["gateway.toml:3:1: server.listen", "gateway.toml:3:1: metrics.listen"],
        "addresses that follow from the provider"
    );
    let changes = strict("server.read_timeout = 5\nserver.listen = \"127.0.0.1:1\"").expect("nothing waits");
    assert_eq!(changes.keys.len(), 3, "{changes:?}");
}

#[test]
fn where_asynchronous_calls_are_kept_waits_for_a_restart() {
    for (before, after, restart) in [
        ("", "kind = \"off\"", &["queue.kind"][..]),
        ("path = \"/a\"", "path = \"/b\"", &["queue.path"]),
        ("", "nats_address = \"nats\"", &["queue.kind"]),
        ("", "kind = \"embedded\"\nnats_address = \"nats\"", &[]),
        (
            "nats_address = \"nats\"",
            "nats_address = \"other\"\nnats_user = \"a\"\nattempts = 3",
            &["queue.nats_address", "queue.nats_user"],
        ),
        (
            "nats_address = \"nats\"",
            "kind = \"embedded\"",
            &["queue.kind", "queue.nats_address"],
        ),
    ] {
        let queue = |text: &str| file(&format!("[queue]\n{text}\n")).expect("valid");
        let running = queue(before).config;
        let (kept, changes) = keep_running(&running, queue(after)).expect("kept");
        assert_eq!(changes.restart, restart, "{before} to {after}");
        assert_eq!(kept.config.queue.kept_by(), running.queue.kept_by());
        assert!(diff(&running, &kept.config).restart.is_empty(), "{before} to {after}");
    }
}
