//! Parts that outlive reloads and belong to no provider: the queue, which stays
//! for good, and the lease of scaling, which stays while its server does.

use std::sync::{Arc, PoisonError};

use super::Builder;
use crate::{
    config::{self, Config, Leader, QueueKind},
    queue::{Bounds, Queue, embedded::Embedded, offline::Offline},
    scaling::lease::{Alone, Lease, NatsLease},
};

/// Where NATS listens where nothing says otherwise.
const NATS_PORT: u16 = 4222;

/// What other gateways know this process by: its host, which in a cluster is its
/// pod, and its number there.
fn own_name() -> String {
    let host = nix::unistd::gethostname().unwrap_or_default();
    format!("{}/{}", host.to_string_lossy(), std::process::id())
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
            let opened = match (config.queue.kind, directory) {
                (QueueKind::Off, _) => Err("queue.kind is \"off\"".to_owned()),
                (QueueKind::Embedded, None) => Err("there is no state directory; set queue.path".to_owned()),
                (QueueKind::Embedded, Some(directory)) => {
                    let opened = config::blocking(move || Embedded::open(&directory, bounds)).await;
                    opened.map_err(|error| error.to_string())
                }
            };
            match opened {
                Ok(queue) => Arc::new(queue) as Arc<dyn Queue>,
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
            Leader::Nats => config.queue.nats_address.as_ref().map(|host| {
                let port = config.queue.nats_port.unwrap_or(NATS_PORT);
                format!("{host}:{port}")
            }),
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
