//! An OpenFaaS provider over REST: faas-netes, faasd, or another faas-gateway
//! (compatibility.md section 6).
//!
//! The provider keeps all state; nothing is cached here but connections. Calls
//! to functions go through the provider's own `/function/` route, or straight
//! to the functions with `direct_functions`; either way they do not pass this
//! module, which only says where they go.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::SecondsFormat;
use http::Method;
use serde_json::{Value, json};
use url::Url;

use self::{
    direct::Direct,
    rest::{Call, Rest, normalised, parse},
};
use super::{Listing, LogStream, Provider, ProviderError, Result, pool_limits};
use crate::{
    client,
    config::{self, Unusable},
    model::{
        FromWire, FunctionDeployment, FunctionNamespace, FunctionRef, FunctionStatus, LOCAL_IMAGE, LogQuery,
        ProviderInfo, Secret, from_value, to_json,
    },
    upstream::{Address, Connections, PathForm, PoolLimits, Pools, Upstream},
};

mod direct;
mod logs;
mod rest;

/// Key of the base URL.
const URL: &str = "provider.url";

/// What a [`RemoteProvider`] is made of. The last three can change while it runs.
#[derive(Clone, PartialEq)]
pub struct Settings {
    /// Base URL.
    pub url: Url,
    /// Base URL of the log service, when it is another one.
    pub logs_url: Option<Url>,
    /// Namespace of functions named without one; empty leaves it to the provider.
    pub default_namespace: String,
    /// Call functions directly, at hosts with this suffix.
    pub direct_suffix: Option<String>,
    /// Bound on a REST call, body included: `invoke.upstream_timeout`.
    pub timeout: Duration,
    /// Bounds on connections for calls of functions; its `connect_timeout`
    /// holds for REST calls too.
    pub pool: PoolLimits,
    /// Between two looks at the addresses of a function that is called
    /// directly; zero leaves it to each connection.
    pub resolve_interval: Duration,
}

impl Settings {
    /// Picks the settings out of the configuration.
    ///
    /// # Errors
    /// When there is no `provider.url`.
    pub fn new(provider: &config::Provider, invoke: &config::Invoke) -> Result<Self, Unusable> {
        let url = provider.url.clone();
        Ok(Self {
            url: url.ok_or_else(|| Unusable::new(&[URL, "provider.kind"], "is needed for the http provider"))?,
            logs_url: provider.logs_url.clone(),
            default_namespace: provider.default_namespace.clone().unwrap_or_default(),
            direct_suffix: provider
                .direct_functions
                .then(|| provider.direct_functions_suffix.clone()),
            timeout: invoke.upstream_timeout,
            pool: pool_limits(invoke),
            resolve_interval: invoke.resolve_interval,
        })
    }

    /// Whether a provider of these can go on with those: they differ at most
    /// in what [`RemoteProvider::reconfigure`] changes.
    pub fn is_same_provider(&self, other: &Self) -> bool {
        let other = Self {
            timeout: self.timeout,
            pool: self.pool,
            resolve_interval: self.resolve_interval,
            ..other.clone()
        };
        *self == other
    }
}

/// Without the URLs, which may hold keys.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("host", &self.url.host_str())
            .field("timeout", &self.timeout)
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}

/// A provider at the other end of a REST API.
pub struct RemoteProvider {
    rest: Rest,
    /// Base of the log service.
    logs: Url,
    default_namespace: String,
    pools: Pools,
    /// The provider as the upstream of calls.
    through: Upstream,
    direct: Option<Direct>,
}

impl RemoteProvider {
    /// A provider that is asked with these credentials (user and password).
    /// Nothing is sent yet: a provider that is down is no error here.
    ///
    /// # Errors
    /// When a URL cannot be used or a credential cannot be sent.
    pub fn new(settings: Settings, credentials: Option<(String, String)>) -> Result<Self, Unusable> {
        let unusable = |keys| move |message: String| Unusable::new(keys, message);
        let base = normalised(settings.url).map_err(unusable(&[URL]))?;
        let logs = match settings.logs_url {
            Some(url) => normalised(url).map_err(unusable(&["provider.logs_url"]))?,
            None => base.clone(),
        };
        let pools = Pools::new(settings.pool);
        let through = Upstream {
            endpoint: pools.endpoint(address(&base).map_err(unusable(&[URL]))?),
            path: PathForm::Full {
                base: base.path().trim_end_matches('/').into(),
            },
        };
        let rest = Rest::new(base, settings.timeout, settings.pool.connect_timeout, credentials)
            .map_err(unusable(&["auth.secret_path"]))?;
        let direct = settings.direct_suffix.map(|suffix| {
            let namespace = settings.default_namespace.clone();
            Direct::new(suffix, namespace, pools.clone(), settings.resolve_interval)
        });
        Ok(Self {
            rest,
            logs,
            default_namespace: settings.default_namespace,
            pools,
            through,
            direct,
        })
    }

