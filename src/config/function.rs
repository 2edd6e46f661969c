//! What the settings of one function come to.
//!
//! `[functions."*"]` is the base, the function's own table is above it, and
//! above both the route that led to the function, key by key. A key names a
//! function as a URL does: without a namespace it is the function of the
//! default namespace. Pure; the defaults of everything that can be turned on
//! for a function are in [`table`].

use std::{fmt, ops::RangeInclusive, time::Duration};

use http::{HeaderName, HeaderValue, Method};

use super::{
    Config,
    calls::{
        Algorithm, BodyLimits, Function, FunctionQueue, FunctionScaling, Retries, Route, Scheduled, Timeouts,
        UpstreamProtocol,
    },
    check::EVERY_FUNCTION,
    level::{Key, Level, Tables, key},
    ratio::Ratio,
    size::Size,
};
use crate::model::FunctionRef;

mod table;

pub(super) use table::retries;

use table::{breaker, changes, compression, cors, rate_limit};

/// Most tries beyond the first.
pub(super) const MOST_ATTEMPTS: u32 = 10;

/// Statuses that can be failures.
pub(super) const FAILURES: RangeInclusive<u16> = 400..=599;

/// A time bound and the key that sets it, for telling a caller which one fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// How long.
    pub after: Duration,
    /// The key; the name of the function in it is written `NAME`.
    pub setting: &'static str,
}

/// A bound on a body and the key that sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeBound {
    /// How many bytes.
    pub bytes: u64,
    /// The key; the name of the function in it is written `NAME`.
    pub setting: &'static str,
}

/// The keys that set a function's limits, for telling a caller which one it ran
/// into. Not among the limits themselves: a limit that moves to another table
/// is the same limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LimitKeys {
    /// Of [`InFlightLimit::calls`].
    pub max_in_flight: &'static str,
    /// Of [`InFlightLimit::queued`].
    pub max_queued: &'static str,
    /// Of [`InFlightLimit::wait`].
    pub queue_timeout: &'static str,
    /// Of the rate limit.
    pub rate_limit: &'static str,
    /// Of the breaker.
    pub breaker: &'static str,
}

/// What applies to the calls of one function.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionSettings {
    /// Bound on the function's whole answer.
    pub total: Bound,
    /// Bound on the beginning of the answer, for each try.
    pub first_byte: Option<Bound>,
    /// Bound on silence while the answer is sent.
    pub idle: Option<Bound>,
    /// Bound on waiting for a replica.
    pub activation: Bound,
    /// Largest request body.
    pub max_request: Option<SizeBound>,
    /// Largest response body.
    pub max_response: Option<SizeBound>,
    /// Bound on calls under way.
    pub in_flight: Option<InFlightLimit>,
    /// Bound on calls in a time.
    pub rate_limit: Option<RateLimitSettings>,
    /// When to try again.
    pub retries: Option<RetrySettings>,
    /// What the file says about retries, where the function's annotations may
    /// say the rest ([`FunctionSettings::annotate`]).
    pub annotated: Option<Box<Retries>>,
    /// When to stop calling.
    pub breaker: Option<BreakerSettings>,
    /// Changes of the request's headers.
    pub request_headers: HeaderChanges,
    /// Changes of the response's headers.
    pub response_headers: HeaderChanges,
    /// Calls from web pages of other origins.
    pub cors: Option<CorsSettings>,
    /// Compressing answers.
    pub compression: Option<CompressionSettings>,
    /// Whether only the internal listener leads to it.
    pub internal: bool,
    /// The protocol that the file says it is called in.
    pub protocol: Option<UpstreamProtocol>,
    /// The protocol that the function says it is called in; only where the file
    /// says none ([`FunctionSettings::annotate`]).
    pub own_protocol: Option<UpstreamProtocol>,
    /// Where its limits are set.
    pub keys: LimitKeys,
}

/// Bound on calls under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InFlightLimit {
    /// Calls at a time; at least 1.
    pub calls: usize,
    /// Calls that wait beyond those.
    pub queued: usize,
    /// How long each waits.
    pub wait: Duration,
}

/// Whose calls are counted together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RateBy {
    /// All calls of the function.
    Function,
    /// Those of one client address.
    Client,
    /// Those with the same value of this header; those without it are one.
    Header(HeaderName),
}

/// Bound on calls in a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimitSettings {
    /// How many; at least 1.
    pub requests: u32,
    /// In how long; more than zero.
    pub per: Duration,
    /// How many at once; at least 1.
    pub burst: u32,
    /// Whose.
    pub by: RateBy,
}

/// When to try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetrySettings {
    /// More tries after the first; at least 1.
    pub attempts: u32,
    /// Statuses that are tried again.
    pub statuses: Vec<u16>,
    /// Methods that may be sent twice.
    pub methods: Vec<Method>,
    /// Share of the calls that may be tried again.
    pub budget: Ratio,
    /// First wait.
    pub backoff: Duration,
    /// Longest wait.
    pub backoff_max: Duration,
    /// Largest request body that is kept, in bytes.
    pub max_body: u64,
}

