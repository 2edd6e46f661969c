//! A plain call: from the bytes of its head to its function and back.
//!
//! What may be called, what limits say and how failures are told is the same as
//! on the base lane ([`crate::server::invoke`]) and asked in the same places.

use std::{ops::Range, sync::Arc, time::SystemTime};

use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue};
use tokio::{io::AsyncWriteExt, time::Instant};

use super::{
    Caller, Left, date,
    exchange::{Asked, Bounds, Ended, Exchange},
    transfer::Transfer,
};
use crate::{
    policy::{Pass, Policy, Turn},
    problem::{Form, Problem},
    proxy::{
        self, ForwardError,
        body::{Deadline, Observe},
        fast::{
            body::Body,
            write::{self, Target},
        },
        headers::{self, CallHeaders},
        target,
    },
    scaling,
    server::{access_log::Record, invoke, spans::Wait},
    snapshot::{CalledFunction, Snapshot},
    upstream::{Address, PathForm, PlainConnection, SendError, Upstream},
};

/// A call that has not begun.
pub(super) struct Call {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) function: Arc<CalledFunction>,
    pub(super) record: Record,
    pub(super) asked: Asked,
    pub(super) request: Request,
    /// How the caller wants to be told of a problem.
    pub(super) form: Form,
}

/// The request, whose head is still at the beginning of what the caller sent.
pub(super) struct Request {
    /// Length of its method there, in bytes.
    pub(super) method: usize,
    /// Length of its target, which is behind the method and a space.
    pub(super) target: usize,
    /// Place of its host.
    pub(super) host: Range<usize>,
    /// Length of the head.
    pub(super) length: usize,
    /// What the function sees of the target.
    pub(super) path: FunctionPath,
    /// The header fields that the function gets, written.
    pub(super) fields: Vec<u8>,
    /// The body that follows.
    pub(super) body: Body,
}

/// A target of the form `/function/NAME[/rest][?query]`.
pub(super) enum FunctionPath {
    /// The caller's own.
    AsSent {
        /// Length of the base path before it.
        skip: usize,
        /// Length of the name.
        name: usize,
    },
    /// A route's.
    Rewritten {
        /// The whole of it.
        target: String,
        /// Length of the name.
        name: usize,
    },
}

/// What follows a call on the caller's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Another request.
    Next,
    /// Its end, in a way that lets the caller read its answer.
    Close,
    /// Nothing: it is broken, or has to break for the caller to know.
    Cut,
}

/// Why a call ended without an answer of its function.
enum Unanswered {
    /// Its caller is told of a problem.
    Problem(Problem),
    /// Nobody waits for it any more.
    Left,
}

impl From<Problem> for Unanswered {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<Left> for Unanswered {
    fn from(_: Left) -> Self {
        Self::Left
    }
}

/// A function's connection and the request for it.
struct Started {
    upstream: Upstream,
    connection: PlainConnection,
    up: Transfer,
}

impl Call {
    /// Makes the call and answers it. What most calls never do has memory of its own:
    /// hundreds of calls wait at once, and what they keep has to fit into the processor's cache.
    pub(super) async fn run(mut self: Box<Self>, caller: &mut Caller, stopping: bool) -> Then {
        let mut pass = None;
        match self.forward(caller, &mut pass, stopping).await {
            Ok(then) => then,
            Err(Unanswered::Left) => {
                self.record.outcome(None, 0, false);
                Then::Cut
            }
            Err(Unanswered::Problem(problem)) => {
                if let Some(pass) = pass {
                    // What else there is was the caller's doing, or ours.
                    match problem.status {
                        502 | 504 => pass.unanswered(),
                        _ => drop(pass),
                    }
                }
                self.refuse(caller, problem, stopping).await
            }
        }
    }

