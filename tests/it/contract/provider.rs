//! What every provider promises, run over each of them.
//!
//! A new provider implements [`Backend`] and adds one `contract!` line at the end.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::Utc;
use faas_gateway::{
    model::{FunctionDeployment, FunctionNamespace, FunctionRef, FunctionResources, LogQuery, Secret},
    provider::{
        Provider, ProviderError,
        memory::MemoryProvider,
        remote::{RemoteProvider, Settings},
    },
    upstream::{Address, PathForm, PoolLimits},
};
use futures_util::StreamExt;

use super::process::Local;
use crate::support::provider::ScriptedProvider;

/// A provider under test.
#[async_trait]
pub(crate) trait Backend: Send + Sync {
    /// The provider, with nothing deployed, whose default namespace is `openfaas-fn`.
    fn provider(&self) -> Arc<dyn Provider>;

    /// Makes a replica of the function write a line that contains `text`.
    async fn write_line(&self, function: &FunctionRef, text: &str);

    /// Whether [`Provider::upstream`] knows functions and their replicas; a
    /// remote provider answers with itself.
    fn knows_replicas(&self) -> bool {
        true
    }
}

struct Memory(Arc<MemoryProvider>);

impl Memory {
    fn start() -> Box<dyn Backend> {
        let provider = MemoryProvider::new();
        for name in ["f", "g"] {
            provider.serve(&function(name), Address::Unix("/nowhere".into()));
        }
        Box::new(Self(Arc::new(provider)))
    }
}

#[async_trait]
impl Backend for Memory {
    fn provider(&self) -> Arc<dyn Provider> {
        Arc::clone(&self.0) as Arc<dyn Provider>
    }

    async fn write_line(&self, function: &FunctionRef, text: &str) {
        self.0.log(function, "f-one", Utc::now(), text).expect("deployed");
    }
}

/// The http provider in front of a provider in memory that speaks REST.
struct Remote {
    memory: Arc<MemoryProvider>,
    provider: Arc<RemoteProvider>,
    /// Serves `memory`; ends when it is dropped.
    _served: ScriptedProvider,
}

impl Remote {
    async fn start() -> Box<dyn Backend> {
        let memory = Arc::new(MemoryProvider::new());
        let served = ScriptedProvider::over(Arc::clone(&memory)).await;
        let settings = Settings {
            url: served.url.clone(),
            logs_url: None,
            default_namespace: "openfaas-fn".to_owned(),
            direct_suffix: None,
            timeout: Duration::from_secs(30),
            pool: PoolLimits::default(),
            resolve_interval: Duration::ZERO,
        };
        Box::new(Self {
            memory,
            provider: Arc::new(RemoteProvider::new(settings, None).expect("settings")),
            _served: served,
        })
    }
}

#[async_trait]
impl Backend for Remote {
    fn provider(&self) -> Arc<dyn Provider> {
        Arc::clone(&self.provider) as Arc<dyn Provider>
    }

    async fn write_line(&self, function: &FunctionRef, text: &str) {
        self.memory.log(function, "f-one", Utc::now(), text).expect("deployed");
    }

    fn knows_replicas(&self) -> bool {
        false
    }
}

/// A function of the default namespace.
pub(crate) fn function(name: &str) -> FunctionRef {
    FunctionRef::new(name, "openfaas-fn")
}

/// A function that logs what it is called with.
pub(crate) fn deployment(name: &str) -> FunctionDeployment {
    FunctionDeployment {
        service: name.to_owned(),
        image: "local".to_owned(),
        env_process: Some("sh -c 'cat >&2'".to_owned()),
        env_vars: Some(map(&[("combine_output", "false")])),
        ..Default::default()
    }
}

pub(crate) fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

pub(crate) fn secret(name: &str, value: &str) -> Secret {
    Secret {
        value: Some(value.to_owned()),
        ..Secret::named(name, "")
    }
}

