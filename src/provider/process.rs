//! Functions as local processes: the embedded default provider.
//!
//! Each replica is a child `faas-gateway watchdog` that serves HTTP on a Unix
//! socket and runs the function's command, so that the gateway sees every
//! function as an HTTP upstream and a crashing function hurts only itself.
//!
//! - `store` keeps what is deployed in the state directory; `control` changes it;
//! - a `supervisor` task per function starts and stops its replicas, as the
//!   pure `reconcile` decides;
//! - a `replica` task per replica starts its watchdog (`launch` says what,
//!   `child` does it), watches it and starts it again after `backoff`;
//! - `logs` keeps what replicas write; `usage` reads what they use.
//!
//! What a function's command does with a call is [`crate::watchdog`]'s part.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use chrono::Utc;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{control::Control, function::Function, settings::STATE_DIR, store::Store};
use super::{LogStream, Provider, ProviderError, Result, validate};
use crate::{
    config::Unusable,
    model::{
        FunctionDeployment, FunctionNamespace, FunctionRef, FunctionStatus, LOCAL_IMAGE, LogQuery, ProviderInfo,
        Secret, VersionInfo,
    },
    shutdown::Tasks,
    state,
    upstream::{Connections, PathForm, Pools, Upstream},
    watchdog::limits,
};

mod backoff;
mod child;
mod control;
mod function;
mod launch;
mod lines;
mod logs;
mod reconcile;
mod replica;
mod settings;
mod store;
mod supervisor;
mod usage;

pub use settings::{Settings, inherited};

/// Longest directory of sockets: the system's bound on a socket's path is
/// about 104 bytes, and the longest name in it needs 17.
const SOCKET_DIRECTORY_LEN: usize = 80;
/// For killing replicas and cleaning up after them.
const KILL_TIME: Duration = Duration::from_secs(5);

/// Runs functions as processes of this machine.
#[derive(Debug)]
pub struct ProcessProvider {
    control: Arc<Control>,
    shared: Arc<Shared>,
    default_namespace: String,
    limits: String,
    /// A short directory for sockets, when the state directory is too long for them.
    _sockets: Option<tempfile::TempDir>,
}

/// What all replicas share.
#[derive(Debug)]
struct Shared {
    settings: ArcSwap<Settings>,
    pools: Pools,
    tasks: Tasks,
    supervisors: TaskTracker,
    /// Cancelled when every replica is to end.
    closing: CancellationToken,
    /// Counts the changes of all functions' views.
    changes: watch::Sender<u64>,
    ids: AtomicU64,
    sockets: PathBuf,
    secrets: PathBuf,
    logs: PathBuf,
}

impl Shared {
    fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }
}

impl ProcessProvider {
    /// Opens the state directory and starts everything that is deployed in it.
    ///
    /// Replicas run until [`Provider::close`], or until the provider is dropped
    /// or `tasks` are aborted, which kills them.
    ///
    /// # Errors
    /// A text for the operator: the state directory is in use by another
    /// gateway, or cannot be created, read or written; or the default namespace
    /// is no namespace name.
    pub async fn open(settings: Settings, tasks: Tasks) -> Result<Arc<Self>, Unusable> {
        validate::namespace(&settings.default_namespace)
            .map_err(|error| Unusable::new(&["provider.default_namespace"], error.to_string()))?;
        tokio::task::spawn_blocking(move || Self::open_blocking(settings, tasks))
            .await
            .unwrap_or_else(|error| Err(format!("opening the state directory was interrupted: {error}")))
            .map_err(|error| Unusable::new(STATE_DIR, error))
    }

    fn open_blocking(settings: Settings, tasks: Tasks) -> Result<Arc<Self>, String> {
        let store = Store::open(&settings.state_dir)?;
        let run = store.run();
        let secrets = run.join("secrets");
        let failed = |path: &Path, error: std::io::Error| format!("cannot create {}: {error}", path.display());
        state::make_directory(&secrets).map_err(|error| failed(&secrets, error))?;
        let (sockets, temporary) = socket_directory(&run, &store.sockets_elsewhere())?;
        let default_namespace = settings.default_namespace.clone();
        let shared = Arc::new(Shared {
            pools: Pools::new(settings.pool),
            settings: ArcSwap::from_pointee(settings),
            tasks,
            supervisors: TaskTracker::new(),
            closing: CancellationToken::new(),
            changes: watch::Sender::new(0),
            ids: AtomicU64::new(1),
            sockets,
            secrets,
            logs: store.logs(),
        });
        let control = Control::open(Arc::clone(&shared), store, default_namespace.clone())
            // Replicas of the functions that could be opened must not stay.
            .inspect_err(|_| shared.closing.cancel())?;
        Ok(Arc::new(Self {
            control: Arc::new(control),
            shared,
            default_namespace,
            limits: limits::mechanism().to_string(),
            _sockets: temporary,
        }))
    }

