//! What a caller is told when something fails: the only place where failures
//! become statuses.
//!
//! One shape for every error of the gateway: RFC 9457 `application/problem+json`
//! when the caller's `Accept` allows it, else the plain text that `faas-cli`
//! prints. Every such answer carries `X-OpenFaaS-Internal: gateway`, so a
//! caller can tell it from a function's own error.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header};
use poem_openapi::Object;

mod grpc;

pub use grpc::status_of;

pub use crate::{model::PROBLEM_JSON, proxy::headers::INTERNAL as INTERNAL_HEADER};

use crate::{
    policy::{Refusal, Refused},
    provider::ProviderError,
    proxy::{ForwardError, headers::RETRY_AFTER_SECONDS},
    queue::QueueError,
    upstream::{ConnectError, SendError},
};

/// The value of [`INTERNAL_HEADER`] in our answers.
pub const INTERNAL_VALUE: &str = "gateway";

/// An error of the gateway, as RFC 9457 problem details.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
#[oai(rename = "Problem", rename_all = "snake_case")]
pub struct Problem {
    /// HTTP status code.
    pub status: u16,
    /// The status in words.
    pub title: String,
    /// What went wrong and what to do about it.
    pub detail: String,
    /// Which part failed: `gateway`, `provider`, `queue` or `function`.
    pub component: String,
    /// The configuration key that caused it, where there is one.
    #[oai(skip_serializing_if_is_none)]
    pub setting: Option<String>,
    /// Seconds after which trying again makes sense; also sent as `Retry-After`.
    #[oai(skip_serializing_if_is_none)]
    pub retry_after: Option<u64>,
    /// Each mistake, where there can be several; `detail` has them too, one a line.
    #[oai(skip_serializing_if_is_none)]
    pub errors: Option<Vec<String>>,
}

impl Problem {
    /// A problem found by the gateway itself.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status: status.as_u16(),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            detail: detail.into(),
            component: "gateway".to_owned(),
            setting: None,
            retry_after: None,
            errors: None,
        }
    }

    /// Several mistakes at once, one a line for whoever reads text.
    pub fn several(status: StatusCode, errors: Vec<String>) -> Self {
        let detail = errors.join("\n");
        Self {
            errors: Some(errors),
            ..Self::new(status, detail)
        }
    }

    /// Says which part failed.
    #[must_use]
    pub fn component(mut self, component: &str) -> Self {
        component.clone_into(&mut self.component);
        self
    }

    /// Names the configuration key that fired.
    #[must_use]
    pub fn setting(mut self, key: &str) -> Self {
        self.setting = Some(key.to_owned());
        self
    }

    /// Tells when trying again makes sense; at least one second.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some((after.as_secs() + u64::from(after.subsec_nanos() > 0)).max(1));
        self
    }

    /// The status as a type.
    pub fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The answer, in this form. A 429 or 503 always says
    /// when to try again: who retries at once makes it worse.
    pub fn response(&self, form: Form) -> Response<Bytes> {
        let mut problem = Cow::Borrowed(self);
        if self.retry_after.is_none() && asks_to_wait(self.status) {
            problem.to_mut().retry_after = Some(RETRY_AFTER_SECONDS);
        }
        let (content_type, body) = match form {
            Form::Json => (PROBLEM_JSON, crate::model::to_json(&*problem)),
            Form::Text => ("text/plain; charset=utf-8", format!("{}\n", problem.detail)),
            Form::Grpc => return problem.marked(grpc::answer(self.status, &self.detail)),
        };
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = problem.status_code();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        problem.marked(response)
    }

    /// Adds what every such answer says, whatever its form.
    fn marked(&self, mut response: Response<Bytes>) -> Response<Bytes> {
        let headers = response.headers_mut();
        headers.insert(INTERNAL_HEADER, HeaderValue::from_static(INTERNAL_VALUE));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Whether a status says that the same request may work later.
fn asks_to_wait(status: u16) -> bool {
    matches!(status, 429 | 503)
}

/// How a problem is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `application/problem+json`.
    Json,
    /// Plain text.
    Text,
    /// In the head, as gRPC has it.
    Grpc,
}

impl Form {
    /// The form for whoever sent these headers. Taken before the request is
    /// given away.
    pub fn wanted(version: Version, headers: &HeaderMap) -> Self {
        // Nothing else carries gRPC.
        if version == Version::HTTP_2 && grpc::is_grpc(headers) {
            return Self::Grpc;
        }
        Self::of(headers.get_all(header::ACCEPT).iter().map(HeaderValue::as_bytes))
    }