/// When to stop calling what fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures in a row; at least 1.
    pub failures: u32,
    /// Statuses that are failures.
    pub statuses: Vec<u16>,
    /// First time of being open.
    pub open: Duration,
    /// Longest time of being open.
    pub open_max: Duration,
    /// Trial calls; at least 1.
    pub trials: u32,
}

/// Changes of headers; removing comes first.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    /// To set, in place of what is there.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// To remove.
    pub remove: Vec<HeaderName>,
}

/// Without the values, which may be credentials.
impl fmt::Debug for HeaderChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set: Vec<_> = self.set.iter().map(|(name, _)| name).collect();
        f.debug_struct("HeaderChanges")
            .field("set", &set)
            .field("remove", &self.remove)
            .finish()
    }
}

impl HeaderChanges {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }
}

/// Calls from web pages of other origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorsSettings {
    /// Origins as written, at least one: `https://app.example`, `https://*.example`, `*`.
    pub origins: Vec<String>,
    /// Methods; `None` is any.
    pub methods: Option<Vec<Method>>,
    /// Request headers; `None` is those asked for.
    pub headers: Option<Vec<HeaderName>>,
    /// Response headers that pages may read.
    pub expose: Vec<HeaderName>,
    /// Whether credentials may be sent.
    pub credentials: bool,
    /// How long browsers may remember.
    pub max_age: Option<Duration>,
}

/// Compressing answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompressionSettings {
    /// Ways, the preferred first; at least one.
    pub algorithms: Vec<Algorithm>,
    /// Smallest answer, in bytes.
    pub min_size: u64,
    /// Media types in lower case, exact or as `text/*`.
    pub types: Vec<String>,
}

impl Config {
    /// The settings that apply to a function.
    pub fn function(&self, function: &FunctionRef) -> FunctionSettings {
        self.function_on_route(function, None)
    }

    /// The settings that apply to a function when `route` led to it.
    pub fn function_on_route(&self, function: &FunctionRef, route: Option<&Route>) -> FunctionSettings {
        let mut settings = self.settings(&Tables {
            route: route.map(route_table),
            own: self.own_settings(function).map(|(_, table)| table),
            every: self.functions.get(EVERY_FUNCTION),
        });
        settings.internal = self.is_internal(function);
        settings
    }

    /// What the tables say about the replicas of a function, and its schedule.
    pub fn scaling_of(&self, function: &FunctionRef) -> (Option<FunctionScaling>, Vec<Scheduled>) {
        let table = self.tables_of(function).merged();
        table.map_or_else(Default::default, |table| {
            (table.scaling, table.schedule.unwrap_or_default())
        })
    }

    /// What the tables say about the asynchronous calls of a function.
    pub fn queue_of(&self, function: &FunctionRef) -> FunctionQueue {
        let table = self.tables_of(function).merged();
        table
            .and_then(|table| table.queue)
            .unwrap_or_else(FunctionQueue::nothing)
    }

    /// The tables that are about a function, however it is called.
    fn tables_of(&self, function: &FunctionRef) -> Tables<'_> {
        Tables {
            route: None,
            own: self.own_settings(function).map(|(_, table)| table),
            every: self.functions.get(EVERY_FUNCTION),
        }
    }

    /// The settings that apply to a function that no table names.
    pub fn other_functions(&self) -> FunctionSettings {
        self.settings(&Tables {
            route: None,
            own: None,
            every: self.functions.get(EVERY_FUNCTION),
        })
    }

    fn settings(&self, tables: &Tables) -> FunctionSettings {
        settings(
            tables,
            FunctionSettings {
                total: Bound {
                    after: self.invoke.upstream_timeout,
                    setting: "invoke.upstream_timeout",
                },
                activation: Bound {
                    after: self.scaling.activation_timeout,
                    setting: "scaling.activation_timeout",
                },
                ..FunctionSettings::none()
            },
        )
    }
}

/// What a route says, in the form of a function's table.
pub(super) fn route_table(route: &Route) -> Function {
    Function {
        timeouts: route.timeouts.clone(),
        body: route.body.clone(),
        retries: route.retries.clone(),
        headers: route.headers.clone(),
        cors: route.cors.clone(),
        compression: route.compression.clone(),
        ..Function::nothing()
    }
}

impl Route {
    /// What it says by itself, for answers that come from no function.
    pub fn alone(&self) -> FunctionSettings {
        let tables = Tables {
            route: Some(route_table(self)),
            own: None,
            every: None,
        };
        settings(&tables, FunctionSettings::none())
    }
}

