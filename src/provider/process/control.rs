//! Deploying, scaling, secrets and namespaces: every change of what is wanted.
//!
//! Changes happen one at a time, on disk first and then in memory, in a
//! blocking thread: a caller that goes away cannot leave one half done.
//! Replicas follow later; see [`super::supervisor`].

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};

use super::{
    Shared,
    function::Function,
    launch,
    logs::Logs,
    store::{Record, Store},
    supervisor::supervise,
};
use crate::{
    model::{FunctionDeployment, FunctionNamespace, FunctionRef, Secret},
    provider::{ProviderError, Result, validate},
    state,
};

/// Functions by name; replaced as a whole, so that readers never wait.
type Functions = HashMap<FunctionRef, Arc<Function>>;

/// What is deployed, and the way to change it.
#[derive(Debug)]
pub(super) struct Control {
    shared: Arc<Shared>,
    store: Store,
    default_namespace: String,
    functions: ArcSwap<Functions>,
    /// Also the lock that orders changes.
    rest: Mutex<Rest>,
}

/// What requests do not read.
#[derive(Debug)]
struct Rest {
    namespaces: BTreeMap<String, FunctionNamespace>,
    secrets: BTreeMap<String, BTreeSet<String>>,
}

impl Control {
    /// Takes over what is on disk and starts its replicas. Blocking.
    ///
    /// # Errors
    /// A text for the operator.
    pub(super) fn open(shared: Arc<Shared>, store: Store, default_namespace: String) -> Result<Self, String> {
        let failed = |error: io::Error| format!("cannot read state directory: {error}");
        let mut found = store.load().map_err(failed)?;
        if !found.namespaces.contains_key(&default_namespace) {
            let namespace = FunctionNamespace {
                name: default_namespace.clone(),
                ..Default::default()
            };
            store.put_namespace(&namespace).map_err(failed)?;
            found.namespaces.insert(default_namespace.clone(), namespace);
        }
        let control = Self {
            shared,
            store,
            default_namespace,
            functions: ArcSwap::default(),
            rest: Mutex::new(Rest {
                namespaces: found.namespaces,
                secrets: found.secrets,
            }),
        };
        control.remove_stray_logs(&found.functions).map_err(failed)?;
        for (name, record) in found.functions {
            control.place_secrets(&record, &name.namespace).map_err(failed)?;
            control.start(name, record).map_err(failed)?;
        }
        Ok(control)
    }

    /// The function of this name; an empty namespace means the default.
    pub(super) fn find(&self, name: &FunctionRef) -> Option<Arc<Function>> {
        if name.namespace.is_empty() {
            return self.functions.load().get(&self.full(name)).cloned();
        }
        self.functions.load().get(name).cloned()
    }

    /// Like [`Control::find`].
    ///
    /// # Errors
    /// `NotFound`.
    pub(super) fn get(&self, name: &FunctionRef) -> Result<Arc<Function>> {
        self.find(name)
            .ok_or_else(|| ProviderError::unknown_function(&self.full(name)))
    }

