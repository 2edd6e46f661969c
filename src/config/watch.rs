//! Notices that configuration files may have changed.
//!
//! A directory watch is the fast way and a slow poll the sure one: file systems
//! without change events, retargeted links and lost events all end at the poll.
//! With `reload.watch = "poll"` there is only that.
//!
//! Directories are watched rather than files, and every event in them counts,
//! because editors rename, and Kubernetes swaps a link that has another name.
//! Whether anything really changed is for the reader to find out, by content
//! ([`crate::reload`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout_at},
};
use tracing::warn;

use super::{Config, Reload, WatchMode, blocking, files::files_of};

/// What to listen to, and how long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Whether to watch directories; else there are only polls.
    pub events: bool,
    /// Silence that ends a burst of events.
    pub quiet: Duration,
    /// Longest wait for that silence.
    pub longest: Duration,
    /// Time between polls.
    pub poll: Duration,
}

impl Timing {
    /// As the configuration says; `None` when changes are not to be noticed.
    pub fn new(reload: &Reload) -> Option<Self> {
        (reload.watch != WatchMode::Off).then_some(Self {
            events: reload.watch == WatchMode::Auto,
            quiet: reload.debounce,
            longest: reload.debounce_max,
            poll: reload.poll_interval,
        })
    }
}

/// Why it is time to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Something happened in a watched directory.
    Event,
    /// Nothing was heard for a while.
    Poll,
}