impl Function {
    /// A table without a key.
    pub(super) fn nothing() -> Self {
        Self {
            timeouts: None,
            body: None,
            max_in_flight: None,
            max_queued: None,
            queue_timeout: None,
            rate_limit: None,
            retries: None,
            breaker: None,
            headers: None,
            cors: None,
            compression: None,
            visibility: None,
            upstream_protocol: None,
            scaling: None,
            schedule: None,
            queue: None,
        }
    }
}

impl FunctionSettings {
    /// Nothing turned on.
    pub(crate) fn none() -> Self {
        let bound = Bound {
            after: Duration::MAX,
            setting: "",
        };
        Self {
            total: bound,
            first_byte: None,
            idle: None,
            activation: bound,
            max_request: None,
            max_response: None,
            in_flight: None,
            rate_limit: None,
            retries: None,
            annotated: None,
            breaker: None,
            request_headers: HeaderChanges::default(),
            response_headers: HeaderChanges::default(),
            cors: None,
            compression: None,
            internal: false,
            protocol: None,
            own_protocol: None,
            keys: LimitKeys::default(),
        }
    }

    /// Whether its calls may have to be made in HTTP/2.
    pub fn may_be_http2(&self) -> bool {
        self.protocol.or(self.own_protocol) == Some(UpstreamProtocol::H2c)
    }

    /// Takes what has no key of its own to tell about from a table.
    fn apply(&mut self, table: Function) {
        self.in_flight = table
            .max_in_flight
            .filter(|calls| *calls > 0)
            .map(|calls| InFlightLimit {
                calls: calls as usize,
                queued: table.max_queued.unwrap_or(0) as usize,
                wait: table.queue_timeout.unwrap_or(Duration::from_secs(10)),
            });
        self.rate_limit = table.rate_limit.and_then(rate_limit);
        self.annotated = table
            .retries
            .clone()
            .filter(|retries| retries.annotations == Some(true))
            .map(Box::new);
        self.retries = table.retries.and_then(retries);
        self.breaker = table.breaker.and_then(breaker);
        if let Some(headers) = table.headers {
            self.request_headers = headers.request.map(changes).unwrap_or_default();
            self.response_headers = headers.response.map(changes).unwrap_or_default();
        }
        self.cors = table.cors.and_then(cors);
        self.protocol = table.upstream_protocol;
        self.compression = table.compression.and_then(compression);
    }
}

/// What the tables come to; `beneath` has the bounds that they may leave open.
fn settings(tables: &Tables, beneath: FunctionSettings) -> FunctionSettings {
    let time = |key: Key, get: fn(&Timeouts) -> Option<Duration>| {
        let (after, level) = tables.find(|table| get(table.timeouts.as_ref()?))?;
        let setting = key.at(level);
        Some(Bound { after, setting })
    };
    let some_time = |key, get| time(key, get).filter(|bound| !bound.after.is_zero());
    let size = |key: Key, get: fn(&BodyLimits) -> Option<Size>| {
        let (size, level) = tables.find(|table| get(table.body.as_ref()?))?;
        let setting = key.at(level);
        Some(SizeBound { bytes: size.0, setting }).filter(|bound| bound.bytes > 0)
    };
    let mut settings = FunctionSettings {
        total: time(key!("timeouts.total"), |table| table.total).unwrap_or(beneath.total),
        first_byte: some_time(key!("timeouts.first_byte"), |table| table.first_byte),
        idle: some_time(key!("timeouts.idle"), |table| table.idle),
        activation: time(key!("timeouts.activation"), |table| table.activation).unwrap_or(beneath.activation),
        max_request: size(key!("body.max_request"), |table| table.max_request),
        max_response: size(key!("body.max_response"), |table| table.max_response),
        keys: LimitKeys::new(tables),
        ..beneath
    };
    if let Some(table) = tables.merged() {
        settings.apply(table);
    }
    settings
}

impl LimitKeys {
    /// A limit is set where the key is that turns it on; a bound that belongs to
    /// it and is set nowhere is told as if it were set there.
    fn new(tables: &Tables) -> Self {
        let level = |get: fn(&Function) -> Option<u32>| tables.find(get).map(|(_, level)| level);
        let calls = level(|table| table.max_in_flight).unwrap_or(Level::Own);
        let queued = level(|table| table.max_queued).unwrap_or(calls);
        let wait = tables
            .find(|table| table.queue_timeout)
            .map_or(calls, |(_, level)| level);
        let rate = level(|table| table.rate_limit.as_ref()?.requests).unwrap_or(Level::Own);
        let breaker = level(|table| table.breaker.as_ref()?.failures).unwrap_or(Level::Own);
        Self {
            max_in_flight: key!("max_in_flight").at(calls),
            max_queued: key!("max_queued").at(queued),
            queue_timeout: key!("queue_timeout").at(wait),
            rate_limit: key!("rate_limit").at(rate),
            breaker: key!("breaker").at(breaker),
        }
    }
}
