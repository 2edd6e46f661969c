//! Sends spans to an OTLP receiver, in batches, behind the back of the calls
//! they are about.
//!
//! Spans wait in a bounded queue; those that find no place are counted and gone.
//! One task takes them out and sends them. It tries again when the receiver
//! could not take them for the moment, and lets them go when that goes on: what
//! is new is worth more than what is old. What is in a span is decided
//! elsewhere.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use opentelemetry_proto::tonic::resource::v1::Resource;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use url::Url;

use super::{
    counts::{Counts, Lost},
    otlp,
};
use crate::{
    client,
    config::Tracing,
    shutdown::Tasks,
    trace::{Practice, Span},
};

/// Most spans of one request.
const BATCH: usize = 512;

/// How long spans are collected before they are sent.
const DELAY: Duration = Duration::from_secs(1);

/// How often a request is made again.
const RETRIES: u32 = 2;

/// First and longest pause before that.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Shortest time between two log lines about failures.
const BETWEEN_WARNINGS: Duration = Duration::from_secs(60);

/// Answers longer than this say nothing that is of use.
const MAX_ANSWER: usize = 64 * 1024;

/// Where traces are sent, below the receiver's base URL.
const PATH: &str = "/v1/traces";

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");

/// What a configuration makes of traces.
#[derive(Debug, Clone, Default)]
pub struct Traces {
    practice: Practice,
    exporter: Option<Exporter>,
}

impl Traces {
    /// What the configuration says, with the exporter of `before` where it
    /// would be the same.
    pub fn new(config: &Tracing, before: &Self, tasks: &Tasks, counts: &Arc<Counts>) -> Self {
        let settings = config
            .otlp_endpoint
            .as_ref()
            .map(|endpoint| Settings::new(endpoint, config));
        let exporter = settings.map(|settings| match &before.exporter {
            Some(exporter) if *exporter.settings == settings => exporter.clone(),
            _ => Exporter::start(settings, tasks, Arc::clone(counts)),
        });
        Self {
            practice: Practice::new(config.propagate, exporter.is_some(), config.sample.as_f64()),
            exporter,
        }
    }

    /// How requests come to be of a trace.
    pub fn practice(&self) -> Practice {
        self.practice
    }

    /// Who takes spans.
    pub fn exporter(&self) -> Option<&Exporter> {
        self.exporter.as_ref()
    }

    /// Waits until the spans so far were sent, or lost. Says so when that is
    /// not done in time.
    pub async fn flush(&self, patience: Duration) {
        if let Some(exporter) = &self.exporter
            && tokio::time::timeout(patience, exporter.flush()).await.is_err()
        {
            tracing::warn!("the last spans were not exported in time");
        }
    }
}

/// Takes spans, for as long as one of these is there. Cheap to clone.
#[derive(Clone)]
pub struct Exporter {
    spans: mpsc::Sender<Span>,
    flushes: mpsc::Sender<oneshot::Sender<()>>,
    counts: Arc<Counts>,
    settings: Arc<Settings>,
}

/// What makes one exporter differ from another.
#[derive(PartialEq)]
struct Settings {
    url: Url,
    headers: HeaderMap,
    timeout: Duration,
    queue_size: usize,
    resource: Resource,
}

