//! Which documents there are, when which is asked for, and what is kept of it.
//! Pure: time is an argument.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    document::{Contract, Wrong},
    merge::{Shown, State},
};
use crate::model::{FunctionRef, Timestamp};

/// First pause after a document that could not be had; it doubles up to the
/// time after which a good one is asked for again.
const RETRY: Duration = Duration::from_secs(5);

/// Where a function's document is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// It is the annotation.
    Inline(String),
    /// The function serves it at this path, which may have a query.
    Path(String),
    /// It is the annotation, and has so many bytes that nobody reads it.
    TooLarge(usize),
}

impl Source {
    /// What an annotation says. Whatever begins with a slash is a path: no document
    /// does. A document may have `most` bytes.
    pub fn of(text: &str, most: usize) -> Self {
        if text.starts_with('/') {
            Self::Path(text.to_owned())
        } else if text.len() > most {
            Self::TooLarge(text.len())
        } else {
            Self::Inline(text.to_owned())
        }
    }
}

/// What a function was deployed with, as far as its provider tells: another
/// build may have another document.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Build {
    /// Container image.
    pub image: String,
    /// Command.
    pub process: Option<String>,
    /// Environment variables.
    pub variables: Option<BTreeMap<String, String>>,
    /// When it was deployed.
    pub created: Option<Timestamp>,
}

/// A function with a contract, as its provider lists it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Which.
    pub function: FunctionRef,
    /// Its name in paths and names: see [`label`](super::label).
    pub label: String,
    /// Where its document is.
    pub source: Source,
    /// What it was deployed with.
    pub build: Build,
    /// Whether a replica can be asked.
    pub ready: bool,
}

/// A document that was fetched, as it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// From whom.
    pub function: FunctionRef,
    /// Where, below the function.
    pub path: String,
    /// JSON or YAML.
    pub text: String,
}

/// A document to ask for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Of whom.
    pub function: FunctionRef,
    /// The function's name in paths and names.
    pub label: String,
    /// Where, below the function.
    pub path: String,
    /// Counts what was learned of the function, so that no answer is taken for
    /// that of another build.
    edition: u64,
}

#[derive(Debug)]
struct Entry {
    seen: Seen,
    edition: u64,
    /// The last good one.
    contract: Option<Arc<Contract>>,
    state: State,
    error: Option<String>,
    /// When it is to be asked for; of those that are served.
    due: Instant,
    asking: bool,
    failures: u32,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Book {
    entries: BTreeMap<FunctionRef, Entry>,
    /// Of functions that were not seen yet.
    saved: BTreeMap<FunctionRef, Saved>,
    version: u64,
    editions: u64,
}

impl Book {
    pub(super) fn remember(&mut self, saved: Vec<Saved>) {
        let all = saved.into_iter().map(|saved| (saved.function.clone(), saved));
        self.saved = all.collect();
    }

    pub(super) fn learn(&mut self, seen: Vec<Seen>, now: Instant) -> Vec<(FunctionRef, String)> {
        let mut before = std::mem::take(&mut self.entries);
        let mut wrong = Vec::new();
        for seen in seen {
            let known = before.remove(&seen.function);
            let (function, had) = (
                seen.function.clone(),
                known.as_ref().and_then(|entry| entry.error.clone()),
            );
            let entry = self.entry(seen, known, now);
            if let Some(error) = entry.error.as_ref().filter(|error| had.as_ref() != Some(error)) {
                wrong.push((function.clone(), error.clone()));
            }
            self.entries.insert(function, entry);
        }
        if !before.is_empty() {
            self.version += 1;
        }
        wrong
    }

    fn entry(&mut self, seen: Seen, known: Option<Entry>, now: Instant) -> Entry {
        let Some(mut entry) = known.filter(|known| known.seen.source == seen.source) else {
            return self.fresh(seen, now);
        };
        let is_served = matches!(seen.source, Source::Path(_));
        if is_served && entry.seen.build != seen.build {
            self.editions += 1;
            (entry.edition, entry.asking, entry.failures, entry.due) = (self.editions, false, 0, now);
        } else if is_served && seen.ready && !entry.seen.ready {
            // Whatever was rolled out meanwhile.
            entry.due = now;
        }
        entry.seen = seen;
        entry
    }

