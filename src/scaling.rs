//! Whether a function can take a call, and starting it when it cannot.
//!
//! A provider that tracks its own replicas answers at once. Of a remote one the
//! lists that are read in the background tell; where they do not, the function's
//! status is asked for, shared between the calls that need it and believed for
//! `scaling.cache_ttl` (compatibility.md section 3.1). A function at zero is
//! started once, however many calls wait for it, which are held up to
//! `scaling.max_held`. Each call waits as long as it may itself; the work they
//! share ends when it is done or nobody waits for it any more.
//!
//! What to do is decided by the pure functions of [`bounds`], [`decide`], [`alert`]
//! and [`rules`]; this module holds the caches and the waiting, and
//! [`autoscaler`] what follows the load.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::Utc;
use futures_util::FutureExt;
use tokio::{sync::watch, time::Instant};

use crate::{
    config::{Bound, Config},
    model::{FunctionRef, FunctionStatus},
    provider::{Provider, ProviderError},
    shutdown::Tasks,
};

pub mod alert;
pub mod autoscaler;
pub mod bounds;
pub mod decide;
mod facts;
pub mod journal;
pub mod lease;
pub mod rules;

use bounds::Bounds;
use facts::Facts;
use journal::{Cause, Change, Journal};

/// The settings in force for one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Start functions at zero.
    pub from_zero: bool,
    /// How often a starting function is looked at.
    pub poll_interval: Duration,
    /// How long a call waits for a replica.
    pub activation: Bound,
    /// How long a replica count is believed.
    pub cache_ttl: Duration,
    /// Most calls that wait for one function.
    pub max_held: usize,
}

impl Policy {
    /// Reads the policy from a configuration.
    pub fn new(config: &Config) -> Self {
        Self {
            from_zero: config.from_zero(),
            poll_interval: config.scaling.poll_interval,
            activation: Bound {
                after: config.scaling.activation_timeout,
                setting: "scaling.activation_timeout",
            },
            cache_ttl: config.scaling.cache_ttl,
            max_held: match config.scaling.max_held {
                0 => usize::MAX,
                held => held as usize,
            },
        }
    }

    /// The error of a function that did not come up in time.
    fn late(&self, function: &FunctionRef) -> ProviderError {
        let Bound { after, setting } = self.activation;
        ProviderError::NotReady {
            reason: format!("function {function} did not become ready within {setting} ({after:?})"),
            retry_after: self.poll_interval.max(Duration::from_secs(1)),
            setting: Some(setting),
        }
    }

    /// The error of a call that found too many waiting.
    fn crowded(&self, function: &FunctionRef) -> ProviderError {
        ProviderError::NotReady {
            reason: format!(
                "{} calls wait for function {function} to become ready, which is all that scaling.max_held allows",
                self.max_held
            ),
            retry_after: self.poll_interval.max(Duration::from_secs(1)),
            setting: Some("scaling.max_held"),
        }
    }
}

/// The result of one shared look-up or activation: whether the function can
/// take a call. Whoever waits for it is a receiver.
type Landing = watch::Sender<Option<Result<bool, ProviderError>>>;

/// One who waits.
type Passenger = watch::Receiver<Option<Result<bool, ProviderError>>>;

/// Function facts and the activations under way. One for each provider; it
/// lives as long as that provider, across reloads.
pub struct Scaling {
    provider: Arc<dyn Provider>,
    tasks: Tasks,
    facts: Facts,
    journal: Arc<Journal>,
    flights: Mutex<HashMap<(FunctionRef, Flight), Landing>>,
    /// Functions that the provider could not be asked about the last time: the
    /// log is told once of each.
    doubted: Mutex<HashSet<FunctionRef>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Flight {
    /// Asking the provider whether the function exists and is ready.
    Look,
    /// Bringing the function up.
    Activate,
}

/// Functions that the log is told of at most while the provider is in trouble:
/// anybody can make names up.
const MAX_DOUBTED: usize = 1000;

/// How often replicas are asked for when the provider refuses: clusters answer
/// with a conflict when someone else changed the function at the same time.
const MAX_SCALE_TRIES: u32 = 20;

/// A flight under way; dropping it lets the next call start another, however it
/// ended.
struct Airborne {
    scaling: Arc<Scaling>,
    key: (FunctionRef, Flight),
    landing: Landing,
}

impl Airborne {
    /// Returns once nobody waits for the flight; then nobody can join it either.
    async fn abandoned(&self) {
        loop {
            self.landing.closed().await;
            // Those who join do it under this lock.
            let mut flights = self.scaling.flights();
            if self.landing.receiver_count() == 0 {
                flights.remove(&self.key);
                return;
            }
        }
    }
}

impl Drop for Airborne {
    fn drop(&mut self) {
        let mut flights = self.scaling.flights();
        // An abandoned flight may have a successor already.
        let ours = |landing: &Landing| landing.same_channel(&self.landing);
        if flights.get(&self.key).is_some_and(ours) {
            flights.remove(&self.key);
        }
    }
}

impl Scaling {
    /// No facts yet.
    pub fn new(provider: Arc<dyn Provider>, tasks: Tasks, journal: Arc<Journal>) -> Arc<Self> {
        Arc::new(Self {
            provider,
            tasks,
            facts: Facts::default(),
            journal,
            flights: Mutex::default(),
            doubted: Mutex::default(),
        })
    }