impl Settings {
    fn new(endpoint: &Url, config: &Tracing) -> Self {
        let mut url = endpoint.clone();
        url.set_path(&format!("{}{PATH}", endpoint.path().trim_end_matches('/')));
        let mut headers = HeaderMap::new();
        // Whatever is no header was refused by the checks.
        for (name, value) in &config.headers {
            if let (Ok(name), Ok(mut value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
        }
        headers.insert(header::CONTENT_TYPE, PROTOBUF);
        Self {
            url,
            headers,
            timeout: config.timeout,
            queue_size: config.queue_size,
            resource: otlp::resource(&config.service_name, config.resource.iter()),
        }
    }
}

impl Exporter {
    fn start(settings: Settings, tasks: &Tasks, counts: Arc<Counts>) -> Self {
        let settings = Arc::new(settings);
        let (spans, received) = mpsc::channel(settings.queue_size);
        let (flushes, asked) = mpsc::channel(1);
        let worker = Worker {
            client: client::build(settings.timeout),
            settings: Arc::clone(&settings),
            counts: Arc::clone(&counts),
            spans: received,
            flushes: asked,
            waiting: Vec::new(),
            warned: None,
        };
        tasks.spawn(worker.run());
        Self {
            spans,
            flushes,
            counts,
            settings,
        }
    }

    /// Takes the spans of one request, all or none.
    pub fn export(&self, spans: Vec<Span>) {
        match self.spans.try_reserve_many(spans.len()) {
            Ok(places) => places.zip(spans).for_each(|(place, span)| place.send(span)),
            Err(_) => self.counts.lost(Lost::QueueFull, spans.len() as u64),
        }
    }

    async fn flush(&self) {
        let (done, waiting) = oneshot::channel();
        if self.flushes.send(done).await.is_ok() {
            // It ends with the process: then there is nothing to wait for.
            let _ended = waiting.await;
        }
    }
}

/// Without the headers, which may be credentials.
impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").finish_non_exhaustive()
    }
}

/// The task that sends.
struct Worker {
    client: reqwest::Client,
    settings: Arc<Settings>,
    counts: Arc<Counts>,
    spans: mpsc::Receiver<Span>,
    flushes: mpsc::Receiver<oneshot::Sender<()>>,
    /// Whoever waits for everything to be sent.
    waiting: Vec<oneshot::Sender<()>>,
    warned: Option<Instant>,
}

/// Why a request was of no use.
#[derive(Debug)]
enum Failure {
    /// There was no answer.
    Unanswered(String),
    /// The receiver did not take it, and may have said when it would.
    Refused(StatusCode, Option<Duration>),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unanswered(error) => f.write_str(error),
            Self::Refused(status, _) => write!(f, "the receiver answered {status}"),
        }
    }
}

impl Worker {
    async fn run(mut self) {
        let mut batch = Vec::new();
        while self.collect(&mut batch).await {
            while !batch.is_empty() {
                self.send(std::mem::take(&mut batch)).await;
                if !self.waiting.is_empty() {
                    self.take_what_is_there(&mut batch);
                }
            }
            for done in self.waiting.drain(..) {
                // Whoever asked may have lost patience.
                let _gone = done.send(());
            }
        }
    }

