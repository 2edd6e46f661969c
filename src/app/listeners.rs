//! The listeners, which move, come and go while the gateway runs when their
//! addresses change.
//!
//! New before old: the new address is bound while the configuration is still
//! being built, so that one that cannot be bound cancels the reload; it serves
//! once the snapshot is swapped; the old one goes on accepting for
//! `server.drain_delay`, so that whoever sends calls here can notice, and then
//! its connections finish what they are doing.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::net::TcpListener;

use crate::{
    config::Config,
    metrics::{Metrics, exporter},
    server::{Api, Connections, Reach, Service, listener},
    shutdown::{Stop, Tasks},
    snapshot::Current,
};

/// Keys of the addresses, for messages.
const LISTEN: &str = "server.listen";
const INTERNAL_LISTEN: &str = "server.internal_listen";
const METRICS_LISTEN: &str = "metrics.listen";

/// The listeners in use and what they serve with.
pub(super) struct Listeners {
    current: Current,
    api: Api,
    metrics: Arc<Metrics>,
    /// Of the main and the internal listener, wherever they are.
    connections: [Arc<Connections>; 2],
    /// Tasks of those connections.
    serving: Tasks,
    /// The metrics listener, which outlives the drain.
    background: Tasks,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    main: Option<Listening>,
    metrics: Option<Listening>,
    internal: Option<Listening>,
}

/// Where the listeners are.
pub(super) struct Addresses {
    pub(super) main: SocketAddr,
    pub(super) metrics: SocketAddr,
    pub(super) internal: Option<SocketAddr>,
}

/// A listener in use.
struct Listening {
    /// The address asked for, with port 0 where any would do.
    configured: SocketAddr,
    /// The address it has.
    local: SocketAddr,
    stop: Stop,
}

/// Listeners bound for a configuration that is not live yet; `None` where the
/// one in use stays. Dropping it lets the addresses go.
#[derive(Default)]
pub(super) struct Bound {
    main: Option<(SocketAddr, TcpListener)>,
    metrics: Option<(SocketAddr, TcpListener)>,
    internal: Option<(SocketAddr, TcpListener)>,
    /// The configuration has no internal listener.
    without_internal: bool,
}

impl Bound {
    /// Binds what a first configuration asks for.
    pub(super) async fn first(config: &Config) -> Result<Self, Vec<String>> {
        bind(
            Some(config.listen()),
            Some(config.metrics_listen()),
            config.server.internal_listen,
        )
        .await
    }
}

impl Listeners {
    pub(super) fn new(current: Current, api: Api, metrics: Arc<Metrics>, serving: Tasks, background: Tasks) -> Self {
        let connections = ["main", "internal"].map(|name| Connections::new(metrics.listener(name)));
        Self {
            current,
            api,
            metrics,
            connections,
            serving,
            background,
            open: Mutex::default(),
        }
    }

    /// Binds the addresses that `config` changes.
    pub(super) async fn prepare(&self, config: &Config) -> Result<Bound, Vec<String>> {
        let changed = |open: &Option<Listening>, wanted| {
            let same = open.as_ref().is_some_and(|open| open.configured == wanted);
            (!same).then_some(wanted)
        };
        let internal = config.server.internal_listen;
        let (main, metrics, added) = {
            let open = self.open();
            (
                changed(&open.main, config.listen()),
                changed(&open.metrics, config.metrics_listen()),
                internal.and_then(|wanted| changed(&open.internal, wanted)),
            )
        };
        let bound = bind(main, metrics, added).await?;
        Ok(Bound {
            without_internal: internal.is_none(),
            ..bound
        })
    }

    /// Serves on what was bound and retires what it replaces.
    pub(super) fn serve(&self, bound: Bound) {
        let mut guard = self.open();
        let open = &mut *guard;
        let running = open.metrics.is_some();
        let [main, internal] = &self.connections;
        for (bound, slot, reach, key, connections) in [
            (bound.main, &mut open.main, Reach::Public, LISTEN, main),
            (
                bound.internal,
                &mut open.internal,
                Reach::Internal,
                INTERNAL_LISTEN,
                internal,
            ),
        ] {
            // More may be allowed than before.
            connections.reconsider();
            let Some((configured, listener)) = bound else { continue };
            let Ok(local) = listener.local_addr() else { continue };
            if running && slot.is_none() {
                tracing::info!(key, at = %local, "listener opened");
            }
            let stop = Stop::new();
            let (api, tasks) = (Arc::clone(&self.api), self.serving.clone());
            let service = Service::new(self.current.clone(), api, tasks, local, reach);
            let connections = Arc::clone(connections);
            self.serving
                .spawn(listener::serve(listener, connections, service, stop.clone()));
            self.replace(
                slot,
                Listening {
                    configured,
                    local,
                    stop,
                },
                key,
            );
        }
        if bound.without_internal
            && let Some(old) = open.internal.take()
        {
            tracing::info!(key = INTERNAL_LISTEN, from = %old.local, "listener closed");
            self.retire(old);
        }
        if let Some((configured, listener)) = bound.metrics
            && let Ok(local) = listener.local_addr()
        {
            let stop = Stop::new();
            let draining = self.serving.draining().clone();
            self.background.spawn(exporter::serve(
                listener,
                Arc::clone(&self.metrics),
                self.background.clone(),
                move || !draining.is_cancelled(),
                stop.clone(),
            ));
            self.replace(
                &mut open.metrics,
                Listening {
                    configured,
                    local,
                    stop,
                },
                METRICS_LISTEN,
            );
        }
    }

    /// Where the listeners are.
    pub(super) fn addresses(&self) -> Option<Addresses> {
        let open = self.open();
        Some(Addresses {
            main: open.main.as_ref()?.local,
            metrics: open.metrics.as_ref()?.local,
            internal: open.internal.as_ref().map(|internal| internal.local),
        })
    }

    /// Stops accepting calls; connections finish their requests.
    pub(super) fn stop_calls(&self) {
        let open = self.open();
        for listening in [&open.main, &open.internal].into_iter().flatten() {
            listening.stop.cancel();
        }
    }

    /// Stops answering about metrics and health.
    pub(super) fn stop_metrics(&self) {
        if let Some(metrics) = &self.open().metrics {
            metrics.stop.cancel();
        }
    }

    fn replace(&self, slot: &mut Option<Listening>, new: Listening, key: &'static str) {
        let to = new.local;
        if let Some(old) = slot.replace(new) {
            tracing::info!(key, from = %old.local, %to, "listener moved");
            self.retire(old);
        }
    }

    /// Lets a listener go on for `server.drain_delay`.
    fn retire(&self, old: Listening) {
        let delay = self.current.get().config.server.drain_delay;
        self.serving.spawn(async move {
            tokio::time::sleep(delay).await;
            old.stop.cancel();
        });
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn bind(
    main: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
    internal: Option<SocketAddr>,
) -> Result<Bound, Vec<String>> {
    let mut errors = Vec::new();
    let mut bound = Bound::default();
    for (slot, key, address) in [
        (&mut bound.main, LISTEN, main),
        (&mut bound.metrics, METRICS_LISTEN, metrics),
        (&mut bound.internal, INTERNAL_LISTEN, internal),
    ] {
        let Some(address) = address else { continue };
        match TcpListener::bind(address).await {
            Ok(listener) => *slot = Some((address, listener)),
            Err(error) => errors.push(format!("{key}: cannot listen on {address}: {error}")),
        }
    }
    if errors.is_empty() { Ok(bound) } else { Err(errors) }
}