    /// Replaces the settings; replicas go on. Those that can change at once do,
    /// the others when replicas are started next. `state_dir`, `executable` and
    /// `default_namespace` stay as they were: a provider with others is
    /// another provider.
    pub fn reconfigure(&self, mut settings: Settings) {
        let before = self.shared.settings.load();
        let identity = |settings: &Settings| {
            (
                settings.state_dir.clone(),
                settings.executable.clone(),
                settings.default_namespace.clone(),
            )
        };
        let (fixed, asked) = (identity(&before), identity(&settings));
        if fixed != asked {
            tracing::warn!("state_dir and default_namespace of the process provider change only with a restart");
        }
        (settings.state_dir, settings.executable, settings.default_namespace) = fixed;
        self.shared.pools.set_limits(settings.pool);
        self.shared.settings.store(Arc::new(settings));
    }

    /// Runs a change where blocking is allowed; it completes even when the
    /// caller goes away.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Control) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if self.shared.closing.is_cancelled() {
            return Err(ProviderError::NotReady {
                reason: "the gateway is stopping".to_owned(),
                retry_after: Duration::from_secs(1),
                setting: None,
            });
        }
        self.read(change).await
    }

    async fn read<T: Send + 'static>(&self, read: impl FnOnce(&Control) -> Result<T> + Send + 'static) -> Result<T> {
        let control = Arc::clone(&self.control);
        tokio::task::spawn_blocking(move || read(&control))
            .await
            .map_err(|error| ProviderError::Internal(format!("the operation was interrupted: {error}")))?
    }

    /// Resolves when the function's supervisor has seen a change.
    async fn applied(&self, function: &Function, sequence: u64) {
        let mut changes = self.shared.changes.subscribe();
        while function.view.load().sequence < sequence && !self.shared.closing.is_cancelled() {
            tokio::select! {
                // The sender is this provider's own, so it is there.
                _ = changes.changed() => {}
                () = self.shared.closing.cancelled() => {}
            }
        }
    }
}

fn describe(function: &Function) -> FunctionStatus {
    let record = function.record();
    let available = function.view.load().ready.len() as u64;
    validate::describe(
        &record.deployment,
        &function.name.namespace,
        record.replicas,
        available,
        record.created_at,
    )
}

/// Where sockets go: below the state directory, or in a directory with a
/// shorter path, which a link at `elsewhere` remembers for the next start.
fn socket_directory(run: &Path, elsewhere: &Path) -> Result<(PathBuf, Option<tempfile::TempDir>), String> {
    if let Ok(stale) = fs::read_link(elsewhere) {
        // A killed gateway left it.
        state::remove_tree(&stale)
            .and_then(|()| fs::remove_file(elsewhere))
            .map_err(|error| format!("cannot remove {}: {error}", stale.display()))?;
    }
    let usual = run.join("s");
    if usual.as_os_str().len() <= SOCKET_DIRECTORY_LEN {
        state::make_directory(&usual).map_err(|error| format!("cannot create {}: {error}", usual.display()))?;
        return Ok((usual, None));
    }
    let short = tempfile::Builder::new()
        .prefix("faas-gateway-")
        .tempdir()
        .map_err(|error| format!("cannot create a directory for sockets: {error}"))?;
    if short.path().as_os_str().len() > SOCKET_DIRECTORY_LEN {
        return Err(format!(
            "state directory and temporary directory are both too long for sockets; use a --state-dir of at most {} bytes",
            SOCKET_DIRECTORY_LEN - "/run/s".len()
        ));
    }
    std::os::unix::fs::symlink(short.path(), elsewhere)
        .map_err(|error| format!("cannot create {}: {error}", elsewhere.display()))?;
    Ok((short.path().to_owned(), Some(short)))
}

impl Drop for ProcessProvider {
    fn drop(&mut self) {
        // Without `close`: replicas drain on their own.
        self.shared.closing.cancel();
    }
}

#[async_trait]
impl Provider for ProcessProvider {
    async fn list(&self, namespace: &str) -> Result<Vec<FunctionStatus>> {
        let namespace = namespace.to_owned();
        let functions = self.read(move |control| control.list(&namespace)).await?;
        Ok(functions.iter().map(|function| describe(function)).collect())
    }

    async fn status(&self, function: &FunctionRef, usage: bool) -> Result<FunctionStatus> {
        let function = self.control.get(function)?;
        let mut status = describe(&function);
        if usage {
            let pids = function.view.load().pids.clone();
            status.usage = tokio::task::spawn_blocking(move || usage::measure(&pids))
                .await
                .ok()
                .flatten();
        }
        Ok(status)
    }

