//! Who may use the API, the portal and the reference: basic authentication
//! from two files, or the decision of an external service.
//!
//! This module decides about one set of request headers. Which paths are
//! protected, and what a refused caller is told, is [`crate::api`]'s part;
//! functions are open, as in OpenFaaS (compatibility.md section 1.6).

use std::{fmt, path::Path, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use url::Url;

use crate::{
    client,
    config::{self, PASSWORD_FILE, USER_FILE, Unusable},
    proxy::headers::strip_hop_by_hop,
};

/// Most of an auth proxy's answer that is passed on, in bytes.
const RELAY_LIMIT: usize = 64 * 1024;

/// Bound on one question to the auth proxy where the caller sets none.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(300);

/// The rules built from `[auth]`. The default lets everyone in.
#[derive(Debug, Clone, Default)]
pub struct Auth {
    credentials: Option<Credentials>,
    proxy: Option<AuthProxy>,
}

/// A user name and a password. `Debug` shows neither. Equality is for telling
/// whether a reload changed them; callers are judged by [`Auth::check`].
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user name, without a colon.
    pub user: String,
    /// The password.
    pub password: String,
}

/// Why a request was not let in.
#[derive(Debug)]
pub enum Refusal {
    /// The credentials are missing or wrong. 401.
    Credentials,
    /// The auth proxy said no; its answer goes to the caller as it is.
    Relayed(Response<Bytes>),
    /// The auth proxy could not be asked; the text says why. 500.
    Unavailable(String),
}

/// The service behind `auth.proxy_url`.
#[derive(Clone)]
struct AuthProxy {
    url: Url,
    client: reqwest::Client,
}

impl Auth {
    /// Reads the credential files and prepares the auth proxy's client.
    ///
    /// # Errors
    /// Which file is missing, unreadable or empty, and what to do about it. At
    /// start that is fatal; at a reload the old rules stay.
    pub fn load(config: &config::Auth) -> Result<Self, Unusable> {
        let credentials = config
            .basic
            .then(|| Credentials::read(&config.secret_path))
            .transpose()
            .map_err(|error| Unusable::new(&["auth.secret_path", "auth.basic"], error))?;
        let proxy = config.proxy_url.clone().map(|url| AuthProxy {
            url,
            client: client::build(CLIENT_TIMEOUT),
        });
        Ok(Self { credentials, proxy })
    }

    /// The credentials of basic authentication, which the http provider wants too.
    pub fn credentials(&self) -> Option<Credentials> {
        self.credentials.clone()
    }

    /// The name of everyone who is let in, where basic authentication decides.
    pub fn user(&self) -> Option<&str> {
        let credentials = self.credentials.as_ref().filter(|_| self.proxy.is_none());
        credentials.map(|credentials| credentials.user.as_str())
    }

    /// Whether anyone is refused at all.
    pub fn is_on(&self) -> bool {
        self.credentials.is_some() || self.proxy.is_some()
    }

    /// Decides about a request with these headers. `timeout` bounds the
    /// question to the auth proxy; where there is one, it decides alone, as in
    /// OpenFaaS.
    ///
    /// # Errors
    /// [`Refusal`] when the request may not go on.
    pub async fn check(&self, headers: &HeaderMap, timeout: Duration) -> Result<(), Refusal> {
        match (&self.proxy, &self.credentials) {
            (Some(proxy), _) => proxy.ask(headers, timeout).await,
            (None, Some(credentials)) if credentials.match_headers(headers) => Ok(()),
            (None, Some(_)) => Err(Refusal::Credentials),
            (None, None) => Ok(()),
        }
    }
}

impl Credentials {
    fn read(directory: &Path) -> Result<Self, String> {
        let user = read_secret(&directory.join(USER_FILE))?;
        if user.contains(':') {
            return Err(format!(
                "{}: a user name cannot contain ':'",
                directory.join(USER_FILE).display()
            ));
        }
        Ok(Self {
            user,
            password: read_secret(&directory.join(PASSWORD_FILE))?,
        })
    }

    /// The `Authorization` header of a request with these credentials, marked
    /// as sensitive.
    pub fn header(&self) -> HeaderValue {
        let token = BASE64_STANDARD.encode(format!("{}:{}", self.user, self.password));
        let mut value =
            HeaderValue::try_from(format!("Basic {token}")).expect("base64 has no character that a header forbids");
        value.set_sensitive(true);
        value
    }

    fn match_headers(&self, headers: &HeaderMap) -> bool {
        headers
            .get(header::AUTHORIZATION)
            .and_then(parse_basic)
            .is_some_and(|(user, password)| {
                // Both are compared, and as digests, so that the time taken tells
                // neither which of them was wrong nor how long they are.
                bool::from(same(self.user.as_bytes(), &user) & same(self.password.as_bytes(), &password))
            })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(redacted)")
    }
}

/// Without the URL, which may hold a key.
impl fmt::Debug for AuthProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthProxy({})", self.url.host_str().unwrap_or_default())
    }
}

impl AuthProxy {
    /// Asks with a GET that carries the caller's headers and no body; only 200
    /// lets the request on.
    async fn ask(&self, headers: &HeaderMap, timeout: Duration) -> Result<(), Refusal> {
        let response = self
            .client
            .get(self.url.clone())
            .headers(question(headers))
            .timeout(timeout)
            .send()
            .await
            .map_err(|error| self.failed(error))?;
        if response.status() == http::StatusCode::OK {
            return Ok(());
        }
        self.relay(response).await.map(Refusal::Relayed).and_then(Err)
    }