    /// The form for these values of `Accept`: problem details where they admit
    /// them. A caller that sends none (Go's default client, and so `faas-cli`)
    /// gets text, because it prints what it gets.
    pub fn of<'v>(accept: impl Iterator<Item = &'v [u8]>) -> Self {
        let mut ranges = accept
            .filter_map(|value| std::str::from_utf8(value).ok())
            .flat_map(|value| value.split(','));
        if ranges.any(admits_problem_json) {
            Self::Json
        } else {
            Self::Text
        }
    }
}

fn admits_problem_json(range: &str) -> bool {
    let mut parts = range.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    ["*/*", "application/*", "application/json", PROBLEM_JSON]
        .iter()
        .any(|known| media.eq_ignore_ascii_case(known))
        && !parts.any(|parameter| {
            parameter
                .strip_prefix("q=")
                .is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q <= 0.0))
        })
}

impl From<QueueError> for Problem {
    fn from(error: QueueError) -> Self {
        let text = error.to_string();
        match error {
            QueueError::NotFound(_) => Self::new(StatusCode::NOT_FOUND, text),
            QueueError::Conflict(_) => Self::new(StatusCode::CONFLICT, text),
            QueueError::Full { what } => Self::new(StatusCode::SERVICE_UNAVAILABLE, text)
                .component("queue")
                .setting(what),
            QueueError::Unavailable(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, text).component("queue"),
        }
    }
}

