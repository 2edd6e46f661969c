//! Who asks: what the command line says, else the environment, else the URL, else
//! what `faas-cli login` has stored. That is only read here.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::RequestBuilder;
use serde::Deserialize;
use url::Url;

use super::{Failure, Remote};
use crate::config::Sources;

/// The password itself.
const PASSWORD: &str = "OPENFAAS_PASSWORD";

/// Directory of faas-cli's file, in place of `~/.openfaas`.
const DIRECTORY: &str = "OPENFAAS_CONFIG";

/// Longest password from standard input.
const MOST: u64 = 64 * 1024;

/// What a request says of who sends it.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::cli) enum Credentials {
    Basic { user: String, password: String },
    Bearer(String),
}

/// faas-cli's file.
#[derive(Deserialize)]
struct Stored {
    #[serde(default)]
    auths: Vec<StoredAuth>,
}

#[derive(Deserialize)]
struct StoredAuth {
    gateway: String,
    #[serde(default)]
    auth: String,
    #[serde(default)]
    token: String,
}

/// The credentials for a gateway, if there are any.
pub(super) fn of(remote: &Remote) -> Result<Option<Credentials>, Failure> {
    let password = if remote.password_stdin {
        let mut text = String::new();
        let read = io::stdin().take(MOST).read_to_string(&mut text);
        read.map_err(|error| Failure::Usage(format!("the password cannot be read from standard input: {error}")))?;
        Some(text)
    } else if let Some(file) = &remote.password_file {
        let read = fs::read_to_string(file);
        Some(read.map_err(|error| Failure::Usage(format!("{}: {error}", file.display())))?)
    } else {
        set(PASSWORD)
    };
    let password = password.map(|text| text.trim_end_matches(['\r', '\n']).to_owned());
    let given = remote.password_stdin || remote.password_file.is_some();
    match (&remote.username, password) {
        (Some(user), Some(password)) => Ok(Some(Credentials::Basic {
            user: user.clone(),
            password,
        })),
        // As faas-cli does, whose user is admin unless it is said.
        (None, Some(password)) if given => Ok(Some(Credentials::Basic {
            user: "admin".to_owned(),
            password,
        })),
        (Some(_), None) => Err(Failure::Usage(format!(
            "--username needs a password: --password-stdin, --password-file, or {PASSWORD}"
        ))),
        (None, _) => match in_url(&remote.gateway) {
            Some(found) => Ok(Some(found)),
            None => stored(&remote.gateway),
        },
    }
}

fn in_url(url: &Url) -> Option<Credentials> {
    let decoded = |text: &str| {
        percent_encoding::percent_decode_str(text)
            .decode_utf8_lossy()
            .into_owned()
    };
    Some(Credentials::Basic {
        user: Some(url.username()).filter(|user| !user.is_empty()).map(decoded)?,
        password: url.password().map(decoded).unwrap_or_default(),
    })
}

/// A user with a password in a file, else what is stored for a gateway, unless its
/// URL says it.
///
/// # Errors
/// A text for whoever wrote the command line.
pub(in crate::cli) fn given_or_stored(
    gateway: &Url,
    given: Option<(&str, &Path)>,
) -> Result<Option<Credentials>, String> {
    let Some((user, file)) = given else {
        return match in_url(gateway) {
            Some(found) => Ok(Some(found)),
            None => stored(gateway).map_err(Failure::text),
        };
    };
    let password = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(Some(Credentials::Basic {
        user: user.to_owned(),
        password: password.trim_end_matches(['\r', '\n']).to_owned(),
    }))
}

impl Credentials {
    /// A request that says who sends it.
    pub(in crate::cli) fn sign(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::Basic { user, password } => request.basic_auth(user, Some(password)),
            Self::Bearer(token) => request.bearer_auth(token),
        }
    }
}