    /// Changes the bounds of later calls; connections stay.
    pub fn reconfigure(&self, settings: &Settings) {
        self.rest.reconfigure(settings.timeout, settings.pool.connect_timeout);
        self.pools.set_limits(settings.pool);
        if let Some(direct) = &self.direct {
            direct.set_pause(settings.resolve_interval);
        }
    }

    /// The namespace to send: the default in place of an empty one, and none
    /// at all when the default is the provider's own.
    fn namespace<'a>(&'a self, namespace: &'a str) -> Option<&'a str> {
        [namespace, &self.default_namespace]
            .into_iter()
            .find(|namespace| !namespace.is_empty())
    }

    fn with_namespace(&self, mut deployment: FunctionDeployment) -> FunctionDeployment {
        let given = deployment.namespace.take().unwrap_or_default();
        deployment.namespace = self.namespace(&given).map(str::to_owned);
        deployment
    }

    async fn read<T: FromWire>(&self, call: Call<'_>) -> Result<T> {
        let what = format!("{} {}", call.method, call.path.join("/"));
        parse(&self.rest.send(call).await?, &what)
    }

    async fn list_text(&self, namespace: &str) -> Result<Bytes> {
        let call = Call::new(Method::GET, &["system", "functions"], "the list of functions")
            .query("namespace", self.namespace(namespace));
        self.rest.send(call).await
    }

    async fn write(&self, call: Call<'_>) -> Result<()> {
        self.rest.send(call).await.map(drop)
    }

    /// Sends a secret with its value, which its own JSON form leaves out.
    async fn send_secret(&self, method: Method, secret: &Secret) -> Result<()> {
        let namespace = self.namespace(secret.namespace.as_deref().unwrap_or_default());
        let mut body = named("name", &secret.name, namespace);
        if let Some(value) = &secret.value {
            body["value"] = json!(value);
        }
        if let Some(raw) = &secret.raw_value {
            use base64::{Engine as _, engine::general_purpose::STANDARD};
            body["rawValue"] = json!(STANDARD.encode(&raw.0));
        }
        let subject = format!("secret {}", secret.name);
        self.write(
            Call::new(method, &["system", "secrets"], &subject)
                .query("namespace", namespace)
                .body(body.to_string()),
        )
        .await
    }
}

/// The functions of a list, in name order.
fn listed(body: &[u8]) -> Result<Vec<FunctionStatus>> {
    // Go writes an empty list as null.
    let functions: Option<Vec<FunctionStatus>> = parse(body, "GET system/functions")?;
    let mut functions = functions.unwrap_or_default();
    functions.sort_by(|a, b| (&a.name, &a.namespace).cmp(&(&b.name, &b.namespace)));
    Ok(functions)
}

/// A body with a name under `key` and a namespace, if there is one.
fn named(key: &str, name: &str, namespace: Option<&str>) -> Value {
    let mut body = json!({ key: name });
    if let Some(namespace) = namespace {
        body["namespace"] = json!(namespace);
    }
    body
}

#[async_trait]
impl Provider for RemoteProvider {
    async fn list(&self, namespace: &str) -> Result<Vec<FunctionStatus>> {
        listed(&self.list_text(namespace).await?)
    }

    async fn list_again(&self, namespace: &str, before: &Listing) -> Result<Listing> {
        let text = self.list_text(namespace).await?;
        // To compare is some hundred times cheaper than to read.
        if !text.is_empty() && text == before.text {
            return Ok(before.clone());
        }
        Ok(Listing {
            functions: listed(&text)?.into(),
            text,
        })
    }

    async fn status(&self, function: &FunctionRef, usage: bool) -> Result<FunctionStatus> {
        self.read(
            Call::new(
                Method::GET,
                &["system", "function", &function.name],
                &subject_of(function),
            )
            .query("namespace", self.namespace(&function.namespace))
            .query("usage", usage.then_some("1")),
        )
        .await
    }

    async fn deploy(&self, deployment: FunctionDeployment) -> Result<()> {
        let deployment = self.with_namespace(deployment);
        let subject = format!("function {}", deployment.service);
        self.write(Call::new(Method::POST, &["system", "functions"], &subject).body(to_json(&deployment)))
            .await
    }

    async fn update(&self, deployment: FunctionDeployment) -> Result<()> {
        let deployment = self.with_namespace(deployment);
        let subject = format!("function {}", deployment.service);
        self.write(Call::new(Method::PUT, &["system", "functions"], &subject).body(to_json(&deployment)))
            .await
    }