/// The directories in which a change matters.
///
/// Where a file or a directory is a link, the directory of its target is one
/// of them too, and that of the link.
pub fn directories(file: Option<&Path>, config: &Config) -> BTreeSet<PathBuf> {
    let mut directories = BTreeSet::new();
    match file {
        Some(directory) if directory.is_dir() => {
            directories.insert(directory.to_path_buf());
            if directory.is_symlink() {
                directories.insert(parent(directory));
            }
            let files = files_of(directory).unwrap_or_default();
            directories.extend(files.iter().filter_map(|file| Some(parent(&file.canonicalize().ok()?))));
        }
        Some(file) => {
            directories.insert(parent(file));
            directories.extend(file.canonicalize().ok().map(|target| parent(&target)));
        }
        None => {}
    }
    for file in config.referenced_files() {
        directories.insert(parent(&file));
        directories.extend(file.canonicalize().ok().map(|target| parent(&target)));
    }
    directories
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Watches a set of directories.
pub struct Watch {
    armed: Arc<Mutex<Armed>>,
    /// A directory was watched anew that no call of `next` has reported yet.
    added: Arc<AtomicBool>,
    changed: Arc<Notify>,
    /// An event was heard that no call of `next` has reported yet.
    pending: bool,
}

/// What is watched. To look at a directory may block, as long as the server of
/// a network mount does not answer: this is locked on threads that may.
#[derive(Default)]
struct Armed {
    /// `None` until events are wanted, and when the system offers none.
    watcher: Option<RecommendedWatcher>,
    /// Whether the system was found to offer none, so that it is told once.
    unavailable: bool,
    /// What is watched, under one of its names. A directory of the same name
    /// may replace it, and to end the watch of one name ends it for all.
    directories: BTreeMap<Identity, PathBuf>,
    /// Directories that could not be watched, so that each is told about once.
    refused: BTreeSet<PathBuf>,
}

/// Device and inode.
type Identity = (u64, u64);

impl Default for Watch {
    fn default() -> Self {
        Self::new()
    }
}

impl Watch {
    /// Watches nothing yet.
    pub fn new() -> Self {
        Self {
            armed: Arc::default(),
            added: Arc::default(),
            changed: Arc::new(Notify::new()),
            pending: false,
        }
    }

    /// Waits until it is time to look, with the given directories watched when
    /// it returns. A directory that is watched for the first time, or again
    /// because another took its place, is a reason to look at once. Where the
    /// system offers no watch, or `timing` wants none, there are only polls.
    ///
    /// Dropping the future loses no event.
    pub async fn next(&mut self, directories: &BTreeSet<PathBuf>, timing: Timing) -> Cause {
        self.arm(directories, timing).await;
        if self.added.swap(false, Ordering::Relaxed) {
            return Cause::Event;
        }
        if !self.pending {
            tokio::select! {
                () = self.changed.notified() => self.pending = true,
                () = sleep(timing.poll) => {}
            }
        }
        let cause = if self.pending {
            self.settle(timing).await;
            Cause::Event
        } else {
            Cause::Poll
        };
        self.arm(directories, timing).await;
        // The look that this asks for is at what was added too.
        self.added.store(false, Ordering::Relaxed);
        self.pending = false;
        cause
    }

    /// Waits for the end of a burst of events.
    async fn settle(&self, timing: Timing) {
        let end = Instant::now() + timing.longest;
        loop {
            let quiet = (Instant::now() + timing.quiet).min(end);
            if timeout_at(quiet, self.changed.notified()).await.is_err() || Instant::now() >= end {
                return;
            }
        }
    }

    /// Watches exactly these directories.
    async fn arm(&self, directories: &BTreeSet<PathBuf>, timing: Timing) {
        let (armed, added, changed) = (
            Arc::clone(&self.armed),
            Arc::clone(&self.added),
            Arc::clone(&self.changed),
        );
        let directories = directories.clone();
        blocking(move || {
            let mut armed = armed.lock().unwrap_or_else(PoisonError::into_inner);
            if armed.watch(&directories, timing, &changed) {
                added.store(true, Ordering::Relaxed);
            }
        })
        .await;
    }
}

impl Armed {
    /// Watches exactly these directories; says whether there was one to add.
    fn watch(&mut self, directories: &BTreeSet<PathBuf>, timing: Timing, changed: &Arc<Notify>) -> bool {
        if !timing.events {
            self.watcher = None;
            self.directories.clear();
            return false;
        }
        self.start(timing, changed);
        let Some(watcher) = &mut self.watcher else { return false };
        let wanted: BTreeMap<_, _> = directories.iter().filter_map(|directory| nearest(directory)).collect();
        self.directories.retain(|identity, directory| {
            let keep = wanted.contains_key(identity);
            if !keep {
                // The watch of a directory that is gone has ended by itself.
                let _ended = watcher.unwatch(directory);
            }
            keep
        });
        let mut added = false;
        for (identity, directory) in wanted {
            if self.directories.contains_key(&identity) {
                continue;
            }
            match watcher.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    added = true;
                    self.refused.remove(&directory);
                    self.directories.insert(identity, directory);
                }
                Err(error) => {
                    if self.refused.insert(directory.clone()) {
                        warn!(directory = %directory.display(), %error, "cannot watch; looking every {:?}", timing.poll);
                    }
                }
            }
        }
        added
    }

    /// Makes the watcher, unless there is one or can be none.
    fn start(&mut self, timing: Timing, changed: &Arc<Notify>) {
        if self.watcher.is_some() || self.unavailable {
            return;
        }
        let notify = Arc::clone(changed);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An error means that events were lost, which counts as a change.
            if !event.is_ok_and(|event| is_reading(event.kind)) {
                notify.notify_one();
            }
        });
        match watcher {
            Ok(watcher) => self.watcher = Some(watcher),
            Err(error) => {
                self.unavailable = true;
                warn!(%error, "no directory watch; the configuration is looked at every {:?}", timing.poll);
            }
        }
    }
}

/// The directory, or where it is not there, the nearest above it that is: that is
/// where it will appear.
fn nearest(directory: &Path) -> Option<(Identity, PathBuf)> {
    // The last of a relative path is empty, and means here.
    let mut ancestors = directory.ancestors().map(|ancestor| {
        if ancestor.as_os_str().is_empty() {
            Path::new(".")
        } else {
            ancestor
        }
    });
    ancestors.find_map(|ancestor| Some((identity(ancestor)?, ancestor.to_path_buf())))
}

