//! The immutable view a request works with.
//!
//! A request takes one `Arc<Snapshot>` and never looks again, so it sees one
//! configuration from its first byte to its last. [`Current`] holds the newest;
//! [`crate::reload`] replaces it. Building one is [`crate::app`]'s work.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use chrono::Utc;

use crate::{
    auth::Auth,
    config::Config,
    events::Events,
    metrics::{Depth, LiveGeneration, Metrics, Waiting, query::Prometheus},
    policy::States,
    provider::Provider,
    queue::Queue,
    routing::RouteTable,
    scaling::{Policy, Scaling, autoscaler::Autoscaler, lease::Lease},
    stores::Stores,
    telemetry::{AccessLog, Traces},
    tls::Tls,
};

pub mod control;
mod functions;
mod status;

pub use control::Source;
pub use functions::{CalledFunction, FunctionTable, QueuedFunction};

/// The configuration and everything built from it.
pub struct Snapshot {
    /// Counts the snapshots of this process, from 1.
    pub generation: u64,
    /// The values.
    pub config: Config,
    /// What they were read from.
    pub source: Source,
    /// Where functions live.
    pub provider: Arc<dyn Provider>,
    /// Facts about functions and activations under way; lives as long as the provider.
    pub scaling: Arc<Scaling>,
    /// What keeps asynchronous calls; the same in every snapshot.
    pub queue: Arc<dyn Queue>,
    /// What happens, for those who follow it; the same in every snapshot.
    pub events: Arc<Events>,
    /// Functions to choose from; the same in every snapshot, with the newest's settings.
    pub stores: Arc<Stores>,
    /// What follows the load; the same in every snapshot.
    pub autoscaler: Arc<Autoscaler>,
    /// Which of several gateways scales.
    pub lease: Arc<dyn Lease>,
    /// How `scaling` is to behave for calls of this snapshot.
    pub policy: Policy,
    /// Who may use the API.
    pub auth: Auth,
    /// What the listeners speak TLS with; `None` where they do not.
    pub tls: Option<Arc<Tls>>,
    /// Where invocation counts come from; without it they are `metrics`' own.
    pub prometheus: Option<Prometheus>,
    /// Which hosts and paths lead to which functions.
    pub routes: RouteTable,
    /// The functions that were called, with their settings and counters.
    pub functions: FunctionTable,
    /// The process's metrics; the same in every snapshot.
    pub metrics: Arc<Metrics>,
    /// What limits and breakers remember; the same in every snapshot.
    pub states: Arc<States>,
    /// Where requests are logged.
    pub access_log: AccessLog,
    /// What is done about their traces.
    pub traces: Traces,
    /// Counts this snapshot until its last user has gone.
    pub alive: LiveGeneration,
}

impl Snapshot {
    /// Asynchronous calls that are due, as metrics show them.
    pub fn waiting(&self) -> Waiting {
        let now = Utc::now();
        let mut functions: BTreeMap<String, Depth> = BTreeMap::new();
        for (function, waiting) in self.queue.waiting() {
            let depth = functions.entry(self.metrics.bounded_label(&function)).or_default();
            depth.jobs += waiting.jobs;
            let oldest = waiting.since.and_then(|since| (now - since).to_std().ok());
            depth.oldest = depth.oldest.max(oldest.unwrap_or_default());
        }
        Waiting {
            queue: self.config.queue.nats_channel.clone(),
            functions,
            reconnects: self.queue.reconnects(),
        }
    }

    /// Shows this snapshot's configuration in the metrics as the live one.
    pub fn announce(&self) {
        self.metrics.config_live(
            &self.source.fingerprint.to_string(),
            self.generation,
            self.source.pending_restart.len(),
        );
    }
}

/// The newest snapshot.
#[derive(Clone)]
pub struct Current(Arc<ArcSwap<Snapshot>>);

impl Current {
    /// Starts with a first snapshot.
    pub fn new(first: Snapshot) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(first)))
    }

    /// The newest snapshot. Take it once per unit of work.
    pub fn get(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// Makes `next` the newest and returns the one before.
    pub fn swap(&self, next: Arc<Snapshot>) -> Arc<Snapshot> {
        self.0.swap(next)
    }
}
