//! What applies to the calls of one function: whether a call may go on now,
//! and what is changed of its headers.
//!
//! A [`Policy`] is resolved once per function and configuration; a function
//! without settings has none. What limits and breakers remember lives longer, in
//! [`States`]. Nothing here calls a function or knows how refusals are told.

use std::{net::IpAddr, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Method, header};
use thiserror::Error;
use tokio::time::Instant;

use crate::{
    config::{FunctionSettings, HeaderChanges, LimitKeys, SizeBound},
    proxy::headers,
};

pub mod breaker;
pub mod cors;
pub mod queue;
pub mod rate;
mod states;

pub use breaker::Pass;
pub use queue::Slot;
pub use states::{Load, Standing, States, Subject};

use breaker::Breaker;
use cors::Cors;
use queue::Queue;
use rate::RateLimit;

/// What applies to the calls of one function.
#[derive(Debug)]
pub struct Policy {
    max_request: Option<SizeBound>,
    keys: LimitKeys,
    rate_limit: Option<Arc<RateLimit>>,
    breaker: Option<Arc<Breaker>>,
    queue: Option<Arc<Queue>>,
    request_changes: Option<Arc<HeaderChanges>>,
    answers: Answers,
}

/// What is changed of answers: a function's, the gateway's own, a route's redirect.
#[derive(Debug, Default)]
pub struct Answers {
    changes: Option<HeaderChanges>,
    cors: Option<Cors>,
}

/// Why a call did not get to its function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refused {
    /// The declared length of the request's body is above the bound.
    #[error("the request's body of {length} bytes is larger than {limit} bytes, the most that is allowed")]
    BodyTooLarge {
        /// Declared, in bytes.
        length: u64,
        /// Allowed, in bytes.
        limit: u64,
    },
    /// The caller's allowance is used up.
    #[error("too many calls; the next one is possible in {} seconds", seconds(*.wait))]
    RateLimit {
        /// Until there is an allowance again.
        wait: Duration,
    },
    /// The function keeps failing.
    #[error("the function keeps failing and is not called for another {} seconds", seconds(*.rest))]
    BreakerOpen {
        /// Until a trial call; zero while one is under way.
        rest: Duration,
    },
    /// Too many calls run, and too many wait.
    #[error("{calls} calls are under way and {queued} wait for their turn, the most that are allowed")]
    QueueFull {
        /// Most calls under way.
        calls: usize,
        /// Most calls that wait.
        queued: usize,
    },
    /// The call waited too long for its turn.
    #[error("{calls} calls are under way, the most that are allowed, and none ended within {waited:?}")]
    QueueTimeout {
        /// Most calls under way.
        calls: usize,
        /// How long it waited.
        waited: Duration,
    },
}

/// A call that was refused, and the configuration key that did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{why}")]
pub struct Refusal {
    /// Why.
    pub why: Refused,
    /// The key; the name of the function in it is written `NAME`.
    pub setting: &'static str,
}

/// Seconds to wait, at least 1.
fn seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

impl Refused {
    /// The reason as metrics name it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::RateLimit { .. } => "rate_limit",
            Self::BreakerOpen { .. } => "breaker_open",
            Self::QueueFull { .. } => "queue_full",
            Self::QueueTimeout { .. } => "queue_timeout",
        }
    }

    /// When trying again makes sense; never for what is too large.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::BodyTooLarge { .. } => None,
            Self::RateLimit { wait } => Some(*wait),
            Self::BreakerOpen { rest } => Some(*rest),
            // Nobody knows when a call ends.
            Self::QueueFull { .. } | Self::QueueTimeout { .. } => Some(Duration::from_secs(1)),
        }
    }
}

/// A call that may go on.
#[derive(Debug)]
pub struct Admitted {
    /// To be told how the call ended.
    pub pass: Option<Pass>,
    /// To be kept until the last byte of the answer.
    pub slot: Option<Slot>,
}

/// Whether it is a call's turn.
#[derive(Debug)]
pub enum Turn {
    /// Calls need no turn.
    Free,
    /// It is; to be kept until the last byte of the answer.
    Now(Slot),
    /// It may have to wait.
    Later(Arc<Queue>),
}

impl Policy {
    /// What the settings come to for a function; `None` is nothing at all.
    /// `generation` is the number of the configuration that they are from.
    pub fn new(
        subject: Subject<'_>,
        settings: &FunctionSettings,
        states: &States,
        generation: u64,
    ) -> Option<Arc<Self>> {
        let used = states.of(subject, settings, generation);
        let policy = Self {
            max_request: settings.max_request,
            keys: settings.keys,
            rate_limit: used.rate_limit,
            breaker: used.breaker,
            queue: used.queue,
            request_changes: permitted(&settings.request_headers).map(Arc::new),
            answers: Answers::new(settings),
        };
        (!policy.is_empty()).then(|| Arc::new(policy))
    }

