//! A bound on calls under way, and the line of those that wait for their turn.
//!
//! First come, first served. Counts, not permits: a lowered limit takes nothing
//! from running calls, a raised one lets waiting calls go at once. Dropping a
//! wait gives up its place, dropping a [`Slot`] gives it to the next call.
//! Nothing here knows of functions or requests.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use tokio::sync::oneshot;

use super::Refused;
use crate::config::InFlightLimit;

/// The calls of one function, under way and waiting.
#[derive(Debug)]
pub struct Queue {
    line: Mutex<Line>,
}

/// While a call waits, `running` is not below the limit: whoever changes either
/// lets the next calls go under the same lock.
#[derive(Debug)]
struct Line {
    /// `None` lets every call go.
    limit: Option<InFlightLimit>,
    running: usize,
    /// In the order in which they came, so tickets rise.
    waiting: VecDeque<(u64, oneshot::Sender<Slot>)>,
    next_ticket: u64,
}

/// One call's right to run; dropping it ends the call.
#[derive(Debug)]
pub struct Slot(Arc<Queue>);

impl Queue {
    /// Nobody running, nobody waiting.
    pub fn new(limit: InFlightLimit) -> Self {
        Self {
            line: Mutex::new(Line {
                limit: Some(limit),
                running: 0,
                waiting: VecDeque::new(),
                next_ticket: 0,
            }),
        }
    }

    /// Changes the limit; `None` is no limit any more. Calls that may run now do so at once.
    pub fn set_limit(self: &Arc<Self>, limit: Option<InFlightLimit>) {
        let mut line = self.line();
        line.limit = limit;
        let granted = line.grant();
        drop(line);
        self.send(granted);
    }

    /// Waits for this call's turn. Dropping the future gives up its place.
    ///
    /// # Errors
    /// [`Refused::QueueFull`] at once, [`Refused::QueueTimeout`] when the wait is over.
    pub async fn turn(self: &Arc<Self>) -> Result<Slot, Refused> {
        let (waiting, limit) = {
            let mut line = self.line();
            match line.limit {
                Some(limit) if line.running >= limit.calls => {
                    if line.waiting.len() >= limit.queued {
                        return Err(Refused::QueueFull {
                            calls: limit.calls,
                            queued: limit.queued,
                        });
                    }
                    (self.join(&mut line), limit)
                }
                _ => {
                    line.running += 1;
                    return Ok(Slot(Arc::clone(self)));
                }
            }
        };
        tokio::time::timeout(limit.wait, waiting)
            .await
            .map_err(|_| Refused::QueueTimeout {
                calls: limit.calls,
                waited: limit.wait,
            })
    }

    /// This call's turn, if it is now.
    pub fn try_turn(self: &Arc<Self>) -> Option<Slot> {
        let mut line = self.line();
        if line.limit.is_some_and(|limit| line.running >= limit.calls) {
            return None;
        }
        line.running += 1;
        Some(Slot(Arc::clone(self)))
    }

    /// How many calls wait.
    pub fn waiting(&self) -> usize {
        self.line().waiting.len()
    }

    /// Whether no call runs or waits.
    pub fn is_idle(&self) -> bool {
        let line = self.line();
        line.running == 0 && line.waiting.is_empty()
    }

    fn join(self: &Arc<Self>, line: &mut Line) -> Waiting {
        let (sender, slot) = oneshot::channel();
        let ticket = line.next_ticket;
        line.next_ticket += 1;
        line.waiting.push_back((ticket, sender));
        Waiting {
            queue: Arc::clone(self),
            ticket,
            slot,
        }
    }

