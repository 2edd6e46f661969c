//! The listeners, which move, come and go while the gateway runs when their
//! addresses change.
//!
//! New before old: the new address is bound while the configuration is still
//! being built, so that one that cannot be bound cancels the reload; it serves
//! once the snapshot is swapped; the old one goes on accepting for
//! `server.drain_delay`, so that whoever sends calls here can notice, and then
//! its connections finish what they are doing. An address that is ours already
//! is not bound again: see [`takeover`].

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::net::TcpListener;

use crate::{
    config::{Config, Unusable, covers, overlap},
    metrics::{Metrics, exporter},
    server::{Api, Connections, Reach, Service, listener},
    shutdown::{Stop, Tasks},
    snapshot::Current,
};

mod takeover;

use takeover::{Own, Way};

/// What a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Main,
    Metrics,
    Internal,
}

/// Number of roles.
const ROLES: usize = 3;

impl Role {
    const ALL: [Self; ROLES] = [Self::Main, Self::Metrics, Self::Internal];

    /// The keys of its address, and those that it follows from.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Main => &["server.listen", "provider.kind", "provider.url"],
            Self::Metrics => &["metrics.listen", "server.listen", "provider.kind", "provider.url"],
            Self::Internal => &["server.internal_listen"],
        }
    }

    fn key(self) -> &'static str {
        self.keys()[0]
    }

    fn address(self, config: &Config) -> Option<SocketAddr> {
        match self {
            Self::Main => Some(config.listen()),
            Self::Metrics => Some(config.metrics_listen()),
            Self::Internal => config.server.internal_listen,
        }
    }
}

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
    /// By role, in the order of [`Role::ALL`].
    serving: [Option<Listening>; ROLES],
    /// Those that were replaced by one for more addresses, theirs among them:
    /// closing such a one would only lose whoever is connecting.
    covered: Vec<Listening>,
    /// Those that were replaced and still accept for a while.
    draining: Vec<Listening>,
}

impl Open {
    /// All sockets that still accept.
    fn sockets(&self) -> impl Iterator<Item = (Option<Role>, &Listening)> {
        let serving = Role::ALL.into_iter().zip(&self.serving);
        let serving = serving.filter_map(|(role, listening)| Some((Some(role), listening.as_ref()?)));
        let others = self.covered.iter().chain(&self.draining);
        serving.chain(others.map(|listening| (None, listening)))
    }
}

/// Where the listeners are.
pub(super) struct Addresses {
    pub(super) main: SocketAddr,
    pub(super) metrics: SocketAddr,
    pub(super) internal: Option<SocketAddr>,
}

/// A listener in use.
struct Listening {
    role: Role,
    /// The address asked for, with port 0 where any would do.
    configured: SocketAddr,
    /// The address it has.
    local: SocketAddr,
    /// Held by the task that accepts on it.
    socket: Weak<TcpListener>,
    stop: Stop,
}

/// What becomes of one role's listener.
#[derive(Default)]
enum Next {
    /// It stays; the address may be written down otherwise.
    Stays(SocketAddr),
    /// This takes its place: the address asked for, the one it has, and the socket.
    Replaced(SocketAddr, SocketAddr, Arc<TcpListener>),
    /// The configuration has none.
    #[default]
    Gone,
}

/// Listeners for a configuration that is not live yet. Dropping it lets the
/// addresses go that were bound for it.
#[derive(Default)]
pub(super) struct Prepared([Next; ROLES]);

