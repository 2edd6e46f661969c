//! Where everything is put together: configuration to parts to listeners to run.
//!
//! The only place that knows which provider is in use. Start-up and reload
//! build a snapshot by the same function, [`Builder::snapshot`].

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::OnceCell,
    time::Instant,
};

mod cron;
mod events;
mod follow;
mod lasting;
mod listeners;

use cron::Clock;
use listeners::{Addresses, Listeners, Prepared};

use crate::{
    api,
    auth::{Auth, Credentials},
    config::{Config, ConfigError, Loaded, Origins, ProviderKind, Sources, Unusable},
    events::Events,
    metrics::{Metrics, query::Prometheus},
    nats::Server,
    policy::States,
    provider::{
        Provider,
        memory::MemoryProvider,
        pool_limits,
        process::{self, ProcessProvider},
        remote::{self, RemoteProvider},
    },
    queue::Queue,
    reload::{Ask, Build, Caller, Journal, Outcome, Reloader, Snapshots, Trigger, Verdict},
    routing::RouteTable,
    scaling::{
        Policy, Scaling,
        autoscaler::Autoscaler,
        journal,
        lease::{Alone, Lease},
    },
    server::{Api, Reach, Service, worker::Worker},
    shutdown::{StopSignals, Tasks},
    snapshot::{Current, FunctionTable, Snapshot, Source, control::Control},
    stores::Stores,
    systemd,
    telemetry::{Telemetry, Traces},
    tls::Tls,
};

/// What the last spans get to be exported when calls took all of `server.drain_timeout`.
const LAST_SPANS: Duration = Duration::from_millis(500);

/// How the process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to stop and did, in `server.drain_timeout` at most.
    Drained,
    /// It was asked twice and ended at once.
    Aborted,
}

/// Runs the gateway until it is asked to stop.
///
/// # Errors
/// What kept it from starting: everything that is wrong, one item each.
pub async fn run(sources: Sources, loaded: Loaded, telemetry: Telemetry) -> Result<Ended, Vec<String>> {
    let failed = |what: String| vec![what];
    let mut signals = StopSignals::listen().map_err(|error| failed(format!("cannot listen for signals: {error}")))?;
    // SIGHUP asks for a reload and must not end the process before one can be had.
    let _hangup = signal(SignalKind::hangup()).map_err(|error| failed(format!("cannot listen for SIGHUP: {error}")))?;
    let background = Tasks::new();
    let metrics = Arc::new(Metrics::new());
    let executable =
        std::env::current_exe().map_err(|error| failed(format!("cannot find this executable: {error}")))?;
    let states = Arc::new(States::default());
    metrics.show_states(Arc::clone(&states));
    metrics.show_telemetry(telemetry.counts());
    let serving = Tasks::new();
    let happening = Arc::new(Events::new(rand::random(), serving.draining().clone()));
    let shown = Arc::clone(&happening);
    metrics.show_event_readers(move || shown.readers());
    let parts = (&metrics, &states, &happening);
    let builder = Builder::new(&sources, &telemetry, parts, executable, &background);
    let builder = Arc::new(builder);

    let told = |errors: Vec<ConfigError>| -> Vec<String> { errors.iter().map(ToString::to_string).collect() };
    let first = Prepared::first(&loaded.config).await;
    let prepared = first.map_err(|errors| told(placed(errors, &loaded.origins)))?;
    let current = Current::new(builder.snapshot(loaded.clone()).await.map_err(told)?);
    metrics.config_read(true, SystemTime::now());
    current.get().announce();
    builder.stores.configure(&loaded.config.stores);
    let live = current.clone();
    metrics.show_connections(move || live.get().provider.connections());

    let control = Arc::new(Reloads {
        sources: sources.clone(),
        reloader: OnceLock::new(),
    });
    let api = Arc::new(api::endpoint(current.clone(), Arc::clone(&control) as _));
    let clock = work(&current, &api, &serving);
    let listeners = Arc::new(Listeners::new(
        current.clone(),
        api,
        Arc::clone(&metrics),
        serving.clone(),
        background.clone(),
    ));
    let follow = follow::functions(current.clone(), states, clock, background.clone());
    background.spawn(follow);
    let replacing = Arc::new(Replacing {
        builder,
        listeners: Arc::clone(&listeners),
        prepared: Mutex::default(),
    });
    let live = Arc::new(Snapshots::new(current.clone(), telemetry, replacing));
    let reloader = Reloader::start(sources, live, &background);
    let telling = events::tell(current.clone(), reloader.outcomes(), background.draining().clone());
    background.spawn(telling);
    let _first = control.reloader.set(reloader.clone());
    listeners.serve(prepared);
    reloader.on_file_change(&background);
    reloader
        .on_hangup(&background)
        .map_err(|error| failed(format!("cannot listen for SIGHUP: {error}")))?;
    let Addresses {
        main,
        metrics,
        internal,
    } = listeners
        .addresses()
        .ok_or_else(|| failed("a listener has no address".to_owned()))?;
    let internal = internal.map(tracing::field::display);
    tracing::info!(address = %main, %metrics, internal, provider = provider_name(&current), "listening");
    systemd::ready();

    let signal = signals.next().await;
    let config = current.get().config.clone();
    systemd::stopping();
    serving.drain();
    tracing::info!(signal, delay = ?config.server.drain_delay, timeout = ?config.server.drain_timeout, "stopping");
    let drained = async {
        tokio::time::sleep(config.server.drain_delay).await;
        listeners.stop_calls();
        let began = Instant::now();
        let in_time = tokio::time::timeout(config.server.drain_timeout, serving.ended()).await;
        if in_time.is_err() {
            tracing::warn!("server.drain_timeout has passed; calls in flight are cut off");
            serving.abort();
            serving.ended().await;
        }
        let left = config.server.drain_timeout.saturating_sub(began.elapsed());
        current.get().traces.flush(left.max(LAST_SPANS)).await;
        current.get().provider.close().await;
        listeners.stop_metrics();
        background.abort();
        background.ended().await;
    };
    tokio::select! {
        () = drained => Ok(Ended::Drained),
        signal = signals.next() => {
            tracing::warn!(signal, "stopping at once; calls in flight are cut off");
            Ok(Ended::Aborted)
        }
    }
}

