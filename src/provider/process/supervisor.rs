//! The task that keeps one function's replicas as wanted.
//!
//! It is the only one that changes the function's list of endpoints. Its
//! decisions are [`reconcile::plan`]'s; what replicas do is told by their
//! events.

use std::{sync::Arc, time::Duration};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    function::{Desired, Function, View},
    launch,
    reconcile::{self, Seen},
    replica::{Event, Replica},
};
use crate::{state::remove_tree, upstream::Endpoint};

/// Letters of instance names: no vowels, so that no words appear.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Letters after the function's name in an instance name.
const SUFFIX: usize = 5;

/// A replica as its supervisor sees it.
struct Managed {
    id: u64,
    instance: String,
    revision: u64,
    stop: CancellationToken,
    pid: Option<u32>,
    endpoint: Option<Arc<Endpoint>>,
}

impl Managed {
    fn stopping(&self) -> bool {
        self.stop.is_cancelled()
    }
}

/// Runs until the function is deleted or the provider closes, and all replicas are gone.
pub(super) async fn supervise(function: Arc<Function>, shared: Arc<Shared>) {
    let (events, inbox) = mpsc::channel(64);
    let supervisor = Supervisor {
        desired: function.desired.subscribe(),
        function,
        shared,
        events,
        inbox,
        replicas: Vec::new(),
        trouble: None,
    };
    supervisor.run().await;
}

struct Supervisor {
    function: Arc<Function>,
    shared: Arc<Shared>,
    desired: watch::Receiver<Desired>,
    events: mpsc::Sender<(u64, Event)>,
    inbox: mpsc::Receiver<(u64, Event)>,
    replicas: Vec<Managed>,
    trouble: Option<(String, Duration)>,
}

impl Supervisor {
    async fn run(mut self) {
        let closing = self.shared.closing.clone();
        loop {
            let desired = self.desired.borrow_and_update().clone();
            let ending = desired.removed || closing.is_cancelled();
            self.reconcile(&desired, ending);
            if ending && self.replicas.is_empty() {
                if desired.removed {
                    self.clean_up().await;
                }
                return;
            }
            tokio::select! {
                // The sender is the function's own, so it is there.
                _ = self.desired.changed() => {}
                Some((id, event)) = self.inbox.recv() => self.apply(id, event, &desired).await,
                () = closing.cancelled(), if !ending => {}
            }
        }
    }

    fn reconcile(&mut self, desired: &Desired, ending: bool) {
        let wanted = if ending { 0 } else { desired.record.replicas };
        let active: Vec<usize> = (0..self.replicas.len())
            .filter(|index| !self.replicas[*index].stopping())
            .collect();
        let seen: Vec<Seen> = active
            .iter()
            .map(|index| Seen {
                revision: self.replicas[*index].revision,
                ready: self.replicas[*index].endpoint.is_some(),
            })
            .collect();
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        let plan = if self.alone(desired) {
            let leaving = active.len() < self.replicas.len();
            reconcile::plan_alone(desired.record.revision, wanted, &seen, leaving)
        } else {
            reconcile::plan(desired.record.revision, wanted, &seen)
        };
        let stop: Vec<CancellationToken> = plan
            .stop
            .iter()
            .map(|index| {
                let replica = &mut self.replicas[active[*index]];
                replica.endpoint = None;
                replica.stop.clone()
            })
            .collect();
        if wanted == 0 {
            self.trouble = None;
        }
        // Off the list before they are told, so that no call is sent to one that drains.
        self.publish(desired.sequence);
        for token in stop {
            token.cancel();
        }
        for _ in 0..plan.start {
            self.start(desired);
        }
    }

    /// Whether the function's replicas cannot run beside each other.
    fn alone(&self, desired: &Desired) -> bool {
        let settings = self.shared.settings.load();
        launch::accepted(&desired.record.deployment, &self.function.name.namespace, &settings)
            .is_some_and(|launch| launch.fixed_port.is_some())
    }

    fn start(&mut self, desired: &Desired) {
        let replica = Replica {
            id: self.shared.next_id(),
            instance: self.new_instance(),
            function: Arc::clone(&self.function),
            record: Arc::clone(&desired.record),
            shared: Arc::clone(&self.shared),
            stop: CancellationToken::new(),
            events: self.events.clone(),
        };
        self.replicas.push(Managed {
            id: replica.id,
            instance: replica.instance.clone(),
            revision: desired.record.revision,
            stop: replica.stop.clone(),
            pid: None,
            endpoint: None,
        });
        self.shared.tasks.spawn(replica.run());
    }

    fn new_instance(&self) -> String {
        loop {
            let suffix: String = (0..SUFFIX)
                .map(|_| char::from(LETTERS[rand::random_range(0..LETTERS.len())]))
                .collect();
            let instance = format!("{}-{suffix}", self.function.name.name);
            if self.replicas.iter().all(|replica| replica.instance != instance) {
                return instance;
            }
        }
    }

    async fn apply(&mut self, id: u64, event: Event, desired: &Desired) {
        let Some(index) = self.replicas.iter().position(|replica| replica.id == id) else {
            return;
        };
        let replica = &mut self.replicas[index];
        match event {
            Event::Started(pid) => replica.pid = Some(pid),
            Event::Ready(endpoint) => {
                if !replica.stopping() {
                    replica.endpoint = Some(endpoint);
                    self.trouble = None;
                }
            }
            Event::Lost => {
                replica.pid = None;
                replica.endpoint = None;
            }
            Event::Died { status, retry } => {
                if !replica.stopping() {
                    self.trouble = Some((status, retry));
                }
            }
            Event::Stopped => {
                let revision = replica.revision;
                self.replicas.remove(index);
                if revision != desired.record.revision && self.replicas.iter().all(|other| other.revision != revision) {
                    self.forget_secrets(revision).await;
                }
            }
        }
    }

    /// Shows what is there to requests.
    fn publish(&self, sequence: u64) {
        self.function.view.store(Arc::new(View {
            sequence,
            ready: self
                .replicas
                .iter()
                .filter_map(|replica| replica.endpoint.clone())
                .collect(),
            pids: self.replicas.iter().filter_map(|replica| replica.pid).collect(),
            trouble: self.trouble.clone(),
        }));
        self.shared.changes.send_modify(|change| *change += 1);
    }

    /// Removes the copies of secrets that replicas of an older revision read.
    async fn forget_secrets(&self, revision: u64) {
        self.remove(vec![self.function.secrets.join(revision.to_string())])
            .await;
    }

    /// Removes what is left of a deleted function.
    async fn clean_up(&self) {
        let logs = self.shared.logs.join(&self.function.uid);
        self.remove(vec![logs, self.function.secrets.clone()]).await;
    }

    async fn remove(&self, trees: Vec<std::path::PathBuf>) {
        let function = self.function.name.to_string();
        let removed = tokio::task::spawn_blocking(move || {
            for tree in trees {
                if let Err(error) = remove_tree(&tree) {
                    tracing::warn!(%function, path = %tree.display(), %error, "cannot remove what a function left");
                }
            }
        });
        if let Err(error) = removed.await {
            tracing::warn!(function = %self.function.name, %error, "cleaning up after a function was interrupted");
        }
    }
}