    async fn delete(&self, function: &FunctionRef) -> Result<()> {
        // faas-netes reads the namespace from the query, faasd from the body.
        let namespace = self.namespace(&function.namespace);
        self.write(
            Call::new(Method::DELETE, &["system", "functions"], &subject_of(function))
                .query("namespace", namespace)
                .body(named("functionName", &function.name, namespace).to_string()),
        )
        .await?;
        if let Some(direct) = &self.direct {
            direct.forget(function);
        }
        Ok(())
    }

    async fn scale(&self, function: &FunctionRef, replicas: u64) -> Result<()> {
        let namespace = self.namespace(&function.namespace);
        let mut body = named("serviceName", &function.name, namespace);
        body["replicas"] = json!(replicas);
        self.write(
            Call::new(
                Method::POST,
                &["system", "scale-function", &function.name],
                &subject_of(function),
            )
            .query("namespace", namespace)
            .body(body.to_string()),
        )
        .await
    }

    async fn logs(&self, query: LogQuery) -> Result<LogStream> {
        let function = FunctionRef::new(&*query.name, &*query.namespace);
        let since = query
            .since
            .map(|since| since.to_rfc3339_opts(SecondsFormat::AutoSi, true));
        let tail = query.tail.map(|tail| tail.to_string());
        let subject = format!("the log of {}", subject_of(&function));
        let call = Call::new(Method::GET, &["system", "logs"], &subject)
            .at(&self.logs)
            .query("name", Some(&query.name))
            .query("namespace", self.namespace(&query.namespace))
            .query("instance", query.instance.as_deref())
            .query("since", since.as_deref())
            .query("tail", tail.as_deref())
            .query("follow", Some(if query.follow { "true" } else { "false" }));
        Ok(logs::stream(self.rest.open(call).await?))
    }

    async fn list_secrets(&self, namespace: &str) -> Result<Vec<Secret>> {
        let call = Call::new(Method::GET, &["system", "secrets"], "the list of secrets")
            .query("namespace", self.namespace(namespace));
        let secrets: Option<Vec<Secret>> = self.read(call).await?;
        // Named anew, so that a provider that returns values does not leak them through us.
        let mut secrets: Vec<Secret> = secrets
            .unwrap_or_default()
            .into_iter()
            .map(|secret| Secret::named(secret.name, secret.namespace.unwrap_or_default()))
            .collect();
        secrets.sort_by(|a, b| (&a.name, &a.namespace).cmp(&(&b.name, &b.namespace)));
        Ok(secrets)
    }

    async fn create_secret(&self, secret: Secret) -> Result<()> {
        self.send_secret(Method::POST, &secret).await
    }

    async fn update_secret(&self, secret: Secret) -> Result<()> {
        self.send_secret(Method::PUT, &secret).await
    }

    async fn delete_secret(&self, name: &str, namespace: &str) -> Result<()> {
        self.send_secret(Method::DELETE, &Secret::named(name, namespace)).await
    }

