//! One timer for all of a connection's bounds.
//!
//! Bounds change with every call and pass hardly ever. The timer is not moved
//! when one is further away than before: it fires early, sees that nothing is
//! due and waits on. So a call costs no change of the runtime's timers.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::time::{Instant, Sleep};

/// A timer; its memory is taken when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// Resolves at `due` or later. Poll it again after each change of `due`.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if due < sleep.deadline() {
            sleep.as_mut().reset(due);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;

    #[tokio::test]
    async fn it_fires_when_the_newest_bound_has_passed_and_not_before() {
        let mut alarm = Alarm::default();
        let begun = Instant::now();
        let at = |millis| begun + Duration::from_millis(millis);
        let mut polled = |due| {
            let mut context = Context::from_waker(std::task::Waker::noop());
            alarm.poll(&mut context, due).is_ready()
        };
        assert!(!polled(at(60_000)) && !polled(at(90_000)) && !polled(at(50_000)));
        for millis in [20, 40, 30] {
            poll_fn(|cx| alarm.poll(cx, at(millis))).await;
            assert!(Instant::now() >= at(millis));
        }
    }
}