    /// Forgets what is known of a function, because it was changed.
    pub fn forget(&self, function: &FunctionRef) {
        self.facts.forget(function);
    }

    /// What [`Scaling::learn_all`] must be given; taken before the list is read.
    pub fn version(&self) -> u64 {
        self.facts.version()
    }

    /// Takes what a list of all functions says, which is believed so long. Nothing
    /// that changed since `version` is taken.
    pub fn learn_all<'s>(
        &self,
        listed: impl Iterator<Item = &'s FunctionStatus>,
        default_namespace: &str,
        version: u64,
        believed: Duration,
    ) {
        if !self.provider.tracks_replicas() {
            self.facts.learn_all(listed, default_namespace, version, believed);
        }
    }

    /// Returns when the function can take a call, with the time that this took
    /// where it had to be waited for.
    ///
    /// With a warm function this does no I/O. Dropping the future stops the
    /// wait and frees its place; the activation goes on while other calls wait
    /// for it.
    ///
    /// # Errors
    /// `NotFound` for a function that does not exist, `NotReady` when it did
    /// not come up in time, too many wait or it may not be started, else what
    /// the provider said.
    pub async fn ensure(
        self: &Arc<Self>,
        function: &FunctionRef,
        policy: Policy,
    ) -> Result<Option<Duration>, ProviderError> {
        if self.provider.tracks_replicas() {
            return match self.provider.upstream(function) {
                Err(ProviderError::NotReady { .. }) if policy.from_zero => {
                    // In boxes: calls of warm functions should not have room for them.
                    Box::pin(self.activated(function, policy)).await
                }
                Err(error) => Err(error),
                Ok(_) => Ok(None),
            };
        }
        if !policy.from_zero || self.known_ready(function, policy) {
            return Ok(None);
        }
        if Box::pin(self.share(function, Flight::Look, policy)).await? {
            return Ok(None);
        }
        Box::pin(self.activated(function, policy)).await
    }

    /// Whether a function is known to be ready, which [`Scaling::ensure`] would
    /// return at once for. Of a provider that tracks replicas, its
    /// [`upstream`](Provider::upstream) tells.
    pub fn is_warm(&self, function: &FunctionRef, policy: Policy) -> bool {
        self.provider.tracks_replicas() || !policy.from_zero || self.known_ready(function, policy)
    }

    /// Calls that wait for the replicas of each function, of those that have any.
    pub fn held(&self) -> HashMap<FunctionRef, u64> {
        self.flights()
            .iter()
            .filter(|((_, flight), _)| *flight == Flight::Activate)
            .map(|((function, _), landing)| (function.clone(), landing.receiver_count() as u64))
            .collect()
    }

    /// Waits for the function's activation, as long as this call may.
    async fn activated(
        self: &Arc<Self>,
        function: &FunctionRef,
        policy: Policy,
    ) -> Result<Option<Duration>, ProviderError> {
        let began = Instant::now();
        tokio::time::timeout(policy.activation.after, self.share(function, Flight::Activate, policy))
            .await
            .unwrap_or_else(|_| Err(policy.late(function)))
            .map(|_| Some(began.elapsed()))
    }

    /// Whether the provider knows the function, for names met for the first time.
    ///
    /// # Errors
    /// What the provider said; `NotFound` means that it does not.
    pub async fn exists(self: &Arc<Self>, function: &FunctionRef, policy: Policy) -> Result<(), ProviderError> {
        let found = self.share(function, Flight::Look, policy).await.map(drop);
        let mut doubted = self.doubted.lock().unwrap_or_else(PoisonError::into_inner);
        match &found {
            Ok(()) | Err(ProviderError::NotFound(_)) => {
                doubted.remove(function);
                // Full of names that nobody asks for any more, perhaps.
                if doubted.len() >= MAX_DOUBTED {
                    doubted.clear();
                }
            }
            Err(error) if doubted.len() < MAX_DOUBTED && doubted.insert(function.clone()) => {
                tracing::warn!(%function, %error, "function not confirmed by the provider");
            }
            Err(error) => tracing::debug!(%function, %error, "function not confirmed by the provider"),
        }
        found
    }

