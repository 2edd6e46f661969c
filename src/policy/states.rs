//! What the limits and breakers of functions remember, across reloads.
//!
//! Lives as long as the process. A state is its function's and its settings':
//! a reload that leaves both alone leaves it alone, one that changes the
//! settings makes a new one, except for calls under way, which stay counted
//! whatever their limit becomes.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{breaker::Breaker, queue::Queue, rate::RateLimit};
use crate::{
    config::{BreakerSettings, Config, FunctionSettings, RateLimitSettings},
    model::FunctionRef,
    proxy::retry::Budget,
};

/// The states of all functions.
#[derive(Debug, Default)]
pub struct States {
    /// By the name that limits are kept under.
    functions: Mutex<HashMap<FunctionRef, Held>>,
    /// Shared by the calls of all [`Standing::Unconfirmed`] functions, so that
    /// they are bounded and made-up names cost no memory.
    unconfirmed: Mutex<Held>,
}

/// How much is known of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It exists.
    Exists,
    /// Nobody says that it exists, but the configuration names it. There are
    /// only so many of those.
    Named,
    /// Nobody says that it exists.
    Unconfirmed,
}

/// The function whose states are asked for.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// As it is called.
    pub function: &'a FunctionRef,
    /// The name that its limits are kept under: one for all names that may be
    /// the same function ([`Config::limited_as`]).
    pub limits: &'a FunctionRef,
    /// What is known of it.
    pub standing: Standing,
}

/// The states of one function.
#[derive(Debug, Default)]
struct Held {
    /// Of the newest configuration that it follows.
    generation: u64,
    /// The functions that exist and use it; none where the configuration alone
    /// names it.
    users: HashSet<FunctionRef>,
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
    /// what there is and changes nothing.
    pub(super) fn of(&self, subject: Subject<'_>, settings: &FunctionSettings, generation: u64) -> Used {
        let has_state = settings.in_flight.is_some() || settings.rate_limit.is_some() || settings.breaker.is_some();
        if !has_state {
            // What there is may have to be turned off.
            return match self.functions().get_mut(subject.limits) {
                Some(held) => held.used(settings, generation),
                None => Used::default(),
            };
        }
        self.with(subject, |held, shared| {
            if shared {
                held.used(&without_breaker(settings.clone()), generation)
            } else {
                held.used(settings, generation)
            }
        })
    }

    /// What a function's calls have left for further tries; `None` where there
    /// are none.
    pub fn budget(&self, subject: Subject<'_>, settings: &FunctionSettings) -> Option<Arc<Budget>> {
        settings.retries.as_ref()?;
        Some(self.with(subject, |held, _| Arc::clone(held.budget.get_or_insert_default())))
    }

    /// Works with the states of a function, which may be those that the
    /// unconfirmed ones share.
    fn with<T>(&self, subject: Subject<'_>, work: impl FnOnce(&mut Held, bool) -> T) -> T {
        let mut functions = self.functions();
        if subject.standing == Standing::Unconfirmed {
            // It may have been known before.
            if let Some(held) = functions.get_mut(subject.limits) {
                return work(held, false);
            }
            drop(functions);
            return work(&mut self.unconfirmed(), true);
        }
        let held = functions.entry(subject.limits.clone()).or_default();
        if subject.standing == Standing::Exists && !held.users.contains(subject.function) {
            held.users.insert(subject.function.clone());
        }
        work(held, false)
    }

    /// Brings every state in line with the configuration of this number, which
    /// is live from now on: changed limits take effect, also for calls that
    /// wait, and what is turned off is dropped.
    pub fn reconfigure(&self, generation: u64, config: &Config) {
        self.functions().retain(|limits, held| {
            if generation >= held.generation {
                held.follow(&config.function(limits), generation);
                held.users.retain(|function| config.limited_as(function) == *limits);
            }
            !held.is_empty() && (!held.users.is_empty() || config.names(limits))
        });
        let mut unconfirmed = self.unconfirmed();
        if generation >= unconfirmed.generation {
            unconfirmed.follow(&without_breaker(config.other_functions()), generation);
        }
    }

    /// Drops the states of functions that are gone. Calls under way end as they would.
    pub fn retain(&self, exists: impl Fn(&FunctionRef) -> bool) {
        self.functions().retain(|_, held| {
            let named_only = held.users.is_empty();
            held.users.retain(&exists);
            named_only || !held.users.is_empty()
        });
    }

