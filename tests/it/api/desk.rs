//! Where a test hands in requests: `Desk::new().get("/system/info").await`.

use std::sync::Arc;

use faas_gateway::{
    api,
    auth::Auth,
    config::{self, Sources},
    events::Events,
    metrics::{Metrics, query::Prometheus},
    provider::{Provider, ProviderError},
    queue::offline::Offline,
    routing::RouteTable,
    scaling::{Policy, Scaling, autoscaler::Autoscaler, journal, lease::Alone},
    shutdown::{Stop, Tasks},
    snapshot::{
        Current, FunctionTable, Snapshot, Source,
        control::{Caller, Control, Journal, Outcome},
    },
    stores::Stores,
    telemetry::{Telemetry, Traces},
};
use http::{HeaderMap, Method, StatusCode};
use poem::{Body, Endpoint, Request, Response, endpoint::BoxEndpoint};
use serde_json::Value;

use super::provider::Scripted;

/// The API with a scripted provider.
pub(crate) struct Desk {
    endpoint: BoxEndpoint<'static, Response>,
    pub(crate) provider: Arc<Scripted>,
    pub(crate) metrics: Arc<Metrics>,
}

/// A desk's configuration has no files to read again.
struct NoFiles(Sources);

#[async_trait::async_trait]
impl Control for NoFiles {
    fn sources(&self) -> &Sources {
        &self.0
    }

    fn journal(&self) -> Journal {
        Journal::default()
    }

    async fn reload(&self, _caller: Caller, _expected: Option<Vec<String>>) -> Option<Outcome> {
        None
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Desk {
    /// Without authentication.
    pub(crate) fn new() -> Self {
        Self::with("")
    }

    /// With these lines in the configuration file.
    pub(crate) fn with(toml: &str) -> Self {
        let toml = format!("provider.kind = \"memory\"\n{toml}");
        let loaded = config::parse(Some(&toml), &Sources::default()).expect("the test's configuration is right");
        let source = Source::new(&loaded);
        let config = loaded.config;
        let provider = Arc::new(Scripted::default());
        let shared: Arc<dyn Provider> = Arc::clone(&provider) as _;
        let metrics = Arc::new(Metrics::new());
        let stores = Stores::new(Tasks::new());
        stores.configure(&config.stores);
        let events = Arc::new(Events::new(1, Stop::new()));
        let journal = Arc::new(journal::Journal::new(Arc::clone(&metrics), Arc::clone(&events)));
        let snapshot = Snapshot {
            access_log: Telemetry::none().access_log(),
            traces: Traces::default(),
            generation: 1,
            scaling: Scaling::new(Arc::clone(&shared), Tasks::new(), Arc::clone(&journal)),
            autoscaler: Autoscaler::new(journal, Tasks::new()),
            events,
            stores,
            queue: Arc::new(Offline("there is none in these tests".to_owned())),
            lease: Arc::new(Alone),
            policy: Policy::new(&config),
            auth: Auth::load(&config.auth).expect("the test's credentials are there"),
            tls: None,
            prometheus: Prometheus::new(&config.prometheus).expect("the test's server has a name"),
            routes: RouteTable::new(&config),
            functions: FunctionTable::default(),
            metrics: Arc::clone(&metrics),
            states: Arc::default(),
            alive: metrics.live_generation(),
            source,
            provider: shared,
            config,
        };
        Self {
            endpoint: api::endpoint(Current::new(snapshot), Arc::new(NoFiles(Sources::default()))),
            provider,
            metrics,
        }
    }

    /// The provider fails from here on.
    pub(crate) fn failing(self, error: ProviderError) -> Self {
        self.provider.fail(error);
        self
    }

    /// Sends a request with headers and a body.
    pub(crate) async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri_str(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.answer(request.body(body.to_owned())).await
    }

    /// Sends a request of any making.
    pub(crate) async fn answer(&self, request: Request) -> Answer {
        let response = self.raw(request).await;
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: read(body).await.expect("a whole body"),
        }
    }

    /// The response as it is, its body not read.
    pub(crate) async fn raw(&self, request: Request) -> Response {
        self.endpoint.get_response(request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.send(Method::POST, path, &[], body).await
    }

    pub(crate) async fn put(&self, path: &str, body: &str) -> Answer {
        self.send(Method::PUT, path, &[], body).await
    }

    pub(crate) async fn delete(&self, path: &str, body: &str) -> Answer {
        self.send(Method::DELETE, path, &[], body).await
    }

    /// What the provider was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.provider.take_asked()
    }
}

pub(crate) async fn read(body: Body) -> Result<Vec<u8>, poem::error::ReadBodyError> {
    body.into_vec().await
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub(crate) fn json(&self) -> Value {
        assert!(self.header("content-type").starts_with("application/"), "{self:?}");
        serde_json::from_slice(&self.body).expect("JSON")
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("header text"))
    }

    /// Fails unless the answer has this status and no body.
    #[track_caller]
    pub(crate) fn is_empty(&self, status: StatusCode) {
        assert_eq!((self.status, self.text()), (status.as_u16(), ""), "{:?}", self.headers);
    }

    /// Fails unless the answer is this error of the gateway, as plain text.
    #[track_caller]
    pub(crate) fn is_error(&self, status: u16, text: &str) {
        assert_eq!((self.status, self.text()), (status, format!("{text}\n").as_str()));
        assert_eq!(self.header("content-type"), "text/plain; charset=utf-8");
        assert_eq!(self.header("x-openfaas-internal"), "gateway");
    }
}
