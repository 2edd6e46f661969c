//! Idle connections of one endpoint.
//!
//! Last in, first out: the connection used most recently is the one least
//! likely to have been closed, and the others age out. Each thread has a list
//! of its own and looks into the others' only when it is empty, so that cores
//! do not wait for each other.
//!
//! No connection is looked at, or dropped, while a list is locked: dropping one
//! lets a waiting call go, which may look into the same list.

use std::{
    cell::Cell,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Most lists: more threads than this share them.
const MAX_LISTS: usize = 16;

/// Connections that are kept for the next call.
#[derive(Debug)]
pub(super) struct IdleConnections<T> {
    lists: Box<[List<T>]>,
    /// Whether a task closes those that nobody takes in time.
    swept: AtomicBool,
}

type List<T> = Mutex<Vec<Idle<T>>>;

#[derive(Debug)]
struct Idle<T> {
    connection: T,
    since: Instant,
}

impl<T> IdleConnections<T> {
    /// None yet.
    pub(super) fn new() -> Self {
        Self {
            lists: (0..lists()).map(|_| Mutex::default()).collect(),
            swept: AtomicBool::new(false),
        }
    }

    /// The newest connection that is not idle for too long and is `usable`.
    /// Lists that others use just now are passed over.
    pub(super) fn take(&self, timeout: Duration, usable: impl FnMut(&mut T) -> bool) -> Option<T> {
        self.find(timeout, usable, |list, own| {
            // Who holds another's takes or brings one: not worth waiting for.
            if own { Some(lock(list)) } else { list.try_lock().ok() }
        })
    }

    /// As [`IdleConnections::take`], of all lists: for calls that would wait else.
    pub(super) fn take_any(&self, timeout: Duration, usable: impl FnMut(&mut T) -> bool) -> Option<T> {
        self.find(timeout, usable, |list, _| Some(lock(list)))
    }

    fn find<'s>(
        &'s self,
        timeout: Duration,
        mut usable: impl FnMut(&mut T) -> bool,
        lock: impl Fn(&'s List<T>, bool) -> Option<MutexGuard<'s, Vec<Idle<T>>>>,
    ) -> Option<T> {
        let own = own_list() % self.lists.len();
        (0..self.lists.len()).find_map(|step| {
            let list = &self.lists[(own + step) % self.lists.len()];
            loop {
                let newest = lock(list, step == 0)?.pop();
                let Idle { mut connection, since } = newest?;
                if since.elapsed() < timeout && usable(&mut connection) {
                    return Some(connection);
                }
            }
        })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.lists.iter().map(|list| lock(list).len()).sum()
    }

    /// Keeps a connection, unless there are as many as `max` already.
    ///
    /// Returns whether somebody has to look after those that nobody takes: see
    /// [`IdleConnections::drop_expired`].
    pub(super) fn put(&self, connection: T, max: usize, timeout: Duration) -> bool {
        let now = Instant::now();
        let mut list = lock(&self.lists[own_list() % self.lists.len()]);
        // The oldest come first.
        let expired = list.partition_point(|kept| is_expired(kept, now, timeout));
        let expired: Vec<_> = list.drain(..expired).collect();
        let has_room = list.len() < max.div_ceil(self.lists.len());
        let refused = if has_room {
            list.push(Idle { connection, since: now });
            None
        } else {
            Some(connection)
        };
        drop(list);
        drop((expired, refused));
        has_room && !self.swept.load(Ordering::Relaxed) && !self.swept.swap(true, Ordering::AcqRel)
    }

    /// Closes what is idle for too long, or `over`. Returns whether something is
    /// left; when not, the next [`IdleConnections::put`] asks for somebody again.
    pub(super) fn drop_expired(&self, timeout: Duration, over: impl Fn(&T) -> bool) -> bool {
        let now = Instant::now();
        let mut left = self.any_left(now, timeout, &over);
        if !left {
            self.swept.store(false, Ordering::Release);
            // One that came meanwhile found that somebody looks after it.
            left = self.any_left(now, timeout, &over) && !self.swept.swap(true, Ordering::AcqRel);
        }
        left
    }

    fn any_left(&self, now: Instant, timeout: Duration, over: &impl Fn(&T) -> bool) -> bool {
        self.lists.iter().fold(false, |left, list| {
            let mut list = lock(list);
            let is_old = |kept: &mut Idle<T>| is_expired(kept, now, timeout) || over(&kept.connection);
            let expired: Vec<_> = list.extract_if(.., is_old).collect();
            let left = left || !list.is_empty();
            drop(list);
            drop(expired);
            left
        })
    }
}

fn is_expired<T>(kept: &Idle<T>, now: Instant, timeout: Duration) -> bool {
    now.saturating_duration_since(kept.since) >= timeout
}

fn lock<T>(list: &Mutex<T>) -> MutexGuard<'_, T> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As many lists as the runtime has threads.
fn lists() -> usize {
    std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(MAX_LISTS)
}

/// The number of this thread, counted from 0.
fn own_list() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
    }
    NUMBER.with(|number| {
        number.get().unwrap_or_else(|| {
            let next = THREADS.fetch_add(1, Ordering::Relaxed);
            number.set(Some(next));
            next
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn the_newest_usable_one_is_taken_from_every_thread() {
        let idle = IdleConnections::new();
        assert!(idle.put(1, 100, LONG), "somebody must look after it");
        assert!(!idle.put(2, 100, LONG));
        std::thread::scope(|scope| {
            scope.spawn(|| idle.put(3, 100, LONG));
        });
        let mut taken: Vec<_> = std::iter::from_fn(|| idle.take(LONG, |_| true)).collect();
        assert!(taken.iter().position(|one| *one == 2) < taken.iter().position(|one| *one == 1));
        taken.sort_unstable();
        assert_eq!(taken, [1, 2, 3]);
        idle.put(4, 100, LONG);
        idle.put(5, 100, LONG);
        assert_eq!(idle.take(LONG, |one| *one == 4), Some(4), "the unusable one is dropped");
        assert_eq!(idle.take(LONG, |_| true), None);
    }

    #[test]
    fn no_more_than_the_bound_are_kept_and_none_for_too_long() {
        let idle = IdleConnections::new();
        for one in 0..100 {
            idle.put(one, idle.lists.len(), LONG);
        }
        assert_eq!(std::iter::from_fn(|| idle.take(LONG, |_| true)).count(), 1);
        idle.put(1, 100, LONG);
        assert_eq!(idle.take(Duration::ZERO, |_| true), None);
        idle.put(1, 100, LONG);
        assert!(idle.drop_expired(LONG, |_| false));
        assert!(!idle.drop_expired(Duration::ZERO, |_| false));
        assert!(idle.put(2, 100, LONG), "somebody is needed again");
        idle.put(3, 100, LONG);
        assert!(idle.drop_expired(LONG, |one| *one == 2));
        assert_eq!((idle.len(), idle.take_any(LONG, |_| true)), (1, Some(3)));
    }
}