impl From<ProviderError> for Problem {
    fn from(error: ProviderError) -> Self {
        let detail = error.to_string();
        let problem = |status| Self::new(status, detail.trim_end()).component("provider");
        match error {
            ProviderError::NotFound(_) => problem(StatusCode::NOT_FOUND),
            ProviderError::Conflict(_) => problem(StatusCode::CONFLICT),
            ProviderError::Invalid(_) => problem(StatusCode::BAD_REQUEST),
            ProviderError::Unsupported(_) => problem(StatusCode::NOT_IMPLEMENTED),
            ProviderError::NotReady {
                retry_after, setting, ..
            } => Self {
                setting: setting.map(str::to_owned),
                ..problem(StatusCode::SERVICE_UNAVAILABLE)
                    .component("function")
                    .retry_after(retry_after)
            },
            ProviderError::Unreachable(_) => problem(StatusCode::BAD_GATEWAY),
            ProviderError::Timeout { setting, .. } => problem(StatusCode::GATEWAY_TIMEOUT).setting(setting),
            ProviderError::Answered {
                status, retry_after, ..
            } => {
                let problem = problem(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY));
                match retry_after.filter(|_| asks_to_wait(status)) {
                    Some(after) => problem.retry_after(after),
                    None => problem,
                }
            }
            ProviderError::Internal(_) => problem(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

impl From<ForwardError> for Problem {
    fn from(error: ForwardError) -> Self {
        let detail = error.to_string();
        let problem = |status| Self::new(status, detail).component("function");
        match error {
            ForwardError::Unreachable(SendError::Connect(ConnectError::Timeout { .. })) => {
                problem(StatusCode::GATEWAY_TIMEOUT).setting("invoke.connect_timeout")
            }
            ForwardError::Unreachable(SendError::Connect(ConnectError::Full { .. })) => {
                problem(StatusCode::SERVICE_UNAVAILABLE)
                    .component("gateway")
                    .setting("invoke.max_conns_per_host")
            }
            ForwardError::Unreachable(_) | ForwardError::Broken(_) | ForwardError::Switched => {
                problem(StatusCode::BAD_GATEWAY)
            }
            ForwardError::AnswerTimeout(passed) => problem(StatusCode::GATEWAY_TIMEOUT).setting(passed.setting),
            ForwardError::AnswerTooLarge(large) => problem(StatusCode::BAD_GATEWAY).setting(large.setting),
            ForwardError::RequestTooLarge(large) => problem(StatusCode::PAYLOAD_TOO_LARGE)
                .component("gateway")
                .setting(large.setting),
            ForwardError::ReceiveTimeout(passed) => problem(StatusCode::REQUEST_TIMEOUT)
                .component("gateway")
                .setting(passed.setting),
            ForwardError::Target(_) | ForwardError::Unreadable(_) => {
                problem(StatusCode::BAD_REQUEST).component("gateway")
            }
        }
    }
}

impl From<Refusal> for Problem {
    fn from(Refusal { why, setting }: Refusal) -> Self {
        let status = match why {
            Refused::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Refused::RateLimit { .. } | Refused::QueueFull { .. } | Refused::QueueTimeout { .. } => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Refused::BreakerOpen { .. } => StatusCode::SERVICE_UNAVAILABLE,
        };
        let problem = Self::new(status, why.to_string()).setting(setting);
        match why.retry_after() {
            Some(after) => problem.retry_after(after),
            None => problem,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(value))])
    }

    #[test]
    fn accept_decides_the_form() {
        for (value, json) in [
            ("*/*", true),
            ("application/json", true),
            ("text/html, application/problem+json;q=0.5", true),
            ("text/plain", false),
            ("application/json;q=0", false),
        ] {
            let form = if json { Form::Json } else { Form::Text };
            assert_eq!(Form::wanted(Version::HTTP_11, &accept(value)), form, "{value}");
        }
        assert_eq!(Form::wanted(Version::HTTP_11, &HeaderMap::new()), Form::Text);
    }

    #[test]
    fn each_provider_error_has_its_status() {
        let text = || "text".to_owned();
        for (error, status) in [
            (ProviderError::NotFound(text()), 404),
            (ProviderError::Conflict(text()), 409),
            (ProviderError::Invalid(text()), 400),
            (ProviderError::Unsupported(text()), 501),
            (ProviderError::Unreachable(text()), 502),
            (ProviderError::Internal(text()), 500),
            (
                ProviderError::Answered {
                    status: 418,
                    body: text(),
                    retry_after: None,
                },
                418,
            ),
        ] {
            assert_eq!(Problem::from(error).status, status);
        }
        let not_ready = Problem::from(ProviderError::NotReady {
            reason: text(),
            retry_after: Duration::from_millis(10),
            setting: Some("key"),
        });
        assert_eq!((not_ready.status, not_ready.retry_after), (503, Some(1)));
        assert_eq!(not_ready.setting.as_deref(), Some("key"));
    }

    #[test]
    fn each_refusal_has_its_status_and_says_when_to_try_again() {
        let calls = 3;
        let (wait, waited) = (Duration::from_millis(2100), Duration::from_secs(5));
        let too_large = Refused::BodyTooLarge { length: 9, limit: 8 };
        let open = Refused::BreakerOpen { rest: Duration::ZERO };
        for (why, status, retry_after, says) in [
            (too_large, 413, None, "larger than 8 bytes"),
            (Refused::RateLimit { wait }, 429, Some(3), "possible in 3 seconds"),
            (open, 503, Some(1), "keeps failing"),
            (
                Refused::QueueFull { calls, queued: 0 },
                429,
                Some(1),
                "3 calls are under way",
            ),
            (
                Refused::QueueFull { calls, queued: 2 },
                429,
                Some(1),
                "2 wait for their turn",
            ),
            (
                Refused::QueueTimeout { calls, waited },
                429,
                Some(1),
                "none ended within 5s",
            ),
        ] {
            let problem = Problem::from(Refusal { why, setting: "key" });
            assert_eq!((problem.status, problem.retry_after), (status, retry_after), "{why:?}");
            assert_eq!(problem.setting.as_deref(), Some("key"));
            assert!(problem.detail.contains(says), "{}", problem.detail);
        }
    }

    #[test]
    fn who_may_come_back_is_told_when() {
        let provider = |status, seconds: Option<u64>| {
            Problem::from(ProviderError::Answered {
                status,
                body: String::new(),
                retry_after: seconds.map(Duration::from_secs),
            })
        };
        for (problem, expected) in [
            (Problem::new(StatusCode::SERVICE_UNAVAILABLE, ""), Some("1")),
            (Problem::new(StatusCode::TOO_MANY_REQUESTS, ""), Some("1")),
            (Problem::new(StatusCode::BAD_GATEWAY, ""), None),
            (provider(503, None), Some("1")),
            (provider(503, Some(120)), Some("120")),
            (provider(429, Some(7)), Some("7")),
            (provider(500, Some(7)), None),
        ] {
            let response = problem.response(Form::Json);
            let header = response.headers().get(header::RETRY_AFTER);
            assert_eq!(header.and_then(|value| value.to_str().ok()), expected, "{problem:?}");
            let body: serde_json::Value = serde_json::from_slice(response.body()).expect("JSON");
            let seconds = body["retry_after"].as_u64().map(|seconds| seconds.to_string());
            assert_eq!(seconds.as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn plain_text_for_faas_cli() {
        let response = Problem::new(StatusCode::NOT_FOUND, "no such function").response(Form::Text);
        assert_eq!(response.body(), "no such function\n");
        assert_eq!(response.headers()[INTERNAL_HEADER], "gateway");
    }
}
