//! Stores: lists of functions that somebody may want to deploy.
//!
//! One is in the binary, others are files or URLs (`[[stores]]`). A list is read when
//! somebody asks for it and what is known is older than its `ttl`; meanwhile, and
//! whenever that fails, what is known is shown. So a gateway whose stores nobody looks
//! at asks nobody for anything.
//!
//! Nothing here deploys, and nothing here knows what the provider can run: whoever
//! shows a list asks [`Provider::could_run`](crate::provider::Provider::could_run).

use std::{
    path::PathBuf,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::{sync::watch, time::Instant};
use url::Url;

use crate::{
    config::{EMBEDDED_STORE, Store, blocking},
    shutdown::Tasks,
};

mod catalogue;
mod fetch;

use catalogue::List;
use fetch::{Got, Mark};

/// How long nobody tries again after a failure, at most.
const AGAIN: Duration = Duration::from_secs(30);

/// The list in the binary.
static EMBEDDED: LazyLock<Arc<List>> = LazyLock::new(|| {
    let text = include_bytes!("../assets/store.json");
    Arc::new(List::read(text).expect("a test reads it"))
});

/// Where a list is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the binary.
    Embedded,
    /// At a URL; its host may have a private address, if that is permitted.
    Url(Url, bool),
    /// In a file.
    Path(PathBuf),
}

/// How well a list is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// It was read not long ago.
    Fresh,
    /// It was read longer ago than it should have been.
    Stale,
    /// It could not be read.
    Failed,
    /// Nobody has tried yet.
    Pending,
}

impl Freshness {
    /// As the API names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Failed => "failed",
            Self::Pending => "pending",
        }
    }
}

/// A store as it is now.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub place: Place,
    /// The highest comes first.
    pub priority: u32,
    /// How well its list is known.
    pub freshness: Freshness,
    /// When it was read, or was last known to be the newest.
    pub fetched: Option<DateTime<Utc>>,
    /// Why the last attempt came to nothing.
    pub error: Option<String>,
    list: Arc<List>,
}

impl Shown {
    /// Its functions, in its own order.
    pub fn functions(&self) -> &[crate::model::StoreFunction] {
        &self.list.functions
    }

    /// Its entries that were left out.
    pub fn refused(&self) -> &[crate::model::StoreRefusal] {
        &self.list.refused
    }
}

/// All stores.
pub struct Stores {
    shelves: Mutex<Vec<Shelf>>,
    /// Told whenever a list was read, or could not be.
    read: watch::Sender<()>,
    tasks: Tasks,
}

/// One store.
#[derive(Debug)]
struct Shelf {
    name: String,
    place: Place,
    priority: u32,
    ttl: Duration,
    list: Option<Arc<List>>,
    mark: Option<Mark>,
    fetched: Option<DateTime<Utc>>,
    error: Option<String>,
    /// When it should be read again; at once without it.
    due: Option<Instant>,
    /// Somebody is at it.
    is_read: bool,
}

impl Shelf {
    fn new(name: String, place: Place, priority: u32, ttl: Duration) -> Self {
        let is_embedded = place == Place::Embedded;
        Self {
            name,
            place,
            priority,
            ttl,
            list: is_embedded.then(|| Arc::clone(&EMBEDDED)),
            mark: None,
            fetched: None,
            error: None,
            due: None,
            is_read: false,
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.place != Place::Embedded && self.due.is_none_or(|due| due <= now)
    }

    fn freshness(&self, now: Instant) -> Freshness {
        match (&self.list, &self.error) {
            (Some(_), None) if !self.is_due(now) => Freshness::Fresh,
            (Some(_), _) => Freshness::Stale,
            (None, Some(_)) => Freshness::Failed,
            (None, None) => Freshness::Pending,
        }
    }

    /// Takes what reading it came to.
    fn take(&mut self, got: Result<(Got, Option<Arc<List>>), String>, now: (Instant, DateTime<Utc>)) {
        self.is_read = false;
        match got {
            Ok((got, list)) => {
                if let Got::New(_, mark) = got {
                    self.mark = mark;
                }
                self.list = list.or_else(|| self.list.take());
                self.error = None;
                self.fetched = Some(now.1);
                self.due = Some(now.0 + self.ttl);
            }
            Err(error) => {
                if self.error.as_ref() != Some(&error) {
                    tracing::warn!(store = self.name, error, "store not read");
                }
                self.error = Some(error);
                self.due = Some(now.0 + self.ttl.min(AGAIN));
            }
        }
    }
}

impl Stores {
    /// None. Lists are read in `tasks`.
    pub fn new(tasks: Tasks) -> Arc<Self> {
        Arc::new(Self {
            shelves: Mutex::default(),
            read: watch::Sender::default(),
            tasks,
        })
    }

