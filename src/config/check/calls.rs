//! Checks of what `[functions."NAME"]` and `[[routes]]` say about calls.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use super::{EVERY_FUNCTION, Found, cut_short};
use crate::{
    config::{
        Config,
        calls::{Breaker, Cors, Function, HeaderEdits, Headers, RateKey, RateLimit, Retries, Timeouts, Visibility},
        duration::format,
        entry::dotted,
        setting::{Setting, child},
        size::Size,
    },
    model::FunctionRef,
};

/// Most further tries of a call.
const MAX_ATTEMPTS: u32 = 10;

/// Most bytes of a body that is kept for another try.
const MAX_KEPT_BODY: Size = Size(10 << 20);

/// Headers that frame or address a message, or belong to one connection; the
/// gateway decides about them.
const FRAMING: &[&str] = &[
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Checks the tables of all functions.
pub(super) fn functions(config: &Config, found: &mut Found) {
    let default_namespace = config.default_namespace();
    let every = config.functions.get(EVERY_FUNCTION);
    let mut seen: Vec<(FunctionRef, &str)> = Vec::new();
    for (name, function) in &config.functions {
        let path = ["functions", name].map(str::to_owned);
        if name != EVERY_FUNCTION {
            match FunctionRef::parse(name, default_namespace) {
                Ok(function) => match seen.iter().find(|(other, _)| *other == function) {
                    Some((_, other)) => found.error_at(
                        vec![path.to_vec()],
                        format!("is the same function as functions.\"{other}\"; keep one of them"),
                    ),
                    None => seen.push((function, name)),
                },
                Err(error) => found.error_at(vec![path.to_vec()], error.to_string()),
            }
        }
        let mut table = Table { path: &path, found };
        table.own(function, config);
        let beneath = every.filter(|_| name != EVERY_FUNCTION);
        table.together(
            &beneath.map_or_else(|| function.clone(), |every| function.over(every)),
            name == EVERY_FUNCTION,
            config,
        );
    }
}

/// Checks one table and notes what is wrong under its path.
pub(super) struct Table<'t> {
    pub path: &'t [String],
    pub found: &'t mut Found,
}