    /// What the states of functions that exist come to now, in no order.
    pub fn loads(&self) -> Vec<Load> {
        self.functions()
            .values()
            .flat_map(|held| {
                held.users.iter().map(|function| Load {
                    function: function.clone(),
                    queued: held.queue.as_ref().map(|queue| queue.waiting()),
                    breaker_open: held.breaker.state().map(|breaker| breaker.is_open()),
                })
            })
            .collect()
    }

    fn functions(&self) -> MutexGuard<'_, HashMap<FunctionRef, Held>> {
        self.functions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unconfirmed(&self) -> MutexGuard<'_, Held> {
        self.unconfirmed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For functions that share a state: a breaker would let one of them, which may
/// be a name that somebody made up, turn off all others.
fn without_breaker(settings: FunctionSettings) -> FunctionSettings {
    FunctionSettings {
        breaker: None,
        ..settings
    }
}

impl Held {
    /// What calls with these settings use of it.
    fn used(&mut self, settings: &FunctionSettings, generation: u64) -> Used {
        if generation >= self.generation {
            self.follow(settings, generation);
        }
        Used {
            queue: self.queue.clone().filter(|_| settings.in_flight.is_some()),
            rate_limit: self.rate_limit.state().filter(|_| settings.rate_limit.is_some()),
            breaker: self.breaker.state().filter(|_| settings.breaker.is_some()),
        }
    }

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
    use super::*;
    use crate::config::{self, Sources};

    /// Of a provider that tells no default namespace.
    fn config(toml: &str) -> Config {
        let toml = format!("provider.url = \"http://provider/\"\n{toml}");
        let loaded = config::parse(Some(&toml), &Sources::default()).expect("the test's configuration is right");
        loaded.config
    }

    /// These limits of all functions; 0 is none.
    fn limits(calls: u32, requests: u32, failures: u32) -> Config {
        config(&format!(
            "[functions.\"*\"]\nmax_in_flight = {calls}\nmax_queued = 9\nbreaker.failures = {failures}\n\
             rate_limit = {{ requests = {requests} }}"
        ))
    }

    fn function(name: &str) -> FunctionRef {
        FunctionRef::parse(name, "").expect("a name")
    }

    fn with<T>(
        config: &Config,
        name: &str,
        standing: Standing,
        work: impl FnOnce(Subject, &FunctionSettings) -> T,
    ) -> T {
        let function = function(name);
        let subject = Subject {
            function: &function,
            limits: &config.limited_as(&function),
            standing,
        };
        work(subject, &config.function(&function))
    }

    fn of(states: &States, config: &Config, name: &str, standing: Standing, generation: u64) -> Used {
        with(config, name, standing, |subject, settings| {
            states.of(subject, settings, generation)
        })
    }

    fn same<S>(one: Option<&Arc<S>>, other: Option<&Arc<S>>) -> bool {
        one.zip(other).is_some_and(|(one, other)| Arc::ptr_eq(one, other))
    }

    /// Which of queue, rate limit and breaker two functions share.
    fn shared(one: &Used, other: &Used) -> [bool; 3] {
        [
            same(one.queue.as_ref(), other.queue.as_ref()),
            same(one.rate_limit.as_ref(), other.rate_limit.as_ref()),
            same(one.breaker.as_ref(), other.breaker.as_ref()),
        ]
    }

    use Standing::{Exists, Named, Unconfirmed};

    #[test]
    fn a_state_lives_as_long_as_its_settings() {
        let states = States::default();
        let first = of(&states, &limits(1, 5, 5), "f", Exists, 1);
        for (generation, next, kept) in [
            (1, limits(1, 5, 5), [true, true, true]),
            (2, limits(7, 5, 5), [true, true, true]),
            (3, limits(7, 6, 5), [true, false, true]),
            (4, limits(7, 6, 6), [true, false, false]),
        ] {
            states.reconfigure(generation, &next);
            let used = of(&states, &next, "f", Exists, generation);
            assert_eq!(shared(&used, &first), kept, "generation {generation}");
        }
        states.reconfigure(5, &limits(0, 0, 0));
        assert_eq!(states.loads(), []);
    }

    #[test]
    fn a_budget_lives_as_long_as_its_function() {
        let states = States::default();
        let budget = |config: &Config, name, standing| {
            with(config, name, standing, |subject, settings| {
                states.budget(subject, settings)
            })
        };
        assert!(budget(&config(""), "f", Exists).is_none());
        let tries = config("[functions.\"*\"]\nretries.attempts = 1");
        let first = budget(&tries, "f", Exists);
        states.reconfigure(2, &tries);
        assert!(same(budget(&tries, "f", Exists).as_ref(), first.as_ref()));
        let unknown = budget(&tries, "g", Unconfirmed);
        assert!(same(budget(&tries, "h", Unconfirmed).as_ref(), unknown.as_ref()));
        assert!(!same(unknown.as_ref(), first.as_ref()));
        states.retain(|_| false);
        assert!(!same(budget(&tries, "f", Exists).as_ref(), first.as_ref()));
    }

