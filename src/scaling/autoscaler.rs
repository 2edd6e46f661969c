//! Replicas that follow the load: reads it, lets [`super::decide`] decide, and
//! does what was decided.
//!
//! Works on the lists that are read in the background anyway, so it asks the
//! provider for nothing more, except for processor time. A function whose
//! replicas are being changed is left alone until that is done; no function
//! waits for another.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use tokio::time::Instant;

use super::{
    Scaling,
    decide::{Decision, History, Seen, Signal},
    journal::{Cause, Change, Journal},
    lease::Lease,
    rules::{self, Above, FunctionRules},
};
use crate::{
    config::{Config, Signals},
    metrics::{
        Calls, FUNCTION_NAME, INVOCATION_INFLIGHT, INVOCATION_TOTAL, Metrics,
        query::{Counts, Prometheus, quoted},
        replicas::label,
    },
    model::{FunctionRef, FunctionStatus},
    policy::States,
    provider::Provider,
    queue::Queue,
    shutdown::Tasks,
};

/// Series of queries that the file does not have, by the name of OpenFaaS Pro's
/// recording rules.
const CURRENT_LOAD: &str = "job:function_current_load:sum";

/// Bound on asking for the processor time of a function.
const USAGE_TIMEOUT: Duration = Duration::from_secs(2);

/// What decisions are made with: parts of the newest snapshot.
pub struct View<'v> {
    /// The configuration.
    pub config: &'v Config,
    /// Who has the replicas.
    pub provider: &'v Arc<dyn Provider>,
    /// Who holds calls.
    pub scaling: &'v Scaling,
    /// Who counts calls.
    pub metrics: &'v Metrics,
    /// Who lets calls wait for their turn.
    pub states: &'v States,
    /// Who keeps calls that nobody waits for.
    pub queue: &'v dyn Queue,
    /// Who adds up several gateways.
    pub prometheus: Option<&'v Prometheus>,
    /// Who may scale.
    pub lease: &'v dyn Lease,
}

/// What is done about a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Its replicas follow its load.
    Load,
    /// Its replicas keep to bounds and schedule.
    Static,
    /// It did not ask for anything.
    Off,
    /// `scaling.autoscale` is off.
    Disabled,
    /// Another gateway scales.
    Standby,
}

impl Mode {
    /// As explanations name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Static => "static",
            Self::Off => "off",
            Self::Disabled => "disabled",
            Self::Standby => "standby",
        }
    }
}

/// What was seen of a function the last time, and what came of it.
#[derive(Debug, Clone)]
pub struct Look {
    /// When.
    pub at: DateTime<Utc>,
    /// What held.
    pub rules: FunctionRules,
    /// What is done about it.
    pub mode: Mode,
    /// What was decided, where anything was.
    pub decision: Option<Decision>,
    /// Calls under way.
    pub in_flight: u64,
    /// Calls that waited for a replica.
    pub held: u64,
    /// Calls that waited for their turn.
    pub queued: u64,
    /// How long nobody had used it.
    pub idle: Duration,
}

#[derive(Default)]
struct Watched {
    history: History,
    /// What was counted the last time, and when.
    calls: Option<(Duration, Calls)>,
    /// Replicas that there should be, unless somebody else changes them.
    expected: Option<u64>,
    look: Option<Look>,
    /// Whether its replicas are being changed.
    changing: bool,
}

/// What one reading of all functions found out about the load.
#[derive(Default)]
struct Found {
    /// Answers of Prometheus by signal.
    queried: HashMap<String, Option<Counts>>,
    /// Processor time in milli-cores.
    cpu: HashMap<FunctionRef, Option<f64>>,
    held: HashMap<FunctionRef, u64>,
    queued: HashMap<FunctionRef, u64>,
    /// Asynchronous calls that are due.
    depths: HashMap<FunctionRef, u64>,
}

/// Histories of all functions. One for the process.
pub struct Autoscaler {
    began: Instant,
    journal: Arc<Journal>,
    tasks: Tasks,
    functions: Mutex<HashMap<FunctionRef, Watched>>,
}

