//! A scripted upstream: an OpenFaaS provider whose functions are closures.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The body of a scripted answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
type Function = Arc<dyn Fn(Request<Incoming>) -> Answer + Send + Sync>;

/// An upstream on a port of its own; it ends with the test.
#[derive(Clone)]
pub(crate) struct Upstream {
    address: SocketAddr,
    functions: Arc<Mutex<BTreeMap<String, Function>>>,
    annotations: Arc<Mutex<BTreeMap<String, Value>>>,
    connections: Arc<AtomicUsize>,
}

impl Upstream {
    /// An upstream with the function `echo`, which answers with what it got.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let upstream = Self {
            address: listener.local_addr().expect("bound"),
            functions: Arc::default(),
            annotations: Arc::default(),
            connections: Arc::default(),
        };
        let upstream = upstream.function("echo", echo);
        let this = upstream.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                this.connections.fetch_add(1, Ordering::Relaxed);
                let this = this.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| this.clone().answer(request));
                    let connection = hyper::server::conn::http1::Builder::new()
                        .half_close(false)
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades();
                    let _ = connection.await;
                });
            }
        });
        upstream
    }

    /// Adds a function.
    pub(crate) fn function<F, A>(self, name: &str, function: F) -> Self
    where
        F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        let function: Function = Arc::new(move |request| Box::pin(function(request)));
        self.functions
            .lock()
            .expect("no panic")
            .insert(name.to_owned(), function);
        self
    }

    /// Adds a function with annotations.
    pub(crate) fn annotated<F, A>(self, name: &str, annotations: &Value, function: F) -> Self
    where
        F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        let mut all = self.annotations.lock().expect("no panic");
        all.insert(name.to_owned(), annotations.clone());
        drop(all);
        self.function(name, function)
    }

    /// How many connections were opened to it so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// The base URL, without a trailing slash.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let path = request.uri().path();
        let named = |prefix: &str| {
            let tail = path.strip_prefix(prefix)?;
            let name = tail.split(['/', '.']).next().unwrap_or_default();
            self.functions.lock().expect("no panic").get(name).cloned()
        };
        if let Some(function) = named("/function/") {
            return Ok(function(request).await);
        }
        let status = |name: &str| {
            let mut status = json!({"name": name, "image": "scripted", "replicas": 1, "availableReplicas": 1});
            if let Some(annotations) = self.annotations.lock().expect("no panic").get(name) {
                status["annotations"] = annotations.clone();
            }
            status
        };
        Ok(match path {
            "/healthz" => text(200, "OK"),
            "/system/namespaces" => text(404, ""),
            "/system/functions" => {
                let functions = self.functions.lock().expect("no panic");
                let list: Vec<Value> = functions.keys().map(|name| status(name)).collect();
                text(200, &Value::from(list).to_string())
            }
            _ => match path.strip_prefix("/system/function/") {
                Some(name) if named("/system/function/").is_some() => text(200, &status(name).to_string()),
                _ => text(404, "not found"),
            },
        })
    }
}

/// An answer with a text.
pub(crate) fn text(status: u16, text: &str) -> Response<Body> {
    body(
        status,
        Full::new(Bytes::from(text.to_owned())).map_err(|never| match never {}),
    )
}

/// An answer with a body of any kind.
pub(crate) fn body<B>(status: u16, body: B) -> Response<Body>
where
    B: http_body::Body<Data = Bytes, Error = std::io::Error> + Send + 'static,
{
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = http::StatusCode::from_u16(status).expect("a status");
    response
}

/// Answers with the request as JSON: method, target, headers in order, body
/// text, trailers.
async fn echo(request: Request<Incoming>) -> Response<Body> {
    let (parts, incoming) = request.into_parts();
    let pairs = |headers: &http::HeaderMap| -> Vec<(String, String)> {
        headers
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect()
    };
    let collected = match incoming.collect().await {
        Ok(collected) => collected,
        Err(error) => return text(400, &error.to_string()),
    };
    let trailers = collected.trailers().map(pairs);
    let echoed = json!({
        "method": parts.method.as_str(),
        "target": parts.uri.to_string(),
        "headers": pairs(&parts.headers),
        "trailers": trailers,
        "body": String::from_utf8_lossy(&collected.to_bytes()),
    });
    text(200, &echoed.to_string())
}

/// The values of a header in an echoed request.
pub(crate) fn echoed(request: &Value, name: &str) -> Vec<String> {
    let pairs: Vec<(String, String)> = serde_json::from_value(request["headers"].clone()).expect("an echoed request");
    pairs
        .into_iter()
        .filter(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
        .collect()
}
