//! A provider that keeps everything in memory and runs nothing. For tests.
//!
//! Replicas are available as soon as they are wanted, unless the test decides
//! ([`MemoryProvider::hold`], [`MemoryProvider::set_available`]); calls go where
//! the test says ([`MemoryProvider::serve`]).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};
use tokio::sync::{broadcast, watch};

use super::{LogStream, Provider, ProviderError, Result, validate};
use crate::{
    model::{
        FunctionDeployment, FunctionNamespace, FunctionRef, FunctionStatus, LogMessage, LogQuery, ProviderInfo, Secret,
        VersionInfo,
    },
    upstream::{Address, Endpoint, PathForm, PoolLimits, Upstream},
};

const DEFAULT_NAMESPACE: &str = "openfaas-fn";
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Functions, secrets and namespaces in memory.
#[derive(Debug)]
pub struct MemoryProvider {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    functions: BTreeMap<FunctionRef, Entry>,
    namespaces: BTreeMap<String, FunctionNamespace>,
    secrets: BTreeMap<(String, String), Secret>,
    /// Where calls go; kept apart so that a test can say so before it deploys.
    endpoints: BTreeMap<FunctionRef, Arc<Endpoint>>,
    held: bool,
}

#[derive(Debug)]
struct Entry {
    deployment: FunctionDeployment,
    created_at: DateTime<Utc>,
    replicas: u64,
    available: u64,
    logs: Vec<LogMessage>,
    live: broadcast::Sender<LogMessage>,
}

impl Default for MemoryProvider {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryProvider {
    /// Nothing is deployed; there is one namespace, `openfaas-fn`.
    pub fn new() -> Self {
        let namespace = FunctionNamespace {
            name: DEFAULT_NAMESPACE.to_owned(),
            ..Default::default()
        };
        let state = State {
            namespaces: [(DEFAULT_NAMESPACE.to_owned(), namespace)].into(),
            ..Default::default()
        };
        Self {
            state: Mutex::new(state),
            changes: watch::Sender::new(0),
        }
    }

    /// Sends the function's calls to `address`.
    pub fn serve(&self, function: &FunctionRef, address: Address) {
        let endpoint = Endpoint::new(address, PoolLimits::default());
        self.lock().endpoints.insert(full(function), endpoint);
        self.notify();
    }

    /// From now on replicas that are wanted become available only by
    /// [`MemoryProvider::set_available`].
    pub fn hold(&self) {
        self.lock().held = true;
    }

    /// Says how many replicas take calls.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn set_available(&self, function: &FunctionRef, available: u64) -> Result<()> {
        self.with(function, |entry| entry.available = available)?;
        self.notify();
        Ok(())
    }

    /// Lets a replica of the function write a line.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn log(&self, function: &FunctionRef, instance: &str, timestamp: DateTime<Utc>, text: &str) -> Result<()> {
        let FunctionRef { name, namespace } = full(function);
        self.with(function, |entry| {
            let message = LogMessage {
                name,
                namespace,
                instance: instance.to_owned(),
                timestamp: timestamp.into(),
                text: text.to_owned(),
            };
            entry.logs.push(message.clone());
            // Nobody may be following.
            drop(entry.live.send(message));
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, function: &FunctionRef, act: impl FnOnce(&mut Entry) -> T) -> Result<T> {
        let function = full(function);
        self.lock()
            .functions
            .get_mut(&function)
            .map(act)
            .ok_or_else(|| ProviderError::unknown_function(&function))
    }

    fn notify(&self) {
        self.changes.send_modify(|change| *change += 1);
    }

    fn put(&self, mut deployment: FunctionDeployment, must_exist: bool) -> Result<()> {
        let namespace = or_default(deployment.namespace.as_deref().unwrap_or_default());
        deployment.namespace = Some(namespace.clone());
        let name = FunctionRef::new(deployment.service.clone(), namespace.clone());
        let mut state = self.lock();
        let existing = state.functions.get(&name);
        if must_exist && existing.is_none() {
            return Err(ProviderError::unknown_function(&name));
        }
        validate::deployment(&deployment)?;
        if !state.namespaces.contains_key(&namespace) {
            return Err(ProviderError::Invalid(format!(
                "namespace: '{namespace}' does not exist"
            )));
        }
        for secret in deployment.secrets.iter().flatten() {
            if !state.secrets.contains_key(&(namespace.clone(), secret.clone())) {
                return Err(ProviderError::Invalid(format!(
                    "secrets: '{secret}' does not exist in namespace '{namespace}'"
                )));
            }
        }
        let replicas = validate::bounds(deployment.labels.as_ref())?.replicas(existing.map(|entry| entry.replicas));
        let held = state.held;
        let entry = state.functions.entry(name).or_insert_with(|| Entry {
            deployment: FunctionDeployment::default(),
            created_at: Utc::now(),
            replicas: 0,
            available: 0,
            logs: Vec::new(),
            live: broadcast::channel(1024).0,
        });
        entry.deployment = deployment;
        entry.want(replicas, held);
        drop(state);
        self.notify();
        Ok(())
    }
}

impl Entry {
    fn want(&mut self, replicas: u64, held: bool) {
        self.replicas = replicas;
        self.available = if held { self.available.min(replicas) } else { replicas };
    }