impl Prepared {
    /// Binds what a first configuration asks for.
    pub(super) async fn first(config: &Config) -> Result<Self, Vec<Unusable>> {
        prepare(config, Vec::new()).await
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
    pub(super) async fn prepare(&self, config: &Config) -> Result<Prepared, Vec<Unusable>> {
        let own = {
            let mut open = self.open();
            open.draining.retain(|listening| listening.socket.strong_count() > 0);
            let sockets = open.sockets().filter_map(|(role, listening)| {
                let own = Own {
                    role,
                    configured: listening.configured,
                    local: listening.local,
                };
                Some((own, listening.socket.upgrade()?))
            });
            sockets.collect()
        };
        prepare(config, own).await
    }

    /// Serves on what was prepared and retires what it replaces.
    pub(super) fn serve(&self, prepared: Prepared) {
        // More connections may be allowed than before.
        self.connections.iter().for_each(|connections| connections.reconsider());
        let mut guard = self.open();
        let open = &mut *guard;
        let starting = open.serving.iter().all(Option::is_none);
        let (mut retiring, mut beginning) = (Vec::new(), Vec::new());
        for ((role, slot), next) in Role::ALL.into_iter().zip(&mut open.serving).zip(prepared.0) {
            let key = role.key();
            match next {
                Next::Stays(configured) => {
                    if let Some(listening) = slot {
                        listening.configured = configured;
                    }
                }
                Next::Replaced(configured, local, socket) => {
                    let new = Listening {
                        role,
                        configured,
                        local,
                        socket: Arc::downgrade(&socket),
                        stop: Stop::new(),
                    };
                    beginning.push((role, socket, local, new.stop.clone()));
                    match slot.replace(new) {
                        Some(old) => {
                            tracing::info!(key, from = %old.local, to = %local, "listener moved");
                            retiring.push(old);
                        }
                        None if !starting => tracing::info!(key, at = %local, "listener opened"),
                        None => {}
                    }
                }
                Next::Gone => {
                    if let Some(old) = slot.take() {
                        tracing::info!(key, from = %old.local, "listener closed");
                        retiring.push(old);
                    }
                }
            }
        }
        let serving: Vec<_> = open.serving.iter().flatten().collect();
        // What leads to something else from now on must not lead here too.
        let given_away = |old: &Listening| {
            serving.iter().any(|new| {
                Weak::ptr_eq(&new.socket, &old.socket) || new.role != old.role && overlap(new.local, old.local)
            })
        };
        let covered = |old: &Listening| {
            let mut same = serving.iter().filter(|new| new.role == old.role);
            same.any(|new| covers(new.local, old.local))
        };
        open.draining.retain(|old| {
            let ends = given_away(old);
            if ends {
                old.stop.cancel();
            }
            !ends
        });
        for old in std::mem::take(&mut open.covered).into_iter().chain(retiring) {
            if given_away(&old) {
                old.stop.cancel();
            } else if covered(&old) {
                open.covered.push(old);
            } else {
                self.retire(&old);
                open.draining.push(old);
            }
        }
        // Last: nobody is to be let in by the old and by the new.
        for (role, socket, local, stop) in beginning {
            self.accept(role, socket, local, stop);
        }
    }

    /// Accepts on a socket, as a listener of this role does.
    fn accept(&self, role: Role, socket: Arc<TcpListener>, local: SocketAddr, stop: Stop) {
        let [main, internal] = &self.connections;
        let (reach, connections) = match role {
            Role::Main => (Reach::Public, Arc::clone(main)),
            Role::Internal => (Reach::Internal, Arc::clone(internal)),
            Role::Metrics => {
                let draining = self.serving.draining().clone();
                let ready = move || !draining.is_cancelled();
                let (metrics, tasks) = (Arc::clone(&self.metrics), self.background.clone());
                self.background
                    .spawn(exporter::serve(socket, metrics, tasks, ready, stop));
                return;
            }
        };
        let (api, tasks) = (Arc::clone(&self.api), self.serving.clone());
        let service = Service::new(self.current.clone(), api, tasks, local, reach);
        self.serving.spawn(listener::serve(socket, connections, service, stop));
    }

    /// Where the listeners are.
    pub(super) fn addresses(&self) -> Option<Addresses> {
        let open = self.open();
        let [main, metrics, internal] = &open.serving;
        Some(Addresses {
            main: main.as_ref()?.local,
            metrics: metrics.as_ref()?.local,
            internal: internal.as_ref().map(|internal| internal.local),
        })
    }

    /// Stops accepting calls; connections finish their requests.
    pub(super) fn stop_calls(&self) {
        self.stop(|role| role != Role::Metrics);
    }

    /// Stops answering about metrics and health.
    pub(super) fn stop_metrics(&self) {
        self.stop(|role| role == Role::Metrics);
    }

    fn stop(&self, which: impl Fn(Role) -> bool) {
        for (_, listening) in self.open().sockets() {
            if which(listening.role) {
                listening.stop.cancel();
            }
        }
    }

    /// Lets a listener go on for `server.drain_delay`.
    fn retire(&self, old: &Listening) {
        let delay: Duration = self.current.get().config.server.drain_delay;
        let stop = old.stop.clone();
        self.serving.spawn(async move {
            tokio::time::sleep(delay).await;
            stop.cancel();
        });
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gets every address that `config` asks for, while `own` are our sockets.
async fn prepare(config: &Config, own: Vec<(Own, Arc<TcpListener>)>) -> Result<Prepared, Vec<Unusable>> {
    let (own, sockets): (Vec<_>, Vec<_>) = own.into_iter().unzip();
    let wanted = Role::ALL.map(|role| role.address(config));
    let stays = |(role, wanted): (Role, &Option<SocketAddr>)| {
        let way = wanted.map(|wanted| takeover::plan(role, wanted, &[], &own));
        (way == Some(Ok(Way::Stay))).then_some(role)
    };
    let staying: Vec<_> = Role::ALL.into_iter().zip(&wanted).filter_map(stays).collect();
    let mut errors = Vec::new();
    let mut prepared = Prepared::default();
    for ((role, next), wanted) in Role::ALL.into_iter().zip(&mut prepared.0).zip(wanted) {
        let Some(wanted) = wanted else { continue };
        let socket = match takeover::plan(role, wanted, &staying, &own) {
            Ok(Way::Stay) => {
                *next = Next::Stays(wanted);
                continue;
            }
            Ok(Way::TakeOver(socket)) => Ok(Arc::clone(&sockets[socket])),
            Ok(Way::Bind(beside)) => {
                let beside: Vec<_> = beside.into_iter().map(|socket| Arc::clone(&sockets[socket])).collect();
                let bound = takeover::bind(wanted, &beside).await;
                bound.map(Arc::new).map_err(|error| error.to_string())
            }
            Err(error) => Err(error),
        };
        let local = |socket: Arc<TcpListener>| Ok((socket.local_addr().map_err(|error| error.to_string())?, socket));
        match socket.and_then(local) {
            Ok((local, socket)) => *next = Next::Replaced(wanted, local, socket),
            Err(error) => errors.push(Unusable::new(
                role.keys(),
                format!("cannot listen on {wanted}: {error}"),
            )),
        }
    }
    if errors.is_empty() { Ok(prepared) } else { Err(errors) }
}