    /// Has the stores of a configuration from now on, and the one in the binary unless
    /// that is turned off. What is known of a store that stays where it is stays known.
    pub fn configure(&self, stores: &[Store]) {
        let mut shelves = self.shelves();
        let mut before = std::mem::take(&mut *shelves);
        let empty = |store: &Store| {
            let place = match (&store.url, &store.path) {
                (Some(url), _) => Place::Url(url.clone(), store.allow_private.unwrap_or_default()),
                (None, Some(path)) => Place::Path(path.clone()),
                (None, None) => Place::Embedded,
            };
            Shelf::new(
                store.name.clone(),
                place,
                store.priority.unwrap_or_default(),
                store.ttl(),
            )
        };
        let mut next: Vec<Shelf> = stores.iter().filter(|store| store.is_enabled()).map(empty).collect();
        if !stores.iter().any(|store| store.name == EMBEDDED_STORE) {
            let embedded = Shelf::new(EMBEDDED_STORE.to_owned(), Place::Embedded, 0, AGAIN);
            next.insert(0, embedded);
        }
        for shelf in &mut next {
            let known = before
                .iter()
                .position(|known| known.name == shelf.name && known.place == shelf.place);
            if let Some(known) = known {
                let known = before.swap_remove(known);
                let is_as_lasting = known.ttl == shelf.ttl;
                *shelf = Shelf {
                    priority: shelf.priority,
                    ttl: shelf.ttl,
                    due: known.due.filter(|_| is_as_lasting),
                    ..known
                };
            }
        }
        // Stable: of one priority they are in the order of the file.
        next.sort_by_key(|shelf| std::cmp::Reverse(shelf.priority));
        *shelves = next;
    }

    /// Has lists read that are older than they should be; waits, at most so long, for
    /// those of which nothing is known.
    pub async fn refresh(self: &Arc<Self>, patience: Duration) {
        let mut read = self.read.subscribe();
        let begun = {
            let now = Instant::now();
            let mut shelves = self.shelves();
            let due = shelves.iter_mut().filter(|shelf| !shelf.is_read && shelf.is_due(now));
            due.map(|shelf| {
                shelf.is_read = true;
                (shelf.name.clone(), shelf.place.clone(), shelf.mark.clone())
            })
            .collect::<Vec<_>>()
        };
        for (name, place, mark) in begun {
            let stores = Arc::clone(self);
            self.tasks.spawn(async move {
                let got = got(&place, mark).await;
                let now = (Instant::now(), Utc::now());
                let mut shelves = stores.shelves();
                let its = |shelf: &&mut Shelf| shelf.name == name && shelf.place == place;
                // A reload may have taken it away.
                if let Some(found) = shelves.iter_mut().find(its) {
                    found.take(got, now);
                }
                drop(shelves);
                stores.read.send_replace(());
            });
        }
        let known = async {
            while self.shelves().iter().any(|shelf| shelf.is_read && shelf.list.is_none()) {
                // The sender is this value's own, so it is there.
                let _ = read.changed().await;
            }
        };
        // What is not there by then is shown as pending.
        let _ = tokio::time::timeout(patience, known).await;
    }

    /// All stores, by priority.
    pub fn shown(&self) -> Vec<Shown> {
        let now = Instant::now();
        let shelves = self.shelves();
        let shown = shelves.iter().map(|shelf| Shown {
            name: shelf.name.clone(),
            place: shelf.place.clone(),
            priority: shelf.priority,
            freshness: shelf.freshness(now),
            fetched: shelf.fetched,
            error: shelf.error.clone(),
            list: shelf.list.clone().unwrap_or_default(),
        });
        shown.collect()
    }

    fn shelves(&self) -> MutexGuard<'_, Vec<Shelf>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a list; without one where it is the one that is known.
async fn got(place: &Place, mark: Option<Mark>) -> Result<(Got, Option<Arc<List>>), String> {
    let got = match place {
        Place::Embedded => return Ok((Got::Same, None)),
        Place::Url(url, allow_private) => fetch::url(url, mark.as_ref(), *allow_private).await?,
        Place::Path(path) => {
            let path = path.clone();
            blocking(move || fetch::path(&path, mark.as_ref())).await?
        }
    };
    match got {
        Got::New(text, mark) => {
            let list = blocking(move || List::read(&text)).await?;
            Ok((Got::New(Vec::new(), mark), Some(Arc::new(list))))
        }
        Got::Same => Ok((Got::Same, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stores(settings: &[(&str, u32, bool)]) -> Vec<Store> {
        let store = |(name, priority, enabled): &(&str, u32, bool)| Store {
            name: (*name).to_owned(),
            enabled: Some(*enabled),
            url: None,
            path: (*name != EMBEDDED_STORE).then(|| PathBuf::from("/nonexistent").join(name)),
            ttl: None,
            priority: Some(*priority),
            allow_private: None,
        };
        settings.iter().map(store).collect()
    }

    fn told(stores: &Stores) -> Vec<(String, Freshness)> {
        let shown = stores.shown().into_iter();
        shown.map(|store| (store.name, store.freshness)).collect()
    }

    #[test]
    fn every_embedded_entry_is_right() {
        assert_eq!(EMBEDDED.refused, []);
        assert!(EMBEDDED.functions.len() >= 8);
        for function in &EMBEDDED.functions {
            assert!(function.fprocess.is_some(), "{}", function.name);
            let local = |image: &String| image == crate::model::LOCAL_IMAGE;
            assert!(
                function.images.len() == 3 && function.images.values().all(local),
                "{}",
                function.name
            );
        }
    }

    #[tokio::test]
    async fn a_configuration_changes_what_there_is_and_keeps_what_is_known() {
        let all = Stores::new(Tasks::new());
        all.configure(&[]);
        assert_eq!(told(&all), [("embedded".to_owned(), Freshness::Fresh)]);
        all.configure(&stores(&[("a", 0, true), ("b", 7, true), ("c", 9, false)]));
        let names: Vec<_> = told(&all).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["b", "embedded", "a"]);
        all.refresh(Duration::from_secs(20)).await;
        all.configure(&stores(&[("a", 1, true), ("d", 0, true), ("embedded", 0, false)]));
        assert_eq!(
            told(&all),
            [
                ("a".to_owned(), Freshness::Failed),
                ("d".to_owned(), Freshness::Pending)
            ]
        );
    }
}
