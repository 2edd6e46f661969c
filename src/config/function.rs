//! What the settings of one function come to.
//!
//! `[functions."*"]` is the base, the function's own table is above it, and
//! above both the route that led to the function, key by key. A key names a
//! function as a URL does: without a namespace it is the function of the
//! default namespace. Pure; the defaults of everything that can be turned on
//! for a function are here.

use std::{collections::BTreeMap, fmt, time::Duration};

use http::{HeaderName, HeaderValue, Method};

use super::{
    Config,
    calls::{
        BodyLimits, Breaker, Cors, Function, HeaderEdits, RateKey, RateLimit, Retries, Route, Timeouts, Visibility,
    },
    check::EVERY_FUNCTION,
    ratio::Ratio,
    setting::Setting,
};
use crate::model::FunctionRef;

/// A time bound and the key that sets it, for telling a caller which one fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// How long.
    pub after: Duration,
    /// The key; the name of the function in it is written `NAME`.
    pub setting: &'static str,
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
    /// Largest request body, in bytes.
    pub max_request: Option<u64>,
    /// Largest response body, in bytes.
    pub max_response: Option<u64>,
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
    /// Whether only the internal listener leads to it.
    pub internal: bool,
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

/// Keys of the four time bounds: the route's, the function's own, those of all, and what stands beneath.
struct BoundKeys {
    route: &'static str,
    own: &'static str,
    every: &'static str,
}

macro_rules! bound_keys {
    ($name:literal) => {
        BoundKeys {
            route: concat!("routes.timeouts.", $name),
            own: concat!("functions.\"NAME\".timeouts.", $name),
            every: concat!("functions.\"*\".timeouts.", $name),
        }
    };
}

/// The tables that speak about a function, the strongest first.
struct Tables<'c> {
    route: Option<&'c Timeouts>,
    own: Option<&'c Timeouts>,
    every: Option<&'c Timeouts>,
}

impl Tables<'_> {
    fn bound(&self, keys: &BoundKeys, get: impl Fn(&Timeouts) -> Option<Duration>) -> Option<Bound> {
        [(self.route, keys.route), (self.own, keys.own), (self.every, keys.every)]
            .into_iter()
            .find_map(|(table, setting)| {
                let after = get(table?)?;
                Some(Bound { after, setting })
            })
    }
}

impl Config {
    /// The settings that apply to a function.
    pub fn function(&self, function: &FunctionRef) -> FunctionSettings {
        self.function_on_route(function, None)
    }

    /// The settings that apply to a function when `route` led to it.
    pub fn function_on_route(&self, function: &FunctionRef, route: Option<&Route>) -> FunctionSettings {
        let own = self.own_settings(function).map(|(_, table)| table);
        let every = self.functions.get(EVERY_FUNCTION);
        let table = match (route.map(route_table), own, every) {
            (Some(route), Some(own), every) => {
                let beneath = every.map_or_else(|| own.clone(), |every| own.over(every));
                Some(route.over(&beneath))
            }
            (Some(route), None, Some(every)) => Some(route.over(every)),
            (None, Some(own), Some(every)) => Some(own.over(every)),
            (Some(route), None, None) => Some(route),
            (None, own, every) => own.or(every).cloned(),
        };
        let timeouts = Tables {
            route: route.and_then(|route| route.timeouts.as_ref()),
            own: own.and_then(|own| own.timeouts.as_ref()),
            every: every.and_then(|every| every.timeouts.as_ref()),
        };
        let some = |bound: Option<Bound>| bound.filter(|bound| !bound.after.is_zero());
        let mut settings = FunctionSettings {
            total: timeouts
                .bound(&bound_keys!("total"), |table| table.total)
                .unwrap_or(Bound {
                    after: self.invoke.upstream_timeout,
                    setting: "invoke.upstream_timeout",
                }),
            first_byte: some(timeouts.bound(&bound_keys!("first_byte"), |table| table.first_byte)),
            idle: some(timeouts.bound(&bound_keys!("idle"), |table| table.idle)),
            activation: timeouts
                .bound(&bound_keys!("activation"), |table| table.activation)
                .unwrap_or(Bound {
                    after: self.scaling.activation_timeout,
                    setting: "scaling.activation_timeout",
                }),
            ..FunctionSettings::none()
        };
        if let Some(table) = table {
            settings.apply(table);
        }
        settings
    }

    /// The function's own table and its name there, which may be either form of it.
    pub(super) fn own_settings(&self, function: &FunctionRef) -> Option<(&str, &Function)> {
        if self.functions.is_empty() {
            return None;
        }
        let default_namespace = self.default_namespace();
        let in_default = function.namespace.is_empty() || function.namespace == default_namespace;
        let short = || {
            // A dot in a key begins the namespace, so such a name has no short form.
            (in_default && !function.name.contains('.')).then(|| self.functions.get_key_value(&function.name))?
        };
        let namespace = if function.namespace.is_empty() {
            default_namespace
        } else {
            &function.namespace
        };
        let full = || self.functions.get_key_value(&format!("{}.{namespace}", function.name));
        short().or_else(full).map(|(name, table)| (name.as_str(), table))
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
        ..Function::nothing()
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
            visibility: None,
        }
    }
}

/// The annotation that gives `retries.attempts`.
const RETRY_ATTEMPTS: &str = "com.openfaas.retry.attempts";