impl Autoscaler {
    /// Nothing was seen yet. Changes are made as `tasks`.
    pub fn new(journal: Arc<Journal>, tasks: Tasks) -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            journal,
            tasks,
            functions: Mutex::default(),
        })
    }

    /// Who is told of changes.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The last look at a function.
    pub fn look(&self, function: &FunctionRef) -> Option<Look> {
        self.watched(function, |watched| watched.look.clone())
    }

    /// Replicas that a function was meant to have when it was looked at last.
    pub fn desired(&self, function: &FunctionRef) -> Option<u64> {
        self.watched(function, |watched| watched.expected)
    }

    fn watched<T>(&self, function: &FunctionRef, get: impl Fn(&Watched) -> Option<T>) -> Option<T> {
        let functions = self.functions();
        let known = functions.get(function).or_else(|| {
            let mut others = functions.iter().filter(|(known, _)| known.may_be(function));
            others.next().map(|(_, watched)| watched)
        });
        get(known?)
    }

    /// Looks at all functions and does what has to be done. Returns once it is
    /// decided; changes go on in the background.
    pub async fn tick(self: &Arc<Self>, view: &View<'_>, listed: &[FunctionStatus]) {
        let now = Utc::now();
        let functions: Vec<_> = listed
            .iter()
            .map(|status| {
                let function = status.function();
                let above = Above::new(view.config, &function, now);
                let rules = rules::of(status.labels.as_ref(), &above, &view.config.scaling);
                (function, status, rules)
            })
            .collect();
        let there: HashSet<&FunctionRef> = functions.iter().map(|(function, ..)| function).collect();
        self.functions().retain(|known, _| there.contains(known));
        self.journal
            .retain(|known| functions.iter().any(|(function, ..)| function.may_be(known)));
        let found = find(view, &functions).await;
        for (function, status, rules) in functions {
            if let Some((from, decision)) = self.decide(view, &function, status, rules, &found, now) {
                self.carry_out(Arc::clone(view.provider), function, from, decision);
            }
        }
    }

    /// The change that a function needs.
    fn decide(
        &self,
        view: &View<'_>,
        function: &FunctionRef,
        status: &FunctionStatus,
        rules: FunctionRules,
        found: &Found,
        now: DateTime<Utc>,
    ) -> Option<(u64, Decision)> {
        let at = self.began.elapsed();
        let home = function.namespace == view.provider.default_namespace();
        let calls = counted(view.metrics, status, home);
        let sum = |map: &HashMap<FunctionRef, u64>| -> u64 {
            let own = map.iter().filter(|(known, _)| known.may_be(function));
            own.map(|(_, count)| count).sum()
        };
        let (held, queued, depth) = (sum(&found.held), sum(&found.queued), sum(&found.depths));

        let mut functions = self.functions();
        let watched = functions.entry(function.clone()).or_default();
        let desired = status.replicas;
        if watched.changing {
            return None;
        }
        if let Some(expected) = watched.expected
            && expected != desired
        {
            watched.history.set_by_hand(at, desired);
            if self
                .journal
                .changes(function)
                .first()
                .is_none_or(|last| last.to != desired)
            {
                let change = Change {
                    at: now,
                    from: Some(expected),
                    to: desired,
                    cause: Cause::Outside,
                    load: None,
                    error: None,
                };
                self.journal.note(function, &change);
            }
        }
        watched.expected = Some(desired);

        let waiting = held + queued;
        let started = watched.calls.map(|(_, before)| calls.started > before.started);
        let own = Own {
            at,
            calls,
            before: watched.calls,
            waiting,
            depth,
        };
        let load = measure(
            &rules.rules.signal,
            view.config.scaling.signals,
            function,
            status,
            &own,
            found,
        );
        watched.calls = Some((at, calls));
        let seen = Seen {
            at,
            desired,
            ready: status.available_replicas,
            load,
            busy: calls.in_flight + waiting + depth > 0 || started == Some(true),
        };
        let mode = mode(view, &rules);
        let decision = match mode {
            Mode::Off | Mode::Disabled => None,
            // So that who takes over knows what was.
            Mode::Load | Mode::Static | Mode::Standby => Some(watched.history.decide(seen, &rules.rules)),
        };
        watched.look = Some(Look {
            at: now,
            rules,
            mode,
            decision,
            in_flight: calls.in_flight,
            held,
            queued,
            idle: watched.history.idle_for(at),
        });
        let decision = decision.filter(|decision| mode != Mode::Standby && decision.replicas != desired)?;
        watched.changing = true;
        Some((desired, decision))
    }

    fn carry_out(self: &Arc<Self>, provider: Arc<dyn Provider>, function: FunctionRef, from: u64, decision: Decision) {
        let autoscaler = Arc::clone(self);
        self.tasks.spawn(async move {
            let done = provider.scale(&function, decision.replicas).await;
            let change = Change {
                at: Utc::now(),
                from: Some(from),
                to: decision.replicas,
                cause: Cause::Decided(decision.reason),
                load: decision.load,
                error: done.as_ref().err().map(ToString::to_string),
            };
            autoscaler.journal.note(&function, &change);
            if let Some(watched) = autoscaler.functions().get_mut(&function) {
                watched.changing = false;
                if done.is_ok() {
                    watched.expected = Some(decision.replicas);
                }
            }
        });
    }

    fn functions(&self) -> MutexGuard<'_, HashMap<FunctionRef, Watched>> {
        self.functions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn mode(view: &View<'_>, rules: &FunctionRules) -> Mode {
    if !view.config.scaling.autoscale {
        Mode::Disabled
    } else if !rules.asked {
        Mode::Off
    } else if !view.lease.is_held() {
        Mode::Standby
    } else if rules.follows_load() {
        Mode::Load
    } else {
        Mode::Static
    }
}

