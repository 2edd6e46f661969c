//! The functions as they were seen last, and what is new about them. Pure.
//!
//! Two look at them: lists of all functions, read every few seconds, and looks at
//! one function right after it was changed. A list may have been on its way when
//! the change was made, so of functions that were touched meanwhile it says nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::model::{FunctionRef, FunctionStatus};

/// When a list began to be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u64);

/// What is new about a function.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum News {
    /// It was not there before.
    Added(FunctionStatus),
    /// Something other than its replicas.
    Updated(FunctionStatus),
    /// It is gone.
    Removed(FunctionRef),
    /// The number of its replicas only.
    Replicas(FunctionStatus),
}

/// All functions, as they were seen last.
#[derive(Debug, Default)]
pub(super) struct Known {
    functions: BTreeMap<(String, String), FunctionStatus>,
    version: Version,
    touched: HashMap<FunctionRef, Version>,
    /// Touched, and not looked at since.
    unseen: BTreeSet<FunctionRef>,
}

/// By namespace first.
fn key(function: &FunctionRef) -> (String, String) {
    (function.namespace.clone(), function.name.clone())
}

impl Known {
    /// All of them, by namespace and name.
    pub(super) fn functions(&self) -> impl Iterator<Item = &FunctionStatus> {
        self.functions.values()
    }

    /// To be taken before a list is read.
    pub(super) fn version(&self) -> Version {
        self.version
    }

    /// A function was changed, and should be looked at.
    pub(super) fn touch(&mut self, function: &FunctionRef) {
        self.version.0 += 1;
        self.touched.insert(function.clone(), self.version);
        self.unseen.insert(function.clone());
    }

    /// The functions that should be looked at; they count as looked at from now on.
    pub(super) fn take_touched(&mut self) -> BTreeSet<FunctionRef> {
        std::mem::take(&mut self.unseen)
    }

    /// Takes a look at one function; `None` says that there is none.
    pub(super) fn look(&mut self, function: &FunctionRef, status: Option<FunctionStatus>) -> Option<News> {
        let Some(status) = status else {
            let gone = self.functions.remove(&self.key_of(function)?)?;
            return Some(News::Removed(gone.function()));
        };
        self.see(status)
    }

    /// The key of a function that somebody named without its namespace, perhaps:
    /// providers have one for those, and do not all tell which.
    fn key_of(&self, function: &FunctionRef) -> Option<(String, String)> {
        let own = key(function);
        if self.functions.contains_key(&own) {
            return Some(own);
        }
        let mut others = self.functions.keys().filter(|(_, name)| *name == function.name);
        let only = others.next().filter(|_| function.namespace.is_empty());
        only.filter(|_| others.next().is_none()).cloned()
    }

    /// Whether a function was touched after the list that is taken was begun.
    fn is_touched(&self, function: &FunctionRef) -> bool {
        let without_namespace = FunctionRef::new(&*function.name, "");
        self.touched.contains_key(function) || self.touched.contains_key(&without_namespace)
    }

    /// Takes a list that began to be read at `since`. Those it does not have are
    /// gone, if it is complete.
    pub(super) fn list<'a>(
        &mut self,
        listed: impl Iterator<Item = &'a FunctionStatus>,
        is_complete: bool,
        since: Version,
    ) -> Vec<News> {
        self.touched.retain(|_, touched| *touched > since);
        let mut news = Vec::new();
        let mut there = BTreeSet::new();
        for status in listed {
            let function = status.function();
            there.insert(key(&function));
            if !self.is_touched(&function) {
                news.extend(self.see(status.clone()));
            }
        }
        if is_complete {
            let gone: Vec<FunctionRef> = self
                .functions
                .iter()
                .filter(|(key, _)| !there.contains(key))
                .map(|(_, status)| status.function())
                .filter(|function| !self.is_touched(function))
                .collect();
            for function in gone {
                news.extend(self.look(&function, None));
            }
        }
        news
    }

    fn see(&mut self, status: FunctionStatus) -> Option<News> {
        let before = self.functions.insert(key(&status.function()), status.clone());
        let Some(before) = before else {
            return Some(News::Added(status));
        };
        if plain(&before) != plain(&status) {
            return Some(News::Updated(status));
        }
        let replicas = |status: &FunctionStatus| (status.replicas, status.available_replicas);
        (replicas(&before) != replicas(&status)).then_some(News::Replicas(status))
    }
}

/// Without what changes all the time.
fn plain(status: &FunctionStatus) -> FunctionStatus {
    FunctionStatus {
        replicas: 0,
        available_replicas: 0,
        invocation_count: None,
        usage: None,
        ..status.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::from_json;

    fn status(name: &str, image: &str, replicas: u64) -> FunctionStatus {
        let json = format!(
            r#"{{"name":"{name}","namespace":"fn","image":"{image}","replicas":{replicas},"invocationCount":{replicas}}}"#
        );
        from_json(json.as_bytes()).expect("a status")
    }

    fn told(news: impl IntoIterator<Item = News>) -> Vec<String> {
        let told = |news| match news {
            News::Added(status) => format!("+{}", status.name),
            News::Updated(status) => format!("~{}", status.name),
            News::Removed(function) => format!("-{}", function.name),
            News::Replicas(status) => format!("{}={}", status.name, status.replicas),
        };
        news.into_iter().map(told).collect()
    }

    #[test]
    fn lists_tell_what_is_new() {
        let mut known = Known::default();
        let mut list = |functions: &[FunctionStatus], is_complete| {
            let version = known.version();
            told(known.list(functions.iter(), is_complete, version))
        };
        let (a, b) = (status("a", "x", 1), status("b", "x", 1));
        assert_eq!(list(&[a.clone(), b.clone()], true), ["+a", "+b"]);
        assert_eq!(list(&[a.clone(), b.clone()], true), Vec::<String>::new());
        assert_eq!(list(&[status("a", "y", 3), status("b", "x", 2)], true), ["~a", "b=2"]);
        assert_eq!(list(std::slice::from_ref(&b), false), ["b=1"]);
        assert_eq!(list(&[b], true), ["-a"]);
    }

    #[test]
    fn a_list_that_was_on_its_way_says_nothing_of_what_was_touched() {
        let mut known = Known::default();
        let (a, b) = (status("a", "x", 1), status("b", "x", 1));
        let (function, begun) = (a.function(), known.version());
        known.touch(&function);
        assert_eq!(known.take_touched(), [function.clone()].into());
        assert_eq!(known.take_touched(), [].into());
        assert_eq!(told(known.look(&function, Some(a.clone()))), ["+a"]);
        assert_eq!(told(known.list([&b].into_iter(), true, begun)), ["+b"]);

        let begun = known.version();
        known.touch(&function);
        assert_eq!(told(known.look(&function, None)), ["-a"]);
        assert_eq!(told(known.look(&function, None)), Vec::<String>::new());
        assert_eq!(
            told(known.list([&a, &b].into_iter(), true, begun)),
            Vec::<String>::new()
        );
        let begun = known.version();
        assert_eq!(told(known.list([&a, &b].into_iter(), true, begun)), ["+a"]);

        // By a caller who leaves the namespace to the provider.
        let unnamed = FunctionRef::new("a", "");
        known.touch(&unnamed);
        assert_eq!(told(known.list([&b].into_iter(), true, begun)), Vec::<String>::new());
        assert_eq!(known.look(&unnamed, None), Some(News::Removed(function)));
    }
}