impl Table<'_> {
    fn key(&self, below: &[&str]) -> Vec<String> {
        below.iter().fold(self.path.to_vec(), |path, part| child(&path, part))
    }

    pub(super) fn error(&mut self, below: &[&str], message: impl Into<String>) {
        let key = self.key(below);
        self.found.error_at(vec![key], message);
    }

    fn warn(&mut self, below: &[&str], message: &str) {
        let key = dotted(&self.key(below));
        self.found.warn(format!("{key} {message}"));
    }

    fn positive(&mut self, below: &[&str], value: Option<Duration>) {
        if value.is_some_and(|value| value.is_zero()) {
            self.error(below, "must be longer than zero");
        }
    }

    /// What a table says, each key for itself.
    fn own(&mut self, function: &Function, config: &Config) {
        self.shared(
            function.timeouts.as_ref(),
            function.retries.as_ref(),
            function.headers.as_ref(),
            function.cors.as_ref(),
            config,
        );
        self.positive(&["queue_timeout"], function.queue_timeout);
        if let Some(limit) = &function.rate_limit {
            self.rate_limit(limit);
        }
        if let Some(breaker) = &function.breaker {
            self.breaker(breaker);
        }
        if function.visibility == Some(Visibility::Internal) && config.server.internal_listen.is_none() {
            self.warn(
                &["visibility"],
                "is \"internal\", but server.internal_listen is not set: nothing leads to the function",
            );
        }
    }

    /// The tables that functions and routes have.
    pub(super) fn shared(
        &mut self,
        timeouts: Option<&Timeouts>,
        retries: Option<&Retries>,
        headers: Option<&Headers>,
        cors: Option<&Cors>,
        config: &Config,
    ) {
        if let Some(timeouts) = timeouts {
            self.timeouts(timeouts, config);
        }
        if let Some(retries) = retries {
            self.retries(retries);
        }
        if let Some(headers) = headers {
            for (side, edits) in [("request", &headers.request), ("response", &headers.response)] {
                if let Some(edits) = edits {
                    self.headers(side, edits);
                }
            }
        }
        if let Some(cors) = cors {
            self.cors(cors);
        }
    }

    fn timeouts(&mut self, timeouts: &Timeouts, config: &Config) {
        self.positive(&["timeouts", "total"], timeouts.total);
        self.positive(&["timeouts", "activation"], timeouts.activation);
        if let Some(total) = timeouts.total.filter(|total| *total > config.server.write_timeout) {
            let key = dotted(&self.key(&["timeouts", "total"]));
            self.found.warn(cut_short(&key, total, config));
        }
    }

    fn rate_limit(&mut self, limit: &RateLimit) {
        self.positive(&["rate_limit", "per"], limit.per);
        if limit.burst == Some(0) {
            self.error(&["rate_limit", "burst"], "must be at least 1");
        }
        if let Some(name) = &limit.header
            && name.parse::<HeaderName>().is_err()
        {
            self.error(&["rate_limit", "header"], format!("'{name}' is not a header name"));
        }
    }

    fn retries(&mut self, retries: &Retries) {
        if retries.attempts.is_some_and(|attempts| attempts > MAX_ATTEMPTS) {
            self.error(&["retries", "attempts"], format!("must be at most {MAX_ATTEMPTS}"));
        }
        if retries.max_body.is_some_and(|size| size > MAX_KEPT_BODY) {
            self.error(&["retries", "max_body"], format!("must be at most {MAX_KEPT_BODY}"));
        }
        self.statuses(&["retries", "statuses"], retries.statuses.as_deref());
        self.methods(&["retries", "methods"], retries.methods.as_deref());
        if let (Some(first), Some(longest)) = (retries.backoff, retries.backoff_max)
            && longest < first
        {
            self.error(
                &["retries", "backoff_max"],
                format!("must not be shorter than backoff ({})", format(first)),
            );
        }
    }

    fn breaker(&mut self, breaker: &Breaker) {
        self.positive(&["breaker", "open"], breaker.open);
        self.statuses(&["breaker", "statuses"], breaker.statuses.as_deref());
        if breaker.trials == Some(0) {
            self.error(&["breaker", "trials"], "must be at least 1");
        }
        if let (Some(first), Some(longest)) = (breaker.open, breaker.open_max)
            && longest < first
        {
            self.error(
                &["breaker", "open_max"],
                format!("must not be shorter than open ({})", format(first)),
            );
        }
    }

    fn statuses(&mut self, below: &[&str], statuses: Option<&[u16]>) {
        for status in statuses.unwrap_or_default() {
            if !(400..600).contains(status) {
                self.error(below, format!("{status} is no failure: use statuses from 400 to 599"));
            }
        }
    }

    pub(super) fn methods(&mut self, below: &[&str], methods: Option<&[String]>) {
        for method in methods.unwrap_or_default() {
            if method.parse::<Method>().is_err() || method.bytes().any(|byte| byte.is_ascii_lowercase()) {
                self.error(below, format!("'{method}' is not a method; write it as GET"));
            }
        }
    }

    fn header_names(&mut self, below: &[&str], names: Option<&[String]>) {
        for name in names.unwrap_or_default() {
            if name.parse::<HeaderName>().is_err() {
                self.error(below, format!("'{name}' is not a header name"));
            }
        }
    }

    fn headers(&mut self, side: &str, edits: &HeaderEdits) {
        let remove = edits.remove.as_deref().unwrap_or_default();
        self.header_names(&["headers", side, "remove"], Some(remove));
        let owned = |name: &str| FRAMING.iter().any(|framing| framing.eq_ignore_ascii_case(name));
        let refused = "frames or addresses the message, which is the gateway's part";
        for name in remove.iter().filter(|name| owned(name)) {
            self.error(&["headers", side, "remove"], format!("'{name}' {refused}"));
        }
        for (name, value) in &edits.set {
            let below = ["headers", side, "set", name];
            if name.parse::<HeaderName>().is_err() {
                self.error(&below, "is not a header name");
            } else if owned(name) {
                self.error(&below, refused);
            } else if value.parse::<HeaderValue>().is_err() {
                // Not the value: it may be a credential.
                self.error(&below, "has a value that no header can have (a line break, perhaps)");
            }
        }
    }

    fn cors(&mut self, cors: &Cors) {
        for origin in cors.origins.as_deref().unwrap_or_default() {
            if origin != "*" && !is_origin(origin) {
                self.error(
                    &["cors", "origins"],
                    format!("'{origin}' is not an origin; write https://app.example, https://*.example or *"),
                );
            }
        }
        self.methods(&["cors", "methods"], cors.methods.as_deref());
        self.header_names(&["cors", "headers"], cors.headers.as_deref());
        self.header_names(&["cors", "expose"], cors.expose.as_deref());
    }

    /// What the table and the one beneath it come to. What `"*"` alone leaves
    /// open a function may supply.
    fn together(&mut self, table: &Function, base: bool, config: &Config) {
        let limited = table.max_in_flight.is_some_and(|calls| calls > 0);
        if !base && !limited {
            for (key, set) in [
                ("max_queued", table.max_queued.is_some_and(|queued| queued > 0)),
                ("queue_timeout", table.queue_timeout.is_some()),
            ] {
                if set {
                    self.warn(&[key], "is set but has no effect: max_in_flight is not");
                }
            }
        }
        if let Some(limit) = &table.rate_limit
            && !base
        {
            let by_header = limit.by == Some(RateKey::Header);
            if limit.requests.is_none() {
                self.error(&["rate_limit"], "needs requests, the number of calls (0 turns it off)");
            }
            if by_header && limit.header.is_none() {
                self.error(
                    &["rate_limit"],
                    "needs header, the name of the header that by = \"header\" looks at",
                );
            }
            if !by_header && limit.header.is_some() {
                self.error(&["rate_limit"], "has a header, which only by = \"header\" looks at");
            }
        }
        if let Some(cors) = &table.cors
            && cors.credentials == Some(true)
            && cors.origins.iter().flatten().any(|origin| origin == "*")
        {
            self.error(
                &["cors", "credentials"],
                "cannot be true with the origin \"*\": any page could act as its visitor",
            );
        }
        if let Some(timeouts) = &table.timeouts {
            let total = timeouts.total.unwrap_or(config.invoke.upstream_timeout);
            for (key, bound) in [("first_byte", timeouts.first_byte), ("idle", timeouts.idle)] {
                if bound.is_some_and(|bound| bound > total) {
                    self.warn(
                        &["timeouts", key],
                        &format!(
                            "is longer than the bound on the whole answer ({}), which ends it first",
                            format(total)
                        ),
                    );
                }
            }
        }
    }
}

/// Whether a text is an origin, perhaps of any subdomain: a scheme, a host and
/// perhaps a port.
fn is_origin(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else {
        return false;
    };
    let host = rest.strip_prefix("*.").unwrap_or(rest);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    !scheme.is_empty()
        && scheme.bytes().all(|byte| byte.is_ascii_lowercase())
        && !host.is_empty()
        && host.bytes().all(plain)
        && http::uri::Authority::try_from(host).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        for text in [
            "https://app.example",
            "http://localhost:3000",
            "https://*.example.org",
            "http://[::1]:8080",
        ] {
            assert!(is_origin(text), "{text}");
        }
        for text in [
            "app.example",
            "https://",
            "https://a/b",
            "https://*",
            "https://a.*.b",
            "https://u@h",
            "HTTPS://a",
            "",
        ] {
            assert!(!is_origin(text), "{text}");
        }
    }
}