    /// Hands out slots that are counted already. Outside the lock: a slot whose
    /// call has left meanwhile comes back as it is dropped here.
    fn send(self: &Arc<Self>, granted: Vec<oneshot::Sender<Slot>>) {
        for sender in granted {
            let _left = sender.send(Slot(Arc::clone(self)));
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// Takes those out of the line who may run now, and counts them.
    fn grant(&mut self) -> Vec<oneshot::Sender<Slot>> {
        let free = self
            .limit
            .map_or(usize::MAX, |limit| limit.calls.saturating_sub(self.running));
        let granted: Vec<_> = self.waiting.drain(..free.min(self.waiting.len())).collect();
        self.running += granted.len();
        granted.into_iter().map(|(_, sender)| sender).collect()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut line = self.0.line();
        line.running -= 1;
        let granted = line.grant();
        drop(line);
        self.0.send(granted);
    }
}

/// A place in the line.
struct Waiting {
    queue: Arc<Queue>,
    ticket: u64,
    slot: oneshot::Receiver<Slot>,
}

impl Future for Waiting {
    type Output = Slot;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Slot> {
        match Pin::new(&mut self.slot).poll(cx) {
            Poll::Ready(Ok(slot)) => Poll::Ready(slot),
            // The sender is dropped by `Waiting::drop` only, and by sending.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut line = self.queue.line();
        if let Ok(place) = line.waiting.binary_search_by_key(&self.ticket, |(ticket, _)| *ticket) {
            line.waiting.remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{task::Waker, time::Duration};

    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    fn limit(calls: usize, queued: usize) -> InFlightLimit {
        InFlightLimit {
            calls,
            queued,
            wait: Duration::from_secs(60),
        }
    }

    type Turn = Pin<Box<dyn Future<Output = Result<Slot, Refused>>>>;

    fn turn(queue: &Arc<Queue>) -> Turn {
        let queue = Arc::clone(queue);
        Box::pin(async move { queue.turn().await })
    }

    fn poll(turn: &mut Turn) -> Poll<Result<Slot, Refused>> {
        turn.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    fn running(queue: &Queue) -> usize {
        queue.line().running
    }

    /// Calls come, end, leave and see the limit change in any order. After each
    /// step: no call waits that may run, none runs that may not, and those that
    /// wait go in the order in which they came.
    #[tokio::test]
    async fn never_more_than_the_limit_never_fewer_than_possible() {
        for seed in 0..50 {
            let mut random = StdRng::seed_from_u64(seed);
            let mut now = limit(3, 5);
            let queue = Arc::new(Queue::new(now));
            let mut held: Vec<Slot> = Vec::new();
            let mut waiting: VecDeque<Turn> = VecDeque::new();
            for step in 0..400 {
                // The runtime lets a task poll only so much without a pause.
                tokio::task::yield_now().await;
                let before = running(&queue);
                match random.random_range(0..10) {
                    0..4 => {
                        let mut call = turn(&queue);
                        match poll(&mut call) {
                            Poll::Ready(Ok(slot)) => held.push(slot),
                            Poll::Ready(Err(refused)) => {
                                assert!(matches!(refused, Refused::QueueFull { .. }), "{refused}");
                                assert!(before >= now.calls && waiting.len() >= now.queued);
                            }
                            Poll::Pending => waiting.push_back(call),
                        }
                    }
                    4..7 if !held.is_empty() => drop(held.swap_remove(random.random_range(0..held.len()))),
                    7..9 if !waiting.is_empty() => drop(waiting.remove(random.random_range(0..waiting.len()))),
                    _ => {
                        now = limit(random.random_range(1..6), random.random_range(0..8));
                        queue.set_limit(Some(now));
                    }
                }
                assert!(running(&queue) <= now.calls.max(before), "seed {seed} step {step}");
                // A call may leave after its turn came and before it looked.
                if random.random_bool(0.2) && !waiting.is_empty() {
                    waiting.pop_front();
                }
                while let Some(first) = waiting.front_mut() {
                    let Poll::Ready(slot) = poll(first) else { break };
                    held.push(slot.expect("no time has passed"));
                    waiting.pop_front();
                }
                for call in &mut waiting {
                    assert!(poll(call).is_pending(), "seed {seed} step {step}: not its turn");
                }
                assert_eq!(running(&queue), held.len(), "seed {seed} step {step}");
                assert_eq!(queue.waiting(), waiting.len(), "seed {seed} step {step}");
                assert!(
                    waiting.is_empty() || held.len() >= now.calls,
                    "seed {seed} step {step}: a call waits although it may run"
                );
            }
            drop((held, waiting));
            assert!(queue.is_idle(), "seed {seed}");
        }
    }

    #[tokio::test]
    async fn a_wait_ends_after_its_time_and_leaves_nothing() {
        let queue = Arc::new(Queue::new(InFlightLimit {
            wait: Duration::from_millis(5),
            ..limit(1, 1)
        }));
        let slot = queue.turn().await.expect("free");
        assert!(matches!(queue.turn().await, Err(Refused::QueueTimeout { .. })));
        assert_eq!(queue.waiting(), 0);
        drop(slot);
        assert!(queue.is_idle());
    }

    #[tokio::test]
    async fn without_a_limit_those_who_wait_go() {
        let queue = Arc::new(Queue::new(limit(1, 9)));
        let _slot = queue.turn().await.expect("free");
        let mut calls = [turn(&queue), turn(&queue)];
        assert!(calls.iter_mut().all(|call| poll(call).is_pending()));
        queue.set_limit(None);
        let slots: Vec<_> = calls.iter_mut().map(poll).collect();
        assert!(slots.iter().all(|slot| matches!(slot, Poll::Ready(Ok(_)))));
        assert_eq!(running(&queue), 3);
    }
}