/// Begins to make asynchronous calls, where this process does that; what has
/// functions called by the clock, which does it there too.
fn work(current: &Current, api: &Api, serving: &Tasks) -> Option<Clock> {
    let snapshot = current.get();
    if !snapshot.config.server.role.works() {
        return None;
    }
    let service = Service::new(
        current.clone(),
        Arc::clone(api),
        serving.clone(),
        snapshot.config.listen(),
        Reach::Internal,
    );
    serving.spawn(Worker::new(service, serving.clone()).run());
    let live = current.clone();
    snapshot.metrics.show_waiting(move || live.get().waiting());
    let clock = Clock::default();
    let shown = clock.clone();
    snapshot.metrics.show_cron(move || shown.shown());
    Some(clock)
}

/// With the places of their keys.
fn placed(errors: Vec<Unusable>, origins: &Origins) -> Vec<ConfigError> {
    errors.into_iter().map(|error| error.at(origins)).collect()
}

fn provider_name(current: &Current) -> &'static str {
    current.get().config.provider_kind().as_str()
}

/// The reloader, as the API asks for it. The API belongs to the listeners that
/// a reload may move, so it is there before the reloader is; nothing is served
/// until both are.
struct Reloads {
    sources: Sources,
    reloader: OnceLock<Reloader>,
}

#[async_trait]
impl Control for Reloads {
    fn sources(&self) -> &Sources {
        &self.sources
    }

    fn journal(&self) -> Journal {
        self.reloader.get().map(Reloader::journal).unwrap_or_default()
    }

    async fn reload(&self, caller: Caller, expected: Option<Vec<String>>) -> Option<Outcome> {
        let ask = Ask {
            trigger: Trigger::Api,
            caller: Some(caller),
            expected,
        };
        Some(self.reloader.get()?.request(ask).await)
    }
}

/// Builds snapshots, carrying over what has not changed.
struct Builder {
    metrics: Arc<Metrics>,
    states: Arc<States>,
    events: Arc<Events>,
    stores: Arc<Stores>,
    tasks: Tasks,
    executable: PathBuf,
    environment: BTreeMap<String, String>,
    active: Mutex<Option<Active>>,
    telemetry: Telemetry,
    /// Those of the newest snapshot.
    traces: Mutex<Traces>,
    /// The certificates in use, which stay while their files do.
    tls: Mutex<Option<Arc<Tls>>>,
    journal: Arc<journal::Journal>,
    autoscaler: Arc<Autoscaler>,
    /// What keeps asynchronous calls, from the first snapshot on.
    queue: OnceCell<Arc<dyn Queue>>,
    /// The lease in use, and the server that has it.
    lease: Mutex<(Option<Server>, Arc<dyn Lease>)>,
}