    fn describe(&self, namespace: &str) -> FunctionStatus {
        validate::describe(
            &self.deployment,
            namespace,
            self.replicas,
            self.available,
            self.created_at,
        )
    }
}

fn or_default(namespace: &str) -> String {
    if namespace.is_empty() {
        DEFAULT_NAMESPACE
    } else {
        namespace
    }
    .to_owned()
}

fn full(function: &FunctionRef) -> FunctionRef {
    FunctionRef::new(function.name.clone(), or_default(&function.namespace))
}

fn unknown_namespace(name: &str) -> ProviderError {
    ProviderError::NotFound(format!("namespace '{name}' not found"))
}

fn secret_key(secret: &Secret) -> (String, String) {
    (
        or_default(secret.namespace.as_deref().unwrap_or_default()),
        secret.name.clone(),
    )
}

fn unknown_secret(key: &(String, String)) -> ProviderError {
    ProviderError::NotFound(format!("secret '{}' not found in namespace '{}'", key.1, key.0))
}

#[async_trait]
impl Provider for MemoryProvider {
    async fn list(&self, namespace: &str) -> Result<Vec<FunctionStatus>> {
        let namespace = or_default(namespace);
        let state = self.lock();
        if !state.namespaces.contains_key(&namespace) {
            return Err(unknown_namespace(&namespace));
        }
        let functions = state.functions.iter().filter(|(name, _)| name.namespace == namespace);
        Ok(functions.map(|(_, entry)| entry.describe(&namespace)).collect())
    }

    async fn status(&self, function: &FunctionRef, _usage: bool) -> Result<FunctionStatus> {
        let namespace = or_default(&function.namespace);
        self.with(function, |entry| entry.describe(&namespace))
    }

    async fn deploy(&self, deployment: FunctionDeployment) -> Result<()> {
        self.put(deployment, false)
    }

    async fn update(&self, deployment: FunctionDeployment) -> Result<()> {
        self.put(deployment, true)
    }

    async fn delete(&self, function: &FunctionRef) -> Result<()> {
        let function = full(function);
        let removed = self.lock().functions.remove(&function);
        removed
            .map(drop)
            .ok_or_else(|| ProviderError::unknown_function(&function))
    }

    async fn scale(&self, function: &FunctionRef, replicas: u64) -> Result<()> {
        validate::replicas(replicas)?;
        let held = self.lock().held;
        self.with(function, |entry| entry.want(replicas, held))?;
        self.notify();
        Ok(())
    }

