//! Jobs as messages: the JSON of OpenFaaS's `QueueRequest` (compatibility.md
//! section 5.1), so that its gateways and workers read ours and we read theirs.
//! What it has no key for is in header fields of the message, and in two keys that
//! others pass over.

use std::collections::BTreeMap;

use async_nats::HeaderMap;
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{
    model::FunctionRef,
    queue::{Job, Target, fields::Fields},
};

/// Which run of its job a message is for; one that is driven again begins another.
pub(super) const RUN: &str = "Faas-Run";
/// The object that has the body, where that is too large for a message.
pub(super) const OBJECT: &str = "Faas-Object";
const ID: &str = "Faas-Id";
const CREATED: &str = "Faas-Created";
const DUE: &str = "Faas-Due";
const KEY: &str = "Faas-Idempotency-Key";
const URL: &str = "Faas-Url";

/// The header field of a request that has its call id.
const CALL_ID: &str = "X-Call-Id";

/// What a path must not have, as others send it decoded.
const PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'?').add(b'#');

/// The message's body.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct QueueRequest {
    header: Option<BTreeMap<String, Vec<String>>>,
    host: String,
    body: Option<String>,
    method: String,
    path: String,
    query_string: String,
    function: String,
    queue_name: String,
    callback_url: Option<CallbackUrl>,
    /// The same with user and password, which the object cannot tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    callback: Option<String>,
    /// Values that are not UTF-8, in base64.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    header_bytes: BTreeMap<String, Vec<String>>,
}

/// Go's `url.URL`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct CallbackUrl {
    scheme: String,
    opaque: String,
    user: Option<serde_json::Value>,
    host: String,
    path: String,
    raw_path: String,
    omit_host: bool,
    force_query: bool,
    raw_query: String,
    fragment: String,
    raw_fragment: String,
}

/// A job as it is sent: all of it but a body that is too large.
pub(super) struct Sent {
    pub(super) headers: HeaderMap,
    pub(super) payload: Bytes,
}

