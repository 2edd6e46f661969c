//! Which of the tables about a function sets a key: the route's, the function's
//! own, or that of all functions. Callers are told the key that fired, so that
//! the operator finds it. Pure; what the values mean is [`super::function`]'s.

use super::{calls::Function, setting::Setting};

/// How near to the call a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Route,
    Own,
    Every,
}

/// A key as it is told to callers; the name of the function in it is written `NAME`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) route: &'static str,
    pub(super) own: &'static str,
    pub(super) every: &'static str,
}

/// The [`Key`] of a dotted name, in each table.
macro_rules! key {
    ($name:literal) => {
        $crate::config::level::Key {
            route: concat!("routes.", $name),
            own: concat!("functions.\"NAME\".", $name),
            every: concat!("functions.\"*\".", $name),
        }
    };
}

pub(super) use key;

impl Key {
    /// The key in a table.
    pub(super) fn at(self, level: Level) -> &'static str {
        match level {
            Level::Route => self.route,
            Level::Own => self.own,
            Level::Every => self.every,
        }
    }
}

/// The tables that speak about a function, the strongest first.
pub(super) struct Tables<'c> {
    pub(super) route: Option<Function>,
    pub(super) own: Option<&'c Function>,
    pub(super) every: Option<&'c Function>,
}

impl Tables<'_> {
    fn in_order(&self) -> impl Iterator<Item = (&Function, Level)> {
        let all = [
            (self.route.as_ref(), Level::Route),
            (self.own, Level::Own),
            (self.every, Level::Every),
        ];
        all.into_iter().filter_map(|(table, level)| Some((table?, level)))
    }

    /// A value and the table that has it.
    pub(super) fn find<T>(&self, get: impl Fn(&Function) -> Option<T>) -> Option<(T, Level)> {
        self.in_order().find_map(|(table, level)| Some((get(table)?, level)))
    }

    /// All of them in one, key by key.
    pub(super) fn merged(&self) -> Option<Function> {
        let mut tables = self.in_order().map(|(table, _)| table);
        let strongest = tables.next()?.clone();
        Some(tables.fold(strongest, |above, beneath| above.over(beneath)))
    }
}
