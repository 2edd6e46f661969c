//! A provider for tests: it speaks the REST contract of OpenFaaS providers on
//! a port of its own, answers as a closure says, and remembers what it was asked.

use std::{
    convert::Infallible,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use faas_gateway::shutdown::Tasks;
use futures_util::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Collected, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use url::Url;

/// What the provider was asked.
#[derive(Clone)]
pub(crate) struct Asked {
    /// Method.
    pub(crate) method: String,
    /// Path as received.
    pub(crate) path: String,
    /// Query as received, without the question mark.
    pub(crate) query: String,
    /// Headers.
    pub(crate) headers: HeaderMap,
    /// Body.
    pub(crate) body: Bytes,
}

impl Asked {
    /// `METHOD path?query`.
    pub(crate) fn line(&self) -> String {
        let mark = if self.query.is_empty() { "" } else { "?" };
        format!("{} {}{mark}{}", self.method, self.path, self.query)
    }

    /// The body as JSON; null when there is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A query parameter, decoded.
    pub(crate) fn parameter(&self, key: &str) -> Option<String> {
        url::form_urlencoded::parse(self.query.as_bytes())
            .find(|(found, _)| found == key)
            .map(|(_, value)| value.into_owned())
    }

    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line())
    }
}

/// What the provider answers.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    status: u16,
    content_type: &'static str,
    headers: Vec<(&'static str, String)>,
    /// Sent one by one.
    chunks: Vec<Bytes>,
    end: End,
}

/// How an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// As it should.
    Whole,
    /// No answer at all.
    Silent,
    /// The head and the chunks, and then nothing more.
    Open,
    /// The connection breaks after the chunks.
    Broken,
}

impl Answer {
    /// A status and a text.
    pub(crate) fn text(status: u16, text: &str) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            headers: Vec::new(),
            chunks: vec![Bytes::copy_from_slice(text.as_bytes())],
            end: End::Whole,
        }
    }

    /// A status and JSON.
    pub(crate) fn json(status: u16, json: &Value) -> Self {
        Self {
            content_type: "application/json",
            ..Self::text(status, &json.to_string())
        }
    }

    /// A status and nothing more.
    pub(crate) fn empty(status: u16) -> Self {
        Self {
            chunks: Vec::new(),
            ..Self::text(status, "")
        }
    }

    /// RFC 9457 problem details, as another faas-gateway sends them.
    pub(crate) fn problem(status: u16, detail: &str) -> Self {
        let problem = serde_json::json!({ "status": status, "title": "Title", "detail": detail });
        Self {
            content_type: "application/problem+json",
            ..Self::json(status, &problem)
        }
    }

    /// A 200 in these chunks.
    pub(crate) fn chunks(chunks: &[&str]) -> Self {
        Self {
            content_type: "application/x-ndjson",
            chunks: chunks
                .iter()
                .map(|chunk| Bytes::copy_from_slice(chunk.as_bytes()))
                .collect(),
            ..Self::empty(200)
        }
    }

    /// No answer at all.
    pub(crate) fn silence() -> Self {
        Self {
            end: End::Silent,
            ..Self::empty(200)
        }
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Leaves the body without an end.
    pub(crate) fn open(mut self) -> Self {
        self.end = End::Open;
        self
    }

    /// Breaks the connection after the body.
    pub(crate) fn broken(mut self) -> Self {
        self.end = End::Broken;
        self
    }
}

type Chunk = Result<Frame<Bytes>, std::io::Error>;

type Reply = Response<StreamBody<BoxStream<'static, Chunk>>>;

/// Replies to a request, now or later.
type Script = dyn Fn(Asked) -> BoxFuture<'static, Reply> + Send + Sync;

/// A provider that answers as it is told. It ends when it is dropped.
pub(crate) struct ScriptedProvider {
    /// Base URL.
    pub(crate) url: Url,
    asked: Arc<Mutex<Vec<Asked>>>,
    tasks: Tasks,
}

impl ScriptedProvider {
    /// Answers as `script` says.
    pub(crate) async fn start(script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        Self::listen(Arc::new(move |asked| {
            let answer = script(&asked);
            async move {
                if answer.end == End::Silent {
                    std::future::pending::<()>().await;
                }
                response(answer)
            }
            .boxed()
        }))
        .await
    }

    async fn listen(script: Arc<Script>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let tasks = Tasks::new();
        tasks.spawn({
            let (tasks, asked) = (tasks.clone(), Arc::clone(&asked));
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tasks.spawn(serve(stream, Arc::clone(&script), Arc::clone(&asked)));
                }
            }
        });
        Self {
            url: format!("http://{address}/").parse().expect("a URL"),
            asked,
            tasks,
        }
    }

    /// Gives every request the same answer.
    pub(crate) async fn answering(answer: Answer) -> Self {
        Self::start(move |_| answer.clone()).await
    }

    /// Everything it was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The one thing it was asked.
    #[track_caller]
    pub(crate) fn only(&self) -> Asked {
        let asked = self.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        asked.into_iter().next().expect("one request")
    }
}

impl Drop for ScriptedProvider {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

async fn serve(stream: TcpStream, script: Arc<Script>, log: Arc<Mutex<Vec<Asked>>>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (script, log) = (Arc::clone(&script), Arc::clone(&log));
        async move {
            let (head, body) = request.into_parts();
            let asked = Asked {
                method: head.method.to_string(),
                path: head.uri.path().to_owned(),
                query: head.uri.query().unwrap_or_default().to_owned(),
                headers: head.headers,
                body: body.collect().await.map(Collected::to_bytes).unwrap_or_default(),
            };
            log.lock().unwrap_or_else(PoisonError::into_inner).push(asked.clone());
            Ok::<_, Infallible>(script(asked).await)
        }
    });
    // A client that goes away is none of our business.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn response(answer: Answer) -> Reply {
    let chunks = stream::iter(answer.chunks).then(|chunk| async {
        // Lets the connection send what it has, so that chunks stay apart.
        tokio::task::yield_now().await;
        Ok(Frame::data(chunk))
    });
    let body = match answer.end {
        End::Whole | End::Silent => chunks.boxed(),
        End::Open => chunks.chain(stream::pending()).boxed(),
        End::Broken => chunks
            .chain(stream::once(async {
                // As above: what came before gets out.
                tokio::task::yield_now().await;
                Err(std::io::Error::other("broken on purpose"))
            }))
            .boxed(),
    };
    let mut response = Response::builder()
        .status(StatusCode::from_u16(answer.status).expect("a status"))
        .header("content-type", answer.content_type);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response.body(StreamBody::new(body)).expect("a response")
}