/// The provider in use and what it was made from.
#[derive(Clone)]
struct Active {
    origin: Origin,
    provider: Arc<dyn Provider>,
    scaling: Arc<Scaling>,
}

#[derive(Clone)]
enum Origin {
    Process(Arc<ProcessProvider>),
    Http(Arc<Remote>),
    Memory,
}

/// A provider over REST and what makes it another one.
struct Remote {
    settings: remote::Settings,
    credentials: Option<Credentials>,
    provider: Arc<RemoteProvider>,
}

impl Builder {
    /// Nothing is built yet.
    fn new(
        sources: &Sources,
        telemetry: &Telemetry,
        (metrics, states, events): (&Arc<Metrics>, &Arc<States>, &Arc<Events>),
        executable: PathBuf,
        tasks: &Tasks,
    ) -> Self {
        let journal = Arc::new(journal::Journal::new(Arc::clone(metrics), Arc::clone(events)));
        Self {
            metrics: Arc::clone(metrics),
            states: Arc::clone(states),
            events: Arc::clone(events),
            stores: Stores::new(tasks.clone()),
            tasks: tasks.clone(),
            executable,
            environment: sources.environment.clone(),
            active: Mutex::default(),
            telemetry: telemetry.clone(),
            traces: Mutex::default(),
            tls: Mutex::default(),
            autoscaler: Autoscaler::new(Arc::clone(&journal), tasks.clone()),
            journal,
            queue: OnceCell::new(),
            lease: Mutex::new((None, Arc::new(Alone))),
        }
    }

    /// Builds everything from a checked configuration. Start-up and reload are
    /// this one function; nothing that runs is touched before all of it worked.
    async fn snapshot(&self, loaded: Loaded) -> Result<Snapshot, Vec<ConfigError>> {
        let origins = loaded.origins.clone();
        self.build(loaded).await.map_err(|errors| placed(errors, &origins))
    }

    async fn build(&self, loaded: Loaded) -> Result<Snapshot, Vec<Unusable>> {
        let source = Source::new(&loaded);
        let config = loaded.config;
        let mut errors = Vec::new();
        let auth = Auth::load(&config.auth).map_err(|error| errors.push(error)).ok();
        let prometheus = Prometheus::new(&config.prometheus)
            .map_err(|error| errors.push(error))
            .ok();
        let tls = self.certificates(&config).map_err(|wrong| errors.extend(wrong)).ok();
        let (Some(auth), Some(prometheus), Some(tls)) = (auth, prometheus, tls) else {
            return Err(errors);
        };
        let active = self.provider(&config, &auth).await.map_err(|error| vec![error])?;
        let policy = Policy::new(&config);
        let traces = {
            let mut newest = self.traces.lock().unwrap_or_else(PoisonError::into_inner);
            *newest = Traces::new(&config.tracing, &newest, &self.tasks, &self.telemetry.counts());
            newest.clone()
        };
        Ok(Snapshot {
            generation: 1,
            provider: Arc::clone(&active.provider),
            scaling: Arc::clone(&active.scaling),
            queue: self.queue(&config).await,
            events: Arc::clone(&self.events),
            stores: Arc::clone(&self.stores),
            autoscaler: Arc::clone(&self.autoscaler),
            lease: self.lease(&config),
            policy,
            auth,
            tls,
            prometheus,
            routes: RouteTable::new(&config),
            functions: FunctionTable::default(),
            metrics: Arc::clone(&self.metrics),
            states: Arc::clone(&self.states),
            access_log: self.telemetry.access_log(),
            traces,
            alive: self.metrics.live_generation(),
            source,
            config,
        })
    }

    fn certificates(&self, config: &Config) -> Result<Option<Arc<Tls>>, Vec<Unusable>> {
        let mut in_use = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        let next = Tls::load(&config.server.tls, in_use.as_ref())?;
        in_use.clone_from(&next);
        Ok(next)
    }

