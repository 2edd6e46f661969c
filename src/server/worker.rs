//! Makes the calls that a queue keeps, and sends their answers where they are
//! wanted (compatibility.md sections 5.2 and 5.3).
//!
//! Whatever the end of a call leads to ([`follow`]) is a job itself, kept in the
//! same moment, so that no end is forgotten however the process ends.
//!
//! A call takes the same road as one that somebody waits for: activation, limits,
//! retries of `[functions]`, counters, traces. What becomes of a job afterwards is
//! decided by [`crate::queue::retry`].

use std::{
    collections::{BTreeMap, HashMap},
    net::{Ipv4Addr, SocketAddr},
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::time::Instant;

use super::{
    Reach, Service,
    access_log::{Kind, Record},
    invoke::{self, Called},
    mirror::RequestBody,
};
use crate::{
    config::QueueAnnotations,
    model::FunctionRef,
    problem::{Form, INTERNAL_HEADER},
    proxy::headers,
    queue::{
        Allowed, Answer, Attempt, Claimed, Finished, Job, Lane, State, Target, Then, fields,
        limiter::Limiter,
        retry::{self, Outcome},
        settings::Settings,
    },
    shutdown::Tasks,
    snapshot::{QueuedFunction, Snapshot},
    upstream::Body,
};

mod callback;
mod follow;
mod queued;

use callback::Callbacks;
use follow::{Ended, Follow};

/// Which try of its job a call is, counted from 1.
const RETRY: HeaderName = HeaderName::from_static("x-retry");
/// How many tries there may be.
const RETRY_MAX: HeaderName = HeaderName::from_static("x-retry-max");

/// How often what has ended long ago is forgotten.
const SWEEP: Duration = Duration::from_secs(30);

/// How often jobs are counted for the metrics.
const COUNT: Duration = Duration::from_secs(5);

/// Makes calls as long as it exists.
pub struct Worker {
    service: Service,
    /// Jobs that run.
    running: AtomicUsize,
    limiters: Mutex<HashMap<FunctionRef, Limiter>>,
    callbacks: Callbacks,
    /// What applies to jobs that go to URLs.
    to_urls: Arc<QueuedFunction>,
    tasks: Tasks,
}

/// How a try went.
struct Tried {
    outcome: Outcome,
    /// The answer, as much of it as anybody gets.
    answer: Option<Answer>,
    error: Option<String>,
    /// Whether it must not be made, now or later.
    refused: bool,
}

impl Tried {
    /// No answer came.
    fn unanswered(error: String) -> Self {
        Self {
            outcome: Outcome {
                status: None,
                is_internal: true,
                retry_after: None,
            },
            answer: None,
            error: Some(error),
            refused: false,
        }
    }

    /// The queue has lost a part of the job.
    fn lost(job: &Job, why: String) -> Self {
        let (id, function) = (&job.id, &job.function);
        tracing::error!(id, %function, why, "an asynchronous call cannot be made");
        Self {
            refused: true,
            ..Self::unanswered(why)
        }
    }
}

/// Which try it was, and when.
#[derive(Clone, Copy)]
struct Timed {
    number: u32,
    started: DateTime<Utc>,
    took: Duration,
}

impl Timed {
    fn attempt(self, status: Option<u16>, error: Option<String>) -> Attempt {
        Attempt {
            started: self.started,
            took: self.took,
            status,
            error,
        }
    }

    /// It was taken back before it ended.
    fn cancelled(self) -> Finished {
        Finished {
            attempt: self.attempt(None, Some("cancelled while it ran".to_owned())),
            answer: None,
            then: Then::End(State::Cancelled),
            follow: Vec::new(),
        }
    }
}

impl Worker {
    /// Makes calls through `service`, in tasks that are waited for.
    pub fn new(service: Service, tasks: Tasks) -> Arc<Self> {
        Arc::new(Self {
            service: Service {
                // The gateway itself is the caller, and it is inside.
                reach: Reach::Internal,
                ..service
            },
            running: AtomicUsize::new(0),
            limiters: Mutex::default(),
            callbacks: Callbacks::new(),
            to_urls: Arc::new(QueuedFunction {
                settings: callback::settings(),
                annotations: QueueAnnotations::default(),
            }),
            tasks,
        })
    }

    /// Takes jobs until it is to stop. Those that run end by themselves, or run
    /// again after the next start.
    pub async fn run(self: Arc<Self>) {
        let stop = self.tasks.draining().clone();
        let working = async {
            futures_util::join!(self.take(), self.tend());
        };
        tokio::select! {
            () = working => {}
            () = stop.cancelled() => {}
        }
    }

    async fn take(self: &Arc<Self>) {
        let queue = Arc::clone(&self.service.current.get().queue);
        loop {
            let claimed = queue.next(&**self).await;
            self.running.fetch_add(1, Ordering::SeqCst);
            let worker = Arc::clone(self);
            self.tasks.spawn(async move {
                worker.work(claimed).await;
            });
        }
    }

    async fn tend(&self) {
        let mut sweep = tokio::time::interval(SWEEP);
        let mut count = tokio::time::interval(COUNT);
        loop {
            tokio::select! {
                _ = sweep.tick() => self.sweep().await,
                _ = count.tick() => self.count().await,
            }
        }
    }

    /// Shows how many jobs there are.
    async fn count(&self) {
        let snapshot = self.service.current.get();
        match snapshot.queue.counts().await {
            Ok(counts) => {
                let mut jobs = BTreeMap::new();
                for count in counts {
                    let label = snapshot.metrics.bounded_label(&count.function);
                    *jobs.entry((label, count.state.as_str())).or_default() += count.jobs;
                }
                snapshot.metrics.kept().count(jobs);
            }
            Err(error) => tracing::debug!(%error, "asynchronous calls not counted"),
        }
    }

    async fn work(&self, Claimed { job, tries, lost }: Claimed) {
        let snapshot = self.service.current.get();
        let queue = Arc::clone(&snapshot.queue);
        let queued = match job.target {
            Target::Function => queued::of(&snapshot, &job.function).await,
            Target::Url(_) => Arc::clone(&self.to_urls),
        };
        // What the function says of itself is not its time.
        let (number, started, began) = (tries + 1, Utc::now(), Instant::now());
        let settings = &queued.settings;
        let kept = snapshot.metrics.kept();
        let channel = &snapshot.config.queue.nats_channel;
        let under_way = (job.target == Target::Function && lost.is_none())
            .then(|| kept.begins(channel, snapshot.metrics.bounded_label(&job.function)));
        let went = if let Some(why) = lost {
            Some(Tried::lost(&job, why))
        } else {
            tokio::select! {
                tried = self.attempt(&snapshot, &job, number, settings) => Some(tried),
                () = queue.cancelled(&job.id) => None,
            }
        };
        let tried = Timed {
            number,
            started,
            took: began.elapsed(),
        };
        drop(under_way);
        let finished = match went {
            None => tried.cancelled(),
            Some(went) => self.finished(&snapshot, &job, settings, (went, tried)),
        };
        let state = match &finished.then {
            Then::End(state) => Some(*state),
            Then::Again(_) => None,
        };
        match (&job.target, state) {
            (Target::Function, state) => kept.tried(channel, state.unwrap_or(State::Retrying).as_str(), tried.took),
            (Target::Url(_), Some(state)) => kept.callback(callback::result(state)),
            (Target::Url(_), None) => {}
        }
        let (function, then) = (&job.function, &finished.then);
        tracing::debug!(id = job.id, %function, number, ?then, "asynchronous call tried");
        // Its place is free when the queue looks for the next.
        self.running.fetch_sub(1, Ordering::SeqCst);
        if let Err(error) = queue.finish(&job.id, finished).await {
            tracing::error!(id = job.id, %error, "the end of an asynchronous call was not kept; it will be made again");
        }
    }

    /// What a try makes of its job.
    fn finished(&self, snapshot: &Snapshot, job: &Job, settings: &Settings, (went, tried): (Tried, Timed)) -> Finished {
        let now = Utc::now();
        let status = went.outcome.status;
        if job.target == Target::Function {
            let most = most(snapshot, &job.function);
            self.limiters()
                .entry(job.function.clone())
                .or_default()
                .answered(status, most);
        }
        let then = if went.refused {
            Then::End(State::Failed)
        } else {
            let taken = (tried.number, job.created);
            retry::decide(&settings.policy, went.outcome, taken, now, rand::random())
        };
        let follow = match &then {
            Then::End(state) => {
                let ended = Ended {
                    job,
                    state: *state,
                    answer: went.answer.as_ref(),
                    started: tried.started,
                    took: tried.took,
                    tries: (tried.number, settings.policy.attempts),
                    now,
                };
                follow::after(&ended, settings)
            }
            Then::Again(_) => Follow::default(),
        };
        if let Some(destination) = &follow.refused {
            let (id, function) = (&job.id, &job.function);
            snapshot.metrics.kept().refused();
            tracing::warn!(id, %function, ?destination, "the answer goes no further: it went on too often");
        }
        if !follow.jobs.is_empty() && went.answer.as_ref().is_some_and(|answer| answer.truncated) {
            let (id, function) = (&job.id, &job.function);
            tracing::warn!(id, %function, "the answer is longer than queue.max_body; what goes on of it is cut off");
        }
        let most = snapshot.config.queue.max_result.0;
        Finished {
            attempt: tried.attempt(status, went.error),
            answer: went.answer.map(|answer| follow::shortened(answer, most)),
            then,
            follow: follow.jobs,
        }
    }

    /// Makes the call once, or tells its URL.
    async fn attempt(&self, snapshot: &Arc<Snapshot>, job: &Job, number: u32, settings: &Settings) -> Tried {
        let attempt = async {
            match &job.target {
                Target::Function => self.call(snapshot, job, number, settings).await,
                Target::Url(url) => self.callbacks.deliver(&snapshot.config, url, job).await,
            }
        };
        let attempted = AssertUnwindSafe(attempt).catch_unwind().await;
        attempted.unwrap_or_else(|_| {
            tracing::error!(id = job.id, "a try of an asynchronous call panicked");
            Tried::unanswered("the gateway failed to make the call".to_owned())
        })
    }

    /// Makes the call once.
    async fn call(&self, snapshot: &Arc<Snapshot>, job: &Job, number: u32, settings: &Settings) -> Tried {
        let failed = Tried::unanswered;
        let request = match request(job, number, settings.policy.attempts) {
            Ok(request) => request,
            Err(error) => return failed(format!("the call cannot be made: {error}")),
        };
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let record = Record::new(snapshot, Kind::Async, &request, peer, Instant::now());
        let answer = invoke::call(
            Arc::clone(snapshot),
            &self.service,
            Box::new(request),
            &Called::ByName,
            record,
            peer,
            Form::Text,
        )
        .await;
        let queue = &snapshot.config.queue;
        // Where it goes further, it goes whole.
        let most = if job.callback.is_some() || settings.has_destination() {
            queue.max_result.0.max(queue.max_body.0)
        } else {
            queue.max_result.0
        };
        match kept(answer, most).await {
            Ok((answer, retry_after, is_internal)) => Tried {
                outcome: Outcome {
                    status: Some(answer.status),
                    is_internal,
                    retry_after,
                },
                error: is_internal.then(|| String::from_utf8_lossy(&answer.body).trim().to_owned()),
                answer: Some(answer),
                refused: false,
            },
            Err(error) => failed(error),
        }
    }

    /// Forgets what has ended long ago.
    async fn sweep(&self) {
        let snapshot = self.service.current.get();
        let queue = &snapshot.config.queue;
        let before = |time: Duration| Utc::now() - TimeDelta::from_std(time).unwrap_or(TimeDelta::days(36500));
        let forgotten = snapshot
            .queue
            .forget(before(queue.result_ttl), before(queue.dead_ttl))
            .await;
        match forgotten {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "results of asynchronous calls forgotten"),
            Err(error) => tracing::warn!(%error, "results of asynchronous calls not forgotten"),
        }
        let waiting = snapshot.queue.waiting();
        self.limiters().retain(|function, _| waiting.contains_key(function));
    }

    fn limiters(&self) -> MutexGuard<'_, HashMap<FunctionRef, Limiter>> {
        self.limiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Allowed for Worker {
    fn allowed(&self, lane: &Lane) -> usize {
        let snapshot = self.service.current.get();
        let queue = &snapshot.config.queue;
        if self.running.load(Ordering::SeqCst) >= queue.concurrency as usize {
            return 0;
        }
        let function = match lane {
            Lane::Function(function) => function,
            Lane::Host(_) => return queue.function_concurrency as usize,
            Lane::All => return queue.concurrency as usize,
        };
        let most = most(&snapshot, function);
        let limiters = self.limiters();
        limiters.get(function).copied().unwrap_or_default().limit(most)
    }

    fn free(&self) -> usize {
        let all = self.service.current.get().config.queue.concurrency as usize;
        all.saturating_sub(self.running.load(Ordering::SeqCst))
    }
}

/// Most jobs of a function at a time: no more than calls that it may have.
fn most(snapshot: &Snapshot, function: &FunctionRef) -> usize {
    let queue = &snapshot.config.queue;
    let own = snapshot.config.function(function).in_flight.map(|limit| limit.calls);
    own.unwrap_or(usize::MAX).min(queue.function_concurrency as usize)
}

fn request(job: &Job, number: u32, attempts: u32) -> Result<Request<RequestBody>, http::Error> {
    let query = if job.query.is_empty() {
        String::new()
    } else {
        format!("?{}", job.query)
    };
    let uri = format!("/function/{}{}{query}", job.function, job.path);
    let mut request = Request::builder().method(Method::POST).uri(uri);
    if let Some(headers) = request.headers_mut() {
        headers.extend(fields::map(&job.headers));
        headers.insert(RETRY, HeaderValue::from(number));
        headers.insert(RETRY_MAX, HeaderValue::from(attempts));
    }
    request.body(RequestBody::Kept(Full::new(job.body.clone())))
}

/// An answer to its end, what it says of when to try again, and whether it is the
/// gateway's own. Of the body no more than `most` bytes are kept.
async fn kept(response: Response<Body>, most: u64) -> Result<(Answer, Option<Duration>, bool), String> {
    let (mut parts, mut body) = response.into_parts();
    let retry_after = retry::retry_after_of(&parts.headers, Utc::now());
    let is_internal = parts.headers.contains_key(INTERNAL_HEADER);
    let (mut bytes, mut truncated) = (BytesMut::new(), false);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("the answer broke off: {error}"))?;
        let Some(data) = frame.data_ref() else { continue };
        let room = usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(bytes.len());
        truncated |= data.len() > room;
        bytes.extend_from_slice(&data[..data.len().min(room)]);
    }
    headers::strip_hop_by_hop(&mut parts.headers);
    let answer = Answer {
        status: parts.status.as_u16(),
        headers: fields::of(&parts.headers),
        body: Bytes::from(bytes),
        truncated,
    };
    Ok((answer, retry_after, is_internal))
}
