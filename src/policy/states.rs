//! What the limits and breakers of functions remember, across reloads.
//!
//! Lives as long as the process. A state is its function's and its settings':
//! a reload that leaves both alone leaves it alone, one that changes the
//! settings makes a new one, except for calls under way, which stay counted
//! whatever their limit becomes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{breaker::Breaker, queue::Queue, rate::RateLimit};
use crate::{
    config::{BreakerSettings, FunctionSettings, RateLimitSettings},
    model::FunctionRef,
    proxy::retry::Budget,
};

/// The states of all functions.
#[derive(Debug, Default)]
pub struct States {
    functions: Mutex<HashMap<FunctionRef, Held>>,
}

/// The states of one function.
#[derive(Debug, Default)]
struct Held {
    /// Of the newest configuration that it follows.
    generation: u64,
    /// Takes changed limits in place: calls under way stay counted.
    queue: Option<Arc<Queue>>,
    rate_limit: Kept<RateLimitSettings, RateLimit>,
    breaker: Kept<BreakerSettings, Breaker>,
    /// Holds counts only, so it fits any settings, those of routes included,
    /// and stays as long as the function.
    budget: Option<Arc<Budget>>,
}

/// The states that one function's calls use.
#[derive(Debug, Default)]
pub(super) struct Used {
    pub(super) queue: Option<Arc<Queue>>,
    pub(super) rate_limit: Option<Arc<RateLimit>>,
    pub(super) breaker: Option<Arc<Breaker>>,
}

/// What the states of one function come to now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// The function.
    pub function: FunctionRef,
    /// Calls that wait for their turn, where there is a bound.
    pub queued: Option<usize>,
    /// Whether calls are refused, where there is a breaker.
    pub breaker_open: Option<bool>,
}

impl States {
    /// The states of a function with these settings, of the configuration with
    /// this number; they are made where there are none.
    ///
    /// A call that still works with an older configuration than the newest gets
    /// what there is and changes nothing. A function that is not `known` to
    /// exist gets nothing new either: made-up names must not cost memory.
    pub(super) fn of(&self, function: &FunctionRef, settings: &FunctionSettings, generation: u64, known: bool) -> Used {
        let mut functions = self.functions();
        if known && has_state(settings) {
            functions.entry(function.clone()).or_default();
        }
        let Some(held) = functions.get_mut(function) else {
            return Used::default();
        };
        if generation >= held.generation {
            held.follow(settings, generation);
        }
        Used {
            queue: held.queue.clone().filter(|_| settings.in_flight.is_some()),
            rate_limit: held.rate_limit.state().filter(|_| settings.rate_limit.is_some()),
            breaker: held.breaker.state().filter(|_| settings.breaker.is_some()),
        }
    }

    /// What a function's calls have left for further tries; `None` where there
    /// are none. A function that is not `known` to exist gets one of its own.
    pub fn budget(&self, function: &FunctionRef, settings: &FunctionSettings, known: bool) -> Option<Arc<Budget>> {
        settings.retries.as_ref()?;
        if !known {
            return Some(Arc::default());
        }
        let mut functions = self.functions();
        let held = functions.entry(function.clone()).or_default();
        Some(Arc::clone(held.budget.get_or_insert_default()))
    }

    /// Brings every state in line with the configuration of this number, which
    /// is live from now on: changed limits take effect, also for calls that
    /// wait, and what is turned off is dropped.
    pub fn reconfigure(&self, generation: u64, settings: impl Fn(&FunctionRef) -> FunctionSettings) {
        self.functions().retain(|function, held| {
            if generation >= held.generation {
                held.follow(&settings(function), generation);
            }
            !held.is_empty()
        });
    }

    /// Drops the states of functions that are gone. Calls under way end as they would.
    pub fn retain(&self, exists: impl Fn(&FunctionRef) -> bool) {
        self.functions().retain(|function, _| exists(function));
    }

    /// What all states come to now, in no order.
    pub fn loads(&self) -> Vec<Load> {
        self.functions()
            .iter()
            .map(|(function, held)| Load {
                function: function.clone(),
                queued: held.queue.as_ref().map(|queue| queue.waiting()),
                breaker_open: held.breaker.state().map(|breaker| breaker.is_open()),
            })
            .collect()
    }

    fn functions(&self) -> MutexGuard<'_, HashMap<FunctionRef, Held>> {
        self.functions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn has_state(settings: &FunctionSettings) -> bool {
    settings.in_flight.is_some() || settings.rate_limit.is_some() || settings.breaker.is_some()
}

impl Held {
    fn follow(&mut self, settings: &FunctionSettings, generation: u64) {
        self.generation = generation;
        self.rate_limit.follow(settings.rate_limit.as_ref(), RateLimit::new);
        self.breaker.follow(settings.breaker.as_ref(), Breaker::new);
        match (&self.queue, settings.in_flight) {
            (Some(queue), limit) => {
                queue.set_limit(limit);
                // Kept while calls are counted, should the limit come back meanwhile.
                if limit.is_none() && queue.is_idle() {
                    self.queue = None;
                }
            }
            (None, Some(limit)) => self.queue = Some(Arc::new(Queue::new(limit))),
            (None, None) => {}
        }
    }

    fn is_empty(&self) -> bool {
        self.queue.is_none() && self.budget.is_none() && self.rate_limit.0.is_none() && self.breaker.0.is_none()
    }
}

/// A state and the settings that it was made with.
#[derive(Debug)]
struct Kept<P, S>(Option<(P, Arc<S>)>);

impl<P: Clone + PartialEq, S> Kept<P, S> {
    /// Keeps the state while its settings stay the same.
    fn follow(&mut self, settings: Option<&P>, make: impl FnOnce(&P) -> S) {
        if self.0.as_ref().map(|(made_with, _)| made_with) != settings {
            self.0 = settings.map(|settings| (settings.clone(), Arc::new(make(settings))));
        }
    }

