//! `/async-function/{name}[.{namespace}][/rest]`: a call that its caller does not
//! wait for (compatibility.md section 5.1). Answered once the queue has it for
//! good; calling is [`super::worker`]'s part.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use tokio::time::Instant;
use url::Url;

use super::{
    Reach,
    access_log::Record,
    invoke::{self, Called},
};
use crate::{
    config,
    model::FunctionRef,
    problem::Problem,
    provider::ProviderError,
    proxy::{
        body,
        headers::{self, CallHeaders},
        target,
    },
    queue::{
        Job, Published, Target, cron,
        fields::{self, Fields},
    },
    snapshot::Snapshot,
    upstream::{Body, BoxError},
};

/// Where the answer of a call goes.
const CALLBACK_URL: HeaderName = HeaderName::from_static("x-callback-url");
/// Makes the same call the same job.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// How long a call waits before it is made; as a duration, or in seconds.
const DELAY: HeaderName = HeaderName::from_static("x-delay");
/// When a call is made, at the earliest; as a time of RFC 3339.
const NOT_BEFORE: HeaderName = HeaderName::from_static("x-not-before");

/// Longest key that makes the same call the same job, in bytes.
const LONGEST_KEY: usize = 255;

/// Longest wait for a call that is made later.
const LATEST: TimeDelta = TimeDelta::days(366);

/// Keeps a call, and answers 202 once it is kept.
pub(super) async fn enqueue<B>(
    snapshot: &Arc<Snapshot>,
    request: Request<B>,
    reach: Reach,
    record: &mut Record,
) -> Result<Response<Body>, Problem>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    let (parts, body) = request.into_parts();
    if parts.method != Method::POST {
        let text = format!("{} is not allowed here: asynchronous calls are POST", parts.method);
        return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, text));
    }
    let (raw_name, rest) = target::split_after(target::ASYNC_PREFIX, parts.uri.path()).unwrap_or_default();
    let name = target::decode_name(raw_name);
    let function = match invoke::resolve(snapshot, &name, &Called::ByName).await {
        Ok(found) if found.settings.internal && reach == Reach::Public => {
            return Err(ProviderError::unknown_function(&found.function).into());
        }
        Ok(found) => found.function.clone(),
        Err(problem) if problem.status == 404 && snapshot.config.queue.accept_unknown => {
            FunctionRef::parse(&name, snapshot.config.default_namespace()).map_err(|_| problem)?
        }
        Err(problem) => return Err(problem),
    };
    let now = Utc::now();
    let callback = callback(&parts.headers)?;
    let due = due(&parts.headers, now)?;
    let key = key(&parts.headers)?;
    let body = kept(body, snapshot.config.queue.max_body.0).await?;

    let call = invoke::call_headers(&parts.headers);
    not_reserved(&headers::CALL_ID, &String::from_utf8_lossy(call.call_id.as_bytes()))?;
    record.call_id(call.call_id.as_bytes());
    let job = Job {
        id: String::from_utf8_lossy(call.call_id.as_bytes()).into_owned(),
        function,
        target: Target::Function,
        path: rest.to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: passed_on(&parts.headers, &call, reach),
        body,
        callback: callback.map(String::from),
        idempotency_key: key,
        created: now,
        due,
    };
    let began = Instant::now();
    let published = snapshot.queue.publish(job).await?;
    let metrics = snapshot.metrics.kept();
    metrics.enqueued(began.elapsed());
    if published.is_new {
        metrics.submitted(&snapshot.config.queue.nats_channel);
    }
    Ok(accepted(&published, &call, snapshot.routes.base_path()))
}

/// What `Allow` says of a path of asynchronous calls.
pub(super) fn allow(path: &str) -> HeaderValue {
    match target::split_after(target::ASYNC_PREFIX, path) {
        Some((_, rest)) if !rest.is_empty() => HeaderValue::from_static("POST"),
        _ => HeaderValue::from_static("DELETE, POST"),
    }
}

/// Takes a call back, by its id.
pub(super) async fn cancel(snapshot: &Snapshot, path: &str) -> Result<Response<Body>, Problem> {
    let raw = path.strip_prefix(target::ASYNC_PREFIX).unwrap_or_default();
    snapshot.queue.cancel(&target::decode_name(raw)).await?;
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

/// The answer of a call that is kept.
fn accepted(published: &Published, call: &CallHeaders, base: &str) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::try_from(&published.id) {
        headers.insert(headers::CALL_ID, id);
    }
    // Ids are not more than what a path may have, or nobody could ask for them.
    let id = percent_encoding::utf8_percent_encode(&published.id, percent_encoding::NON_ALPHANUMERIC);
    if let Ok(location) = HeaderValue::try_from(format!("{base}/system/async/{id}")) {
        headers.insert(header::LOCATION, location);
    }
    headers::complete(headers, call);
    response
}

/// The whole body, or what is wrong with it.
async fn kept<B>(mut body: B, most: u64) -> Result<Bytes, Problem>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    let too_large = || {
        let text = format!("the body is larger than queue.max_body allows ({most} bytes)");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, text).setting("queue.max_body")
    };
    if body.size_hint().lower() > most {
        return Err(too_large());
    }
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let text = format!("the body could not be read to its end: {}", error.into());
            Problem::new(StatusCode::BAD_REQUEST, text)
        })?;
        if let Some(data) = frame.data_ref() {
            if (bytes.len() + data.len()) as u64 > most {
                return Err(too_large());
            }
            bytes.extend_from_slice(data);
        }
    }
    Ok(bytes.freeze())
}

