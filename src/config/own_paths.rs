//! The gateway's own paths, which only routes with hosts can take. One list for
//! the checks of a configuration and for the way that a request takes. Pure; what
//! is at these paths is [`crate::server`]'s and [`crate::api`]'s.

/// Where load balancers ask whether to send calls here.
pub const HEALTH: &str = "/healthz";

/// Each with everything below it. `/` is not among them: it only leads to the portal.
const TREES: [&str; 9] = [
    "/function",
    "/async-function",
    "/system",
    "/ui",
    "/docs",
    "/openapi",
    "/openapi.json",
    "/openapi.yaml",
    HEALTH,
];

/// The own path that `path` is, or is below, for a gateway at the base path
/// `base` (empty, or like `/faas`).
pub fn of(base: &str, path: &str) -> Option<&'static str> {
    if path == HEALTH {
        // Without the base path too: who asks for it is told nothing but a port.
        return Some(HEALTH);
    }
    let path = below(base, path)?;
    TREES.into_iter().find(|own| {
        path.strip_prefix(own)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// Whether workers serve an own path too: what is about the process, and its API.
pub fn is_of_workers(own: &str) -> bool {
    matches!(own, HEALTH | "/system")
}

/// The part of a path below a base path, where it is there.
pub fn below<'p>(base: &str, path: &'p str) -> Option<&'p str> {
    let rest = path.strip_prefix(base)?;
    match rest.as_bytes().first() {
        Some(b'/') => Some(rest),
        None if !base.is_empty() => Some("/"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_a_base_path() {
        for (base, path, rest) in [
            ("", "/a", Some("/a")),
            ("", "*", None),
            ("/faas", "/faas/a", Some("/a")),
            ("/faas", "/faas", Some("/")),
            ("/faas", "/faasx", None),
            ("/faas", "/a", None),
        ] {
            assert_eq!(below(base, path), rest, "{base} {path}");
        }
    }
}