    fn is_empty(&self) -> bool {
        self.max_request.is_none()
            && self.rate_limit.is_none()
            && self.breaker.is_none()
            && self.queue.is_none()
            && self.request_changes.is_none()
            && self.answers.changes.is_none()
            && self.answers.cors.is_none()
    }

    /// What is changed of answers.
    pub fn answers(&self) -> &Answers {
        &self.answers
    }

    /// Returns when a call with these headers may go on: after the checks that
    /// need no waiting, and when it is its turn. Dropping the future gives up
    /// its turn.
    ///
    /// # Errors
    /// Why it may not.
    pub async fn admit(&self, request: &HeaderMap, client: IpAddr) -> Result<Admitted, Refusal> {
        let pass = self.check(declared_length(request), request, client)?;
        let slot = match self.turn() {
            Turn::Free => None,
            Turn::Now(slot) => Some(slot),
            Turn::Later(queue) => Some(self.queued(&queue).await?),
        };
        Ok(Admitted { pass, slot })
    }

    /// Whether nothing in it looks at headers or changes them, so that calls
    /// need no more than [`Policy::check`] and [`Policy::turn`].
    pub fn is_plain(&self) -> bool {
        self.request_changes.is_none()
            && self.answers.changes.is_none()
            && self.answers.cors.is_none()
            && self.rate_limit.as_ref().is_none_or(|limit| !limit.reads_headers())
    }

    /// The checks that need no waiting, of a call that declares this length.
    ///
    /// # Errors
    /// Why the call may not go on.
    pub fn check(&self, length: Option<u64>, request: &HeaderMap, client: IpAddr) -> Result<Option<Pass>, Refusal> {
        let because = |setting| move |why| Refusal { why, setting };
        if let Some(bound) = self.max_request
            && let Some(length) = length.filter(|length| *length > bound.bytes)
        {
            let limit = bound.bytes;
            return Err(because(bound.setting)(Refused::BodyTooLarge { length, limit }));
        }
        if let Some(rate_limit) = &self.rate_limit {
            rate_limit
                .check(request, client)
                .map_err(|wait| Refused::RateLimit { wait })
                .map_err(because(self.keys.rate_limit))?;
        }
        match &self.breaker {
            Some(breaker) => {
                let admitted = breaker.admit(Instant::now());
                let admitted = admitted.map(Some).map_err(|rest| Refused::BreakerOpen { rest });
                admitted.map_err(because(self.keys.breaker))
            }
            None => Ok(None),
        }
    }

    /// Whether it is a call's turn.
    pub fn turn(&self) -> Turn {
        match &self.queue {
            None => Turn::Free,
            Some(queue) => queue
                .try_turn()
                .map_or_else(|| Turn::Later(Arc::clone(queue)), Turn::Now),
        }
    }

    /// Waits for a call's turn, as [`Queue::turn`] does.
    ///
    /// # Errors
    /// Why it has none.
    pub async fn queued(&self, queue: &Arc<Queue>) -> Result<Slot, Refusal> {
        queue.turn().await.map_err(|why| Refusal {
            why,
            setting: queue_key(&why, &self.keys),
        })
    }

    /// What is changed of the request, as the function sees it.
    pub fn request_changes(&self) -> Option<Arc<HeaderChanges>> {
        self.request_changes.clone()
    }
}

impl Answers {
    /// What the settings say of answers.
    pub fn new(settings: &FunctionSettings) -> Self {
        Self {
            changes: permitted(&settings.response_headers),
            cors: settings.cors.as_ref().map(Cors::new),
        }
    }

    /// Whether pages of other origins are answered.
    pub fn is_cross_origin(&self) -> bool {
        self.cors.is_some()
    }

    /// The headers of the 204 for a preflight request, where the gateway answers those.
    pub fn preflight(&self, method: &Method, request: &HeaderMap) -> Option<HeaderMap> {
        self.cors.as_ref()?.preflight(method, request)
    }

    /// Changes the headers of an answer to a request from `origin`.
    pub fn answer(&self, origin: Option<&HeaderValue>, answer: &mut HeaderMap) {
        if let Some(changes) = &self.changes {
            headers::change(answer, changes);
        }
        if let Some(cors) = &self.cors {
            cors.answer(origin, answer);
        }
    }
}

/// The key of a bound on calls under way.
fn queue_key(why: &Refused, keys: &LimitKeys) -> &'static str {
    match why {
        Refused::QueueTimeout { .. } => keys.queue_timeout,
        // Without a queue it is the calls under way that are too many.
        Refused::QueueFull { queued: 1.., .. } => keys.max_queued,
        _ => keys.max_in_flight,
    }
}

fn permitted(changes: &HeaderChanges) -> Option<HeaderChanges> {
    Some(headers::permitted(changes)).filter(|some| !some.is_empty())
}

/// The length that the request declares, unless it comes in chunks.
fn declared_length(request: &HeaderMap) -> Option<u64> {
    request.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}
