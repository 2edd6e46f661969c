//! Which host a function has. Pure.

/// The host of a function, or `None` when it can have none.
///
/// * without a suffix: the name alone, as Docker Swarm resolves it. There are
///   no namespaces then, and a name with a dot, or a number, is refused: it
///   would reach any host that the caller cares to name.
/// * in the default namespace: `name.suffix`, where the suffix names that
///   namespace (`openfaas-fn.svc.cluster.local`).
/// * in another namespace: `name.namespace` and what is left of the suffix
///   without the default namespace it starts with.
pub(super) fn host_for(name: &str, namespace: &str, suffix: &str, default_namespace: &str) -> Option<String> {
    let at_home = namespace.is_empty() || namespace == default_namespace;
    let suffix = suffix.trim_matches('.');
    if suffix.is_empty() {
        let plain = at_home && !name.contains('.') && !is_number(name);
        return plain.then(|| name.to_owned());
    }
    if at_home {
        return Some(format!("{name}.{suffix}"));
    }
    let rest = suffix
        .strip_prefix(default_namespace)
        .filter(|rest| !default_namespace.is_empty() && (rest.is_empty() || rest.starts_with('.')))
        .unwrap_or(suffix)
        .trim_start_matches('.');
    if rest.is_empty() {
        Some(format!("{name}.{namespace}"))
    } else {
        Some(format!("{name}.{namespace}.{rest}"))
    }
}

/// Resolvers take `2130706433` and `0x7f000001` for addresses.
fn is_number(name: &str) -> bool {
    let hexadecimal = name.strip_prefix("0x").or_else(|| name.strip_prefix("0X"));
    match hexadecimal {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => name.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_follow_the_suffix() {
        let kubernetes = "openfaas-fn.svc.cluster.local";
        for (name, namespace, suffix, default, host) in [
            ("figlet", "", "", "", Some("figlet")),
            ("figlet", "fn", "", "fn", Some("figlet")),
            (
                "figlet",
                "",
                kubernetes,
                "",
                Some("figlet.openfaas-fn.svc.cluster.local"),
            ),
            (
                "figlet",
                "openfaas-fn",
                kubernetes,
                "openfaas-fn",
                Some("figlet.openfaas-fn.svc.cluster.local"),
            ),
            (
                "figlet",
                "dev",
                kubernetes,
                "openfaas-fn",
                Some("figlet.dev.svc.cluster.local"),
            ),
            (
                "figlet",
                "dev",
                ".svc.cluster.local",
                "",
                Some("figlet.dev.svc.cluster.local"),
            ),
            ("figlet", "dev", "fn", "fn", Some("figlet.dev")),
            // A default namespace that the suffix merely begins like.
            ("figlet", "dev", "fnord.local", "fn", Some("figlet.dev.fnord.local")),
            // Without a suffix a caller must not choose the host.
            ("169.254.169", "254", "", "", None),
            ("example", "com", "", "", None),
            ("a.b", "", "", "", None),
            ("2130706433", "", "", "", None),
            ("0x7f000001", "", "", "", None),
            ("0x", "", "", "", None),
        ] {
            assert_eq!(
                host_for(name, namespace, suffix, default).as_deref(),
                host,
                "{name} {namespace} {suffix}"
            );
        }
    }
}
