//! How many connections an endpoint has, and the line of those that wait for one.
//!
//! First come, first served, whatever each waits for. Counts, not permits: a
//! lowered bound takes nothing from anybody, a raised one lets waiting calls go.
//! What can be had, and when, is the endpoint's to know: it says so by
//! [`Turns::settle`]. Nothing here knows of connections.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// A count, and a line of wishes.
pub(super) struct Turns<W> {
    open: AtomicUsize,
    line: Mutex<VecDeque<W>>,
    /// Length of the line, for those that have no reason to lock it.
    waiting: AtomicUsize,
    /// Something happened that may let somebody go.
    unsettled: AtomicBool,
}

impl<W> Turns<W> {
    /// Nothing open, nobody waiting.
    pub(super) fn new() -> Self {
        Self {
            open: AtomicUsize::new(0),
            line: Mutex::default(),
            waiting: AtomicUsize::new(0),
            unsettled: AtomicBool::new(false),
        }
    }

    /// Counts one more, unless there are as many as `most`; 0 is any number.
    pub(super) fn enter(&self, most: usize) -> bool {
        let more = |open| (most == 0 || open < most).then_some(open + 1);
        self.open.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    /// Counts one less. Settle afterwards when somebody waits.
    pub(super) fn leave(&self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }

    /// How many there are.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether somebody is in the line. One load.
    pub(super) fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// Joins the line. Settle afterwards.
    pub(super) fn join(&self, wish: W) {
        let mut line = self.line();
        line.push_back(wish);
        self.waiting.store(line.len(), Ordering::SeqCst);
    }

    /// Grants the wishes in front of the line until one comes back because it
    /// cannot be granted now.
    ///
    /// What is dropped meanwhile may settle again, from inside `grant` too: then
    /// it is done here, once more, and not there.
    pub(super) fn settle(&self, mut grant: impl FnMut(W) -> Option<W>) {
        self.unsettled.store(true, Ordering::SeqCst);
        loop {
            let mut line = match self.line.try_lock() {
                Ok(line) => line,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                // Who has it looks again when done, or settles after joining.
                Err(TryLockError::WouldBlock) => return,
            };
            while self.unsettled.swap(false, Ordering::SeqCst) {
                while let Some(first) = line.pop_front() {
                    let back = grant(first);
                    let granted = back.is_none();
                    if let Some(back) = back {
                        line.push_front(back);
                    }
                    self.waiting.store(line.len(), Ordering::SeqCst);
                    if !granted {
                        break;
                    }
                }
            }
            drop(line);
            if !self.unsettled.load(Ordering::SeqCst) {
                return;
            }
        }
    }

    fn line(&self) -> MutexGuard<'_, VecDeque<W>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rand::{Rng, SeedableRng, rngs::StdRng};
    use tokio::sync::oneshot;

    use super::*;

    type Places = Turns<oneshot::Sender<Place>>;

    /// One of `most` places; leaves when it is dropped.
    struct Place {
        turns: Arc<Places>,
        most: usize,
    }

    impl Drop for Place {
        fn drop(&mut self) {
            self.turns.leave();
            settle(&self.turns, self.most);
        }
    }

    fn place(turns: &Arc<Places>, most: usize) -> Option<Place> {
        let turns = Arc::clone(turns);
        turns.enter(most).then(|| Place { turns, most })
    }

    fn settle(turns: &Arc<Places>, most: usize) {
        turns.settle(|wish| {
            if wish.is_closed() {
                return None;
            }
            let Some(place) = place(turns, most) else {
                return Some(wish);
            };
            drop(wish.send(place));
            None
        });
    }

    fn join(turns: &Places) -> oneshot::Receiver<Place> {
        let (wish, granted) = oneshot::channel();
        turns.join(wish);
        granted
    }

    #[test]
    fn places_go_to_those_that_came_first_and_are_still_there() {
        let turns = Arc::new(Places::new());
        let first = place(&turns, 1).expect("free");
        assert!(place(&turns, 1).is_none());
        let mut line: Vec<_> = (0..4).map(|_| join(&turns)).collect();
        settle(&turns, 1);
        assert!(turns.is_waited_for() && line[0].try_recv().is_err());
        drop(line.remove(1));
        drop(first);
        let second = line[0].try_recv().expect("its turn");
        assert!(line[1].try_recv().is_err(), "one at a time");
        drop(second);
        drop(line.remove(1));
        let third = line[1].try_recv().expect("the third left with its place");
        assert!(!turns.is_waited_for() && turns.open() == 1);
        drop(third);
        assert_eq!(turns.open(), 0);
    }

    #[test]
    fn a_raised_bound_lets_those_go_that_wait() {
        let turns = Arc::new(Places::new());
        let _first = place(&turns, 1);
        let mut line: Vec<_> = (0..3).map(|_| join(&turns)).collect();
        settle(&turns, 3);
        let places: Vec<_> = line.iter_mut().filter_map(|waiting| waiting.try_recv().ok()).collect();
        assert_eq!(places.len(), 2);
        settle(&turns, 0);
        assert!(line[2].try_recv().is_ok(), "any number");
    }

    #[test]
    fn those_that_cannot_be_helped_are_waited_for() {
        let turns = Turns::new();
        for wish in [1, 2, 1] {
            turns.join(wish);
        }
        for (granted, left) in [(1, 2), (1, 2), (2, 1), (1, 0)] {
            turns.settle(|wish| (wish != granted).then_some(wish));
            assert_eq!(turns.line().len(), left, "in order, whatever they want");
        }
    }

    #[test]
    fn nobody_is_forgotten_and_no_place_is_given_twice() {
        const MOST: usize = 3;
        let turns = Arc::new(Places::new());
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let turns = Arc::clone(&turns);
                scope.spawn(move || {
                    let mut random = StdRng::seed_from_u64(thread);
                    for _ in 0..2000 {
                        let waiting = join(&turns);
                        settle(&turns, MOST);
                        if random.random_bool(0.2) {
                            // Leaves, perhaps with a place that it was just given.
                            continue;
                        }
                        let place = waiting.blocking_recv().expect("its turn comes");
                        assert!(turns.open() <= MOST);
                        drop(place);
                    }
                });
            }
        });
        assert_eq!(turns.open(), 0);
        settle(&turns, MOST);
        assert!(!turns.is_waited_for());
    }
}