    /// Functions of a namespace, in name order.
    pub(super) fn list(&self, namespace: &str) -> Result<Vec<Arc<Function>>> {
        let namespace = self.namespace_or_default(Some(namespace));
        known(&self.lock(), &namespace)?;
        let functions = self.functions.load();
        let mut found: Vec<_> = functions
            .values()
            .filter(|function| function.name.namespace == namespace)
            .cloned()
            .collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Creates or replaces a function; with `must_exist` only the latter.
    pub(super) fn deploy(
        &self,
        mut deployment: FunctionDeployment,
        must_exist: bool,
        now: DateTime<Utc>,
    ) -> Result<()> {
        let namespace = self.namespace_or_default(deployment.namespace.as_deref());
        deployment.namespace = Some(namespace.clone());
        // Fields of other providers mean nothing here, and may hold registry credentials.
        deployment.other.clear();
        let name = FunctionRef::new(deployment.service.clone(), namespace.clone());

        let rest = self.lock();
        let existing = self.find(&name);
        if must_exist && existing.is_none() {
            return Err(ProviderError::unknown_function(&name));
        }
        validate::deployment(&deployment)?;
        if !rest.namespaces.contains_key(&namespace) {
            return Err(ProviderError::Invalid(format!(
                "namespace: '{namespace}' does not exist; create it first"
            )));
        }
        let secrets = rest.secrets.get(&namespace);
        for secret in deployment.secrets.iter().flatten() {
            if !secrets.is_some_and(|known| known.contains(secret)) {
                return Err(ProviderError::Invalid(format!(
                    "secrets: '{secret}' does not exist in namespace '{namespace}'; create it first"
                )));
            }
        }
        let settings = self.shared.settings.load_full();
        let launch = launch::launch(&deployment, &namespace, &settings, launch::runnable)?;
        let bounds = validate::bounds(deployment.labels.as_ref())?;
        let before = existing.as_ref().map(|function| function.record());
        let replicas = bounds.replicas(before.as_ref().map(|before| before.replicas));
        launch::fits(&launch, replicas)?;
        self.check_port(&name, &launch)?;
        launch::site_exists(&launch, Path::is_dir)?;
        let record = Record {
            uid: before
                .as_ref()
                .map_or_else(|| uuid::Uuid::new_v4().to_string(), |before| before.uid.clone()),
            revision: before.as_ref().map_or(0, |before| before.revision) + 1,
            created_at: before.as_ref().map_or(now, |before| before.created_at),
            replicas,
            deployment,
        };
        self.place_secrets(&record, &namespace).map_err(internal)?;
        self.store.put_function(&name, &record).map_err(internal)?;
        match existing {
            Some(function) => {
                function.want(record);
            }
            None => self.start(name, record).map_err(internal)?,
        }
        Ok(())
    }

    /// Removes a function; its replicas drain afterwards.
    pub(super) fn delete(&self, name: &FunctionRef) -> Result<()> {
        let _order = self.lock();
        let function = self.get(name)?;
        self.forget(&function).map_err(internal)
    }

    /// Sets the number of replicas. Returns the function and the number of the change.
    pub(super) fn scale(&self, name: &FunctionRef, replicas: u64) -> Result<(Arc<Function>, u64)> {
        validate::replicas(replicas)?;
        let _order = self.lock();
        let function = self.get(name)?;
        let record = Record {
            replicas,
            ..Record::clone(&function.record())
        };
        if let Some(launch) = self.launch_of(&function) {
            launch::fits(&launch, replicas)?;
        }
        self.store.put_function(&function.name, &record).map_err(internal)?;
        let sequence = function.want(record);
        Ok((function, sequence))
    }

    /// Names of the secrets of a namespace, in order.
    pub(super) fn list_secrets(&self, namespace: &str) -> Result<Vec<Secret>> {
        let namespace = self.namespace_or_default(Some(namespace));
        let rest = self.lock();
        known(&rest, &namespace)?;
        let names = rest.secrets.get(&namespace).into_iter().flatten();
        Ok(names.map(|name| Secret::named(name, &namespace)).collect())
    }

    /// Stores a new secret.
    pub(super) fn create_secret(&self, secret: &Secret) -> Result<()> {
        validate::secret(&secret.name)?;
        let namespace = self.namespace_or_default(secret.namespace.as_deref());
        let mut rest = self.lock();
        if !rest.namespaces.contains_key(&namespace) {
            return Err(ProviderError::Invalid(format!(
                "namespace: '{namespace}' does not exist; create it first"
            )));
        }
        let secrets = rest.secrets.entry(namespace.clone()).or_default();
        if secrets.contains(&secret.name) {
            return Err(ProviderError::Conflict(format!(
                "secret '{}' exists already in namespace '{namespace}'; update it instead",
                secret.name
            )));
        }
        self.store
            .put_secret(&namespace, &secret.name, secret.bytes())
            .map_err(internal)?;
        secrets.insert(secret.name.clone());
        Ok(())
    }

    /// Replaces a secret; functions that use it see the new value.
    pub(super) fn update_secret(&self, secret: &Secret) -> Result<()> {
        let namespace = self.namespace_or_default(secret.namespace.as_deref());
        let rest = self.lock();
        known_secret(&rest, &secret.name, &namespace)?;
        self.store
            .put_secret(&namespace, &secret.name, secret.bytes())
            .map_err(internal)?;
        for function in self
            .functions
            .load()
            .values()
            .filter(|function| function.name.namespace == namespace)
        {
            self.refresh_secret(function, secret).map_err(internal)?;
        }
        Ok(())
    }

    /// Removes a secret that no function uses.
    pub(super) fn delete_secret(&self, name: &str, namespace: &str) -> Result<()> {
        let namespace = self.namespace_or_default(Some(namespace));
        let mut rest = self.lock();
        known_secret(&rest, name, &namespace)?;
        let functions = self.functions.load();
        let user = functions.values().find(|function| {
            function.name.namespace == namespace
                && function
                    .record()
                    .deployment
                    .secrets
                    .iter()
                    .flatten()
                    .any(|used| used == name)
        });
        if let Some(user) = user {
            return Err(ProviderError::Conflict(format!(
                "secret '{name}' is used by function {}; deploy it without the secret first",
                user.name
            )));
        }
        self.store.remove_secret(&namespace, name).map_err(internal)?;
        if let Some(secrets) = rest.secrets.get_mut(&namespace) {
            secrets.remove(name);
        }
        Ok(())
    }

    /// Names of all namespaces, in order.
    pub(super) fn list_namespaces(&self) -> Vec<String> {
        self.lock().namespaces.keys().cloned().collect()
    }

    /// One namespace, with both maps present.
    pub(super) fn namespace(&self, name: &str) -> Result<FunctionNamespace> {
        let name = self.namespace_or_default(Some(name));
        let namespace = known(&self.lock(), &name)?.clone();
        Ok(FunctionNamespace {
            annotations: Some(namespace.annotations.unwrap_or_default()),
            labels: Some(namespace.labels.unwrap_or_default()),
            ..namespace
        })
    }

    /// Creates a namespace.
    pub(super) fn create_namespace(&self, namespace: FunctionNamespace) -> Result<()> {
        validate::namespace(&namespace.name)?;
        let mut rest = self.lock();
        if rest.namespaces.contains_key(&namespace.name) {
            return Err(ProviderError::Conflict(format!(
                "namespace '{}' exists already",
                namespace.name
            )));
        }
        self.store.put_namespace(&namespace).map_err(internal)?;
        rest.namespaces.insert(namespace.name.clone(), namespace);
        Ok(())
    }

    /// Replaces the labels and annotations of a namespace.
    pub(super) fn update_namespace(&self, mut namespace: FunctionNamespace) -> Result<()> {
        namespace.name = self.namespace_or_default(Some(&namespace.name));
        let mut rest = self.lock();
        known(&rest, &namespace.name)?;
        self.store.put_namespace(&namespace).map_err(internal)?;
        rest.namespaces.insert(namespace.name.clone(), namespace);
        Ok(())
    }

    /// Removes a namespace with its functions and secrets.
    pub(super) fn delete_namespace(&self, name: &str) -> Result<()> {
        let name = self.namespace_or_default(Some(name));
        if name == self.default_namespace {
            return Err(ProviderError::Invalid(format!(
                "namespace '{name}' is the default one and cannot be removed"
            )));
        }
        let mut rest = self.lock();
        known(&rest, &name)?;
        let functions = self.functions.load_full();
        for function in functions.values().filter(|function| function.name.namespace == name) {
            self.forget(function).map_err(internal)?;
        }
        self.store.remove_namespace(&name).map_err(internal)?;
        rest.secrets.remove(&name);
        rest.namespaces.remove(&name);
        Ok(())
    }

    /// Whether changes can be kept now.
    pub(super) fn check_writable(&self) -> Result<()> {
        self.store
            .check_writable()
            .map_err(|error| ProviderError::Internal(format!("the state directory cannot be written: {error}")))
    }

    /// Lets another gateway have the state directory; no change may follow.
    pub(super) fn release(&self) {
        let _order = self.lock();
        self.store.release();
    }

    fn lock(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn namespace_or_default(&self, namespace: Option<&str>) -> String {
        namespace
            .filter(|namespace| !namespace.is_empty())
            .unwrap_or(&self.default_namespace)
            .to_owned()
    }

    fn full(&self, name: &FunctionRef) -> FunctionRef {
        FunctionRef::new(name.name.clone(), self.namespace_or_default(Some(&name.namespace)))
    }

    /// Shows a function to requests and starts its supervisor. The caller holds the lock.
    fn start(&self, name: FunctionRef, record: Record) -> io::Result<()> {
        let logs = Logs::open(name.clone(), self.shared.logs.join(&record.uid))?;
        let secrets = self.secrets_of(&record.uid);
        let function = Arc::new(Function::new(name.clone(), record, logs, secrets));
        self.change(|functions| functions.insert(name, Arc::clone(&function)));
        let supervised = supervise(function, Arc::clone(&self.shared));
        self.shared
            .tasks
            .spawn(self.shared.supervisors.track_future(supervised));
        Ok(())
    }

    /// Removes a function from disk and from sight; the caller holds the lock.
    fn forget(&self, function: &Arc<Function>) -> io::Result<()> {
        self.store.remove_function(&function.name)?;
        self.change(|functions| functions.remove(&function.name));
        function.remove();
        Ok(())
    }

    fn change<T>(&self, change: impl FnOnce(&mut Functions) -> T) {
        let mut functions = Functions::clone(&self.functions.load());
        change(&mut functions);
        self.functions.store(Arc::new(functions));
    }

    /// What an accepted function runs.
    fn launch_of(&self, function: &Function) -> Option<launch::Launch> {
        let settings = self.shared.settings.load();
        launch::accepted(&function.record().deployment, &function.name.namespace, &settings)
    }

    /// Refuses a fixed port that another function has: whichever started first
    /// would answer for both.
    fn check_port(&self, name: &FunctionRef, launch: &launch::Launch) -> Result<()> {
        let Some(port) = launch.fixed_port else { return Ok(()) };
        let functions = self.functions.load();
        let taken = |other: &&Arc<Function>| {
            other.name != *name
                && self
                    .launch_of(other)
                    .is_some_and(|other| other.fixed_port == Some(port))
        };
        match functions.values().find(taken) {
            None => Ok(()),
            Some(other) => Err(ProviderError::Invalid(format!(
                "upstream_url: port {port} of this machine is taken by function {}; choose another one, \
                 or leave upstream_url out, set mode to http, and let the function listen on $PORT",
                other.name
            ))),
        }
    }

    fn secrets_of(&self, uid: &str) -> PathBuf {
        self.shared.secrets.join(uid)
    }

    /// Puts copies of its secrets where the replicas of a deployment look for them.
    fn place_secrets(&self, record: &Record, namespace: &str) -> io::Result<()> {
        let folder = self.secrets_of(&record.uid).join(record.revision.to_string());
        state::make_directory(&folder)?;
        for secret in record.deployment.secrets.iter().flatten() {
            match self.store.read_secret(namespace, secret) {
                Ok(value) => state::replace(&folder.join(secret), &self.shared.secrets, &value)?,
                // Removed by hand, or restored without it: the function says what it misses.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    tracing::error!(function = %record.deployment.service, namespace, %secret, "a secret that a function uses is missing");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Replaces a secret in every directory that has it, also those of draining replicas.
    fn refresh_secret(&self, function: &Function, secret: &Secret) -> io::Result<()> {
        for revision in std::fs::read_dir(&function.secrets)? {
            let copy = revision?.path().join(&secret.name);
            if !copy.exists() {
                continue;
            }
            match state::replace(&copy, &self.shared.secrets, secret.bytes()) {
                // The last replica of an older revision ended just now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// Removes the logs of functions that were deleted while a gateway was killed.
    fn remove_stray_logs(&self, functions: &BTreeMap<FunctionRef, Record>) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.shared.logs)? {
            let path = entry?.path();
            if !functions.values().any(|record| path.ends_with(&record.uid)) {
                state::remove_tree(&path)?;
            }
        }
        Ok(())
    }
}

fn known<'a>(rest: &'a Rest, namespace: &str) -> Result<&'a FunctionNamespace> {
    rest.namespaces
        .get(namespace)
        .ok_or_else(|| ProviderError::NotFound(format!("namespace '{namespace}' not found")))
}

fn known_secret(rest: &Rest, name: &str, namespace: &str) -> Result<()> {
    if rest
        .secrets
        .get(namespace)
        .is_some_and(|secrets| secrets.contains(name))
    {
        return Ok(());
    }
    Err(ProviderError::NotFound(format!(
        "secret '{}' not found in namespace '{namespace}'",
        name.escape_default()
    )))
}

#[expect(clippy::needless_pass_by_value, reason = "used with map_err")]
fn internal(error: io::Error) -> ProviderError {
    ProviderError::Internal(format!("cannot change the state directory: {error}"))
}