    async fn deploy(&self, deployment: FunctionDeployment) -> Result<()> {
        self.change(|control| control.deploy(deployment, false, Utc::now()))
            .await
    }

    async fn update(&self, deployment: FunctionDeployment) -> Result<()> {
        self.change(|control| control.deploy(deployment, true, Utc::now()))
            .await
    }

    async fn delete(&self, function: &FunctionRef) -> Result<()> {
        let function = function.clone();
        self.change(move |control| control.delete(&function)).await
    }

    async fn scale(&self, function: &FunctionRef, replicas: u64) -> Result<()> {
        let name = function.clone();
        let (function, sequence) = self.change(move |control| control.scale(&name, replicas)).await?;
        // A call made after this returns must not reach a replica that was taken away.
        self.applied(&function, sequence).await;
        Ok(())
    }

    async fn logs(&self, query: LogQuery) -> Result<LogStream> {
        let name = FunctionRef::new(query.name.clone(), query.namespace.clone());
        let function = self.control.get(&name)?;
        function.logs.query(query, self.shared.closing.clone()).await
    }

    async fn list_secrets(&self, namespace: &str) -> Result<Vec<Secret>> {
        let namespace = namespace.to_owned();
        self.read(move |control| control.list_secrets(&namespace)).await
    }

    async fn create_secret(&self, secret: Secret) -> Result<()> {
        self.change(move |control| control.create_secret(&secret)).await
    }

    async fn update_secret(&self, secret: Secret) -> Result<()> {
        self.change(move |control| control.update_secret(&secret)).await
    }

    async fn delete_secret(&self, name: &str, namespace: &str) -> Result<()> {
        let (name, namespace) = (name.to_owned(), namespace.to_owned());
        self.change(move |control| control.delete_secret(&name, &namespace))
            .await
    }

    async fn list_namespaces(&self) -> Result<Vec<String>> {
        self.read(|control| Ok(control.list_namespaces())).await
    }

    async fn namespace(&self, name: &str) -> Result<FunctionNamespace> {
        let name = name.to_owned();
        self.read(move |control| control.namespace(&name)).await
    }

    async fn create_namespace(&self, namespace: FunctionNamespace) -> Result<()> {
        self.change(move |control| control.create_namespace(namespace)).await
    }

    async fn update_namespace(&self, namespace: FunctionNamespace) -> Result<()> {
        self.change(move |control| control.update_namespace(namespace)).await
    }

    async fn delete_namespace(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.change(move |control| control.delete_namespace(&name)).await
    }

    async fn info(&self) -> Result<ProviderInfo> {
        Ok(ProviderInfo {
            provider: "faas-gateway-process".to_owned(),
            version: VersionInfo::of_this_build(),
            orchestration: "process".to_owned(),
            limits: Some(self.limits.clone()),
        })
    }

    async fn health(&self) -> Result<()> {
        self.change(Control::check_writable).await
    }

    fn could_run(&self, deployment: &FunctionDeployment) -> Result<()> {
        let settings = self.shared.settings.load();
        let image = &deployment.image;
        // A container's command may have the name of a program of this machine, and do something else.
        if image != LOCAL_IMAGE && !settings.images.contains_key(image) {
            return Err(ProviderError::Invalid(format!(
                "{image} is a container image, and this gateway runs commands of its own machine; \
                 [provider.process.images.\"{image}\"] can say which"
            )));
        }
        validate::deployment(deployment)?;
        launch::launch(deployment, &self.default_namespace, &settings, launch::runnable).map(drop)
    }

    fn upstream(&self, function: &FunctionRef) -> Result<Upstream> {
        Ok(Upstream {
            endpoint: self.control.get(function)?.endpoint()?,
            path: PathForm::Trimmed,
        })
    }

    fn connections(&self) -> Connections {
        self.shared.pools.connections()
    }

    fn default_namespace(&self) -> &str {
        &self.default_namespace
    }

    async fn changed(&self) {
        // The sender is this provider's own, so it is there.
        drop(self.shared.changes.subscribe().changed().await);
    }

    async fn close(&self) {
        self.shared.closing.cancel();
        self.shared.supervisors.close();
        let settings = self.shared.settings.load_full();
        let bound = settings.stop_timeout + settings.end_timeout() + KILL_TIME;
        if tokio::time::timeout(bound, self.shared.supervisors.wait())
            .await
            .is_err()
        {
            tracing::error!(?bound, "replicas did not end in time");
        }
        // An old snapshot may keep this provider for a while; its directory is free now.
        self.control.release();
    }
}
