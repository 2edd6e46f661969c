//! The tables about calls: `[functions."NAME"]` and `[[routes]]`.
//!
//! Every key is optional, so that `[functions."*"]` can give what a function's
//! own table leaves out, and a route what its function leaves out. What they
//! come to, defaults included, is in [`super::function`].

use std::{collections::BTreeMap, time::Duration};

use super::{
    ratio::Ratio,
    secret::SecretFile,
    setting::{choice, section},
    size::Size,
};

section! {
    /// `[functions."NAME"]`: settings of one function's calls.
    pub struct Function {
        /// Time bounds.
        pub timeouts: Option<Timeouts>,
        /// Bounds on bodies.
        pub body: Option<BodyLimits>,
        /// Calls under way at a time; 0 is any number.
        pub max_in_flight: Option<u32>,
        /// Calls beyond `max_in_flight` that wait for their turn; others get 429.
        pub max_queued: Option<u32>,
        /// How long a call waits for its turn.
        pub queue_timeout: Option<Duration>,
        /// Calls in a time; others get 429.
        pub rate_limit: Option<RateLimit>,
        /// Trying again when a call fails before its answer begins.
        pub retries: Option<Retries>,
        /// Not calling a function, or a replica of it, that keeps failing.
        pub breaker: Option<Breaker>,
        /// Headers to set and to remove.
        pub headers: Option<Headers>,
        /// Which web pages of other origins may call.
        pub cors: Option<Cors>,
        /// Compressing answers.
        pub compression: Option<Compression>,
        /// Which listeners the function can be called on.
        pub visibility: Option<Visibility>,
        /// Which protocol the function is called in, instead of what its `com.openfaas.upstream.protocol` annotation says.
        pub upstream_protocol: Option<UpstreamProtocol>,
        /// How many replicas it has, above its labels.
        pub scaling: Option<FunctionScaling>,
        /// Fewest replicas by the time of day; the newest of them that has begun holds.
        pub schedule: Option<Vec<Scheduled>>,
        /// Its asynchronous calls, above `[queue]` and above its annotations.
        pub queue: Option<FunctionQueue>,
    }
}

section! {
    /// Asynchronous calls of a function.
    pub struct FunctionQueue {
        /// Most tries of a call, the first one included.
        pub attempts: Option<u32>,
        /// Statuses that are tried again.
        pub statuses: Option<Vec<u16>>,
        /// Wait before the second try; it doubles.
        pub min_wait: Option<Duration>,
        /// Longest wait before another try.
        pub max_wait: Option<Duration>,
        /// Where the answers go of calls that succeeded: a function, or a URL; empty is nowhere.
        pub on_success: Option<String>,
        /// Where the answers go of calls that failed, or were given up.
        pub on_failure: Option<String>,
    }
}

impl FunctionQueue {
    /// A table without a key.
    pub fn nothing() -> Self {
        Self {
            attempts: None,
            statuses: None,
            min_wait: None,
            max_wait: None,
            on_success: None,
            on_failure: None,
        }
    }
}

section! {
    /// How many replicas a function has.
    pub struct FunctionScaling {
        /// Fewest replicas; 0 lets it go to zero.
        pub min: Option<u32>,
        /// Most replicas.
        pub max: Option<u32>,
        /// What its load is: `rps`, `capacity`, `cpu`, `queue`, `static`, or a name of `scaling.queries`.
        pub signal: Option<String>,
        /// Load of one replica.
        pub target: Option<u32>,
        /// Share of `target` that is aimed at.
        pub target_proportion: Option<Ratio>,
        /// Whether it goes to zero.
        pub zero: Option<bool>,
        /// How long it is unused before that.
        pub zero_duration: Option<Duration>,
        /// How long a number of replicas that was needed holds against a smaller one.
        pub down_window: Option<Duration>,
    }
}

section! {
    /// From when on a function has so many replicas.
    pub struct Scheduled {
        /// When, as cron writes it: minute, hour, day of the month, month, day of the week.
        pub cron: String,
        /// Time zone of that, such as `Europe/Paris`; by default UTC.
        pub tz: Option<String>,
        /// Fewest replicas from then on.
        pub min: u32,
    }
}