/// The header fields that the function gets: all but those about the connection,
/// the body's framing and this call's keeping. How deep it is in a chain of calls
/// only those inside can say: a stranger could end the chain with it.
fn passed_on(headers: &HeaderMap, call: &CallHeaders, reach: Reach) -> Fields {
    let mut kept = headers.clone();
    if reach == Reach::Public {
        kept.remove(headers::CALL_DEPTH);
        kept.remove(headers::SOURCE_CALL_ID);
    }
    headers::strip_hop_by_hop(&mut kept);
    for name in [
        header::HOST,
        header::CONTENT_LENGTH,
        header::EXPECT,
        CALLBACK_URL,
        IDEMPOTENCY_KEY,
        DELAY,
        NOT_BEFORE,
    ] {
        kept.remove(name);
    }
    kept.insert(headers::CALL_ID, call.call_id.clone());
    kept.insert(headers::START_TIME, call.start_time.clone());
    fields::of(&kept)
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Problem> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let text = value.to_str().map_err(|_| wrong(name, "is not text"))?.trim();
    Ok(Some(text).filter(|text| !text.is_empty()))
}

fn wrong(name: &HeaderName, what: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, format!("header {name} {what}"))
}

fn callback(headers: &HeaderMap) -> Result<Option<Url>, Problem> {
    let Some(text) = text(headers, &CALLBACK_URL)? else {
        return Ok(None);
    };
    let url = Url::parse(text).map_err(|error| wrong(&CALLBACK_URL, &format!("is no URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong(&CALLBACK_URL, "must be a URL of http or https"));
    }
    Ok(Some(url))
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    match text(headers, &IDEMPOTENCY_KEY)? {
        Some(key) if key.len() > LONGEST_KEY => Err(wrong(&IDEMPOTENCY_KEY, "is longer than 255 bytes")),
        Some(key) => {
            not_reserved(&IDEMPOTENCY_KEY, key)?;
            Ok(Some(key.to_owned()))
        }
        None => Ok(None),
    }
}

/// Refuses what a call by the clock will be known by.
fn not_reserved(name: &HeaderName, value: &str) -> Result<(), Problem> {
    if cron::is_reserved(value) {
        return Err(wrong(name, "is like those of calls by the clock (cron-NAME-TIME)"));
    }
    Ok(())
}

/// When a call is made, at the earliest.
fn due(headers: &HeaderMap, now: DateTime<Utc>) -> Result<DateTime<Utc>, Problem> {
    let at = if let Some(text) = text(headers, &NOT_BEFORE)? {
        let at = DateTime::parse_from_rfc3339(text);
        at.map_err(|_| wrong(&NOT_BEFORE, "is no time like 2026-01-31T12:00:00Z"))?
            .with_timezone(&Utc)
    } else if let Some(text) = text(headers, &DELAY)? {
        let delay: Duration = config::parse_duration(text)
            .ok_or_else(|| wrong(&DELAY, "is no time like 90s, 1h30m or a number of seconds"))?;
        TimeDelta::from_std(delay)
            .ok()
            .and_then(|delay| now.checked_add_signed(delay))
            .ok_or_else(|| wrong(&DELAY, "is more than a year"))?
    } else {
        now
    };
    if at - now > LATEST {
        let name = if headers.contains_key(NOT_BEFORE) {
            NOT_BEFORE
        } else {
            DELAY
        };
        return Err(wrong(&name, "is more than a year ahead"));
    }
    Ok(at.max(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::headers::map;

    #[test]
    fn calls_are_made_at_once_or_later() {
        let now = "2026-11-26T12:00:00Z".parse::<DateTime<Utc>>().expect("a time");
        for (pairs, seconds) in [
            (&[][..], Some(0)),
            (&[("x-delay", "90")], Some(90)),
            (&[("x-delay", "1m30s")], Some(90)),
            (&[("x-delay", "soon")], None),
            (&[("x-delay", "9000h")], None),
            (&[("x-not-before", "2026-11-26T13:00:00+01:00")], Some(0)),
            (&[("x-not-before", "2026-11-26T12:00:10Z")], Some(10)),
            (&[("x-not-before", "2020-01-01T00:00:00Z")], Some(0)),
            (&[("x-not-before", "tomorrow")], None),
            (&[("x-not-before", "2036-01-01T00:00:00Z")], None),
        ] {
            let found = due(&map(pairs), now).ok().map(|at| (at - now).num_seconds());
            assert_eq!(found, seconds, "{pairs:?}");
        }
    }

    #[test]
    fn allow_is_about_the_path() {
        for (path, methods) in [
            ("/async-function/echo", "DELETE, POST"),
            ("/async-function/echo/a/b", "POST"),
        ] {
            assert_eq!(allow(path), methods, "{path}");
        }
    }

    #[test]
    fn callbacks_are_urls() {
        for (text, good) in [
            ("https://example.com/done?x=1", true),
            ("http://user:pw@10.0.0.1:8080", true),
            ("ftp://example.com", false),
            ("/done", false),
            ("example.com", false),
            ("http://", false),
        ] {
            assert_eq!(callback(&map(&[("x-callback-url", text)])).is_ok(), good, "{text}");
        }
        assert!(callback(&map(&[])).expect("none").is_none());
    }
}