    /// Waits for spans, and then for those that follow soon; `false` when there
    /// will be none any more. Comes back at once when somebody wants them sent.
    async fn collect(&mut self, batch: &mut Vec<Span>) -> bool {
        let mut until = None;
        while batch.len() < BATCH {
            let due = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                received = self.spans.recv_many(batch, BATCH - batch.len()) => {
                    if received == 0 {
                        return !batch.is_empty();
                    }
                    until.get_or_insert_with(|| Instant::now() + DELAY);
                }
                Some(done) = self.flushes.recv() => {
                    self.waiting.push(done);
                    self.take_what_is_there(batch);
                    return true;
                }
                () = due => return true,
            }
        }
        true
    }

    fn take_what_is_there(&mut self, batch: &mut Vec<Span>) {
        while batch.len() < BATCH
            && let Ok(span) = self.spans.try_recv()
        {
            batch.push(span);
        }
    }

    async fn send(&mut self, spans: Vec<Span>) {
        let count = spans.len() as u64;
        let body = Bytes::from(otlp::request(&self.settings.resource, spans));
        let mut retries = 0;
        loop {
            let failure = match self.post(body.clone()).await {
                Ok((rejected, why)) => {
                    let rejected = rejected.min(count);
                    self.counts.exported(count - rejected);
                    if rejected > 0 {
                        self.counts.lost(Lost::Rejected, rejected);
                        self.warn(&format!(
                            "the receiver rejected {rejected} spans: {}",
                            why.escape_debug()
                        ));
                    }
                    return;
                }
                Err(failure) => failure,
            };
            self.counts.export_failed();
            self.warn(&failure.to_string());
            let pause = again(&failure, retries).filter(|_| self.waiting.is_empty());
            let Some(pause) = pause else {
                return self.counts.lost(Lost::ExportFailed, count);
            };
            retries += 1;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // One more, now, and that is it.
                Some(done) = self.flushes.recv() => self.waiting.push(done),
            }
        }
    }

    async fn post(&self, body: Bytes) -> Result<(u64, String), Failure> {
        // The URL may have a password in it.
        let unanswered = |error: reqwest::Error| Failure::Unanswered(client::describe(&error.without_url()));
        let request = self
            .client
            .post(self.settings.url.clone())
            .headers(self.settings.headers.clone())
            .body(body);
        let mut answer = request.send().await.map_err(unanswered)?;
        let status = answer.status();
        if !status.is_success() {
            let wait = answer.headers().get(header::RETRY_AFTER);
            let wait = wait.and_then(|wait| wait.to_str().ok()?.parse().ok());
            return Err(Failure::Refused(status, wait.map(Duration::from_secs)));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unanswered)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER {
                return Ok((0, String::new()));
            }
        }
        Ok(otlp::rejected(&body))
    }

    /// Says that something is wrong, now and then: the metrics say how often.
    fn warn(&mut self, error: &str) {
        if self.warned.is_none_or(|at| at.elapsed() >= BETWEEN_WARNINGS) {
            self.warned = Some(Instant::now());
            tracing::warn!(
                error,
                "spans cannot be exported; further failures are counted and told once a minute"
            );
        }
    }
}

/// How long to wait before a request is made again, after so many times; `None`
/// to give it up.
fn again(failure: &Failure, retries: u32) -> Option<Duration> {
    let wait = match failure {
        Failure::Unanswered(_) => None,
        // <https://opentelemetry.io/docs/specs/otlp/#failures-1>
        Failure::Refused(status, wait) if [429, 502, 503, 504].contains(&status.as_u16()) => *wait,
        Failure::Refused(..) => return None,
    };
    (retries < RETRIES).then(|| wait.unwrap_or(PAUSE * 2_u32.pow(retries)).min(PAUSE_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_tried_again() {
        let refused = |status, wait| {
            let status = StatusCode::from_u16(status).expect("a status");
            Failure::Refused(status, wait)
        };
        let seconds = Duration::from_secs;
        for (failure, retries, expected) in [
            (Failure::Unanswered(String::new()), 0, Some(seconds(1))),
            (Failure::Unanswered(String::new()), 1, Some(seconds(2))),
            (Failure::Unanswered(String::new()), 2, None),
            (refused(503, None), 0, Some(seconds(1))),
            (refused(429, Some(seconds(7))), 1, Some(seconds(7))),
            (refused(429, Some(seconds(7000))), 0, Some(PAUSE_MAX)),
            (refused(400, None), 0, None),
            (refused(401, Some(seconds(1))), 0, None),
            (refused(500, None), 0, None),
            (refused(307, None), 0, None),
        ] {
            assert_eq!(again(&failure, retries), expected, "{failure} {retries}");
        }
    }

    #[test]
    fn traces_are_below_the_base_url() {
        for (base, expected) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
            ("https://otel.example/base/", "https://otel.example/base/v1/traces"),
        ] {
            let sources = crate::config::Sources {
                overrides: vec![
                    ("provider.kind".to_owned(), "memory".to_owned()),
                    ("tracing.otlp_endpoint".to_owned(), base.to_owned()),
                ],
                ..crate::config::Sources::default()
            };
            let tracing = crate::config::parse(None, &sources).expect("valid").config.tracing;
            let endpoint = tracing.otlp_endpoint.clone().expect("set");
            assert_eq!(Settings::new(&endpoint, &tracing).url.as_str(), expected);
        }
    }
}