    /// The provider that the configuration asks for: the one in use where it
    /// fits, so that functions, connections and facts outlive the reload.
    async fn provider(&self, config: &Config, auth: &Auth) -> Result<Active, Unusable> {
        let in_use = self.active.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let pool = pool_limits(&config.invoke);
        let next = match config.provider_kind() {
            ProviderKind::Process => {
                let environment = process::inherited(&self.environment);
                let settings = process::Settings::from_config(config, &self.executable, pool, environment)?;
                if let Some(active) = in_use
                    && let Origin::Process(provider) = &active.origin
                {
                    provider.reconfigure(settings);
                    return Ok(active);
                }
                let provider = ProcessProvider::open(settings, self.tasks.clone()).await?;
                self.fresh(Origin::Process(Arc::clone(&provider)), provider)
            }
            ProviderKind::Http => {
                let settings = remote::Settings::new(&config.provider, &config.invoke)?;
                let credentials = auth.credentials();
                let fits =
                    |remote: &Remote| remote.settings.is_same_provider(&settings) && remote.credentials == credentials;
                match in_use {
                    Some(active) if matches!(&active.origin, Origin::Http(remote) if fits(remote)) => active,
                    _ => {
                        let known = credentials.clone();
                        let known = known.map(|credentials| (credentials.user, credentials.password));
                        let provider = Arc::new(RemoteProvider::new(settings.clone(), known)?);
                        let remote = Remote {
                            settings,
                            credentials,
                            provider: Arc::clone(&provider),
                        };
                        self.fresh(Origin::Http(Arc::new(remote)), provider)
                    }
                }
            }
            ProviderKind::Memory => match in_use {
                Some(active) if matches!(active.origin, Origin::Memory) => active,
                _ => self.fresh(Origin::Memory, Arc::new(MemoryProvider::new())),
            },
        };
        *self.active.lock().unwrap_or_else(PoisonError::into_inner) = Some(next.clone());
        Ok(next)
    }

    /// Has the provider in use follow settings that make it no other one. Not
    /// before they are live: calls under the old ones keep theirs.
    fn follow(&self, config: &Config) {
        let in_use = self.active.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(Active {
            origin: Origin::Http(remote),
            ..
        }) = in_use
            && let Ok(settings) = remote::Settings::new(&config.provider, &config.invoke)
        {
            remote.provider.reconfigure(&settings);
        }
    }

    fn fresh(&self, origin: Origin, provider: Arc<dyn Provider>) -> Active {
        Active {
            origin,
            scaling: Scaling::new(Arc::clone(&provider), self.tasks.clone(), Arc::clone(&self.journal)),
            provider,
        }
    }
}

/// Replaces what runs by what a reload builds, listeners included.
struct Replacing {
    builder: Arc<Builder>,
    listeners: Arc<Listeners>,
    /// The listeners of the snapshot that is about to be live.
    prepared: Mutex<Option<Prepared>>,
}

impl Replacing {
    fn keep(&self, prepared: Option<Prepared>) -> Option<Prepared> {
        std::mem::replace(
            &mut *self.prepared.lock().unwrap_or_else(PoisonError::into_inner),
            prepared,
        )
    }
}

#[async_trait]
impl Build for Replacing {
    async fn build(&self, _previous: Arc<Snapshot>, loaded: Loaded) -> Result<Snapshot, Vec<ConfigError>> {
        // Whatever an attempt that came to nothing has left.
        self.keep(None);
        let prepared = self.listeners.prepare(&loaded.config).await;
        let prepared = prepared.map_err(|errors| placed(errors, &loaded.origins))?;
        let next = self.builder.snapshot(loaded).await?;
        self.keep(Some(prepared));
        Ok(next)
    }

    fn retired(&self, previous: Arc<Snapshot>, next: &Arc<Snapshot>) {
        if let Some(prepared) = self.keep(None) {
            self.listeners.serve(prepared);
        }
        self.builder.follow(&next.config);
        self.builder.stores.configure(&next.config.stores);
        self.builder.states.reconfigure(next.generation, &next.config);
        if Arc::ptr_eq(&previous.provider, &next.provider) {
            return;
        }
        // Calls that began on it may still run; closing drains them.
        self.builder.tasks.spawn(async move { previous.provider.close().await });
    }

    fn report(&self, outcome: &Outcome) {
        self.builder
            .metrics
            .config_read(outcome.verdict != Verdict::Failed, outcome.at.into());
        self.builder
            .metrics
            .config_reload(outcome.trigger.as_str(), outcome.verdict.as_str());
    }
}