/// Asks until the answer is yes, for at most 30 seconds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !ask().await {
        assert!(tokio::time::Instant::now() < deadline, "in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until so many replicas take calls.
pub(crate) async fn available(provider: &dyn Provider, function: &FunctionRef, replicas: u64) {
    eventually(&format!("{replicas} replicas of {function}"), || async {
        let status = provider.status(function, false).await.expect("deployed");
        status.available_replicas == replicas
    })
    .await;
}

fn query(name: &str) -> LogQuery {
    LogQuery {
        name: name.to_owned(),
        ..Default::default()
    }
}

async fn lines(provider: &dyn Provider, query: LogQuery) -> Vec<String> {
    let stream = provider.logs(query).await.expect("answers");
    stream.map(|message| message.expect("line").text).collect().await
}

mod cases {
    use super::*;

    pub(super) async fn a_deployed_function_shows_at_once(backend: &dyn Backend) {
        let provider = backend.provider();
        let before = Utc::now();
        provider.deploy(deployment("g")).await.expect("deployed");
        provider.deploy(deployment("f")).await.expect("deployed");
        let status = provider.status(&function("f"), false).await.expect("known");
        assert_eq!((status.name.as_str(), status.replicas), ("f", 1));
        assert_eq!(status.namespace.as_deref(), Some("openfaas-fn"));
        assert!(
            status.created_at.0 >= before && status.created_at.0 <= Utc::now(),
            "{status:?}"
        );
        let names: Vec<_> = provider
            .list("")
            .await
            .expect("lists")
            .into_iter()
            .map(|f| f.name)
            .collect();
        assert_eq!(names, ["f", "g"]);
        available(&*provider, &function("f"), 1).await;
    }

    pub(super) async fn what_was_sent_comes_back(backend: &dyn Backend) {
        let provider = backend.provider();
        provider.create_secret(secret("api-key", "x")).await.expect("created");
        let sent = FunctionDeployment {
            labels: Some(map(&[("team", "a"), ("com.openfaas.scale.max", "3")])),
            annotations: Some(map(&[("topic", r#"{"json":[1,"two"]}"#)])),
            constraints: Some(vec!["disk=ssd".to_owned()]),
            secrets: Some(vec!["api-key".to_owned()]),
            limits: Some(FunctionResources {
                memory: Some("512Mi".to_owned()),
                cpu: Some("100m".to_owned()),
                ..Default::default()
            }),
            requests: Some(FunctionResources {
                memory: Some("1M".to_owned()),
                ..Default::default()
            }),
            read_only_root_filesystem: Some(true),
            ..deployment("f")
        };
        provider.deploy(sent.clone()).await.expect("deployed");
        let status = provider.status(&function("f"), false).await.expect("known");
        let labels = [map(&[("faas_function", "f")]), sent.labels.expect("set")]
            .into_iter()
            .flatten()
            .collect();
        assert_eq!(status.labels, Some(labels));
        assert_eq!(status.annotations, sent.annotations);
        assert_eq!(status.constraints, sent.constraints);
        assert_eq!(status.secrets, sent.secrets);
        assert_eq!((status.limits, status.requests), (sent.limits, sent.requests));
        assert_eq!(status.read_only_root_filesystem, Some(true));
        assert_eq!((status.env_process, status.env_vars), (sent.env_process, sent.env_vars));
        assert_eq!(status.image, sent.image);
    }

    pub(super) async fn what_was_not_sent_is_absent(backend: &dyn Backend) {
        let provider = backend.provider();
        let sent = FunctionDeployment {
            env_vars: Some(BTreeMap::new()),
            ..deployment("f")
        };
        provider.deploy(sent).await.expect("deployed");
        let status = provider.status(&function("f"), false).await.expect("known");
        assert_eq!(status.labels, Some(map(&[("faas_function", "f")])));
        assert_eq!(status.annotations, Some(BTreeMap::new()));
        assert_eq!(
            (status.env_vars, status.secrets, status.constraints),
            (None, None, None)
        );
        assert_eq!((status.limits, status.requests, status.usage), (None, None, None));
    }

    pub(super) async fn deploying_again_replaces(backend: &dyn Backend) {
        let provider = backend.provider();
        provider.deploy(deployment("f")).await.expect("deployed");
        let first = provider.status(&function("f"), false).await.expect("known");
        let second = FunctionDeployment {
            image: "second".to_owned(),
            ..deployment("f")
        };
        provider.deploy(second).await.expect("replaced");
        let third = FunctionDeployment {
            annotations: Some(map(&[("a", "b")])),
            ..deployment("f")
        };
        provider.update(third).await.expect("updated");
        let status = provider.status(&function("f"), false).await.expect("known");
        assert_eq!(status.annotations, Some(map(&[("a", "b")])));
        assert_eq!(status.created_at, first.created_at);
        assert_eq!(provider.list("").await.expect("lists").len(), 1);
    }

    pub(super) async fn unknown_functions_are_not_found(backend: &dyn Backend) {
        let provider = backend.provider();
        let name = function("nonesuch");
        let errors = [
            provider.status(&name, false).await.map(drop).expect_err("status"),
            provider.update(deployment("nonesuch")).await.expect_err("update"),
            provider.delete(&name).await.expect_err("delete"),
            provider.scale(&name, 1).await.expect_err("scale"),
            provider.logs(query("nonesuch")).await.map(drop).expect_err("logs"),
        ];
        for error in errors {
            assert!(matches!(error, ProviderError::NotFound(_)), "{error:?}");
        }
    }

    pub(super) async fn a_deleted_function_is_gone(backend: &dyn Backend) {
        let provider = backend.provider();
        provider.deploy(deployment("f")).await.expect("deployed");
        provider.delete(&function("f")).await.expect("deleted");
        let error = provider.delete(&function("f")).await.expect_err("gone");
        assert!(matches!(error, ProviderError::NotFound(_)), "{error:?}");
        assert!(provider.list("").await.expect("lists").is_empty());
        provider.deploy(deployment("f")).await.expect("deployed again");
        available(&*provider, &function("f"), 1).await;
    }

    pub(super) async fn functions_scale_up_and_down_and_to_zero(backend: &dyn Backend) {
        let provider = backend.provider();
        let labels = map(&[("com.openfaas.scale.min", "2")]);
        provider
            .deploy(FunctionDeployment {
                labels: Some(labels),
                ..deployment("f")
            })
            .await
            .expect("deployed");
        for replicas in [2, 3, 0, 1] {
            if replicas != 2 {
                provider.scale(&function("f"), replicas).await.expect("scaled");
            }
            let status = provider.status(&function("f"), false).await.expect("known");
            assert_eq!(status.replicas, replicas);
            available(&*provider, &function("f"), replicas).await;
        }
    }

    pub(super) async fn senseless_deployments_are_refused(backend: &dyn Backend) {
        let provider = backend.provider();
        let limits = FunctionResources {
            memory: Some("a lot".to_owned()),
            ..Default::default()
        };
        let bounds = map(&[("com.openfaas.scale.min", "3"), ("com.openfaas.scale.max", "2")]);
        let cases = [
            (deployment("No_Name"), "No_Name"),
            (deployment(""), "name"),
            (
                FunctionDeployment {
                    namespace: Some("nowhere".to_owned()),
                    ..deployment("f")
                },
                "nowhere",
            ),
            (
                FunctionDeployment {
                    secrets: Some(vec!["nokey".to_owned()]),
                    ..deployment("f")
                },
                "nokey",
            ),
            (
                FunctionDeployment {
                    limits: Some(limits),
                    ..deployment("f")
                },
                "a lot",
            ),
            (
                FunctionDeployment {
                    labels: Some(bounds),
                    ..deployment("f")
                },
                "com.openfaas.scale.max",
            ),
            (
                FunctionDeployment {
                    env_vars: Some(map(&[("A B", "c")])),
                    ..deployment("f")
                },
                "A B",
            ),
        ];
        for (deployment, reason) in cases {
            let error = provider.deploy(deployment).await.expect_err(reason);
            assert!(
                matches!(&error, ProviderError::Invalid(text) if text.contains(reason)),
                "{error:?}"
            );
        }
        assert!(provider.list("").await.expect("lists").is_empty());
    }

    pub(super) async fn secrets_live_and_die(backend: &dyn Backend) {
        let provider = backend.provider();
        let names = async || -> Vec<String> {
            let secrets = provider.list_secrets("").await.expect("lists");
            assert!(
                secrets.iter().all(|secret| secret.bytes().is_empty()),
                "values stay inside"
            );
            assert!(
                secrets
                    .iter()
                    .all(|secret| secret.namespace.as_deref() == Some("openfaas-fn"))
            );
            secrets.into_iter().map(|secret| secret.name).collect()
        };
        assert!(names().await.is_empty());
        provider.create_secret(secret("b", "1")).await.expect("created");
        provider.create_secret(secret("a.key", "1")).await.expect("created");
        assert_eq!(names().await, ["a.key", "b"]);
        let error = provider.create_secret(secret("b", "2")).await.expect_err("exists");
        assert!(matches!(error, ProviderError::Conflict(_)), "{error:?}");
        let error = provider.create_secret(secret("../b", "2")).await.expect_err("bad name");
        assert!(matches!(error, ProviderError::Invalid(_)), "{error:?}");
        provider.update_secret(secret("b", "2")).await.expect("updated");
        let error = provider.update_secret(secret("c", "2")).await.expect_err("unknown");
        assert!(matches!(error, ProviderError::NotFound(_)), "{error:?}");
        provider.delete_secret("b", "").await.expect("deleted");
        let error = provider.delete_secret("b", "").await.expect_err("gone");
        assert!(matches!(error, ProviderError::NotFound(_)), "{error:?}");
        assert_eq!(names().await, ["a.key"]);
    }

    pub(super) async fn a_secret_in_use_stays(backend: &dyn Backend) {
        let provider = backend.provider();
        provider.create_secret(secret("key", "1")).await.expect("created");
        let with = FunctionDeployment {
            secrets: Some(vec!["key".to_owned()]),
            ..deployment("f")
        };
        provider.deploy(with).await.expect("deployed");
        let error = provider.delete_secret("key", "").await.expect_err("in use");
        assert!(
            matches!(&error, ProviderError::Conflict(text) if text.contains("function f")),
            "{error:?}"
        );
        provider.update(deployment("f")).await.expect("updated");
        provider.delete_secret("key", "").await.expect("free now");
    }

    pub(super) async fn namespaces_live_and_die(backend: &dyn Backend) {
        let provider = backend.provider();
        assert_eq!(provider.default_namespace(), "openfaas-fn");
        assert_eq!(provider.list_namespaces().await.expect("lists"), ["openfaas-fn"]);
        let dev = FunctionNamespace {
            name: "dev".to_owned(),
            annotations: None,
            labels: Some(map(&[("team", "a")])),
        };
        provider.create_namespace(dev.clone()).await.expect("created");
        assert_eq!(provider.list_namespaces().await.expect("lists"), ["dev", "openfaas-fn"]);
        let shown = provider.namespace("dev").await.expect("known");
        assert_eq!(
            (shown.labels, shown.annotations),
            (dev.labels.clone(), Some(BTreeMap::new()))
        );
        let error = provider.create_namespace(dev.clone()).await.expect_err("exists");
        assert!(matches!(error, ProviderError::Conflict(_)), "{error:?}");
        let bad = FunctionNamespace {
            name: "a.b".to_owned(),
            ..dev.clone()
        };
        let error = provider.create_namespace(bad).await.expect_err("bad name");
        assert!(matches!(error, ProviderError::Invalid(_)), "{error:?}");
        let changed = FunctionNamespace {
            annotations: Some(map(&[("x", "y")])),
            labels: None,
            ..dev
        };
        provider.update_namespace(changed).await.expect("updated");
        let shown = provider.namespace("dev").await.expect("known");
        assert_eq!(
            (shown.labels, shown.annotations),
            (Some(BTreeMap::new()), Some(map(&[("x", "y")])))
        );
        let error = provider
            .delete_namespace("openfaas-fn")
            .await
            .expect_err("the default one");
        assert!(matches!(error, ProviderError::Invalid(_)), "{error:?}");
        provider.delete_namespace("dev").await.expect("deleted");
        for error in [
            provider.namespace("dev").await.map(drop).expect_err("gone"),
            provider.delete_namespace("dev").await.expect_err("gone"),
            provider.list("dev").await.map(drop).expect_err("gone"),
        ] {
            assert!(matches!(error, ProviderError::NotFound(_)), "{error:?}");
        }
    }

    pub(super) async fn namespaces_keep_functions_and_secrets_apart(backend: &dyn Backend) {
        let provider = backend.provider();
        let dev = FunctionNamespace {
            name: "dev".to_owned(),
            ..Default::default()
        };
        provider.create_namespace(dev.clone()).await.expect("created");
        let key = Secret {
            namespace: Some("dev".to_owned()),
            ..secret("key", "1")
        };
        provider.create_secret(key.clone()).await.expect("created");
        let within = FunctionDeployment {
            namespace: Some("dev".to_owned()),
            secrets: Some(vec!["key".to_owned()]),
            ..deployment("f")
        };
        provider.deploy(within).await.expect("deployed");
        provider.deploy(deployment("g")).await.expect("deployed");
        assert!(provider.list_secrets("").await.expect("lists").is_empty());
        let names = |list: Vec<faas_gateway::model::FunctionStatus>| -> Vec<String> {
            list.into_iter().map(|function| function.name).collect()
        };
        assert_eq!(names(provider.list("dev").await.expect("lists")), ["f"]);
        assert_eq!(names(provider.list("").await.expect("lists")), ["g"]);
        assert!(provider.status(&function("f"), false).await.is_err());
        provider
            .delete_namespace("dev")
            .await
            .expect("deleted with what is in it");
        provider.create_namespace(dev).await.expect("created again");
        assert!(provider.list("dev").await.expect("lists").is_empty());
        provider.create_secret(key).await.expect("the old one is gone");
        assert_eq!(names(provider.list("").await.expect("lists")), ["g"]);
    }

    pub(super) async fn logs_are_kept_and_followed(backend: &dyn Backend) {
        let provider = backend.provider();
        provider.deploy(deployment("f")).await.expect("deployed");
        available(&*provider, &function("f"), 1).await;
        let has =
            async |query: LogQuery, text: &str| lines(&*provider, query).await.iter().any(|line| line.contains(text));
        backend.write_line(&function("f"), "first words").await;
        eventually("the line", || has(query("f"), "first words")).await;
        let began = Utc::now();
        backend.write_line(&function("f"), "second words").await;
        eventually("the line", || has(query("f"), "second words")).await;

        let since = LogQuery {
            since: Some(began),
            ..query("f")
        };
        assert!(has(since.clone(), "second words").await && !has(since, "first words").await);
        let tail = LogQuery {
            tail: Some(1),
            ..query("f")
        };
        assert_eq!(lines(&*provider, tail).await.len(), 1);
        let other = LogQuery {
            instance: Some("nobody".to_owned()),
            ..query("f")
        };
        assert!(lines(&*provider, other).await.is_empty());
        let mut messages = provider.logs(query("f")).await.expect("answers");
        let message = messages.next().await.expect("a line").expect("readable");
        assert_eq!(
            (message.name.as_str(), message.namespace.as_str()),
            ("f", "openfaas-fn")
        );
        assert!(message.instance.starts_with("f-"), "{message:?}");

        let follow = LogQuery {
            follow: true,
            ..query("f")
        };
        let mut stream = provider.logs(follow).await.expect("answers");
        backend.write_line(&function("f"), "third words").await;
        let found = async {
            while let Some(message) = stream.next().await {
                if message.expect("line").text.contains("third words") {
                    return true;
                }
            }
            false
        };
        assert!(
            tokio::time::timeout(Duration::from_secs(10), found)
                .await
                .expect("in time")
        );
    }

    pub(super) async fn providers_introduce_themselves(backend: &dyn Backend) {
        let provider = backend.provider();
        let info = provider.info().await.expect("answers");
        for text in [
            &info.provider,
            &info.orchestration,
            &info.version.release,
            &info.version.sha,
        ] {
            assert!(!text.is_empty(), "{info:?}");
        }
        provider.health().await.expect("healthy");
    }

    pub(super) async fn calls_go_to_ready_replicas(backend: &dyn Backend) {
        let provider = backend.provider();
        if !backend.knows_replicas() {
            return;
        }
        let error = provider.upstream(&function("f")).expect_err("unknown");
        assert!(matches!(error, ProviderError::NotFound(_)), "{error:?}");
        provider.deploy(deployment("f")).await.expect("deployed");
        available(&*provider, &function("f"), 1).await;
        let upstream = provider.upstream(&function("f")).expect("ready");
        assert_eq!(upstream.path, PathForm::Trimmed);
        provider
            .upstream(&FunctionRef::new("f", ""))
            .expect("of the default namespace");

        provider.scale(&function("f"), 0).await.expect("scaled");
        let error = provider.upstream(&function("f")).expect_err("at zero");
        assert!(
            matches!(&error, ProviderError::NotReady { reason, .. } if reason.contains("scaled to zero")),
            "{error:?}"
        );
        let changed = provider.changed();
        let name = function("f");
        let scaled = provider.scale(&name, 1);
        let waited = tokio::time::timeout(Duration::from_secs(10), async { tokio::join!(changed, scaled) });
        waited.await.expect("a change is told").1.expect("scaled");
        available(&*provider, &function("f"), 1).await;
        provider.upstream(&function("f")).expect("ready again");
    }
}

/// Runs every case over a backend.
macro_rules! contract {
    ($backend:ident, $start:expr) => {
        contract!($backend, $start; a_deployed_function_shows_at_once, what_was_sent_comes_back,
            what_was_not_sent_is_absent, deploying_again_replaces, unknown_functions_are_not_found,
            a_deleted_function_is_gone, functions_scale_up_and_down_and_to_zero,
            senseless_deployments_are_refused, secrets_live_and_die, a_secret_in_use_stays,
            namespaces_live_and_die, namespaces_keep_functions_and_secrets_apart,
            logs_are_kept_and_followed, providers_introduce_themselves, calls_go_to_ready_replicas);
    };
    ($backend:ident, $start:expr; $($case:ident),*) => {
        mod $backend {
            use super::*;

            $(#[tokio::test]
            async fn $case() {
                let backend = $start.await;
                cases::$case(&*backend).await;
                backend.provider().close().await;
            })*
        }
    };
}

contract!(memory, async { Memory::start() });
contract!(process, Local::backend());
contract!(remote, Remote::start());