/// Why a message is no job.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("it is no QueueRequest: {0}")]
    Json(#[from] serde_json::Error),
    #[error("its Function is wrong: {0}")]
    Function(#[from] crate::model::NameError),
    #[error("its Body is no base64")]
    Body,
}

/// The message of a job; `with_body` is false where the body is in an object.
pub(super) fn encode(job: &Job, queue: &str, run: u32, with_body: bool) -> Sent {
    let mut header: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut header_bytes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in &job.headers {
        match std::str::from_utf8(value) {
            Ok(text) => header.entry(canonical(name)).or_default().push(text.to_owned()),
            Err(_) => header_bytes
                .entry(canonical(name))
                .or_default()
                .push(BASE64_STANDARD.encode(value)),
        }
    }
    let request = QueueRequest {
        header: Some(header),
        body: with_body.then(|| BASE64_STANDARD.encode(&job.body)),
        method: "POST".to_owned(),
        path: job.path.clone(),
        query_string: job.query.clone(),
        function: job.function.to_string(),
        queue_name: queue.to_owned(),
        callback_url: job.callback.as_deref().and_then(callback_object),
        callback: job.callback.clone(),
        header_bytes,
        host: String::new(),
    };
    let mut headers = HeaderMap::new();
    let mut set = |name: &'static str, value: &str| headers.insert(name, value);
    set(ID, &percent(&job.id));
    set(RUN, &run.to_string());
    set(CREATED, &job.created.timestamp_micros().to_string());
    set(DUE, &job.due.timestamp_micros().to_string());
    if let Some(key) = &job.idempotency_key {
        set(KEY, &percent(key));
    }
    if let Target::Url(url) = &job.target {
        set(URL, url);
    }
    // Strings, numbers and maps of them: nothing of it can fail.
    let payload = serde_json::to_vec(&request).unwrap_or_default();
    Sent {
        headers,
        payload: Bytes::from(payload),
    }
}

/// The job of a message, and its run; of others' messages, what can be told. The
/// body is empty where an object has it.
pub(super) fn decode(
    headers: Option<&HeaderMap>,
    payload: &[u8],
    default_namespace: &str,
    now: DateTime<Utc>,
) -> Result<(Job, u32), Unreadable> {
    let request: QueueRequest = serde_json::from_slice(payload)?;
    let told = |name: &str| headers.and_then(|headers| Some(headers.get(name)?.as_str().to_owned()));
    let time = |name: &str| DateTime::from_timestamp_micros(told(name)?.parse().ok()?);
    let listed = request.header.unwrap_or_default();
    let id = told(ID).map(|id| unpercent(&id)).or_else(|| {
        let id = listed.get(CALL_ID).and_then(|values| values.first());
        id.filter(|id| !id.is_empty()).cloned()
    });
    let mut fields = Fields::new();
    for (name, values) in listed {
        fields.extend(values.into_iter().map(|value| (name.clone(), value.into_bytes())));
    }
    for (name, values) in request.header_bytes {
        let values = values.iter().filter_map(|value| BASE64_STANDARD.decode(value).ok());
        fields.extend(values.map(|value| (name.clone(), value)));
    }
    let body = request.body.unwrap_or_default();
    let job = Job {
        id: id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
        function: FunctionRef::parse(&request.function, default_namespace)?,
        target: told(URL).map_or(Target::Function, Target::Url),
        path: utf8_percent_encode(&request.path, PATH).to_string(),
        query: request.query_string,
        headers: fields,
        body: BASE64_STANDARD.decode(body).map_err(|_| Unreadable::Body)?.into(),
        callback: request
            .callback
            .or_else(|| request.callback_url.as_ref().and_then(callback_text)),
        idempotency_key: told(KEY).map(|key| unpercent(&key)),
        created: time(CREATED).unwrap_or(now),
        due: time(DUE).unwrap_or(now),
    };
    let run = told(RUN).and_then(|run| run.parse().ok()).unwrap_or(0);
    Ok((job, run))
}

/// A name as Go writes it: `content-type` is `Content-Type`.
fn canonical(name: &str) -> String {
    let mut begins = true;
    name.chars()
        .map(|letter| {
            let written = if begins {
                letter.to_ascii_uppercase()
            } else {
                letter.to_ascii_lowercase()
            };
            begins = letter == '-';
            written
        })
        .collect()
}

fn percent(text: &str) -> String {
    utf8_percent_encode(text, CONTROLS).to_string()
}

fn unpercent(text: &str) -> String {
    percent_encoding::percent_decode_str(text)
        .decode_utf8_lossy()
        .into_owned()
}

fn callback_object(text: &str) -> Option<CallbackUrl> {
    let url = Url::parse(text).ok()?;
    let host = url.host_str().unwrap_or_default();
    let path = unpercent(url.path());
    Some(CallbackUrl {
        scheme: url.scheme().to_owned(),
        // Go loses what is in it.
        user: (!url.username().is_empty()).then(|| serde_json::json!({})),
        host: url
            .port()
            .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")),
        raw_path: if path == url.path() {
            String::new()
        } else {
            url.path().to_owned()
        },
        path,
        raw_query: url.query().unwrap_or_default().to_owned(),
        fragment: url.fragment().map(unpercent).unwrap_or_default(),
        ..CallbackUrl::default()
    })
}

fn callback_text(object: &CallbackUrl) -> Option<String> {
    let path = match &*object.raw_path {
        "" => utf8_percent_encode(&object.path, PATH).to_string(),
        raw => raw.to_owned(),
    };
    let mut url = Url::parse(&format!("{}://{}{path}", object.scheme, object.host)).ok()?;
    url.set_query(Some(&*object.raw_query).filter(|query| !query.is_empty()));
    url.has_host().then(|| url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(micros: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(micros).expect("a time")
    }

    fn job() -> Job {
        Job {
            id: "id 1\n".to_owned(),
            function: FunctionRef::new("figlet", "dev"),
            target: Target::Function,
            path: "/a%20b".to_owned(),
            query: "c=d".to_owned(),
            headers: vec![
                ("content-type".to_owned(), b"text/plain".to_vec()),
                ("x-a".to_owned(), vec![0xff, 0x20]),
            ],
            body: Bytes::from_static(b"\x00hello"),
            callback: Some("http://user:pw@host:81/a%2Fb?c=d".to_owned()),
            idempotency_key: Some("key \u{e4}".to_owned()),
            created: time(1_800_000_000_000_001),
            due: time(1_800_000_100_000_000),
        }
    }

    #[test]
    fn a_job_comes_back_as_it_was() {
        let sent = encode(&job(), "faas-request", 3, true);
        let (mut found, run) = decode(Some(&sent.headers), &sent.payload, "", time(0)).expect("a job");
        for (name, _) in &mut found.headers {
            name.make_ascii_lowercase();
        }
        assert_eq!((found, run), (job(), 3));
        let to_url = Job {
            target: Target::Url("http://host/".to_owned()),
            ..job()
        };
        let sent = encode(&to_url, "faas-request", 0, true);
        let (found, _) = decode(Some(&sent.headers), &sent.payload, "", time(0)).expect("a job");
        assert_eq!(found.target, to_url.target);
    }

    #[test]
    fn others_read_ours() {
        let sent = encode(&job(), "faas-request", 0, true);
        let found: serde_json::Value = serde_json::from_slice(&sent.payload).expect("JSON");
        for (key, expected) in [
            ("Function", serde_json::json!("figlet.dev")),
            ("Method", "POST".into()),
            ("Path", "/a%20b".into()),
            ("QueryString", "c=d".into()),
            ("Body", "AGhlbGxv".into()),
            ("QueueName", "faas-request".into()),
            ("Header", serde_json::json!({ "Content-Type": ["text/plain"] })),
        ] {
            assert_eq!(found[key], expected, "{key}");
        }
        let callback = &found["CallbackUrl"];
        assert_eq!(
            (&callback["Host"], &callback["RawPath"], &callback["RawQuery"]),
            (&"host:81".into(), &"/a%2Fb".into(), &"c=d".into())
        );
    }

    #[test]
    fn we_read_others() {
        let theirs = br#"{"Header":{"X-Call-Id":["1"],"X-A":["b","c"]},"Host":"gateway:8080","Body":"aGk=",
            "Method":"POST","Path":"/a b","QueryString":"x=y","Function":"figlet","QueueName":"",
            "Annotations":null,"CallbackUrl":{"Scheme":"http","Opaque":"","User":null,"Host":"host:81",
            "Path":"/a b","RawPath":"","ForceQuery":false,"RawQuery":"q","Fragment":"","RawFragment":""}}"#;
        let (found, run) = decode(None, theirs, "openfaas-fn", time(7)).expect("a job");
        assert_eq!((&*found.id, run, &*found.body), ("1", 0, &b"hi"[..]));
        assert_eq!(found.function, FunctionRef::new("figlet", "openfaas-fn"));
        assert_eq!(found.path, "/a%20b");
        assert_eq!(found.callback.as_deref(), Some("http://host:81/a%20b?q"));
        assert_eq!((found.created, found.due, found.headers.len()), (time(7), time(7), 3));
        for (broken, why) in [
            (&b"nothing"[..], "QueueRequest"),
            (br#"{"Function":"a b"}"#, "Function"),
            (br#"{"Function":"a","Body":"?"}"#, "Body"),
        ] {
            let error = decode(None, broken, "", time(0)).expect_err("no job").to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
