//! One REST call to a provider: its URL, its bounds, and what its answer means.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::Value;
use url::Url;

use super::super::{ProviderError, Result};
use crate::{
    client,
    model::{FromWire, PROBLEM_JSON, from_json},
    proxy::retry,
};

/// The keys that bound a call, for the texts of errors.
const TIMEOUT_KEY: &str = "invoke.upstream_timeout";
const CONNECT_TIMEOUT_KEY: &str = "invoke.connect_timeout";

/// What Go's router says about a path that it does not have.
const NO_ROUTE: &str = "404 page not found";

/// A call in the making.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) method: Method,
    /// Path segments, not yet encoded.
    pub(super) path: &'a [&'a str],
    /// What is asked about, for the texts of errors.
    subject: &'a str,
    base: Option<&'a Url>,
    query: Vec<(&'static str, &'a str)>,
    body: Option<String>,
}

impl<'a> Call<'a> {
    pub(super) fn new(method: Method, path: &'a [&'a str], subject: &'a str) -> Self {
        Self {
            method,
            path,
            subject,
            base: None,
            query: Vec::new(),
            body: None,
        }
    }

    /// Sends it to another base than the provider's.
    pub(super) fn at(mut self, base: &'a Url) -> Self {
        self.base = Some(base);
        self
    }

    /// Adds a parameter, if there is a value.
    pub(super) fn query(mut self, key: &'static str, value: Option<&'a str>) -> Self {
        self.query.extend(value.map(|value| (key, value)));
        self
    }

    /// Sends this JSON text.
    pub(super) fn body(mut self, json: String) -> Self {
        self.body = Some(json);
        self
    }

    fn url(&self, base: &Url) -> Url {
        let mut url = self.base.unwrap_or(base).clone();
        // Fails only for URLs without a host, which are refused at the start.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(self.path);
        }
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        url
    }
}

/// Sends calls to one provider.
pub(super) struct Rest {
    base: Url,
    authorization: Option<HeaderValue>,
    /// What can change while calls run; each takes it once.
    bounds: ArcSwap<Bounds>,
}

/// How long calls may take, and the client, which knows a part of it.
struct Bounds {
    client: reqwest::Client,
    timeout: Duration,
    connect_timeout: Duration,
}