    async fn forward(
        &mut self,
        caller: &mut Caller,
        pass: &mut Option<Pass>,
        stopping: bool,
    ) -> Result<Then, Unanswered> {
        let function = Arc::clone(&self.function);
        if let Some(policy) = &function.policy {
            *pass = self.admit(policy, caller).await?;
        }
        let Started {
            mut upstream,
            mut connection,
            mut up,
        } = self.start(caller).await?;
        let bounds = self.bounds();
        loop {
            let in_flight = upstream.endpoint.begin();
            let mut exchange = Exchange::new(caller, &self.asked, &bounds, &mut up, connection, stopping);
            let ended = exchange.run(&upstream.endpoint).await;
            let used = exchange.into_connection();
            let outcome = match &ended {
                Ended::Answered { status, .. } | Ended::BrokenOff(status, _) | Ended::Left(Some(status), _) => {
                    Some(Ok(*status))
                }
                Ended::Failed(error) => Some(Err(error)),
                Ended::Stale | Ended::Left(None, _) => None,
            };
            if let Some(outcome) = outcome {
                proxy::note(&function.settings, &upstream.endpoint, outcome);
                self.record.tried(outcome);
            }
            let answered = |pass: &mut Option<Pass>, status| {
                if let Some(pass) = pass.take() {
                    pass.answered(status);
                }
            };
            match ended {
                Ended::Answered {
                    status,
                    bytes,
                    keeps,
                    close,
                } => {
                    if keeps {
                        upstream.endpoint.keep_plain(used);
                    }
                    answered(pass, status);
                    self.record.outcome(Some(status), bytes, true);
                    return Ok(if close { Then::Close } else { Then::Next });
                }
                Ended::BrokenOff(status, bytes) => {
                    answered(pass, status);
                    self.record.outcome(Some(status), bytes, false);
                    return Ok(Then::Cut);
                }
                Ended::Left(status, bytes) => {
                    if let Some(status) = status {
                        answered(pass, status);
                    }
                    self.record.outcome(status, bytes, false);
                    return Ok(Then::Cut);
                }
                Ended::Failed(error) => {
                    self.request.body = match &error {
                        // Nothing that could be read, or would come soon.
                        ForwardError::Unreadable(_) | ForwardError::ReceiveTimeout(_) => Body::UntilClose,
                        _ => up.into_rest(),
                    };
                    return Err(self.told(Problem::from(error)).into());
                }
                Ended::Stale => {
                    drop((used, in_flight));
                    up.start_over();
                    (upstream, connection) = self.connect(caller, Some(upstream)).await?;
                }
            }
        }
    }

    /// Returns when the call may go on, and holds its slot in the record.
    async fn admit(&mut self, policy: &Policy, caller: &mut Caller) -> Result<Option<Pass>, Unanswered> {
        let length = self.request.body.known_length().filter(|length| *length > 0);
        let admitted = match policy.check(length, &HeaderMap::new(), caller.peer.ip()) {
            Ok(pass) => match policy.turn() {
                Turn::Free => Ok((pass, None)),
                Turn::Now(slot) => Ok((pass, Some(slot))),
                Turn::Later(queue) => {
                    let since = self.record.watch();
                    let queued = Box::pin(caller.while_here(policy.queued(&queue))).await;
                    self.record.waited(Wait::Turn, since);
                    let queued = queued?;
                    queued.map(|slot| (pass, Some(slot)))
                }
            },
            Err(refused) => Err(refused),
        };
        match admitted {
            Ok((pass, slot)) => {
                self.record.hold(slot);
                Ok(pass)
            }
            Err(refused) => {
                if let Some(metrics) = &self.function.metrics {
                    self.record.refused(metrics, refused.why.reason());
                }
                Err(self.told(Problem::from(refused)).into())
            }
        }
    }