fn identity(directory: &Path) -> Option<Identity> {
    let metadata = std::fs::metadata(directory).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Reading changes nothing, and would make our own look at the file the cause
/// of the next one.
fn is_reading(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const DEADLINE: Duration = Duration::from_secs(20);

    const TIMING: Timing = Timing {
        events: true,
        quiet: Duration::from_millis(20),
        longest: Duration::from_millis(500),
        poll: LONG,
    };

    async fn next(watch: &mut Watch, directories: &BTreeSet<PathBuf>) -> Cause {
        tokio::time::timeout(DEADLINE, watch.next(directories, TIMING))
            .await
            .expect("a cause to look")
    }

    /// Waits through the causes that `act` may bring in several pieces.
    async fn expect_event_after(watch: &mut Watch, directories: &BTreeSet<PathBuf>, act: impl FnOnce()) {
        while tokio::time::timeout(Duration::from_millis(200), watch.next(directories, TIMING))
            .await
            .is_ok()
        {}
        act();
        assert_eq!(next(watch, directories).await, Cause::Event);
    }

    #[tokio::test]
    async fn a_directory_that_is_not_there_is_noticed_when_it_comes() {
        let root = tempfile::tempdir().expect("directory");
        let etc = root.path().join("a/etc");
        let directories = BTreeSet::from([etc.clone()]);
        let mut watch = Watch::new();
        let create = || fs::create_dir_all(&etc).expect("created");
        expect_event_after(&mut watch, &directories, create).await;
        let write = || fs::write(etc.join("gateway.toml"), "b").expect("write");
        expect_event_after(&mut watch, &directories, write).await;
        let away = || fs::rename(&etc, root.path().join("old")).expect("renamed");
        expect_event_after(&mut watch, &directories, away).await;
        expect_event_after(&mut watch, &directories, create).await;
    }

    #[tokio::test]
    async fn every_way_to_replace_a_file_is_noticed() {
        let directory = tempfile::tempdir().expect("directory");
        let file = directory.path().join("gateway.toml");
        fs::write(&file, "a").expect("write");
        let directories = BTreeSet::from([directory.path().to_path_buf()]);
        let mut watch = Watch::new();

        let write = || fs::write(&file, "b").expect("write");
        expect_event_after(&mut watch, &directories, write).await;
        let rename = || {
            let new = directory.path().join("new");
            fs::write(&new, "c").expect("write");
            fs::rename(&new, &file).expect("rename");
        };
        expect_event_after(&mut watch, &directories, rename).await;
        expect_event_after(&mut watch, &directories, || fs::remove_file(&file).expect("remove")).await;
        let link = || std::os::unix::fs::symlink("elsewhere", directory.path().join("..data")).expect("link");
        expect_event_after(&mut watch, &directories, link).await;
    }

    #[tokio::test]
    async fn reading_is_no_event() {
        let directory = tempfile::tempdir().expect("directory");
        let file = directory.path().join("gateway.toml");
        fs::write(&file, "a").expect("write");
        let directories = BTreeSet::from([directory.path().to_path_buf()]);
        let mut watch = Watch::new();
        assert_eq!(next(&mut watch, &directories).await, Cause::Event, "armed");
        fs::read(&file).expect("read");
        let waited = tokio::time::timeout(Duration::from_millis(300), watch.next(&directories, TIMING)).await;
        assert!(waited.is_err(), "reading the file is not a change");
    }

    #[tokio::test]
    async fn a_replaced_directory_is_watched_again() {
        let root = tempfile::tempdir().expect("directory");
        let live = root.path().join("live");
        fs::create_dir(&live).expect("create");
        let directories = BTreeSet::from([live.clone()]);
        let mut watch = Watch::new();
        expect_event_after(&mut watch, &directories, || {
            fs::create_dir(root.path().join("next")).expect("create");
            fs::rename(&live, root.path().join("old")).expect("rename");
            fs::rename(root.path().join("next"), &live).expect("rename");
        })
        .await;
        expect_event_after(&mut watch, &directories, || {
            fs::write(live.join("gateway.toml"), "a").expect("write");
        })
        .await;
    }

    #[tokio::test]
    async fn a_directory_with_two_names_stays_watched_when_one_goes() {
        // While a file is missing, the directory of its link's target is unknown.
        let root = tempfile::tempdir().expect("directory");
        let (real, link) = (root.path().join("real"), root.path().join("link"));
        fs::create_dir(&real).expect("create");
        std::os::unix::fs::symlink(&real, &link).expect("link");
        let mut watch = Watch::new();
        assert_eq!(
            next(&mut watch, &BTreeSet::from([real.clone(), link.clone()])).await,
            Cause::Event,
            "armed"
        );
        expect_event_after(&mut watch, &BTreeSet::from([link]), || {
            fs::write(real.join("gateway.toml"), "a").expect("write");
        })
        .await;
    }

    #[tokio::test]
    async fn point_03_events_without_end_do_not_postpone_the_look() {
        let mut watch = Watch::new();
        let changed = Arc::clone(&watch.changed);
        let directories = BTreeSet::new();
        let noise = async {
            loop {
                changed.notify_one();
                sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            cause = next(&mut watch, &directories) => assert_eq!(cause, Cause::Event),
            () = noise => {}
        }
    }

    #[tokio::test]
    async fn silence_ends_in_a_poll() {
        let soon = Timing {
            poll: Duration::from_millis(10),
            ..TIMING
        };
        assert_eq!(Watch::new().next(&BTreeSet::new(), soon).await, Cause::Poll);
    }

    #[tokio::test]
    async fn polling_hears_nothing_and_can_be_changed_for_watching() {
        let directory = tempfile::tempdir().expect("directory");
        let directories = BTreeSet::from([directory.path().to_path_buf()]);
        let polling = Timing {
            events: false,
            poll: Duration::from_millis(100),
            ..TIMING
        };
        let mut watch = Watch::new();
        assert_eq!(next(&mut watch, &directories).await, Cause::Event, "armed");
        assert_eq!(watch.next(&directories, polling).await, Cause::Poll);
        fs::write(directory.path().join("gateway.toml"), "a").expect("write");
        assert_eq!(watch.next(&directories, polling).await, Cause::Poll);
        assert_eq!(next(&mut watch, &directories).await, Cause::Event, "armed again");
    }

    /// As it is when a network mount does not answer: everything else goes on.
    #[tokio::test]
    #[expect(clippy::await_holding_lock, reason = "that is the mount which does not answer")]
    async fn a_directory_that_cannot_be_looked_at_holds_up_no_worker() {
        let directory = tempfile::tempdir().expect("directory");
        let directories = BTreeSet::from([directory.path().to_path_buf()]);
        let mut watch = Watch::new();
        let armed = Arc::clone(&watch.armed);
        let hung = armed.lock().expect("no panic");
        let waited = tokio::time::timeout(Duration::from_millis(50), watch.next(&directories, TIMING)).await;
        assert!(waited.is_err(), "it waits for the mount");
        drop(hung);
        // What was begun is not lost, whoever gave up waiting for it.
        assert_eq!(next(&mut watch, &directories).await, Cause::Event, "armed");
    }

    #[tokio::test]
    async fn a_wait_that_is_given_up_loses_no_event() {
        let mut watch = Watch::new();
        let patient = Timing {
            quiet: LONG,
            longest: LONG,
            ..TIMING
        };
        watch.changed.notify_one();
        let directories = BTreeSet::new();
        let given_up = tokio::time::timeout(Duration::from_millis(50), watch.next(&directories, patient)).await;
        assert!(given_up.is_err(), "it waits for the burst's end");
        assert_eq!(next(&mut watch, &directories).await, Cause::Event);
    }

    #[test]
    fn directories_of_the_file_its_target_and_the_credentials() {
        let root = tempfile::tempdir().expect("directory");
        let path = root.path().canonicalize().expect("real path");
        for name in ["etc", "data"] {
            fs::create_dir(path.join(name)).expect("create");
        }
        fs::write(path.join("data/real.toml"), "x = 1").expect("write");
        let file = path.join("etc/gateway.toml");
        std::os::unix::fs::symlink(path.join("data/real.toml"), &file).expect("link");
        let sources = crate::config::Sources {
            environment: [("HOME", "/h"), ("basic_auth", "true"), ("secret_mount_path", "/s")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..Default::default()
        };
        let config = crate::config::parse(None, &sources).expect("valid").config;
        assert_eq!(
            directories(Some(&file), &config),
            BTreeSet::from([path.join("etc"), path.join("data"), PathBuf::from("/s")])
        );
        let bare = directories(Some(Path::new("no-such.toml")), &config);
        assert!(bare.contains(Path::new(".")), "{bare:?}");
        let of_directory = directories(Some(&path.join("etc")), &config);
        assert_eq!(of_directory, directories(Some(&file), &config));
        std::os::unix::fs::symlink("etc", path.join("link")).expect("link");
        let of_link = directories(Some(&path.join("link")), &config);
        assert!(
            of_link.contains(&path) && of_link.contains(&path.join("link")),
            "{of_link:?}"
        );
    }
}
