//! One deployed function: what is wanted, what is there, and where its calls go.
//!
//! Requests read [`View`], which the function's supervisor replaces; they never
//! wait for it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::{logs::Logs, store::Record};
use crate::{
    model::FunctionRef,
    provider::{ProviderError, Result},
    upstream::{self, Endpoint},
};

/// A function and its replicas.
#[derive(Debug)]
pub(super) struct Function {
    /// Its name and namespace; the namespace is never empty.
    pub(super) name: FunctionRef,
    /// Names this incarnation.
    pub(super) uid: String,
    /// What its replicas wrote.
    pub(super) logs: Logs,
    /// Where its secrets are put; a directory for each revision.
    pub(super) secrets: PathBuf,
    /// What is wanted.
    pub(super) desired: watch::Sender<Desired>,
    /// What is there.
    pub(super) view: ArcSwap<View>,
}

/// What is wanted of a function.
#[derive(Debug, Clone)]
pub(super) struct Desired {
    /// What is kept on disk.
    pub(super) record: Arc<Record>,
    /// Counts every change.
    pub(super) sequence: u64,
    /// Whether the function was deleted.
    pub(super) removed: bool,
}

/// What a function's supervisor last saw.
#[derive(Debug, Default)]
pub(super) struct View {
    /// The change of [`Desired`] that this follows.
    pub(super) sequence: u64,
    /// Replicas that take calls.
    pub(super) ready: Vec<Arc<Endpoint>>,
    /// Watchdogs of all replicas that run.
    pub(super) pids: Vec<u32>,
    /// Why the last replica that ended by itself did, and when it is started
    /// again; until a replica is ready.
    pub(super) trouble: Option<(String, Duration)>,
}

/// Shortest time after which calling again can make sense.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Function {
    /// A function without replicas yet.
    pub(super) fn new(name: FunctionRef, record: Record, logs: Logs, secrets: PathBuf) -> Self {
        Self {
            name,
            uid: record.uid.clone(),
            logs,
            secrets,
            desired: watch::Sender::new(Desired {
                record: Arc::new(record),
                sequence: 1,
                removed: false,
            }),
            view: ArcSwap::default(),
        }
    }

    /// What is kept on disk.
    pub(super) fn record(&self) -> Arc<Record> {
        Arc::clone(&self.desired.borrow().record)
    }

    /// Wants something else from now on. Returns the number of the change.
    pub(super) fn want(&self, record: Record) -> u64 {
        let mut sequence = 0;
        self.desired.send_modify(|desired| {
            desired.record = Arc::new(record);
            desired.sequence += 1;
            sequence = desired.sequence;
        });
        sequence
    }

    /// Wants the function gone.
    pub(super) fn remove(&self) {
        self.desired.send_modify(|desired| {
            desired.removed = true;
            desired.sequence += 1;
        });
    }

    /// The replica that takes the next call.
    ///
    /// # Errors
    /// `NotReady`, saying why no replica takes calls.
    pub(super) fn endpoint(&self) -> Result<Arc<Endpoint>> {
        let view = self.view.load();
        if let Some(endpoint) = upstream::choose(&view.ready) {
            return Ok(endpoint);
        }
        let (reason, retry_after) = match &view.trouble {
            _ if self.record().replicas == 0 => (format!("function {} is scaled to zero", self.name), RETRY_AFTER),
            Some((ended, wait)) => (
                format!(
                    "function {} is not ready: its replica ended ({ended}) and is started again",
                    self.name
                ),
                (*wait).max(RETRY_AFTER),
            ),
            None => (format!("function {} is starting", self.name), RETRY_AFTER),
        };
        Err(ProviderError::NotReady {
            reason,
            retry_after,
            setting: None,
        })
    }
}
