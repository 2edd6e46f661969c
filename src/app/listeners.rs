//! The two listeners, which move while the gateway runs when their address
//! changes.
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
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    metrics::{Metrics, exporter},
    server::{Api, Service, listener},
    shutdown::Tasks,
    snapshot::Current,
};

/// The listeners in use and what they serve with.
pub(super) struct Listeners {
    current: Current,
    api: Api,
    metrics: Arc<Metrics>,
    /// Connections of the main listener.
    serving: Tasks,
    /// The metrics listener, which outlives the drain.
    background: Tasks,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    main: Option<Listening>,
    metrics: Option<Listening>,
}

/// A listener in use.
struct Listening {
    /// The address asked for, with port 0 where any would do.
    configured: SocketAddr,
    /// The address it has.
    local: SocketAddr,
    stop: CancellationToken,
}

/// Listeners bound for a configuration that is not live yet; `None` where the
/// one in use stays. Dropping it lets the addresses go.
#[derive(Default)]
pub(super) struct Bound {
    main: Option<(SocketAddr, TcpListener)>,
    metrics: Option<(SocketAddr, TcpListener)>,
}

impl Bound {
    /// Binds what a first configuration asks for.
    pub(super) async fn first(config: &Config) -> Result<Self, Vec<String>> {
        bind(Some(config.listen()), Some(config.metrics_listen())).await
    }
}

impl Listeners {
    pub(super) fn new(current: Current, api: Api, metrics: Arc<Metrics>, serving: Tasks, background: Tasks) -> Self {
        Self {
            current,
            api,
            metrics,
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
        let (main, metrics) = {
            let open = self.open();
            (
                changed(&open.main, config.listen()),
                changed(&open.metrics, config.metrics_listen()),
            )
        };
        bind(main, metrics).await
    }

    /// Serves on what was bound and retires what it replaces.
    pub(super) fn serve(&self, bound: Bound) {
        let mut open = self.open();
        if let Some((configured, listener)) = bound.main
            && let Ok(local) = listener.local_addr()
        {
            let stop = CancellationToken::new();
            let service = Service::new(self.current.clone(), Arc::clone(&self.api), self.serving.clone(), local);
            self.serving.spawn(listener::serve(listener, service, stop.clone()));
            self.replace(
                &mut open.main,
                Listening {
                    configured,
                    local,
                    stop,
                },
                "server.listen",
            );
        }
        if let Some((configured, listener)) = bound.metrics
            && let Ok(local) = listener.local_addr()
        {
            let stop = CancellationToken::new();
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
                "metrics.listen",
            );
        }
    }

    /// Where the main and the metrics listener are.
    pub(super) fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        let open = self.open();
        Some((open.main.as_ref()?.local, open.metrics.as_ref()?.local))
    }

    /// Stops accepting calls; connections finish their requests.
    pub(super) fn stop_main(&self) {
        if let Some(main) = &self.open().main {
            main.stop.cancel();
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
        let Some(old) = slot.replace(new) else { return };
        let delay = self.current.get().config.server.drain_delay;
        tracing::info!(key, from = %old.local, %to, ?delay, "listener moved");
        self.serving.spawn(async move {
            tokio::time::sleep(delay).await;
            old.stop.cancel();
        });
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn bind(main: Option<SocketAddr>, metrics: Option<SocketAddr>) -> Result<Bound, Vec<String>> {
    let mut errors = Vec::new();
    let mut bound = Bound::default();
    for (slot, key, address) in [
        (&mut bound.main, "server.listen", main),
        (&mut bound.metrics, "metrics.listen", metrics),
    ] {
        let Some(address) = address else { continue };
        match TcpListener::bind(address).await {
            Ok(listener) => *slot = Some((address, listener)),
            Err(error) => errors.push(format!("{key}: cannot listen on {address}: {error}")),
        }
    }
    if errors.is_empty() { Ok(bound) } else { Err(errors) }
}