/// The annotation that gives `retries.statuses`, separated by commas.
const RETRY_CODES: &str = "com.openfaas.retry.codes";

impl FunctionSettings {
    /// The key of `max_request`, for telling a caller.
    pub const MAX_REQUEST: &str = "body.max_request";
    /// The key of `max_response`.
    pub const MAX_RESPONSE: &str = "body.max_response";

    /// Takes what the file leaves out of `retries` from the function's
    /// annotations, where `retries.annotations` says so.
    ///
    /// Returns what is wrong with them; such a value counts as absent.
    pub fn annotate(&mut self, annotations: &BTreeMap<String, String>) -> Vec<String> {
        let Some(table) = &self.annotated else {
            return Vec::new();
        };
        let mut table = Retries::clone(table);
        let mut mistakes = Vec::new();
        if let (None, Some(text)) = (table.attempts, annotations.get(RETRY_ATTEMPTS)) {
            table.attempts = text.trim().parse().ok();
            if table.attempts.is_none() {
                mistakes.push(format!("{RETRY_ATTEMPTS}: '{text}' is not a number of tries"));
            }
        }
        if let (None, Some(text)) = (&table.statuses, annotations.get(RETRY_CODES)) {
            table.statuses = text.split(',').map(status).collect();
            if table.statuses.is_none() {
                mistakes.push(format!(
                    "{RETRY_CODES}: '{text}' is not a list of statuses such as 502,503"
                ));
            }
        }
        self.retries = retries(table);
        mistakes
    }

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
            internal: false,
        }
    }

    /// Takes everything but the time bounds from a table.
    fn apply(&mut self, table: Function) {
        if let Some(BodyLimits {
            max_request,
            max_response,
        }) = table.body
        {
            self.max_request = max_request.map(|size| size.0).filter(|size| *size > 0);
            self.max_response = max_response.map(|size| size.0).filter(|size| *size > 0);
        }
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
        self.internal = table.visibility == Some(Visibility::Internal);
    }
}

fn rate_limit(table: RateLimit) -> Option<RateLimitSettings> {
    let requests = table.requests.filter(|requests| *requests > 0)?;
    Some(RateLimitSettings {
        requests,
        per: table.per.unwrap_or(Duration::from_secs(1)),
        burst: table.burst.unwrap_or(requests).max(1),
        by: match table.by.unwrap_or(RateKey::Function) {
            RateKey::Function => RateBy::Function,
            RateKey::Client => RateBy::Client,
            RateKey::Header => RateBy::Header(table.header?.parse().ok()?),
        },
    })
}

fn status(text: &str) -> Option<u16> {
    text.trim().parse().ok().filter(|status| (100..1000).contains(status))
}

fn retries(table: Retries) -> Option<RetrySettings> {
    // Where one of the two is set, the other's default gives way.
    let backoff = table
        .backoff
        .unwrap_or(Duration::from_millis(25))
        .min(table.backoff_max.unwrap_or(Duration::MAX));
    Some(RetrySettings {
        attempts: table.attempts.filter(|attempts| *attempts > 0)?,
        statuses: table.statuses.unwrap_or_else(|| vec![502, 503, 504]),
        methods: table.methods.map_or_else(
            // Those that may be repeated (RFC 9110 section 9.2.2).
            || {
                vec![
                    Method::GET,
                    Method::HEAD,
                    Method::OPTIONS,
                    Method::PUT,
                    Method::DELETE,
                    Method::TRACE,
                ]
            },
            |methods| parsed(&methods),
        ),
        budget: table.budget.unwrap_or(Ratio::percent(20)),
        backoff,
        backoff_max: table.backoff_max.unwrap_or(Duration::from_millis(250)).max(backoff),
        max_body: table.max_body.map_or(64 << 10, |size| size.0),
    })
}

fn breaker(table: Breaker) -> Option<BreakerSettings> {
    let longest = table.open_max.unwrap_or(Duration::MAX);
    let open = table.open.unwrap_or(Duration::from_secs(5)).min(longest);
    Some(BreakerSettings {
        failures: table.failures.filter(|failures| *failures > 0)?,
        statuses: table.statuses.unwrap_or_else(|| vec![502, 503, 504]),
        open,
        open_max: table.open_max.unwrap_or(Duration::from_secs(60)).max(open),
        trials: table.trials.unwrap_or(1).max(1),
    })
}

fn changes(table: HeaderEdits) -> HeaderChanges {
    // The values of `set_file` are in `set` by now.
    let HeaderEdits { set, remove, .. } = table;
    HeaderChanges {
        set: pairs(set),
        remove: parsed(&remove.unwrap_or_default()),
    }
}

fn pairs(set: BTreeMap<String, String>) -> Vec<(HeaderName, HeaderValue)> {
    set.into_iter()
        .filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)))
        .collect()
}

fn cors(table: Cors) -> Option<CorsSettings> {
    Some(CorsSettings {
        origins: table.origins.filter(|origins| !origins.is_empty())?,
        methods: table.methods.map(|methods| parsed(&methods)),
        headers: table.headers.map(|headers| parsed(&headers)),
        expose: table.expose.map_or_else(Vec::new, |headers| parsed(&headers)),
        credentials: table.credentials.unwrap_or(false),
        max_age: table.max_age,
    })
}

/// The texts as what they name; the checks refused those that name nothing.
fn parsed<T: std::str::FromStr>(texts: &[String]) -> Vec<T> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}
