//! The functions as they were seen last, and what is new about them. Pure.
//!
//! Two look at them: lists of all functions, read every few seconds, and looks at
//! one function right after it was changed. A list may have been on its way when
//! the change was made, so of functions that were touched meanwhile it says nothing.
//!
//! While nobody follows, lists are put aside, for nobody wants to know yet what is new
//! in them: the next reader has the latest compared with what readers knew before. What
//! came and went in between is not told then, as between any two lists.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use chrono::{DateTime, Utc};

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
    /// The list that was taken last, if nothing was learned since.
    listed: Option<Arc<[FunctionStatus]>>,
    /// A list that nobody has wanted to hear of yet.
    unread: Option<List>,
}

/// A list of all functions.
#[derive(Debug, Clone)]
pub(super) struct List {
    /// The functions.
    pub(super) functions: Arc<[FunctionStatus]>,
    /// Whether those that it does not have are gone.
    pub(super) is_complete: bool,
    /// When it began to be read.
    pub(super) since: Version,
    /// When it had been.
    pub(super) at: DateTime<Utc>,
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
            self.listed = None;
            return Some(News::Removed(gone.function()));
        };
        self.see(&status)
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

    /// Puts a list aside; what is new of one that was put aside before, where that
    /// knows what this one does not.
    pub(super) fn put_aside(&mut self, list: List) -> Option<(Vec<News>, DateTime<Utc>)> {
        let knew_more = |before: &mut List| before.is_complete && !list.is_complete;
        let before = self.unread.take_if(knew_more);
        let news = before.map(|before| (self.list(&before), before.at));
        // Later lists begin later.
        self.touched.retain(|_, touched| *touched > list.since);
        self.unread = Some(list);
        news
    }

    /// What is new of the list that was put aside.
    pub(super) fn take_up(&mut self) -> Option<(Vec<News>, DateTime<Utc>)> {
        let list = self.unread.take()?;
        Some((self.list(&list), list.at))
    }

    /// Takes a list. Those it does not have are gone, if it is complete.
    pub(super) fn list(&mut self, list: &List) -> Vec<News> {
        self.touched.retain(|_, touched| *touched > list.since);
        let is_same = |listed: &Arc<_>| Arc::ptr_eq(listed, &list.functions);
        if self.touched.is_empty() && self.listed.as_ref().is_some_and(is_same) {
            return Vec::new();
        }
        let mut news = Vec::new();
        let mut there = BTreeSet::new();
        for status in &*list.functions {
            let function = status.function();
            there.insert(key(&function));
            if !self.is_touched(&function) {
                news.extend(self.see(status));
            }
        }
        if list.is_complete {
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
        let is_all = list.is_complete && self.touched.is_empty();
        self.listed = is_all.then(|| Arc::clone(&list.functions));
        news
    }

    fn see(&mut self, status: &FunctionStatus) -> Option<News> {
        self.listed = None;
        let place = key(&status.function());
        let Some(before) = self.functions.get_mut(&place) else {
            self.functions.insert(place, status.clone());
            return Some(News::Added(status.clone()));
        };
        if before == status {
            return None;
        }
        let mut before = std::mem::replace(before, status.clone());
        let replicas = |status: &FunctionStatus| (status.replicas, status.available_replicas);
        let scaled = replicas(&before) != replicas(status);
        // What changes all the time.
        (before.replicas, before.available_replicas) = replicas(status);
        before.invocation_count.clone_from(&status.invocation_count);
        before.usage.clone_from(&status.usage);
        if before != *status {
            return Some(News::Updated(status.clone()));
        }
        scaled.then(|| News::Replicas(status.clone()))
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

    fn list(functions: &[FunctionStatus], is_complete: bool, since: Version) -> List {
        List {
            functions: functions.into(),
            is_complete,
            since,
            at: DateTime::UNIX_EPOCH,
        }
    }

    fn taken_up(known: &mut Known) -> Vec<String> {
        told(known.take_up().map(|(news, _)| news).unwrap_or_default())
    }

    #[test]
    fn what_nobody_heard_of_is_told_as_it_has_become() {
        let mut known = Known::default();
        let (a, b) = (status("a", "x", 1), status("b", "x", 1));
        let since = known.version();
        let nothing = |news: Option<(Vec<News>, _)>| {
            let told = told(news.into_iter().flat_map(|(news, _)| news));
            assert_eq!(told, Vec::<String>::new());
        };
        nothing(known.put_aside(list(std::slice::from_ref(&a), true, since)));
        nothing(known.put_aside(list(&[a.clone(), b.clone()], true, since)));
        assert_eq!(taken_up(&mut known), ["+a", "+b"]);
        assert_eq!(taken_up(&mut known), Vec::<String>::new());

        // What came and went is not told, what stayed is.
        nothing(known.put_aside(list(&[a.clone(), b.clone(), status("c", "x", 1)], true, since)));
        nothing(known.put_aside(list(&[status("a", "y", 2), b.clone()], true, since)));
        // A look is told at once, and an older list says nothing against it.
        known.touch(&b.function());
        assert_eq!(told(known.look(&b.function(), Some(status("b", "x", 5)))), ["b=5"]);
        assert_eq!(taken_up(&mut known), ["~a"]);

        // A list that knows less does not hide what is gone.
        let since = known.version();
        nothing(known.put_aside(list(std::slice::from_ref(&b), true, since)));
        let half = list(std::slice::from_ref(&b), false, since);
        let news = known.put_aside(half.clone()).map(|(news, _)| told(news));
        assert_eq!(news, Some(vec!["b=1".to_owned(), "-a".to_owned()]));
        nothing(known.put_aside(half));
        assert_eq!(taken_up(&mut known), Vec::<String>::new());
    }

    #[test]
    fn the_same_list_is_compared_again_once_something_else_was_learned() {
        let mut known = Known::default();
        let a = status("a", "x", 1);
        let same = list(std::slice::from_ref(&a), true, known.version());
        assert_eq!(told(known.list(&same)), ["+a"]);
        assert_eq!(told(known.list(&same)), Vec::<String>::new());
        assert_eq!(told(known.look(&a.function(), None)), ["-a"]);
        assert_eq!(told(known.list(&same)), ["+a"]);
        known.touch(&a.function());
        assert_eq!(told(known.list(&same)), Vec::<String>::new());
        let since = known.version();
        assert_eq!(told(known.look(&a.function(), Some(status("a", "x", 2)))), ["a=2"]);
        assert_eq!(told(known.list(&List { since, ..same })), ["a=1"]);
    }

    #[test]
    fn lists_tell_what_is_new() {
        let mut known = Known::default();
        let mut list = |functions: &[FunctionStatus], is_complete| {
            let version = known.version();
            told(known.list(&list(functions, is_complete, version)))
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
        assert_eq!(told(known.list(&list(std::slice::from_ref(&b), true, begun))), ["+b"]);

        let begun = known.version();
        known.touch(&function);
        assert_eq!(told(known.look(&function, None)), ["-a"]);
        assert_eq!(told(known.look(&function, None)), Vec::<String>::new());
        assert_eq!(
            told(known.list(&list(&[a.clone(), b.clone()], true, begun))),
            Vec::<String>::new()
        );
        let begun = known.version();
        assert_eq!(told(known.list(&list(&[a.clone(), b.clone()], true, begun))), ["+a"]);

        // By a caller who leaves the namespace to the provider.
        let unnamed = FunctionRef::new("a", "");
        known.touch(&unnamed);
        assert_eq!(
            told(known.list(&list(std::slice::from_ref(&b), true, begun))),
            Vec::<String>::new()
        );
        assert_eq!(known.look(&unnamed, None), Some(News::Removed(function)));
    }
}