    fn known_ready(&self, function: &FunctionRef, policy: Policy) -> bool {
        !policy.cache_ttl.is_zero() && self.facts.is_ready(function)
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<(FunctionRef, Flight), Landing>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the flight of this kind for a function, or starts it.
    async fn share(
        self: &Arc<Self>,
        function: &FunctionRef,
        flight: Flight,
        policy: Policy,
    ) -> Result<bool, ProviderError> {
        let mut result = self.join_or_start(function, flight, policy)?;
        let stopped = || ProviderError::NotReady {
            reason: "the gateway is stopping, or failed to look after the function".to_owned(),
            retry_after: Duration::from_secs(1),
            setting: None,
        };
        let landed = result.wait_for(Option::is_some).await.map_err(|_| stopped())?;
        landed.clone().unwrap_or_else(|| Err(stopped()))
    }

    fn join_or_start(
        self: &Arc<Self>,
        function: &FunctionRef,
        flight: Flight,
        policy: Policy,
    ) -> Result<Passenger, ProviderError> {
        let key = (function.clone(), flight);
        let mut flights = self.flights();
        if let Some(landing) = flights.get(&key) {
            if flight == Flight::Activate && landing.receiver_count() >= policy.max_held {
                return Err(policy.crowded(function));
            }
            return Ok(landing.subscribe());
        }
        let (landing, passenger) = watch::channel(None);
        flights.insert(key.clone(), landing.clone());
        drop(flights);
        let airborne = Airborne {
            scaling: Arc::clone(self),
            key,
            landing,
        };
        self.tasks.spawn(async move {
            let Airborne {
                scaling,
                key: (function, _),
                ..
            } = &airborne;
            let started = Instant::now();
            let work = async {
                match flight {
                    Flight::Look => scaling.look(function, policy).await.map(|status| can_serve(&status)),
                    Flight::Activate => scaling.activate(function, policy).await.map(|()| true),
                }
            };
            let result = tokio::select! {
                result = work => Some(result),
                () = airborne.abandoned() => None,
            };
            if flight == Flight::Activate {
                report(function, started, result.as_ref());
            }
            let landing = airborne.landing.clone();
            drop(airborne);
            landing.send_replace(result);
        });
        Ok(passenger)
    }

    async fn look(&self, function: &FunctionRef, policy: Policy) -> Result<FunctionStatus, ProviderError> {
        let status = self.provider.status(function, false).await?;
        self.facts.learn(function, &status, policy.cache_ttl);
        Ok(status)
    }

    /// Brings a function up, however long it takes.
    async fn activate(&self, function: &FunctionRef, policy: Policy) -> Result<(), ProviderError> {
        self.want_replicas(function, policy).await?;
        loop {
            let mut changed = self.provider.changed();
            // A future hears nothing before it is polled, and the change may
            // come while the function is looked at.
            let known = changed.as_mut().now_or_never().is_some();
            if self.is_ready(function, policy).await? {
                return Ok(());
            }
            if !known {
                // Woken by providers that can tell, by the clock with the others.
                let _ = tokio::time::timeout(policy.poll_interval, changed).await;
            }
        }
    }

    /// Asks for replicas until the function is meant to have some.
    async fn want_replicas(&self, function: &FunctionRef, policy: Policy) -> Result<(), ProviderError> {
        let mut tries = 1;
        loop {
            let status = self.look(function, policy).await?;
            if status.replicas > 0 {
                return Ok(());
            }
            let replicas = Bounds::from_labels(status.labels.as_ref()).from_zero();
            match self.provider.scale(function, replicas).await {
                Ok(()) => {
                    let change = Change {
                        at: Utc::now(),
                        from: Some(0),
                        to: replicas,
                        cause: Cause::Activation,
                        load: None,
                        error: None,
                    };
                    self.journal.note(function, &change);
                    return Ok(());
                }
                Err(
                    error @ (ProviderError::NotFound(_) | ProviderError::Invalid(_) | ProviderError::Unsupported(_)),
                ) => return Err(error),
                Err(error) if tries == MAX_SCALE_TRIES => return Err(error),
                Err(error) => tracing::debug!(%function, %error, tries, "function not scaled; trying again"),
            }
            tries += 1;
            tokio::time::sleep(policy.poll_interval).await;
        }
    }

    async fn is_ready(&self, function: &FunctionRef, policy: Policy) -> Result<bool, ProviderError> {
        if !self.provider.tracks_replicas() {
            let status = self.provider.status(function, false).await?;
            return Ok(self.facts.learn(function, &status, policy.cache_ttl));
        }
        match self.provider.upstream(function) {
            Ok(_) => Ok(true),
            Err(ProviderError::NotReady { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Logs how an activation ended; without an outcome nobody waited any more.
fn report(function: &FunctionRef, started: Instant, outcome: Option<&Result<bool, ProviderError>>) {
    let wait_ms = started.elapsed().as_millis();
    match outcome {
        Some(Ok(_)) => tracing::info!(%function, wait_ms, "function activated"),
        Some(Err(error)) => tracing::warn!(%function, wait_ms, %error, "function not activated"),
        None => tracing::warn!(%function, wait_ms, "function not activated while anybody waited for it"),
    }
}

/// Whether a function has a replica that can take a call.
fn can_serve(status: &FunctionStatus) -> bool {
    status.available_replicas > 0
}
