//! A provider that notes what it is asked and answers as told.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use faas_gateway::{
    model::{
        FunctionDeployment, FunctionNamespace, FunctionRef, FunctionStatus, LogMessage, LogQuery, ProviderInfo, Secret,
        from_json, to_json,
    },
    provider::{LogStream, Provider, ProviderError, Result},
    upstream::Upstream,
};
use futures_util::{StreamExt, stream};

/// Default namespace `fn`; knows every function, with the labels it was given.
#[derive(Default)]
pub(crate) struct Scripted {
    asked: Mutex<Vec<String>>,
    failure: Mutex<Option<ProviderError>>,
    labels: Mutex<String>,
    lines: Mutex<Vec<Result<LogMessage>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Scripted {
    pub(crate) fn fail(&self, error: ProviderError) {
        *lock(&self.failure) = Some(error);
    }

    /// Labels of every function, as JSON.
    pub(crate) fn label(&self, labels: &str) {
        labels.clone_into(&mut lock(&self.labels));
    }

    /// What the logs hold.
    pub(crate) fn log(&self, lines: Vec<Result<LogMessage>>) {
        *lock(&self.lines) = lines;
    }

    pub(crate) fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.asked))
    }

    fn note(&self, asked: impl Into<String>) -> Result<()> {
        lock(&self.asked).push(asked.into());
        match &*lock(&self.failure) {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    fn function(&self, name: &str, namespace: &str) -> FunctionStatus {
        let labels = lock(&self.labels);
        let labels = if labels.is_empty() { "null" } else { &labels };
        let text = format!(
            r#"{{"name":"{name}","namespace":"{namespace}","image":"i","replicas":1,"availableReplicas":1,"labels":{labels},"tier":"gold"}}"#
        );
        from_json(text.as_bytes()).expect("a status")
    }
}

#[async_trait]
impl Provider for Scripted {
    async fn list(&self, namespace: &str) -> Result<Vec<FunctionStatus>> {
        self.note(format!("list '{namespace}'"))?;
        Ok(vec![self.function("figlet", "fn")])
    }

    async fn status(&self, function: &FunctionRef, usage: bool) -> Result<FunctionStatus> {
        self.note(format!("status {function} usage={usage}"))?;
        Ok(self.function(&function.name, &function.namespace))
    }

    async fn deploy(&self, deployment: FunctionDeployment) -> Result<()> {
        self.note(format!("deploy {}", to_json(&deployment)))
    }

    async fn update(&self, deployment: FunctionDeployment) -> Result<()> {
        self.note(format!("update {}", to_json(&deployment)))
    }

    async fn delete(&self, function: &FunctionRef) -> Result<()> {
        self.note(format!("delete {function}"))
    }

    async fn scale(&self, function: &FunctionRef, replicas: u64) -> Result<()> {
        self.note(format!("scale {function} {replicas}"))
    }

    async fn logs(&self, query: LogQuery) -> Result<LogStream> {
        self.note(format!("logs {query:?}"))?;
        let lines = stream::iter(std::mem::take(&mut *lock(&self.lines)));
        Ok(if query.follow {
            lines.chain(stream::pending()).boxed()
        } else {
            lines.boxed()
        })
    }

    async fn list_secrets(&self, namespace: &str) -> Result<Vec<Secret>> {
        self.note(format!("list secrets '{namespace}'"))?;
        let leaky = br#"{"name":"key","namespace":"fn","value":"hunter2"}"#;
        Ok(vec![from_json(leaky).expect("a secret")])
    }

    async fn create_secret(&self, secret: Secret) -> Result<()> {
        let text = String::from_utf8_lossy(secret.bytes()).into_owned();
        self.note(format!("create secret {} {:?} {text}", secret.name, secret.namespace))
    }

    async fn update_secret(&self, secret: Secret) -> Result<()> {
        let text = String::from_utf8_lossy(secret.bytes()).into_owned();
        self.note(format!("update secret {} {:?} {text}", secret.name, secret.namespace))
    }

    async fn delete_secret(&self, name: &str, namespace: &str) -> Result<()> {
        self.note(format!("delete secret {name} '{namespace}'"))
    }

    async fn list_namespaces(&self) -> Result<Vec<String>> {
        self.note("list namespaces")?;
        Ok(vec!["dev".to_owned(), "fn".to_owned()])
    }

    async fn namespace(&self, name: &str) -> Result<FunctionNamespace> {
        self.note(format!("namespace {name}"))?;
        Ok(FunctionNamespace {
            name: name.to_owned(),
            ..FunctionNamespace::default()
        })
    }

    async fn create_namespace(&self, namespace: FunctionNamespace) -> Result<()> {
        self.note(format!("create namespace {}", to_json(&namespace)))
    }

    async fn update_namespace(&self, namespace: FunctionNamespace) -> Result<()> {
        self.note(format!("update namespace {}", to_json(&namespace)))
    }

    async fn delete_namespace(&self, name: &str) -> Result<()> {
        self.note(format!("delete namespace {name}"))
    }

    async fn info(&self) -> Result<ProviderInfo> {
        self.note("info")?;
        let text = br#"{"provider":"scripted","orchestration":"none","version":{"release":"1","sha":"2"}}"#;
        Ok(from_json(text).expect("info"))
    }

    async fn health(&self) -> Result<()> {
        self.note("health")
    }

    fn upstream(&self, function: &FunctionRef) -> Result<Upstream> {
        Err(ProviderError::unknown_function(function))
    }

    fn default_namespace(&self) -> &'static str {
        "fn"
    }
}

/// A log message of `figlet`.
pub(crate) fn message(text: &str) -> LogMessage {
    LogMessage {
        name: "figlet".to_owned(),
        namespace: "fn".to_owned(),
        instance: "one".to_owned(),
        timestamp: chrono::DateTime::UNIX_EPOCH.into(),
        text: text.to_owned(),
    }
}

/// Proves that the scripted provider can stand where a real one does.
const _: fn(Scripted) -> Arc<dyn Provider> = |scripted| Arc::new(scripted);