section! {
    /// Time bounds of a call.
    pub struct Timeouts {
        /// Bound on the beginning of the function's answer once it has the whole request, for each try; 0 is none.
        pub first_byte: Option<Duration>,
        /// Bound on silence while the answer is sent; 0 is none.
        pub idle: Option<Duration>,
        /// Bound on the function's whole answer, instead of `invoke.upstream_timeout`.
        pub total: Option<Duration>,
        /// Bound on waiting for a replica, instead of `scaling.activation_timeout`.
        pub activation: Option<Duration>,
    }
}

section! {
    /// Bounds on bodies.
    pub struct BodyLimits {
        /// Largest request body; larger ones get 413. 0 is any.
        pub max_request: Option<Size>,
        /// Largest response body; larger ones are broken off. 0 is any.
        pub max_response: Option<Size>,
    }
}

choice! {
    /// Whose calls are counted together.
    pub enum RateKey {
        /// All calls of the function.
        Function = "function",
        /// Those of one client address.
        Client = "client",
        /// Those with the same value of a header.
        Header = "header",
    }
}

section! {
    /// Calls in a time.
    pub struct RateLimit {
        /// How many calls; 0 is any number.
        pub requests: Option<u32>,
        /// In how long.
        pub per: Option<Duration>,
        /// How many may come at once; by default `requests`.
        pub burst: Option<u32>,
        /// Whose calls are counted together.
        pub by: Option<RateKey>,
        /// The header of `by = "header"`.
        pub header: Option<String>,
    }
}

section! {
    /// Trying again.
    pub struct Retries {
        /// How many more tries; 0 is none.
        pub attempts: Option<u32>,
        /// Statuses that are tried again.
        pub statuses: Option<Vec<u16>>,
        /// Methods that are tried again after the function may have seen the call.
        pub methods: Option<Vec<String>>,
        /// Share of the calls that may be tried again.
        pub budget: Option<Ratio>,
        /// First wait before another try; it doubles.
        pub backoff: Option<Duration>,
        /// Longest wait before another try.
        pub backoff_max: Option<Duration>,
        /// Largest request body that is kept for another try.
        pub max_body: Option<Size>,
        /// Take `attempts`, `statuses`, `backoff` and `backoff_max` from the function's `com.openfaas.retry.*` annotations where they are not set.
        pub annotations: Option<bool>,
    }
}

section! {
    /// Not calling what keeps failing.
    pub struct Breaker {
        /// Failures in a row that open it; 0 is never.
        pub failures: Option<u32>,
        /// Statuses that are failures, beside calls that got no answer.
        pub statuses: Option<Vec<u16>>,
        /// How long it is open at first; it doubles when the trial calls fail.
        pub open: Option<Duration>,
        /// How long it is open at most.
        pub open_max: Option<Duration>,
        /// Trial calls let through after that; when all succeed it closes.
        pub trials: Option<u32>,
    }
}

section! {
    /// Headers to set and to remove.
    pub struct Headers {
        /// Of the request, as the function sees it.
        pub request: Option<HeaderEdits>,
        /// Of the response, as the caller sees it.
        pub response: Option<HeaderEdits>,
    }
}

section! {
    /// Headers to set and to remove; removing comes first.
    pub struct HeaderEdits {
        /// Names and values to set, in place of what is there.
        pub set: BTreeMap<String, String>,
        /// Names, and files with the values to set.
        pub set_file: BTreeMap<String, SecretFile>,
        /// Names to remove.
        pub remove: Option<Vec<String>>,
    }
}