    fn fresh(&mut self, seen: Seen, now: Instant) -> Entry {
        self.version += 1;
        self.editions += 1;
        let (contract, state, error) = match &seen.source {
            Source::Path(path) => match self.remembered(&seen, path) {
                None => (None, State::Waiting, None),
                Some(Ok(contract)) => (Some(Arc::new(contract)), State::Shown, None),
                // Until it is asked.
                Some(Err(Wrong::Invalid(error) | Wrong::Unavailable(error))) => (
                    None,
                    State::Waiting,
                    Some(format!("of the copy that was kept: {error}")),
                ),
            },
            Source::TooLarge(bytes) => {
                let error = format!("the document has {bytes} bytes, more than openapi.max_size");
                (None, State::Invalid, Some(error))
            }
            Source::Inline(text) => match Contract::read(text.as_bytes(), &seen.label) {
                Ok(contract) => (Some(Arc::new(contract)), State::Shown, None),
                Err(Wrong::Invalid(error) | Wrong::Unavailable(error)) => (None, State::Invalid, Some(error)),
            },
        };
        Entry {
            seen,
            edition: self.editions,
            contract,
            state,
            error,
            due: now,
            asking: false,
            failures: 0,
        }
    }

    /// The document that an earlier gateway has fetched here, judged anew.
    fn remembered(&mut self, seen: &Seen, path: &str) -> Option<Result<Contract, Wrong>> {
        let saved = self.saved.remove(&seen.function)?;
        (saved.path == path).then(|| Contract::read(saved.text.as_bytes(), &seen.label))
    }

    pub(super) fn due(&mut self, now: Instant) -> Vec<Asked> {
        let due = self
            .entries
            .values_mut()
            .filter(|entry| entry.is_askable() && entry.due <= now);
        due.filter_map(|entry| {
            let Source::Path(path) = &entry.seen.source else {
                return None;
            };
            entry.asking = true;
            Some(Asked {
                function: entry.seen.function.clone(),
                label: entry.seen.label.clone(),
                path: path.clone(),
                edition: entry.edition,
            })
        })
        .collect()
    }

    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        let askable = self.entries.values().filter(|entry| entry.is_askable());
        askable.map(|entry| entry.due.saturating_duration_since(now)).min()
    }