    async fn relay(&self, mut response: reqwest::Response) -> Result<Response<Bytes>, Refusal> {
        let mut answer = Response::new(());
        *answer.status_mut() = response.status();
        *answer.headers_mut() = std::mem::take(response.headers_mut());
        strip_hop_by_hop(answer.headers_mut());
        answer.headers_mut().remove(header::CONTENT_LENGTH);
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failed(error))? {
            if body.len() + chunk.len() > RELAY_LIMIT {
                return Err(self.unavailable(&format!("its answer is longer than {RELAY_LIMIT} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(answer.map(|()| body.freeze()))
    }

    /// The URL may hold credentials and stays out of texts and logs.
    fn failed(&self, error: reqwest::Error) -> Refusal {
        self.unavailable(&client::describe(&error.without_url()))
    }

    fn unavailable(&self, why: &str) -> Refusal {
        let host = self.url.host_str().unwrap_or_default();
        tracing::warn!(error = why, host, "the auth proxy could not be asked");
        Refusal::Unavailable(format!(
            "the auth proxy {host} (auth.proxy_url) could not be asked: {why}"
        ))
    }
}

/// The caller's headers without those that describe its connection or body.
fn question(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    strip_hop_by_hop(&mut headers);
    for name in [header::HOST, header::CONTENT_LENGTH, header::EXPECT] {
        headers.remove(name);
    }
    headers
}

/// User and password of a `Basic` header; `None` for anything else.
fn parse_basic(value: &HeaderValue) -> Option<(Vec<u8>, Vec<u8>)> {
    let text = value.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let mut user = BASE64_STANDARD.decode(token.trim()).ok()?;
    let colon = user.iter().position(|byte| *byte == b':')?;
    let password = user.split_off(colon + 1);
    user.truncate(colon);
    Some((user, password))
}

fn same(expected: &[u8], given: &[u8]) -> subtle::Choice {
    Sha256::digest(expected).ct_eq(&Sha256::digest(given))
}

fn read_secret(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let content = std::fs::read_to_string(path)
        .map_err(|error| format!("{shown}: cannot be read: {error}; auth.basic needs this file (secret_mount_path)"))?;
    match content.trim() {
        "" => Err(format!("{shown}: is empty; auth.basic needs a value in this file")),
        value => Ok(value.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials() -> Credentials {
        Credentials {
            user: "admin".to_owned(),
            password: "s3cret:with colon".to_owned(),
        }
    }

    fn authorization(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::try_from(value).expect("valid"))])
    }

    fn basic(pair: &str) -> HeaderMap {
        authorization(&format!("Basic {}", BASE64_STANDARD.encode(pair)))
    }

    #[test]
    fn only_the_right_pair_is_let_in() {
        for (headers, right) in [
            (basic("admin:s3cret:with colon"), true),
            (
                HeaderMap::from_iter([(header::AUTHORIZATION, credentials().header())]),
                true,
            ),
            (basic("admin:wrong"), false),
            (basic("root:s3cret:with colon"), false),
            (basic("admin"), false),
            (authorization("Basic !!!"), false),
            (authorization("Bearer "), false),
            (authorization("Basic"), false),
            (HeaderMap::new(), false),
        ] {
            assert_eq!(credentials().match_headers(&headers), right, "{headers:?}");
        }
    }

    #[tokio::test]
    async fn without_rules_everyone_is_let_in() {
        let auth = Auth::default();
        assert!(!auth.is_on());
        for headers in [HeaderMap::new(), authorization("Bearer ")] {
            assert!(auth.check(&headers, CLIENT_TIMEOUT).await.is_ok());
        }
    }

    #[test]
    fn files_are_trimmed_and_errors_name_them() {
        let directory = tempfile::tempdir().expect("a directory");
        let config = config::Auth {
            basic: true,
            secret_path: directory.path().to_owned(),
            proxy_url: None,
            proxy_url_file: None,
            proxy_pass_body: false,
        };
        let error = Auth::load(&config).expect_err("no files").to_string();
        assert!(error.contains(USER_FILE) && error.contains("cannot be read"), "{error}");

        std::fs::write(directory.path().join(USER_FILE), " admin\n").expect("written");
        std::fs::write(directory.path().join(PASSWORD_FILE), "\n").expect("written");
        let error = Auth::load(&config).expect_err("an empty file").to_string();
        assert!(error.contains(PASSWORD_FILE) && error.contains("is empty"), "{error}");

        std::fs::write(directory.path().join(PASSWORD_FILE), "pass\n").expect("written");
        let loaded = Auth::load(&config).expect("complete").credentials().expect("on");
        assert_eq!((loaded.user.as_str(), loaded.password.as_str()), ("admin", "pass"));
        assert_eq!(format!("{loaded:?}"), "Credentials(redacted)");
    }

    #[test]
    fn the_question_describes_no_body() {
        let headers: HeaderMap = [
            ("host", "gateway"),
            ("content-length", "5"),
            ("transfer-encoding", "chunked"),
            ("authorization", "Bearer x"),
            ("x-custom", "kept"),
        ]
        .into_iter()
        .map(|(name, value)| (name.parse().expect("name"), HeaderValue::from_static(value)))
        .collect::<Vec<(http::HeaderName, HeaderValue)>>()
        .into_iter()
        .collect();
        let asked = question(&headers);
        let mut names: Vec<_> = asked.keys().map(http::HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["authorization", "x-custom"]);
    }
}