section! {
    /// Which web pages of other origins may call, and how (WHATWG Fetch).
    pub struct Cors {
        /// Origins: `https://app.example`, `https://*.example`, or `*`. An empty list turns it off.
        pub origins: Option<Vec<String>>,
        /// Methods; by default any.
        pub methods: Option<Vec<String>>,
        /// Request headers; by default those that are asked for.
        pub headers: Option<Vec<String>>,
        /// Response headers that pages may read.
        pub expose: Option<Vec<String>>,
        /// Let pages send cookies and credentials.
        pub credentials: Option<bool>,
        /// How long browsers may remember this.
        pub max_age: Option<Duration>,
    }
}

choice! {
    /// A way to compress (RFC 9110 section 8.4.1).
    pub enum Algorithm {
        /// RFC 8878.
        Zstd = "zstd",
        /// RFC 7932.
        Brotli = "br",
        /// RFC 1952.
        Gzip = "gzip",
    }
}

section! {
    /// Compressing answers for callers that accept it.
    pub struct Compression {
        /// Ways to compress, the preferred first; an empty list turns it off.
        pub algorithms: Option<Vec<Algorithm>>,
        /// Smallest answer that is compressed, where its size is known.
        pub min_size: Option<Size>,
        /// Media types that are compressed, exact or as `text/*`.
        pub types: Option<Vec<String>>,
    }
}

choice! {
    /// Which listeners a function can be called on.
    pub enum Visibility {
        /// All.
        Public = "public",
        /// Only `server.internal_listen`.
        Internal = "internal",
    }
}

choice! {
    /// Which protocol a function is called in.
    pub enum UpstreamProtocol {
        /// HTTP/1.1.
        Http1 = "http/1.1",
        /// HTTP/2 without TLS, known beforehand; for gRPC.
        H2c = "h2c",
    }
}

section! {
    /// `[[routes]]`: a host, path and method that lead to functions.
    pub struct Route {
        /// Name, for messages and the access log; by default the host and path.
        pub name: Option<String>,
        /// Hosts, exact or as `*.example.com`; without any, every host.
        pub hosts: Option<Vec<String>>,
        /// Beginning of the path, whole segments.
        pub path: Option<String>,
        /// Methods; without any, every method.
        pub methods: Option<Vec<String>>,
        /// The function.
        pub function: Option<String>,
        /// Several functions that share the calls.
        pub split: Option<Vec<SplitTarget>>,
        /// What keeps a caller with one of several functions.
        pub sticky: Option<Sticky>,
        /// What replaces `path` in the path that the function sees.
        pub rewrite: Option<String>,
        /// A function that gets copies of the calls; its answers are dropped.
        pub mirror: Option<Mirror>,
        /// Answer with a redirect instead.
        pub redirect: Option<Redirect>,
        /// Time bounds, above the function's.
        pub timeouts: Option<Timeouts>,
        /// Bounds on bodies, above the function's.
        pub body: Option<BodyLimits>,
        /// Trying again, above the function's.
        pub retries: Option<Retries>,
        /// Headers, above the function's.
        pub headers: Option<Headers>,
        /// Cross-origin calls, above the function's.
        pub cors: Option<Cors>,
        /// Compressing answers, above the function's.
        pub compression: Option<Compression>,
    }
}

section! {
    /// One of the functions that share a route's calls.
    pub struct SplitTarget {
        /// The function.
        pub function: String,
        /// Its share, relative to the others'; 0 is none.
        pub weight: u32,
    }
}

section! {
    /// What keeps a caller with one of several functions; one of the two.
    pub struct Sticky {
        /// Callers with the same value of this header.
        pub header: Option<String>,
        /// Callers with this cookie; who has none gets one.
        pub cookie: Option<String>,
    }
}

section! {
    /// Copies of calls.
    pub struct Mirror {
        /// The function that gets them.
        pub function: String,
        /// Share of the calls that is copied.
        pub share: Option<Ratio>,
        /// Largest request body that is copied.
        pub max_body: Option<Size>,
    }
}

section! {
    /// A redirect.
    pub struct Redirect {
        /// Where to: a URL, or a path on the same host. The path behind the route's is appended, and the query.
        pub to: String,
        /// 301, 302, 303, 307 or 308.
        pub status: Option<u16>,
    }
}
