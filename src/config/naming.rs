//! Which table is about a function, and whose limits it shares. Pure.
//!
//! A table and a call name a function with its namespace or without one. Where
//! `provider.default_namespace` is known, both are the same text for the same
//! function. Where it is the provider's own to know, `NAME` and `NAME.SPACE` may
//! be one function, and nobody here can tell. Then they are taken for one, so
//! that no limit and no visibility is got around by the other name; setting the
//! key keeps them apart.

use super::{
    Config,
    calls::{Function, Visibility},
    check::EVERY_FUNCTION,
    setting::Setting,
};
use crate::model::FunctionRef;

/// A table with its name in the file.
type Named<'c> = (&'c str, &'c Function);

impl Config {
    /// The function's own table: the one of its name in either form, else the
    /// first of those that may be about it.
    pub(super) fn own_settings(&self, function: &FunctionRef) -> Option<Named<'_>> {
        self.exact(function).or_else(|| self.possible(function).next())
    }

    /// Whether only the internal listener leads to a function. Of several
    /// tables that may be about it, one that says so is enough.
    pub(super) fn is_internal(&self, function: &FunctionRef) -> bool {
        let every = self.functions.get(EVERY_FUNCTION);
        let is_internal = |table: &Function| {
            let visibility = every.map_or(table.visibility, |every| table.over(every).visibility);
            visibility == Some(Visibility::Internal)
        };
        match (self.exact(function), self.possible(function).next()) {
            (Some((_, table)), _) => is_internal(table),
            (None, Some(_)) => self.possible(function).any(|(_, table)| is_internal(table)),
            (None, None) => every.is_some_and(is_internal),
        }
    }

    /// The name under which a function's limits are kept: the same for all
    /// names that may be one function and have the same table.
    pub fn limited_as(&self, function: &FunctionRef) -> FunctionRef {
        if !self.default_namespace().is_empty() {
            return function.clone();
        }
        self.own_settings(function)
            .and_then(|(name, _)| FunctionRef::parse(name, "").ok())
            .unwrap_or_else(|| FunctionRef::new(&*function.name, ""))
    }

    /// Whether a table or a route names a function of which the limits are kept
    /// as `limits`. There are no more of those than the files have.
    pub fn names(&self, limits: &FunctionRef) -> bool {
        let targets = self.routes.iter().flat_map(|route| {
            let split = route.split.iter().flatten().map(|target| &target.function);
            let mirror = route.mirror.iter().map(|mirror| &mirror.function);
            route.function.iter().chain(split).chain(mirror)
        });
        let is_it = |name: &String| {
            FunctionRef::parse(name, self.default_namespace())
                .is_ok_and(|function| self.limited_as(&function) == *limits)
        };
        self.own_settings(limits).is_some() || targets.into_iter().any(is_it)
    }

    /// The table of this name, in either form.
    fn exact(&self, function: &FunctionRef) -> Option<Named<'_>> {
        if self.functions.is_empty() {
            return None;
        }
        let default = self.default_namespace();
        let in_default = function.namespace.is_empty() || function.namespace == default;
        let namespace = if function.namespace.is_empty() {
            default
        } else {
            &function.namespace
        };
        let short = || in_default.then(|| self.short(function)).flatten();
        let full = || self.functions.get_key_value(&format!("{}.{namespace}", function.name));
        short().or_else(|| full().map(|(name, table)| (name.as_str(), table)))
    }

    /// The table of a name without its namespace.
    fn short(&self, function: &FunctionRef) -> Option<Named<'_>> {
        // A dot in a key begins the namespace, so such a name has no short form.
        let name = Some(&function.name).filter(|name| !name.contains('.'))?;
        let (name, table) = self.functions.get_key_value(name)?;
        Some((name, table))
    }

    /// Tables of the name's other form that may be about the function, in the
    /// order of their names.
    fn possible(&self, function: &FunctionRef) -> impl Iterator<Item = Named<'_>> {
        let unknown = self.default_namespace().is_empty();
        let short = (unknown && !function.namespace.is_empty()).then(|| self.short(function));
        let prefix = format!("{}.", function.name);
        let full = (unknown && function.namespace.is_empty()).then(|| {
            let from = self.functions.range(prefix.clone()..);
            from.take_while(move |(name, _)| name.starts_with(&prefix))
                .filter(|(name, _)| name.matches('.').count() == 1)
                .map(|(name, table)| (name.as_str(), table))
        });
        short.flatten().into_iter().chain(full.into_iter().flatten())
    }
}
