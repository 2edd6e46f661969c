//! Calling functions at their own host, without the provider in between
//! (`direct_functions`; compatibility.md section 2). A service mesh then
//! balances the calls.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use super::super::{ProviderError, Result};
use crate::{
    model::FunctionRef,
    upstream::{Address, Endpoint, PathForm, Pools, Upstream},
};

/// Port of every function.
const PORT: u16 = 8080;

/// Most functions whose connections are kept. Names come from callers, so the
/// number has to have an end.
const MAX_ENDPOINTS: usize = 4096;

/// Where functions are, and the connections to them.
pub(super) struct Direct {
    suffix: String,
    default_namespace: String,
    pools: Pools,
    known: RwLock<HashMap<FunctionRef, Arc<Endpoint>>>,
}

impl Direct {
    pub(super) fn new(suffix: String, default_namespace: String, pools: Pools) -> Self {
        Self {
            suffix,
            default_namespace,
            pools,
            known: RwLock::default(),
        }
    }

    pub(super) fn upstream(&self, function: &FunctionRef) -> Result<Upstream> {
        let known = {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            known.get(function).map(Arc::clone)
        };
        let endpoint = match known {
            Some(endpoint) => endpoint,
            None => self.add(function)?,
        };
        Ok(Upstream {
            endpoint,
            path: PathForm::Trimmed,
        })
    }

    fn add(&self, function: &FunctionRef) -> Result<Arc<Endpoint>> {
        let host = host_for(
            &function.name,
            &function.namespace,
            &self.suffix,
            &self.default_namespace,
        )
        .ok_or_else(|| ProviderError::unknown_function(function))?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_ENDPOINTS {
            // Their idle connections close; a call under way keeps its endpoint.
            known.retain(|_, endpoint| endpoint.in_flight() > 0);
        }
        let create = || {
            self.pools.endpoint(Address::Tcp {
                host,
                port: PORT,
                tls: None,
            })
        };
        if known.len() >= MAX_ENDPOINTS {
            return Ok(create());
        }
        let endpoint = known.entry(function.clone()).or_insert_with(create);
        Ok(Arc::clone(endpoint))
    }
}

impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Direct(*.{}:{PORT})", self.suffix)
    }
}

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
    use crate::upstream::PoolLimits;

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

    #[test]
    fn a_function_keeps_its_connections() {
        let direct = Direct::new("svc.local".to_owned(), String::new(), Pools::new(PoolLimits::default()));
        let figlet = FunctionRef::new("figlet", "");
        let first = direct.upstream(&figlet).expect("a host");
        assert_eq!(first.endpoint.address().to_string(), "http://figlet.svc.local:8080");
        assert_eq!(first.path, PathForm::Trimmed);
        let again = direct.upstream(&figlet).expect("a host");
        assert!(Arc::ptr_eq(&first.endpoint, &again.endpoint));
    }

    #[test]
    fn made_up_names_do_not_fill_memory() {
        let direct = Direct::new("svc.local".to_owned(), String::new(), Pools::new(PoolLimits::default()));
        let busy = direct.upstream(&FunctionRef::new("busy", "")).expect("a host");
        let _call = busy.endpoint.begin();
        for number in 0..=MAX_ENDPOINTS {
            direct
                .upstream(&FunctionRef::new(format!("f{number}"), ""))
                .expect("a host");
        }
        let endpoints = direct.known.read().expect("no panic");
        assert!(endpoints.len() <= MAX_ENDPOINTS);
        assert!(
            endpoints.contains_key(&FunctionRef::new("busy", "")),
            "a call under way keeps its endpoint"
        );
    }
}