    /// Waits for a replica where there is none, connects to one, and turns the
    /// caller's request into the one it gets.
    async fn start(&mut self, caller: &mut Caller) -> Result<Started, Unanswered> {
        if let Some(upstream) = self.at_once() {
            self.count(self.asked.called);
            if let Some(connection) = upstream.endpoint.take_plain() {
                let up = self.compose(caller, &upstream);
                return Ok(Started {
                    upstream,
                    connection,
                    up,
                });
            }
        } else {
            let policy = scaling::Policy {
                activation: self.function.settings.activation,
                ..self.snapshot.policy
            };
            let since = self.record.watch();
            let ready = self.snapshot.scaling.ensure(&self.function.function, policy);
            let ready = Box::pin(caller.while_here(ready)).await;
            self.record.waited(Wait::Activation, since);
            let waited = ready?.map_err(|error| invoke::unavailable(&self.function.function, error))?;
            if let Some((waited, metrics)) = waited.zip(self.function.metrics.as_ref()) {
                metrics.activated(waited);
            }
            self.asked.called = Instant::now();
            self.count(self.asked.called);
        }
        let (upstream, connection) = self.connect(caller, None).await?;
        let up = self.compose(caller, &upstream);
        Ok(Started {
            upstream,
            connection,
            up,
        })
    }

    fn count(&mut self, since: Instant) {
        if let Some(metrics) = &self.function.metrics {
            self.record.count(metrics, since);
        }
    }

    /// Where a function is called that is known to be ready.
    fn at_once(&self) -> Option<Upstream> {
        let Snapshot {
            scaling,
            provider,
            policy,
            ..
        } = &*self.snapshot;
        let function = &self.function.function;
        if !scaling.is_warm(function, *policy) {
            return None;
        }
        provider.upstream(function).ok()
    }