    async fn list_namespaces(&self) -> Result<Vec<String>> {
        let call = Call::new(Method::GET, &["system", "namespaces"], "the list of namespaces");
        match self.read::<Option<Vec<String>>>(call).await {
            Ok(namespaces) => {
                let mut namespaces = namespaces.unwrap_or_default();
                namespaces.sort();
                Ok(namespaces)
            }
            // A provider without namespaces.
            Err(ProviderError::NotFound(_)) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    async fn namespace(&self, name: &str) -> Result<FunctionNamespace> {
        let subject = format!("namespace {name}");
        let mut found: FunctionNamespace = self
            .read(Call::new(Method::GET, &["system", "namespace", name], &subject))
            .await?;
        if found.name.is_empty() {
            name.clone_into(&mut found.name);
        }
        Ok(found)
    }

    async fn create_namespace(&self, namespace: FunctionNamespace) -> Result<()> {
        // The trailing slash is part of the route: the name is in the body.
        let subject = format!("namespace {}", namespace.name);
        self.write(Call::new(Method::POST, &["system", "namespace", ""], &subject).body(to_json(&namespace)))
            .await
    }

    async fn update_namespace(&self, namespace: FunctionNamespace) -> Result<()> {
        let subject = format!("namespace {}", namespace.name);
        self.write(
            Call::new(Method::PUT, &["system", "namespace", &namespace.name], &subject).body(to_json(&namespace)),
        )
        .await
    }

    async fn delete_namespace(&self, name: &str) -> Result<()> {
        // faasd removes only what is marked as its own, and reads the mark from the body.
        let mark = json!({ "openfaas": "1" });
        let body = json!({ "name": name, "labels": mark, "annotations": mark });
        let subject = format!("namespace {name}");
        self.write(Call::new(Method::DELETE, &["system", "namespace", name], &subject).body(body.to_string()))
            .await
    }

    async fn info(&self) -> Result<ProviderInfo> {
        let mut answer: Value = self
            .read(Call::new(Method::GET, &["system", "info"], "the provider's info"))
            .await?;
        // A gateway in the provider's place wraps its own provider.
        if answer.get("provider").is_some_and(Value::is_object) {
            answer = answer["provider"].take();
        }
        from_value(answer).map_err(|error| ProviderError::Internal(format!("cannot read the provider's info: {error}")))
    }

    async fn health(&self) -> Result<()> {
        self.write(Call::new(Method::GET, &["healthz"], "the provider's health"))
            .await
    }

    async fn telemetry(&self) -> Result<Value> {
        let call = Call::new(Method::GET, &["system", "telemetry"], "the provider's telemetry");
        match self.read(call).await {
            Err(ProviderError::NotFound(_)) => {
                Err(ProviderError::Unsupported("this provider has no telemetry".to_owned()))
            }
            other => other,
        }
    }

    fn upstream(&self, function: &FunctionRef) -> Result<Upstream> {
        match &self.direct {
            None => Ok(self.through.clone()),
            Some(direct) => direct.upstream(function),
        }
    }

    fn tracks_replicas(&self) -> bool {
        false
    }

    fn could_run(&self, deployment: &FunctionDeployment) -> Result<()> {
        if deployment.image == LOCAL_IMAGE {
            return Err(ProviderError::Invalid(
                "it is a command of the gateway's own machine, and this gateway's provider runs container images"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    fn calls_functions(&self) -> bool {
        self.direct.is_some()
    }

    async fn close(&self) {
        if let Some(direct) = &self.direct {
            direct.close();
        }
    }

    fn connections(&self) -> Connections {
        self.pools.connections()
    }

    fn default_namespace(&self) -> &str {
        &self.default_namespace
    }
}

impl fmt::Debug for RemoteProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteProvider")
            .field("rest", &self.rest)
            .field("default_namespace", &self.default_namespace)
            .field("direct", &self.direct)
            .finish_non_exhaustive()
    }
}

fn subject_of(function: &FunctionRef) -> String {
    format!("function {function}")
}

fn address(base: &Url) -> Result<Address, String> {
    let (Some(host), Some(port)) = (base.host_str(), base.port_or_known_default()) else {
        return Err("has no host".to_owned());
    };
    Ok(Address::Tcp {
        host: host.to_owned(),
        port,
        tls: (base.scheme() == "https").then(client::tls),
        at: None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn settings(url: &str) -> Settings {
        Settings {
            url: Url::parse(url).expect("a URL"),
            logs_url: None,
            default_namespace: String::new(),
            direct_suffix: None,
            timeout: Duration::from_secs(1),
            pool: PoolLimits::default(),
            resolve_interval: Duration::ZERO,
        }
    }

    #[tokio::test]
    async fn calls_go_to_the_provider_below_its_base() {
        for (url, address, base) in [
            ("http://127.0.0.1:8081", "http://127.0.0.1:8081", ""),
            ("http://provider:8081/base//?x#y", "http://provider:8081", "/base"),
            ("http://[::1]/", "http://[::1]:80", ""),
            ("https://provider.example/a/b/", "https://provider.example:443", "/a/b"),
        ] {
            let provider = RemoteProvider::new(settings(url), None).expect(url);
            let upstream = provider.upstream(&FunctionRef::new("figlet", "")).expect("an upstream");
            assert_eq!(upstream.endpoint.address().to_string(), address, "{url}");
            assert_eq!(upstream.path, PathForm::Full { base: base.into() }, "{url}");
            let again = provider.upstream(&FunctionRef::new("other", "")).expect("an upstream");
            assert!(
                Arc::ptr_eq(&upstream.endpoint, &again.endpoint),
                "one pool for the provider"
            );
        }
    }

    #[test]
    fn credentials_do_not_belong_into_urls() {
        let refused = RemoteProvider::new(settings("http://admin:secret@provider/"), None);
        let error = refused.expect_err("refused").to_string();
        assert!(
            error.contains("auth.secret_path") && !error.contains("secret@"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn debug_shows_no_password() {
        let credentials = Some(("admin".to_owned(), "tops3cret".to_owned()));
        let provider = RemoteProvider::new(settings("http://provider/"), credentials).expect("builds");
        let text = format!("{provider:?}");
        assert!(!text.contains("tops3cret") && !text.contains("dG9wczNjcmV0"), "{text}");
    }
}
