//! Gets a list from where it is: a URL or a file.
//!
//! A list is small and somebody waits for it, so everything is bounded: its size, the
//! time, the redirects. Where a URL may lead is up to whoever wrote the configuration,
//! where it leads on to is not: redirects, and names, are judged by what they stand for.

use std::{
    fs::File,
    io::Read as _,
    path::Path,
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

use http::{HeaderValue, StatusCode, header};
use reqwest::{Client, Response};
use url::{Position, Url};

use crate::client::{
    self,
    guard::{Guard, PRIVATE},
};

/// Largest list.
const LARGEST: usize = 4 << 20;

/// Bound on each request, its answer included.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Most redirects.
const REDIRECTS: usize = 3;

/// What is said of addresses that are refused.
const REFUSED: &str = "the address is not of the public internet; \
                       allow_private = true permits it for the host of the store's own url";

/// How a list that is known is told from a newer one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mark {
    /// The answer's `ETag`.
    Tag(HeaderValue),
    /// The file's size, and when it was changed.
    Changed(u64, SystemTime),
}

/// What was got.
#[derive(Debug)]
pub(super) enum Got {
    /// A list, and what tells it from others.
    New(Vec<u8>, Option<Mark>),
    /// The list is the one that is known.
    Same,
}

static GUARD: LazyLock<Guard> = LazyLock::new(|| Guard::of(PRIVATE, REFUSED));
static GUARDED: LazyLock<Client> = LazyLock::new(|| client::build_resolving(TIMEOUT, Arc::new(GUARD.clone())));
static PERMITTED: LazyLock<Client> = LazyLock::new(|| client::build(TIMEOUT));

/// Fetches a list. With `allow_private` the URL's own host and port may have any
/// address; others that it redirects to may not.
///
/// # Errors
/// Why it was not got, for people, without what the URL has of a secret.
pub(super) async fn url(url: &Url, known: Option<&Mark>, allow_private: bool) -> Result<Got, String> {
    let mut next = url.clone();
    for _ in 0..=REDIRECTS {
        let is_own = |url_now: &Url| origin(url_now) == origin(url);
        let client = if allow_private && is_own(&next) {
            &*PERMITTED
        } else {
            GUARD.judge(&next).map_err(|denied| denied.to_string())?;
            &*GUARDED
        };
        let mut request = client.get(next.clone()).header(header::ACCEPT, "application/json");
        if let Some(Mark::Tag(tag)) = known {
            request = request.header(header::IF_NONE_MATCH, tag);
        }
        let answer = request.send().await.map_err(failed)?;
        let status = answer.status();
        if status == StatusCode::NOT_MODIFIED && known.is_some() {
            return Ok(Got::Same);
        }
        if status.is_redirection() {
            next = redirected(&next, &answer)?;
            continue;
        }
        if status != StatusCode::OK {
            return Err(format!("the answer was {status}"));
        }
        let tag = answer.headers().get(header::ETAG).cloned();
        return Ok(Got::New(whole(answer).await?, tag.map(Mark::Tag)));
    }
    Err(format!("more than {REDIRECTS} redirects"))
}

/// Scheme, host and port.
fn origin(url: &Url) -> (&str, Option<&str>, Option<u16>) {
    (url.scheme(), url.host_str(), url.port_or_known_default())
}

/// Where an answer leads on to.
fn redirected(from: &Url, answer: &Response) -> Result<Url, String> {
    let location = answer
        .headers()
        .get(header::LOCATION)
        .and_then(|value| value.to_str().ok());
    let to = location.and_then(|location| from.join(location).ok());
    match to {
        None => Err(format!("the answer was {}, without a place to go to", answer.status())),
        Some(to) if to.scheme() == "https" || (to.scheme() == "http" && from.scheme() == "http") => Ok(to),
        Some(to) => Err(format!(
            "it is redirected to {}, which is not https",
            &to[..Position::BeforeUsername]
        )),
    }
}

/// The whole body, if it is not too large.
async fn whole(mut answer: Response) -> Result<Vec<u8>, String> {
    let mut list = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        if list.len() + chunk.len() > LARGEST {
            return Err(too_large());
        }
        list.extend_from_slice(&chunk);
    }
    Ok(list)
}

fn too_large() -> String {
    format!("the list is larger than {LARGEST} bytes")
}

fn failed(error: reqwest::Error) -> String {
    if Guard::has_refused(&error) {
        return REFUSED.to_owned();
    }
    if error.is_timeout() {
        return format!("there was no whole answer within {TIMEOUT:?}");
    }
    // Its query may be a key.
    client::describe(&error.without_url())
}

/// Reads a list from a file. Blocks.
///
/// # Errors
/// Why it was not read.
pub(super) fn path(path: &Path, known: Option<&Mark>) -> Result<Got, String> {
    let failed = |error: std::io::Error| format!("the file cannot be read: {error}");
    // Before it is opened: a pipe would hold us up.
    let data = std::fs::metadata(path).map_err(failed)?;
    if !data.is_file() {
        return Err("it is not a file".to_owned());
    }
    let mark = Mark::Changed(data.len(), data.modified().map_err(failed)?);
    if known == Some(&mark) {
        return Ok(Got::Same);
    }
    let mut list = Vec::new();
    let most = LARGEST as u64 + 1;
    File::open(path)
        .and_then(|file| file.take(most).read_to_end(&mut list))
        .map_err(failed)?;
    if list.len() > LARGEST {
        return Err(too_large());
    }
    Ok(Got::New(list, Some(mark)))
}