/// What `faas-cli login` has stored for a gateway.
fn stored(gateway: &Url) -> Result<Option<Credentials>, Failure> {
    let Some(path) = file() else { return Ok(None) };
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::Usage(format!("{}: {error}", path.display()))),
    };
    find(&text, gateway).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
}

/// What the environment says, where it says something.
fn set(name: &str) -> Option<String> {
    let mut environment = Sources::of_process(None, Vec::new()).environment;
    environment.remove(name).filter(|value| !value.is_empty())
}

fn file() -> Option<PathBuf> {
    let directory = match set(DIRECTORY) {
        Some(directory) => PathBuf::from(directory),
        None => PathBuf::from(set("HOME")?).join(".openfaas"),
    };
    Some(directory.join("config.yml"))
}

/// What a file of faas-cli has for a gateway. Nothing of it is in an error.
fn find(text: &str, gateway: &Url) -> Result<Option<Credentials>, String> {
    let stored: Option<Stored> = serde_yaml::from_str(text)
        .map_err(|_| "is no file of faas-cli: auths, each with gateway, auth and token".to_owned())?;
    let same = |stored: &str| Url::parse(stored).is_ok_and(|url| address(&url) == address(gateway));
    let all = stored.map(|stored| stored.auths).unwrap_or_default();
    let Some(found) = all.into_iter().find(|auth| same(&auth.gateway)) else {
        return Ok(None);
    };
    match found.auth.as_str() {
        "" | "basic" => {
            let pair = BASE64_STANDARD
                .decode(found.token.trim())
                .ok()
                .and_then(|pair| String::from_utf8(pair).ok());
            let (user, password) = pair
                .as_deref()
                .and_then(|pair| pair.split_once(':'))
                .ok_or("the token of this gateway is no user name and password")?;
            Ok(Some(Credentials::Basic {
                user: user.to_owned(),
                password: password.to_owned(),
            }))
        }
        _ => Ok(Some(Credentials::Bearer(found.token.trim().to_owned()))),
    }
}

/// What makes two URLs one gateway.
fn address(url: &Url) -> (&str, Option<&str>, Option<u16>, &str) {
    (
        url.scheme(),
        url.host_str(),
        url.port_or_known_default(),
        url.path().trim_end_matches('/'),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_faas_cli_stores_is_found_by_the_gateway() {
        // admin:s3c:ret
        let text = "auths:\n- gateway: http://127.0.0.1:8080\n  auth: basic\n  token: YWRtaW46czNjOnJldA==\n  options: []\n\
                    - gateway: https://gw.example/faas/\n  auth: oauth2\n  token: abc\n";
        let basic = Credentials::Basic {
            user: "admin".to_owned(),
            password: "s3c:ret".to_owned(),
        };
        for (gateway, expected) in [
            ("http://127.0.0.1:8080", Some(basic.clone())),
            ("http://127.0.0.1:8080/", Some(basic)),
            (
                "https://gw.example:443/faas",
                Some(Credentials::Bearer("abc".to_owned())),
            ),
            ("https://gw.example", None),
            ("http://127.0.0.1:8081", None),
        ] {
            let found = find(text, &Url::parse(gateway).expect("a URL")).expect("a file");
            assert!(found == expected, "{gateway}");
        }
        let url = Url::parse("http://a").expect("a URL");
        assert!(find("", &url).expect("an empty file").is_none());
        let wrong = |text: &str| find(text, &url).err().expect(text);
        assert!(wrong("auths: 1").contains("no file of faas-cli"));
        let token = wrong("auths: [{gateway: 'http://a', token: secret}]");
        assert!(token.contains("no user name") && !token.contains("secret"));
    }

    #[test]
    fn a_url_may_have_them() {
        let url = Url::parse("http://me:p%40ss@a").expect("a URL");
        let expected = Credentials::Basic {
            user: "me".to_owned(),
            password: "p@ss".to_owned(),
        };
        assert!(in_url(&url) == Some(expected));
    }
}
