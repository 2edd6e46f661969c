//! Parts that outlive reloads and belong to no provider: the queue, which stays
//! for good, and the lease of scaling, which stays while its server does.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use super::Builder;
use crate::{
    config::{self, Config, Leader, Order, QueueKind},
    events::Events,
    nats::Server,
    queue::{
        Bounds, Queue,
        embedded::Embedded,
        heard::Heard,
        jetstream::{JetStream, Options},
        offline::Offline,
    },
    scaling::lease::{Alone, Lease, NatsLease},
};

/// How long the start waits for NATS; without it the gateway goes on, and connects
/// when it can.
const PATIENCE: Duration = Duration::from_secs(3);

/// What other gateways know this process by: its host, which in a cluster is its
/// pod, and its number there.
fn own_name() -> String {
    let host = nix::unistd::gethostname().unwrap_or_default();
    format!("{}/{}", host.to_string_lossy(), std::process::id())
}

/// A queue in NATS, which tells of what happens in it itself.
async fn nats(config: &Config, bounds: Bounds, events: Arc<Events>) -> Arc<dyn Queue> {
    let Some(server) = Server::of(&config.queue) else {
        return Arc::new(Offline("queue.nats_address is not set".to_owned()));
    };
    let options = Options {
        server,
        queue: config.queue.nats_channel.clone(),
        replicas: config.queue.nats_replicas.into(),
        ack_wait: config.queue.ack_wait,
        is_shared: config.queue.nats_order == Order::Shared,
        default_namespace: config.default_namespace().to_owned(),
        name: own_name(),
    };
    let queue = JetStream::start(options, bounds, events);
    if tokio::time::timeout(PATIENCE, queue.ready()).await.is_err() {
        tracing::warn!("the queue in NATS is not ready yet; asynchronous calls get 503 until then");
    }
    Arc::new(queue)
}

impl Builder {
    /// What keeps asynchronous calls. Where that cannot be, the gateway works
    /// without; such calls are told why.
    pub(super) async fn queue(&self, config: &Config) -> Arc<dyn Queue> {
        let bounds = Bounds {
            jobs: config.queue.max_jobs.into(),
            bytes: config.queue.max_bytes.0,
        };
        let open = async || -> Arc<dyn Queue> {
            let state = config.provider.process.state_dir.as_ref();
            let directory = config.queue.path.clone().or_else(|| Some(state?.join("queue")));
            let opened = match (config.queue.kept_by(), directory) {
                (QueueKind::Nats, _) => return nats(config, bounds, Arc::clone(&self.events)).await,
                (QueueKind::Off, _) => Err("queue.kind is \"off\"".to_owned()),
                (QueueKind::Embedded, None) => Err("there is no state directory; set queue.path".to_owned()),
                (QueueKind::Embedded, Some(directory)) => {
                    let opened = config::blocking(move || Embedded::open(&directory, bounds)).await;
                    opened.map_err(|error| error.to_string())
                }
            };
            match opened {
                Ok(queue) => Arc::new(Heard::new(Arc::new(queue), Arc::clone(&self.events))),
                Err(why) => {
                    tracing::warn!(why, "no asynchronous calls");
                    Arc::new(Offline(why))
                }
            }
        };
        let queue = self.queue.get_or_init(open).await;
        queue.set_bounds(bounds);
        Arc::clone(queue)
    }

    /// Who scales: the lease in use where the server of it stays.
    pub(super) fn lease(&self, config: &Config) -> Arc<dyn Lease> {
        let server = match config.scaling.leader {
            Leader::Always => None,
            Leader::Nats => Server::of(&config.queue),
        };
        let mut in_use = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        if in_use.0 != server {
            let next: Arc<dyn Lease> = match &server {
                None => Arc::new(Alone),
                Some(server) => Arc::new(NatsLease::start(server.clone(), own_name())),
            };
            *in_use = (server, next);
        }
        Arc::clone(&in_use.1)
    }
}