    #[test]
    fn an_older_configuration_changes_nothing() {
        let states = States::default();
        let newest = of(&states, &limits(1, 5, 5), "f", Exists, 2);
        let older = of(&states, &limits(3, 9, 0), "f", Exists, 1);
        assert!(same(older.rate_limit.as_ref(), newest.rate_limit.as_ref()));
        assert!(older.breaker.is_none(), "it asked for none");
        states.reconfigure(1, &limits(0, 0, 0));
        let again = of(&states, &limits(1, 5, 5), "f", Exists, 2);
        assert!(same(again.queue.as_ref(), newest.queue.as_ref()));
    }

    #[tokio::test]
    async fn calls_stay_counted_while_the_limit_is_off() {
        let states = States::default();
        let of = |calls, generation| of(&states, &limits(calls, 0, 0), "f", Exists, generation).queue;
        let slot = of(1, 1).expect("a bound").turn().await.expect("free");
        states.reconfigure(2, &limits(0, 0, 0));
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
    fn functions_that_went_away_have_none() {
        let states = States::default();
        of(&states, &limits(0, 0, 0), "f", Exists, 1);
        assert_eq!(states.loads(), [], "nothing to remember");
        let first = of(&states, &limits(1, 1, 1), "f", Exists, 1);
        let load = Load {
            function: function("f"),
            queued: Some(0),
            breaker_open: Some(false),
        };
        assert_eq!(states.loads(), [load]);
        let doubted = of(&states, &limits(1, 1, 1), "f", Unconfirmed, 1);
        assert_eq!(shared(&doubted, &first), [true; 3], "it was known before");
        states.retain(|_| false);
        assert_eq!(states.loads(), []);
    }

    #[test]
    fn names_that_may_be_one_function_share_its_states() {
        let tables = "[functions.\"*\"]\nmax_in_flight = 1\nbreaker.failures = 1\nrate_limit = { requests = 1 }\n\
                      [functions.a]\n[functions.\"a.dev\"]\n[functions.\"b.dev\"]\n";
        let config = config(tables);
        for (one, other, expected) in [
            ("a", "a.any", true),
            ("a", "a.dev", false),
            ("b", "b.dev", true),
            ("b.any", "b.dev", false),
            ("c", "c.any", true),
            ("c.dev", "c.any", true),
            ("a", "c", false),
        ] {
            let states = States::default();
            let [one_s, other_s] = [one, other].map(|name| of(&states, &config, name, Exists, 1));
            assert_eq!(shared(&one_s, &other_s), [expected; 3], "{one} {other}");
            states.retain(|known| *known == function(other));
            let again = of(&states, &config, one, Exists, 1);
            assert_eq!(shared(&again, &other_s), [expected; 3], "{one} while {other} is there");
        }
    }

    #[test]
    fn functions_that_nobody_vouches_for_are_bounded_too() {
        let states = States::default();
        let tables = "[functions.\"*\"]\nmax_in_flight = 1\nbreaker.failures = 1\nrate_limit = { requests = 1 }\n\
                      [functions.named]\n[[routes]]\npath = \"/\"\nfunction = \"routed\"\n";
        let config = config(tables);
        let named = of(&states, &config, "named", Named, 1);
        let routed = of(&states, &config, "routed", Named, 1);
        let [one, other] = ["one", "other"].map(|name| of(&states, &config, name, Unconfirmed, 1));
        assert_eq!(shared(&one, &other), [true, true, false]);
        assert!(one.breaker.is_none(), "one must not turn off the others");
        assert_eq!(shared(&named, &one), [false; 3]);
        states.retain(|_| false);
        states.reconfigure(2, &config);
        for (name, before) in [("named", &named), ("routed", &routed)] {
            let again = of(&states, &config, name, Named, 2);
            assert_eq!(shared(&again, before), [true; 3], "{name}");
        }
        assert_eq!(
            shared(&of(&states, &config, "one", Unconfirmed, 2), &one),
            [true, true, false]
        );
        assert_eq!(states.loads(), [], "of functions that exist");
        states.reconfigure(3, &limits(1, 1, 1));
        assert!(states.functions().is_empty(), "no file names them now");
    }
}