    async fn logs(&self, query: LogQuery) -> Result<LogStream> {
        let (kept, live) = self.with(&FunctionRef::new(&*query.name, &*query.namespace), |entry| {
            let mut kept: Vec<_> = entry
                .logs
                .iter()
                .filter(|message| query.wants(message))
                .cloned()
                .collect();
            kept.sort_by_key(|message| message.timestamp);
            let surplus = kept.len().saturating_sub(query.tail.unwrap_or(usize::MAX));
            kept.drain(..surplus);
            (kept, query.follow.then(|| entry.live.subscribe()))
        })?;
        let kept = stream::iter(kept.into_iter().map(Ok));
        let Some(live) = live else { return Ok(kept.boxed()) };
        let live = stream::unfold((live, query), async |(mut live, query)| {
            loop {
                match live.recv().await {
                    Ok(message) if query.wants(&message) => return Some((Ok(message), (live, query))),
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        });
        Ok(kept.chain(live).boxed())
    }

    async fn list_secrets(&self, namespace: &str) -> Result<Vec<Secret>> {
        let namespace = or_default(namespace);
        let state = self.lock();
        if !state.namespaces.contains_key(&namespace) {
            return Err(unknown_namespace(&namespace));
        }
        let names = state.secrets.keys().filter(|(within, _)| *within == namespace);
        Ok(names.map(|(_, name)| Secret::named(name, &namespace)).collect())
    }

    async fn create_secret(&self, secret: Secret) -> Result<()> {
        validate::secret(&secret.name)?;
        let key = secret_key(&secret);
        let mut state = self.lock();
        if !state.namespaces.contains_key(&key.0) {
            return Err(ProviderError::Invalid(format!("namespace: '{}' does not exist", key.0)));
        }
        if state.secrets.contains_key(&key) {
            return Err(ProviderError::Conflict(format!(
                "secret '{}' exists already in namespace '{}'",
                key.1, key.0
            )));
        }
        state.secrets.insert(key, secret);
        Ok(())
    }

    async fn update_secret(&self, secret: Secret) -> Result<()> {
        let key = secret_key(&secret);
        match self.lock().secrets.get_mut(&key) {
            Some(kept) => *kept = secret,
            None => return Err(unknown_secret(&key)),
        }
        Ok(())
    }

    async fn delete_secret(&self, name: &str, namespace: &str) -> Result<()> {
        let key = (or_default(namespace), name.to_owned());
        let mut state = self.lock();
        if !state.secrets.contains_key(&key) {
            return Err(unknown_secret(&key));
        }
        let user = state.functions.iter().find(|(function, entry)| {
            function.namespace == key.0 && entry.deployment.secrets.iter().flatten().any(|used| used == name)
        });
        if let Some((user, _)) = user {
            return Err(ProviderError::Conflict(format!(
                "secret '{name}' is used by function {user}"
            )));
        }
        state.secrets.remove(&key);
        Ok(())
    }

    async fn list_namespaces(&self) -> Result<Vec<String>> {
        Ok(self.lock().namespaces.keys().cloned().collect())
    }

    async fn namespace(&self, name: &str) -> Result<FunctionNamespace> {
        let name = or_default(name);
        let namespace = self
            .lock()
            .namespaces
            .get(&name)
            .cloned()
            .ok_or_else(|| unknown_namespace(&name))?;
        Ok(FunctionNamespace {
            annotations: Some(namespace.annotations.unwrap_or_default()),
            labels: Some(namespace.labels.unwrap_or_default()),
            ..namespace
        })
    }

    async fn create_namespace(&self, namespace: FunctionNamespace) -> Result<()> {
        validate::namespace(&namespace.name)?;
        let mut state = self.lock();
        if state.namespaces.contains_key(&namespace.name) {
            return Err(ProviderError::Conflict(format!(
                "namespace '{}' exists already",
                namespace.name
            )));
        }
        state.namespaces.insert(namespace.name.clone(), namespace);
        Ok(())
    }

    async fn update_namespace(&self, mut namespace: FunctionNamespace) -> Result<()> {
        namespace.name = or_default(&namespace.name);
        let mut state = self.lock();
        match state.namespaces.get_mut(&namespace.name) {
            Some(kept) => *kept = namespace,
            None => return Err(unknown_namespace(&namespace.name)),
        }
        Ok(())
    }

    async fn delete_namespace(&self, name: &str) -> Result<()> {
        let name = or_default(name);
        if name == DEFAULT_NAMESPACE {
            return Err(ProviderError::Invalid(format!(
                "namespace '{name}' is the default one and cannot be removed"
            )));
        }
        let mut state = self.lock();
        state.namespaces.remove(&name).ok_or_else(|| unknown_namespace(&name))?;
        state.functions.retain(|function, _| function.namespace != name);
        state.secrets.retain(|(within, _), _| *within != name);
        Ok(())
    }

    async fn info(&self) -> Result<ProviderInfo> {
        Ok(ProviderInfo {
            provider: "faas-gateway-memory".to_owned(),
            version: VersionInfo::of_this_build(),
            orchestration: "memory".to_owned(),
            limits: None,
        })
    }

    async fn health(&self) -> Result<()> {
        Ok(())
    }

    fn upstream(&self, function: &FunctionRef) -> Result<Upstream> {
        let function = full(function);
        let state = self.lock();
        let entry = state
            .functions
            .get(&function)
            .ok_or_else(|| ProviderError::unknown_function(&function))?;
        let not_ready = |reason: String| ProviderError::NotReady {
            reason,
            retry_after: RETRY_AFTER,
            setting: None,
        };
        if entry.replicas == 0 {
            return Err(not_ready(format!("function {function} is scaled to zero")));
        }
        if entry.available == 0 {
            return Err(not_ready(format!("function {function} is starting")));
        }
        let endpoint = state
            .endpoints
            .get(&function)
            .ok_or_else(|| not_ready(format!("function {function} has no address")))?;
        Ok(Upstream {
            endpoint: Arc::clone(endpoint),
            path: PathForm::Trimmed,
        })
    }

    fn default_namespace(&self) -> &str {
        DEFAULT_NAMESPACE
    }

    async fn changed(&self) {
        // The sender is this provider's own, so it is there.
        drop(self.changes.subscribe().changed().await);
    }
}
