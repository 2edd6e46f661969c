//! What the settings of one function come to.
//!
//! `[functions."*"]` is the base, the function's own table is above it. A key
//! names a function as a URL does: without a namespace it is the function of
//! the default namespace. Pure.

use std::time::Duration;

use super::{Config, check::EVERY_FUNCTION, sections::Function};
use crate::model::FunctionRef;

/// A time bound and the key that sets it, for telling a caller which one fired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// How long.
    pub after: Duration,
    /// The key; the name of the function in it is written `NAME`.
    pub setting: &'static str,
}

/// What applies to the calls of one function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionSettings {
    /// Bound on the function's whole answer.
    pub total: Bound,
}

impl Config {
    /// The settings that apply to a function.
    pub fn function(&self, function: &FunctionRef) -> FunctionSettings {
        let total = |settings: &Function, setting| {
            let after = settings.timeouts.as_ref()?.total?;
            Some(Bound { after, setting })
        };
        let own = || total(self.own_settings(function)?, "functions.\"NAME\".timeouts.total");
        let every = || total(self.functions.get(EVERY_FUNCTION)?, "functions.\"*\".timeouts.total");
        FunctionSettings {
            total: own().or_else(every).unwrap_or(Bound {
                after: self.invoke.upstream_timeout,
                setting: "invoke.upstream_timeout",
            }),
        }
    }

    /// The function's own table, under either form of its name.
    fn own_settings(&self, function: &FunctionRef) -> Option<&Function> {
        if self.functions.is_empty() {
            return None;
        }
        let default_namespace = self.default_namespace();
        let in_default = function.namespace.is_empty() || function.namespace == default_namespace;
        let short = || {
            // A dot in a key begins the namespace, so such a name has no short form.
            (in_default && !function.name.contains('.')).then(|| self.functions.get(&function.name))?
        };
        let namespace = if function.namespace.is_empty() {
            default_namespace
        } else {
            &function.namespace
        };
        let full = || self.functions.get(&format!("{}.{namespace}", function.name));
        short().or_else(full)
    }
}