/// What this gateway counts of a function now and counted before.
struct Own {
    at: Duration,
    calls: Calls,
    before: Option<(Duration, Calls)>,
    waiting: u64,
    depth: u64,
}

/// The calls of a function, also those that named no namespace.
fn counted(metrics: &Metrics, status: &FunctionStatus, home: bool) -> Calls {
    let calls = metrics.calls(&label(status));
    if !home || status.namespace.as_deref().is_none_or(str::is_empty) {
        return calls;
    }
    let bare = metrics.calls(&status.name);
    Calls {
        started: calls.started + bare.started,
        completed: calls.completed + bare.completed,
        in_flight: calls.in_flight + bare.in_flight,
    }
}

/// The load of a function; `None` when it is not known.
fn measure(
    signal: &Signal,
    source: Signals,
    function: &FunctionRef,
    status: &FunctionStatus,
    own: &Own,
    found: &Found,
) -> Option<f64> {
    let queried = || {
        let counts = found.queried.get(signal.as_str())?.as_ref()?;
        // A function that nobody called has no series.
        Some(counts.get(&label(status)).copied().unwrap_or_default())
    };
    match (signal, source) {
        (Signal::Static, _) => None,
        (Signal::Queue, _) => Some(own.depth as f64),
        (Signal::Cpu, _) => found.cpu.get(function).copied().flatten(),
        (Signal::Rps | Signal::Capacity, Signals::Prometheus) | (Signal::Custom(_), _) => queried(),
        (Signal::Capacity, Signals::Gateway) => Some((own.calls.in_flight + own.waiting) as f64),
        (Signal::Rps, Signals::Gateway) => {
            let (then, before) = own.before?;
            let elapsed = own.at.saturating_sub(then).as_secs_f64();
            let completed = own.calls.completed.saturating_sub(before.completed);
            (elapsed > 0.0).then(|| completed as f64 / elapsed)
        }
    }
}

/// The query of a signal; the same load that the gateway's own counters give.
fn query(signal: &Signal, source: Signals, config: &Config) -> Option<String> {
    match (signal, source) {
        (Signal::Custom(name), _) => Some(config.scaling.queries.get(name).cloned().unwrap_or_else(|| {
            let name = quoted(name);
            format!("sum by ({FUNCTION_NAME}) ({CURRENT_LOAD}{{scaling_type={name}}})")
        })),
        (Signal::Rps, Signals::Prometheus) => Some(format!("sum by ({FUNCTION_NAME}) (rate({INVOCATION_TOTAL}[30s]))")),
        (Signal::Capacity, Signals::Prometheus) => Some(format!(
            "sum by ({FUNCTION_NAME}) (max_over_time({INVOCATION_INFLIGHT}[45s:5s]))"
        )),
        _ => None,
    }
}

/// Asks for what the decisions about these functions need.
async fn find(view: &View<'_>, functions: &[(FunctionRef, &FunctionStatus, FunctionRules)]) -> Found {
    let following = || functions.iter().filter(|(_, _, rules)| rules.follows_load());
    let wanted: BTreeSet<(String, String)> = following()
        .filter_map(|(_, _, rules)| {
            let signal = &rules.rules.signal;
            let query = query(signal, view.config.scaling.signals, view.config)?;
            Some((signal.as_str().to_owned(), query))
        })
        .collect();
    let answers = join_all(wanted.into_iter().map(|(signal, query)| async move {
        let counts = match view.prometheus {
            Some(prometheus) => prometheus.by_function(&query).await,
            None => Err("prometheus.host is not set".to_owned()),
        };
        let counts = counts.inspect_err(|error| tracing::debug!(signal, %error, "load not measured"));
        (signal, counts.ok())
    }));
    let measured = following().filter(|(_, _, rules)| rules.rules.signal == Signal::Cpu);
    let cpu = join_all(measured.map(|(function, ..)| async move {
        let status = tokio::time::timeout(USAGE_TIMEOUT, view.provider.status(function, true)).await;
        let usage = status.ok().and_then(Result::ok).and_then(|status| status.usage);
        (function.clone(), usage.and_then(|usage| usage.cpu).map(|cpu| cpu.0))
    }));
    let (queried, cpu) = futures_util::join!(answers, cpu);
    let queued = view.states.loads().into_iter();
    Found {
        queried: queried.into_iter().collect(),
        cpu: cpu.into_iter().collect(),
        held: view.scaling.held(),
        depths: view
            .queue
            .waiting()
            .into_iter()
            .map(|(function, waiting)| (function, waiting.jobs))
            .collect(),
        queued: queued
            .map(|load| (load.function, load.queued.unwrap_or(0) as u64))
            .collect(),
    }
}