impl Rest {
    pub(super) fn new(
        base: Url,
        timeout: Duration,
        connect_timeout: Duration,
        credentials: Option<(String, String)>,
    ) -> Result<Self, String> {
        let authorization = match credentials {
            Some((user, password)) => {
                let encoded = STANDARD.encode(format!("{user}:{password}"));
                let mut value = HeaderValue::try_from(format!("Basic {encoded}"))
                    .map_err(|_| "the provider's credentials cannot be sent".to_owned())?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        Ok(Self {
            base,
            authorization,
            bounds: ArcSwap::from_pointee(Bounds {
                client: client::build_streaming(connect_timeout),
                timeout,
                connect_timeout,
            }),
        })
    }

    /// Changes the bounds of later calls. Connections stay, unless the bound on
    /// opening them changes.
    pub(super) fn reconfigure(&self, timeout: Duration, connect_timeout: Duration) {
        let before = self.bounds.load_full();
        let client = if before.connect_timeout == connect_timeout {
            before.client.clone()
        } else {
            client::build_streaming(connect_timeout)
        };
        self.bounds.store(Arc::new(Bounds {
            client,
            timeout,
            connect_timeout,
        }));
    }

    /// Sends a call and returns the body of a successful answer.
    pub(super) async fn send(&self, call: Call<'_>) -> Result<Bytes> {
        let bounds = self.bounds.load_full();
        let request = self.request(&bounds, &call, "application/json").timeout(bounds.timeout);
        let response = request.send().await.map_err(|error| bounds.failed(error))?;
        if response.status().is_success() {
            response.bytes().await.map_err(|error| bounds.failed(error))
        } else {
            Err(bounds.refused(response, call.subject).await)
        }
    }

    /// Sends a call and returns a successful answer whose body may never end.
    /// Only the wait for its head is bounded.
    pub(super) async fn open(&self, call: Call<'_>) -> Result<reqwest::Response> {
        let bounds = self.bounds.load_full();
        let request = self.request(&bounds, &call, "application/x-ndjson, application/json");
        let head = tokio::time::timeout(bounds.timeout, request.send());
        let response = head
            .await
            .map_err(|_| bounds.too_slow())?
            .map_err(|error| bounds.failed(error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let refused = tokio::time::timeout(bounds.timeout, bounds.refused(response, call.subject));
        match refused.await {
            // The provider has no such route, which says nothing about what was asked for.
            Ok(ProviderError::NotFound(text)) if text == NO_ROUTE => Err(ProviderError::Unsupported(format!(
                "this provider does not serve {}",
                call.subject
            ))),
            Ok(error) => Err(error),
            Err(_) => Err(bounds.too_slow()),
        }
    }

    fn request(&self, bounds: &Bounds, call: &Call<'_>, accept: &'static str) -> reqwest::RequestBuilder {
        let mut request = bounds
            .client
            .request(call.method.clone(), call.url(&self.base))
            .header(header::ACCEPT, accept);
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization.clone());
        }
        if let Some(body) = &call.body {
            request = request
                .header(header::CONTENT_TYPE, "application/json")
                .body(body.clone());
        }
        request
    }
}

/// What an answer to `what` says.
pub(super) fn parse<T: FromWire>(body: &[u8], what: &str) -> Result<T> {
    from_json(body)
        .map_err(|error| ProviderError::Internal(format!("cannot read the provider's answer to {what}: {error}")))
}

/// A base that paths can be put below: no query, no fragment, no credentials,
/// no slash at the end.
pub(super) fn normalised(mut url: Url) -> Result<Url, String> {
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err("is not an http or https URL".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("put the credentials into the files of auth.secret_path, not into the URL".to_owned());
    }
    url.set_query(None);
    url.set_fragment(None);
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

impl Bounds {
    /// What an unsuccessful answer means, or why it could not be read.
    async fn refused(&self, response: reqwest::Response, subject: &str) -> ProviderError {
        let status = response.status();
        let headers = response.headers().clone();
        match response.bytes().await {
            Ok(body) => refusal(status, &headers, &body, subject),
            Err(error) => self.failed(error),
        }
    }

    fn too_slow(&self) -> ProviderError {
        ProviderError::Timeout {
            setting: TIMEOUT_KEY,
            after: self.timeout,
        }
    }

    fn failed(&self, error: reqwest::Error) -> ProviderError {
        match (error.is_timeout(), error.is_connect()) {
            (true, true) => ProviderError::Timeout {
                setting: CONNECT_TIMEOUT_KEY,
                after: self.connect_timeout,
            },
            (true, false) => self.too_slow(),
            (false, _) => unreachable(error),
        }
    }
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rest")
            .field("host", &self.base.host_str())
            .field("authorization", &self.authorization)
            .finish_non_exhaustive()
    }
}

/// The provider could not be asked, or stopped answering. Its URL may hold a
/// key and stays out of the text.
pub(super) fn unreachable(error: reqwest::Error) -> ProviderError {
    let what = if error.is_connect() {
        "the provider cannot be reached"
    } else {
        "the connection to the provider broke"
    };
    ProviderError::Unreachable(format!("{what}: {}", client::describe(&error.without_url())))
}

/// What an unsuccessful answer means.
fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8], subject: &str) -> ProviderError {
    let said = text(headers, body);
    let or = |fallback: String| if said.is_empty() { fallback } else { said.clone() };
    match status {
        StatusCode::NOT_FOUND => ProviderError::NotFound(or(format!("{subject} not found"))),
        StatusCode::CONFLICT => ProviderError::Conflict(or(format!("{subject} exists already"))),
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
            ProviderError::Invalid(or(format!("the provider refused the request about {subject}")))
        }
        StatusCode::NOT_IMPLEMENTED | StatusCode::METHOD_NOT_ALLOWED => {
            ProviderError::Unsupported(or(format!("the provider cannot do this with {subject}")))
        }
        // Clients of the API would follow or misread it; it is for whoever set the URL.
        _ if status.is_redirection() => ProviderError::Answered {
            status: StatusCode::BAD_GATEWAY.as_u16(),
            body: format!(
                "the provider answered {status} with a redirect to '{}'; check provider.url",
                headers.get(header::LOCATION).map_or_else(
                    || "nowhere".into(),
                    |location| String::from_utf8_lossy(location.as_bytes())
                ),
            ),
            retry_after: None,
        },
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ProviderError::Answered {
            status: status.as_u16(),
            body: format!(
                "the provider refused the gateway's credentials: {}",
                or(status.to_string())
            ),
            retry_after: None,
        },
        _ => ProviderError::Answered {
            status: status.as_u16(),
            body: or(format!("the provider answered {status} about {subject}")),
            retry_after: headers
                .get(header::RETRY_AFTER)
                .and_then(|value| retry::retry_after(value, SystemTime::now())),
        },
    }
}

/// What an unsuccessful answer says: its text, or the detail of problem details.
fn text(headers: &HeaderMap, body: &[u8]) -> String {
    let media = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim();
    if media.eq_ignore_ascii_case(PROBLEM_JSON)
        && let Ok(problem) = serde_json::from_slice::<Value>(body)
        && let Some(said) = ["detail", "title"].iter().find_map(|key| problem.get(key)?.as_str())
    {
        return said.trim().to_owned();
    }
    String::from_utf8_lossy(body).trim().to_owned()
}
