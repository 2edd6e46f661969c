//! One gateway, asked over its API.

use std::{io::Write as _, time::Duration};

use futures_util::StreamExt;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, RequestBuilder, Response, header};
use url::Url;

use super::{
    Remote,
    credentials::{self, Credentials},
};
use crate::{
    client,
    model::{FromWire, ToWire, from_json, to_json},
    problem::Problem,
};

/// Longest body of an error that is read.
const MOST: usize = 64 * 1024;

/// What stays as it is in a part of a path.
const PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Why a command came to nothing.
pub(in crate::cli) enum Failure {
    /// The command line is wrong.
    Usage(String),
    /// The gateway could not be asked, or said no.
    Refused(String),
}

impl Failure {
    pub(in crate::cli) fn text(self) -> String {
        match self {
            Self::Usage(text) | Self::Refused(text) => text,
        }
    }
}

/// A gateway and who asks it.
pub(super) struct Gateway {
    base: Url,
    client: reqwest::Client,
    /// For answers that go on.
    streaming: reqwest::Client,
    credentials: Option<Credentials>,
    timeout: Duration,
}

/// A part of a path as it is written there.
pub(super) fn part(text: &str) -> String {
    utf8_percent_encode(text, PART).to_string()
}

/// Parameters of a query, of those that have a value.
pub(super) fn query(parameters: &[(&str, Option<&str>)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in parameters {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let query = query.finish();
    if query.is_empty() { query } else { format!("?{query}") }
}

impl Gateway {
    pub(super) fn new(remote: &Remote) -> Result<Self, Failure> {
        let mut base = remote.gateway.clone();
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(Failure::Usage(
                "the gateway's URL must begin with http:// or https://".to_owned(),
            ));
        }
        let credentials = credentials::of(remote)?;
        // Fails only for URLs that cannot have any.
        let _ = base.set_username("");
        let _ = base.set_password(None);
        base.set_query(None);
        base.set_fragment(None);
        Ok(Self {
            base,
            client: client::build(remote.timeout),
            streaming: client::build_streaming(remote.timeout),
            credentials,
            timeout: remote.timeout,
        })
    }

    /// What `path`, which begins with a slash, answers.
    pub(super) async fn get<T: FromWire>(&self, path: &str) -> Result<T, Failure> {
        self.answer(self.request(&self.client, Method::GET, path)).await
    }

    /// Sends something and reads what comes back.
    pub(super) async fn post<T: FromWire>(&self, path: &str) -> Result<T, Failure> {
        self.answer(self.request(&self.client, Method::POST, path)).await
    }

    /// Has something done that answers with nothing.
    pub(super) async fn done(&self, method: Method, path: &str, body: Option<&impl ToWire>) -> Result<(), Failure> {
        let response = self.sent(method, path, body).await?;
        self.good(response).await.map(drop)
    }

    /// The same of something that may not be there; whether it was.
    pub(super) async fn done_if_there(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl ToWire>,
    ) -> Result<bool, Failure> {
        let response = self.sent(method, path, body).await?;
        if response.status() == 404 {
            return Ok(false);
        }
        self.good(response).await.map(|_| true)
    }

    async fn sent(&self, method: Method, path: &str, body: Option<&impl ToWire>) -> Result<Response, Failure> {
        let mut request = self.request(&self.client, method, path);
        if let Some(body) = body {
            request = request
                .header(header::CONTENT_TYPE, "application/json")
                .body(to_json(body));
        }
        request.send().await.map_err(|error| self.unreachable(error))
    }

    /// Sends a body to a function, without credentials: they are the gateway's.
    pub(super) async fn call(&self, path: &str, body: Vec<u8>) -> Result<Response, Failure> {
        let request = self.streaming.post(self.url(path)).body(body);
        let response = self.in_time(request).await?;
        self.good(response).await
    }

    /// An answer that goes on for as long as it likes.
    pub(super) async fn stream(&self, path: &str) -> Result<Response, Failure> {
        let request = self.request(&self.streaming, Method::GET, path);
        let response = self.in_time(request).await?;
        self.good(response).await
    }

    /// Writes an answer to standard output as it comes.
    pub(super) async fn copy(&self, response: Response) -> Result<(), Failure> {
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| self.unreachable(error))?;
            let mut out = std::io::stdout();
            if let Err(error) = out.write_all(&chunk).and_then(|()| out.flush()) {
                // A reader that closed it early (`| head`) had enough.
                let enough = error.kind() == std::io::ErrorKind::BrokenPipe;
                return if enough {
                    Ok(())
                } else {
                    Err(Failure::Refused(format!("cannot write: {error}")))
                };
            }
        }
        Ok(())
    }

    /// The error of an answer that broke off.
    fn unreachable(&self, error: reqwest::Error) -> Failure {
        let error = client::describe(&error.without_url());
        Failure::Refused(format!("{}: {error}", self.base))
    }

    async fn in_time(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let sent = tokio::time::timeout(self.timeout, request.send()).await;
        let late = |_| {
            Failure::Refused(format!(
                "{} did not answer within {:?} (--timeout)",
                self.base, self.timeout
            ))
        };
        sent.map_err(late)?.map_err(|error| self.unreachable(error))
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base.as_str().trim_end_matches('/'))
    }

    fn request(&self, client: &reqwest::Client, method: Method, path: &str) -> RequestBuilder {
        let request = client
            .request(method, self.url(path))
            .header(header::ACCEPT, "application/json, */*;q=0.5");
        match &self.credentials {
            Some(credentials) => credentials.sign(request),
            None => request,
        }
    }

    async fn answer<T: FromWire>(&self, request: RequestBuilder) -> Result<T, Failure> {
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        let body = self.good(response).await?.bytes().await;
        let body = body.map_err(|error| self.unreachable(error))?;
        from_json(&body)
            .map_err(|error| Failure::Refused(format!("{} answered what is not expected: {error}", self.base)))
    }

    /// The answer, unless it is none that was hoped for.
    async fn good(&self, response: Response) -> Result<Response, Failure> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.unwrap_or_default();
        let said = match from_json::<Problem>(&body) {
            Ok(problem) => problem.detail,
            Err(_) => String::from_utf8_lossy(&body[..body.len().min(MOST)]).trim().to_owned(),
        };
        let hint = if status == 401 && self.credentials.is_none() {
            "; give --username and --password-stdin, or log in with faas-cli"
        } else {
            ""
        };
        Err(Failure::Refused(format!(
            "{} answered {status}: {said}{hint}",
            self.base
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_part_of_the_path() {
        assert_eq!(part("a.dev"), "a.dev");
        assert_eq!(part("../a?b"), "..%2Fa%3Fb");
        assert_eq!(query(&[("a", None), ("b", Some("x y&z"))]), "?b=x+y%26z");
        assert_eq!(query(&[("a", None)]), "");
    }
}