    pub(super) fn answered(
        &mut self,
        asked: &Asked,
        answer: Result<Contract, Wrong>,
        now: Instant,
        ttl: Duration,
    ) -> Option<String> {
        let entry = self.entries.get_mut(&asked.function)?;
        if entry.edition != asked.edition {
            return None;
        }
        entry.asking = false;
        let before = (entry.contract.clone(), entry.state, entry.error.take());
        match answer {
            Ok(contract) => {
                entry.failures = 0;
                entry.due = now + ttl;
                entry.state = State::Shown;
                if entry.contract.as_deref() != Some(&contract) {
                    entry.contract = Some(Arc::new(contract));
                }
            }
            Err(wrong) => {
                let pause = RETRY.saturating_mul(1 << entry.failures.min(16)).min(ttl);
                entry.failures += 1;
                entry.due = now + pause;
                let (state, error) = match wrong {
                    Wrong::Invalid(error) => (State::Invalid, error),
                    Wrong::Unavailable(error) => (State::Unavailable, error),
                };
                entry.state = if entry.contract.is_some() { State::Stale } else { state };
                entry.error = Some(error);
            }
        }
        if before != (entry.contract.clone(), entry.state, entry.error.clone()) {
            self.version += 1;
        }
        entry.error.clone().filter(|error| before.2.as_ref() != Some(error))
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// All in the order of their names; of those that are `internal`, that they are.
    pub(super) fn shown(&self, internal: impl Fn(&FunctionRef) -> bool) -> Vec<Shown> {
        let shown = self.entries.values().map(|entry| {
            let internal = internal(&entry.seen.function);
            Shown {
                label: entry.seen.label.clone(),
                source: match &entry.seen.source {
                    Source::Inline(_) | Source::TooLarge(_) => "annotation".to_owned(),
                    Source::Path(path) => path.clone(),
                },
                state: if internal { State::Internal } else { entry.state },
                error: entry.error.clone(),
                contract: entry.contract.clone().filter(|_| !internal),
            }
        });
        shown.collect()
    }
}

impl Entry {
    fn is_askable(&self) -> bool {
        matches!(self.seen.source, Source::Path(_)) && self.seen.ready && !self.asking
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(300);

    fn seen(source: &str, ready: bool) -> Seen {
        Seen {
            function: FunctionRef::new("a", "x"),
            label: "a".to_owned(),
            source: Source::of(source, 1000),
            build: Build::default(),
            ready,
        }
    }

    fn contract(title: &str) -> Contract {
        let text = format!(r#"{{"openapi":"3.0.0","info":{{"title":"{title}","version":"1"}},"paths":{{}}}}"#);
        Contract::read(text.as_bytes(), "a").expect("a document")
    }

    fn state(book: &Book) -> (State, bool) {
        let shown = book.shown(|_| false);
        (shown[0].state, shown[0].contract.is_some())
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_served_document_is_asked_for_when_a_replica_is_ready_and_kept_when_none_is() {
        let (mut book, now) = (Book::default(), Instant::now());
        book.learn(vec![seen("/openapi.json", false)], now);
        assert!(book.due(now).is_empty());
        assert_eq!((book.wait(now), state(&book)), (None, (State::Waiting, false)));

        book.learn(vec![seen("/openapi.json", true)], now);
        let asked = book.due(now).remove(0);
        assert_eq!((&*asked.path, book.due(now).len()), ("/openapi.json", 0));
        assert_eq!(book.answered(&asked, Ok(contract("one")), now, TTL), None);
        assert_eq!((book.wait(now), state(&book)), (Some(TTL), (State::Shown, true)));

        book.learn(vec![seen("/openapi.json", false)], now);
        assert!(book.due(now + TTL).is_empty());
        assert_eq!(state(&book), (State::Shown, true));
        // It may be another one that comes up.
        book.learn(vec![seen("/openapi.json", true)], now + seconds(1));
        assert_eq!(book.due(now + seconds(1)).len(), 1);
    }

    #[test]
    fn the_last_good_copy_outlives_failures_and_other_builds() {
        let (mut book, now) = (Book::default(), Instant::now());
        book.learn(vec![seen("/o", true)], now);
        let asked = book.due(now).remove(0);
        let refused = |text: &str| Err(Wrong::Unavailable(text.to_owned()));
        assert_eq!(
            book.answered(&asked, refused("away"), now, TTL).as_deref(),
            Some("away")
        );
        assert_eq!(
            (book.wait(now), state(&book)),
            (Some(RETRY), (State::Unavailable, false))
        );
        let asked = book.due(now + RETRY).remove(0);
        // Told once.
        assert_eq!(book.answered(&asked, refused("away"), now, TTL), None);
        assert_eq!(book.wait(now), Some(RETRY * 2));
        let asked = book.due(now + RETRY * 2).remove(0);
        book.answered(&asked, Ok(contract("one")), now, TTL);

        let mut other = seen("/o", true);
        other.build.image = "other".to_owned();
        book.learn(vec![other.clone()], now);
        assert_eq!(state(&book), (State::Shown, true));
        let late = book.due(now).remove(0);
        other.build.image = "third".to_owned();
        book.learn(vec![other], now);
        // The answer of a build that is gone.
        book.answered(&late, Ok(contract("two")), now, TTL);
        let asked = book.due(now).remove(0);
        let wrong = Err(Wrong::Invalid("no document".to_owned()));
        book.answered(&asked, wrong, now, TTL);
        assert_eq!(state(&book), (State::Stale, true));
        assert_eq!(book.shown(|_| false)[0].error.as_deref(), Some("no document"));
    }

    #[test]
    fn the_version_changes_with_what_is_shown_only() {
        let (mut book, now) = (Book::default(), Instant::now());
        let mut before = book.version();
        let mut changed = |book: &Book| {
            let changed = book.version() != before;
            before = book.version();
            changed
        };
        book.learn(vec![seen("/o", true)], now);
        assert!(changed(&book));
        book.learn(vec![seen("/o", true)], now);
        assert!(!changed(&book));
        let asked = book.due(now).remove(0);
        book.answered(&asked, Ok(contract("one")), now, TTL);
        assert!(changed(&book));
        let asked = book.due(now + TTL).remove(0);
        book.answered(&asked, Ok(contract("one")), now + TTL, TTL);
        assert!(!changed(&book));
        book.learn(vec![], now);
        assert!(changed(&book));
        assert_eq!(book.answered(&asked, Ok(contract("two")), now, TTL), None);
        assert!(book.shown(|_| false).is_empty() && !changed(&book));
    }

    #[test]
    fn a_document_in_the_annotation_is_read_at_once_and_not_kept_when_it_is_bad() {
        let (mut book, now) = (Book::default(), Instant::now());
        let good = "openapi: 3.0.0\ninfo: {title: A, version: '1'}\npaths: {}";
        assert!(book.learn(vec![seen(good, false)], now).is_empty());
        assert_eq!((state(&book), book.due(now).len()), ((State::Shown, true), 0));
        let wrong = book.learn(vec![seen("swagger: '2.0'", true)], now);
        assert!(wrong[0].1.contains("Swagger 2.0"), "{wrong:?}");
        assert_eq!(state(&book), (State::Invalid, false));
        assert!(
            book.learn(vec![seen("swagger: '2.0'", true)], now).is_empty(),
            "told once"
        );
        let shown = book.shown(|_| true);
        assert_eq!((shown[0].state, shown[0].contract.is_none()), (State::Internal, true));
    }

    #[test]
    fn what_was_fetched_before_the_start_is_shown_until_it_is_asked_for_anew() {
        let now = Instant::now();
        let saved = |path: &str, text: &str| Saved {
            function: FunctionRef::new("a", "x"),
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let good = "openapi: 3.0.3\ninfo: {title: A, version: '1'}\npaths: {}";
        for (kept, expected, wrong) in [
            (saved("/o", good), (State::Shown, true), ""),
            (saved("/other", good), (State::Waiting, false), ""),
            (
                saved("/o", "swagger: '2.0'"),
                (State::Waiting, false),
                "of the copy that was kept: swagger: Swagger 2.0",
            ),
        ] {
            let mut book = Book::default();
            book.remember(vec![kept.clone()]);
            let told = book.learn(vec![seen("/o", false)], now);
            assert_eq!(state(&book), expected, "{kept:?}");
            let told = told.first().map(|(_, why)| why.as_str()).unwrap_or_default();
            assert!(told.starts_with(wrong) && told.is_empty() == wrong.is_empty(), "{told}");
            // Nothing is started for it, and whatever is ready is asked.
            assert!(book.due(now).is_empty());
            book.learn(vec![seen("/o", true)], now);
            let asked = book.due(now).remove(0);
            assert_eq!(book.answered(&asked, Ok(contract("new")), now, TTL), None);
            assert_eq!(state(&book), (State::Shown, true));
        }
    }

    #[test]
    fn a_copy_is_of_one_function_once() {
        let (mut book, now) = (Book::default(), Instant::now());
        let text = "openapi: 3.0.3\ninfo: {title: A, version: '1'}\npaths: {}".to_owned();
        let (function, path) = (FunctionRef::new("a", "x"), "/o".to_owned());
        book.remember(vec![Saved { function, path, text }]);
        book.learn(vec![seen("/o", false)], now);
        assert_eq!(state(&book), (State::Shown, true));
        book.learn(Vec::new(), now);
        // Deployed again, it is another one.
        book.learn(vec![seen("/o", false)], now);
        assert_eq!(state(&book), (State::Waiting, false));
    }
}