    fn state(&self) -> Option<Arc<S>> {
        self.0.as_ref().map(|(_, state)| Arc::clone(state))
    }
}

impl<P, S> Default for Kept<P, S> {
    fn default() -> Self {
        Self(None)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{InFlightLimit, RateBy, Ratio, RetrySettings};

    fn function() -> FunctionRef {
        FunctionRef::new("f", "fn")
    }

    fn settings(calls: usize, requests: u32, failures: u32) -> FunctionSettings {
        let second = Duration::from_secs(1);
        let mut settings = FunctionSettings::none();
        settings.in_flight = (calls > 0).then_some(InFlightLimit {
            calls,
            queued: 9,
            wait: second,
        });
        settings.rate_limit = (requests > 0).then_some(RateLimitSettings {
            requests,
            per: second,
            burst: 1,
            by: RateBy::Function,
        });
        settings.breaker = (failures > 0).then(|| BreakerSettings {
            failures,
            statuses: Vec::new(),
            open: second,
            open_max: second,
            trials: 1,
        });
        settings
    }

    fn same<S>(one: Option<&Arc<S>>, other: Option<&Arc<S>>) -> bool {
        one.zip(other).is_some_and(|(one, other)| Arc::ptr_eq(one, other))
    }

    #[test]
    fn a_state_lives_as_long_as_its_settings() {
        let states = States::default();
        let first = states.of(&function(), &settings(1, 5, 5), 1, true);
        for (generation, next, kept) in [
            (1, settings(1, 5, 5), [true, true, true]),
            (2, settings(7, 5, 5), [true, true, true]),
            (3, settings(7, 6, 5), [true, false, true]),
            (4, settings(7, 6, 6), [true, false, false]),
        ] {
            states.reconfigure(generation, |_| next.clone());
            let used = states.of(&function(), &next, generation, true);
            let found = [
                same(used.queue.as_ref(), first.queue.as_ref()),
                same(used.rate_limit.as_ref(), first.rate_limit.as_ref()),
                same(used.breaker.as_ref(), first.breaker.as_ref()),
            ];
            assert_eq!(found, kept, "generation {generation}");
        }
        states.reconfigure(5, |_| settings(0, 0, 0));
        assert_eq!(states.loads(), []);
    }

    #[test]
    fn a_budget_lives_as_long_as_its_function() {
        let states = States::default();
        let mut tries = settings(0, 0, 0);
        assert!(states.budget(&function(), &tries, true).is_none());
        tries.retries = Some(RetrySettings {
            attempts: 1,
            statuses: Vec::new(),
            methods: Vec::new(),
            budget: Ratio::ALL,
            backoff: Duration::ZERO,
            backoff_max: Duration::ZERO,
            max_body: 0,
        });
        let first = states.budget(&function(), &tries, true);
        states.reconfigure(2, |_| tries.clone());
        assert!(same(states.budget(&function(), &tries, true).as_ref(), first.as_ref()));
        assert!(!same(
            states.budget(&function(), &tries, false).as_ref(),
            first.as_ref()
        ));
        states.retain(|_| false);
        assert!(!same(states.budget(&function(), &tries, true).as_ref(), first.as_ref()));
    }

    #[test]
    fn an_older_configuration_changes_nothing() {
        let states = States::default();
        let newest = states.of(&function(), &settings(1, 5, 5), 2, true);
        let older = states.of(&function(), &settings(3, 9, 0), 1, true);
        assert!(same(older.rate_limit.as_ref(), newest.rate_limit.as_ref()));
        assert!(older.breaker.is_none(), "it asked for none");
        states.reconfigure(1, |_| settings(0, 0, 0));
        let again = states.of(&function(), &settings(1, 5, 5), 2, true);
        assert!(same(again.queue.as_ref(), newest.queue.as_ref()));
    }

    #[tokio::test]
    async fn calls_stay_counted_while_the_limit_is_off() {
        let states = States::default();
        let of = |calls, generation| states.of(&function(), &settings(calls, 0, 0), generation, true).queue;
        let slot = of(1, 1).expect("a bound").turn().await.expect("free");
        states.reconfigure(2, |_| settings(0, 0, 0));
        assert!(of(0, 2).is_none());
        let queue = of(1, 3).expect("a bound");
        assert_eq!(
            futures_util::FutureExt::now_or_never(queue.turn()).map(|turn| turn.is_ok()),
            None
        );
        drop(slot);
        assert!(queue.turn().await.is_ok());
    }

    #[test]
    fn unknown_names_and_functions_that_went_away_have_none() {
        let states = States::default();
        assert!(states.of(&function(), &settings(1, 1, 1), 1, false).queue.is_none());
        assert_eq!(states.loads(), []);
        states.of(&function(), &settings(0, 0, 0), 1, true);
        assert_eq!(states.loads(), [], "nothing to remember");
        states.of(&function(), &settings(1, 1, 1), 1, true);
        let load = Load {
            function: function(),
            queued: Some(0),
            breaker_open: Some(false),
        };
        assert_eq!(states.loads(), [load]);
        assert!(states.of(&function(), &settings(1, 1, 1), 1, false).queue.is_some());
        states.retain(|_| false);
        assert_eq!(states.loads(), []);
    }
}