    /// A connection to a replica: one that is idle, unless `stale` had such a
    /// one, or a new one, to another replica where the first cannot be reached.
    fn connect<'c>(
        &'c mut self,
        caller: &'c mut Caller,
        stale: Option<Upstream>,
    ) -> BoxFuture<'c, Result<(Upstream, PlainConnection), Unanswered>> {
        Box::pin(self.connected(caller, stale))
    }

    async fn connected(
        &mut self,
        caller: &mut Caller,
        stale: Option<Upstream>,
    ) -> Result<(Upstream, PlainConnection), Unanswered> {
        let mut fresh = stale.is_some();
        let mut next = stale;
        let (mut tries, mut skipped) = (0, 0);
        let due = self.connect_deadline();
        let choose = || self.snapshot.provider.upstream(&self.function.function);
        loop {
            let upstream = match next.take() {
                Some(upstream) => upstream,
                None => choose().map_err(|error| invoke::unavailable(&self.function.function, error))?,
            };
            let kept = if fresh { None } else { upstream.endpoint.take_plain() };
            if let Some(connection) = kept {
                return Ok((upstream, connection));
            }
            self.record.trying(upstream.endpoint.address());
            let opened = tokio::time::timeout_at(due.at, upstream.endpoint.open_plain(fresh));
            let error = match caller.while_here(opened).await? {
                Ok(Ok(connection)) => return Ok((upstream, connection)),
                Ok(Err(error)) => ForwardError::Unreachable(SendError::Connect(error)),
                Err(_) => ForwardError::AnswerTimeout(due.passed),
            };
            proxy::note(&self.function.settings, &upstream.endpoint, Err(&error));
            self.record.tried(Err(&error));
            fresh = false;
            next = proxy::elsewhere(&error, skipped, choose);
            if next.is_some() {
                skipped += 1;
                self.record.retried();
                continue;
            }
            let Some(pause) = proxy::connect_again(&error, tries) else {
                return Err(self.told(Problem::from(error)).into());
            };
            tries += 1;
            self.record.retried();
            tokio::time::sleep(pause).await;
        }
    }

    fn connect_deadline(&self) -> Deadline {
        let answer = self.bounds().answer;
        match self.function.settings.first_byte {
            Some(bound) if self.request.body.is_ended() => {
                answer.or_earlier(Deadline::new(Instant::now(), bound.after, bound.setting))
            }
            _ => answer,
        }
    }

    fn bounds(&self) -> Bounds {
        let (server, settings, called) = (&self.snapshot.config.server, &self.function.settings, self.asked.called);
        Bounds {
            receive: Deadline::new(called, server.read_timeout, "server.read_timeout"),
            answer: Deadline::new(called, settings.total.after, settings.total.setting).or_earlier(Deadline::new(
                called,
                server.write_timeout,
                "server.write_timeout",
            )),
            first_byte: settings.first_byte,
            idle: settings.idle,
            write: server.write_timeout,
            max_response: settings.max_response,
        }
    }

    /// The request as the function gets it; the caller's head is used up.
    fn compose(&mut self, caller: &mut Caller, upstream: &Upstream) -> Transfer {
        let Request {
            method,
            target,
            host,
            length,
            path,
            fields,
            body,
        } = &mut self.request;
        let head = &caller.input.unread()[..*length];
        let sent = str::from_utf8(&head[*method + 1..][..*target]).unwrap_or_default();
        let (whole, name) = match path {
            FunctionPath::AsSent { skip, name } => (&sent[*skip..], *name),
            FunctionPath::Rewritten { target, name } => (&**target, *name),
        };
        let to = match &upstream.path {
            PathForm::Full { base } => Target { base, rest: whole },
            PathForm::Trimmed => Target {
                base: "",
                rest: &whole[target::FUNCTION_PREFIX.len() + name..],
            },
        };
        let trace = self.record.sent_to(upstream.endpoint.address(), || to.path());
        let host = match upstream.endpoint.address() {
            // A socket file has no name of its own, so the function sees the caller's.
            Address::Unix(_) => &head[host.clone()],
            Address::Tcp { .. } => upstream.endpoint.host().as_bytes(),
        };
        let mut out = Vec::with_capacity(fields.len() + whole.len() + 256);
        write::start(&mut out, &head[..*method], to, host, trace);
        out.append(fields);
        let body = std::mem::replace(body, Body::Ended);
        caller.input.consume(std::mem::take(length));
        Transfer::new(out, body, self.function.settings.max_request)
    }

    /// A problem, in words that name the function.
    fn told(&self, problem: Problem) -> Problem {
        Problem {
            detail: format!("function {}: {}", self.function.function, problem.detail),
            ..problem
        }
    }

    /// Answers with a problem. What is left of the request's body is passed over,
    /// as on the base lane; else the connection ends.
    fn refuse(self: Box<Self>, caller: &mut Caller, problem: Problem, stopping: bool) -> BoxFuture<'_, Then> {
        Box::pin(self.refused(caller, problem, stopping))
    }

    async fn refused(mut self: Box<Self>, caller: &mut Caller, problem: Problem, stopping: bool) -> Then {
        let mut response = problem.response(self.form);
        let text = |bytes: &[u8]| HeaderValue::from_bytes(bytes).unwrap_or(HeaderValue::from_static(""));
        let told = CallHeaders {
            call_id: text(self.asked.line.id()),
            start_time: HeaderValue::from(self.asked.line.start()),
            request_changes: None,
        };
        headers::complete(response.headers_mut(), &told);
        caller.input.consume(self.request.length);
        let passed_over = caller.pass_over(&mut self.request.body).await;
        let close = self.asked.close || stopping || !passed_over;
        let mut out = Vec::with_capacity(1024);
        date::with(SystemTime::now(), |date| {
            write::whole(&mut out, &response, date, close, !self.asked.is_head);
        });
        self.record.outcome(Some(problem.status), 0, true);
        let bound = self.snapshot.config.server.write_timeout;
        drop(self);
        let written = async {
            caller.socket.write_all(&out).await?;
            caller.socket.flush().await
        };
        match tokio::time::timeout(bound, written).await {
            Ok(Ok(())) if close => Then::Close,
            Ok(Ok(())) => Then::Next,
            _ => Then::Cut,
        }
    }
}
