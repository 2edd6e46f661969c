//! What a function's environment says about how to run it.
//!
//! The variables are those of OpenFaaS's watchdogs, under their names. Reading
//! them is a pure function of a map, so every rule has a table test; a value
//! that cannot be read is an error that names its variable, never a silent
//! default.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use clap::ValueEnum;
use tokio::sync::Semaphore;
use url::{Host, Url};

use crate::config::duration;

/// How a function is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// One process for each call; request and answer are held in memory (the classic watchdog).
    Fork,
    /// One process for each call; its output is sent as it is written.
    Streaming,
    /// Like `fork`, with of-watchdog's content type and error rules.
    Serializing,
    /// One long-lived process that serves HTTP itself.
    Http,
    /// Files of a directory; nothing is run.
    Static,
}

/// A variable whose value makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingError {
    /// Name of the environment variable.
    pub variable: &'static str,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "environment variable {}: {}", self.variable, self.message)
    }
}

/// Everything the environment decides.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// `mode`; `fork` when unset.
    pub mode: Mode,
    /// `function_process`, else `fprocess`, as words; empty with `static`.
    pub command: Vec<String>,
    /// `port`: where a stand-alone watchdog listens.
    pub port: u16,
    /// `exec_timeout`: longest run of one call; none when 0, which is the
    /// default of `fork`. Other modes: 30 s.
    pub exec_timeout: Option<Duration>,
    /// `read_timeout`: longest wait for a request's head and for its body.
    pub read_timeout: Duration,
    /// `write_timeout`: longest wait for calls in flight when the watchdog
    /// stops. A call's own length is bounded by `exec_timeout` alone.
    pub write_timeout: Duration,
    /// `healthcheck_interval`: how long to keep serving after readiness turned off.
    pub healthcheck_interval: Option<Duration>,
    /// `max_inflight`: calls at the same time; 0 or unset is no limit.
    pub max_inflight: Option<usize>,
    /// `content_type` of answers in the forking modes.
    pub content_type: Option<String>,
    /// `combine_output`: stderr is part of the answer (`fork` only).
    pub combine_output: bool,
    /// `write_debug`: log bodies.
    pub write_debug: bool,
    /// `prefix_logs`: time and stream before the function's own lines.
    pub prefix_logs: bool,
    /// `log_buffer_size`: longest log line in bytes; `None` (-1) is unbounded.
    pub log_buffer_size: Option<usize>,
    /// `log_callid`: end the line about a call with its id.
    pub log_callid: bool,
    /// `cgi_headers`: hand the request's head to the process as `Http_*`.
    pub cgi_headers: bool,
    /// `static_path`: directory of `static`.
    pub static_path: PathBuf,
    /// `ready_path`: asked by `/_/ready`.
    pub ready_path: Option<String>,
    /// `upstream_url`, else `http_upstream_url`: where the process of `http`
    /// listens; without it a port is chosen for it.
    pub upstream_url: Option<Url>,
    /// `buffer_http`, or `http_buffer_req_body`: read a body before sending it on.
    pub buffer_http: bool,
}

impl Settings {
    /// Reads the variables.
    ///
    /// # Errors
    /// Every variable that is wrong.
    pub fn from_env(env: &BTreeMap<String, String>) -> Result<Self, Vec<SettingError>> {
        let mut reader = Reader {
            env,
            errors: Vec::new(),
        };
        let mode = reader.mode();
        let command = reader.command(mode);
        let usual_exec = match mode {
            Mode::Fork => Duration::ZERO,
            _ => USUAL_TIMEOUT,
        };
        let exec_timeout = reader.duration("exec_timeout").unwrap_or(usual_exec);
        let write_timeout = reader.duration("write_timeout").unwrap_or(USUAL_TIMEOUT);
        if write_timeout.is_zero() {
            reader.fail("write_timeout", "must be longer than 0");
        }
        let settings = Self {
            mode,
            command,
            port: reader
                .parsed("port", "a port number", |text| text.parse().ok())
                .unwrap_or(8080),
            exec_timeout: (!exec_timeout.is_zero()).then_some(exec_timeout),
            read_timeout: reader.duration("read_timeout").unwrap_or(USUAL_TIMEOUT),
            write_timeout,
            healthcheck_interval: reader.duration("healthcheck_interval"),
            max_inflight: reader
                .parsed("max_inflight", "a whole number, 0 for no limit", |text| {
                    text.parse().ok().filter(|limit| *limit <= Semaphore::MAX_PERMITS)
                })
                .filter(|limit| *limit > 0),
            content_type: reader.parsed("content_type", "a media type", |text| {
                http::HeaderValue::try_from(text).is_ok().then(|| text.to_owned())
            }),
            combine_output: reader.flag("combine_output").unwrap_or(true),
            write_debug: reader.flag("write_debug").unwrap_or(false),
            prefix_logs: reader.flag("prefix_logs").unwrap_or(true),
            log_buffer_size: reader
                .parsed(
                    "log_buffer_size",
                    "a number of bytes, or -1 for no limit",
                    |text| match text {
                        "-1" => Some(None),
                        _ => text.parse().ok().filter(|size| *size > 0).map(Some),
                    },
                )
                .unwrap_or(Some(65_536)),
            log_callid: reader.flag("log_callid").unwrap_or(false),
            cgi_headers: reader.flag("cgi_headers").unwrap_or(true),
            static_path: reader
                .text("static_path")
                .map_or_else(|| PathBuf::from("/home/app/public"), PathBuf::from),
            ready_path: reader.parsed("ready_path", "a path such as /ready", |text| {
                (text.starts_with('/') && text.parse::<http::Uri>().is_ok()).then(|| text.to_owned())
            }),
            upstream_url: reader.upstream(),
            buffer_http: reader.flag("buffer_http").unwrap_or(false)
                | reader.flag("http_buffer_req_body").unwrap_or(false),
        };
        if reader.flag("jwt_auth") == Some(true) {
            reader.fail(
                "jwt_auth",
                "function authentication is not supported; protect the route at the gateway",
            );
        }
        if reader.flag("marshal_request") == Some(true) {
            reader.fail(
                "marshal_request",
                "is not supported; read the body from stdin and the head from Http_*",
            );
        }
        if reader.errors.is_empty() {
            Ok(settings)
        } else {
            Err(reader.errors)
        }
    }
}

impl Settings {
    /// The port of this machine that every replica's process would listen on,
    /// so that only one can run at a time.
    pub fn fixed_port(&self) -> Option<u16> {
        let url = self.upstream_url.as_ref().filter(|url| is_local(url))?;
        (self.mode == Mode::Http).then(|| url.port_or_known_default().unwrap_or(80))
    }
}

/// Whether a URL names this machine.
pub(super) fn is_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback() || address.is_unspecified(),
        Some(Host::Ipv6(address)) => address.is_loopback() || address.is_unspecified(),
        None => false,
    }
}

/// What of-watchdog waits for when a timeout is not set.
const USUAL_TIMEOUT: Duration = Duration::from_secs(30);

struct Reader<'a> {
    env: &'a BTreeMap<String, String>,
    errors: Vec<SettingError>,
}

impl Reader<'_> {
    /// A value; set to nothing is the same as unset.
    fn text(&self, variable: &str) -> Option<&str> {
        self.env
            .get(variable)
            .map(String::as_str)
            .filter(|text| !text.is_empty())
    }

    fn fail(&mut self, variable: &'static str, message: impl Into<String>) {
        self.errors.push(SettingError {
            variable,
            message: message.into(),
        });
    }

    fn parsed<T>(&mut self, variable: &'static str, expected: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let text = self.text(variable)?.to_owned();
        let value = parse(&text);
        if value.is_none() {
            self.fail(variable, format!("expected {expected}, found '{text}'"));
        }
        value
    }

    fn duration(&mut self, variable: &'static str) -> Option<Duration> {
        self.parsed(variable, "a duration such as 30, 30s or 1m30s", duration::parse)
    }

    fn flag(&mut self, variable: &'static str) -> Option<bool> {
        self.parsed(variable, "true or false", |text| match text {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        })
    }

    fn mode(&mut self) -> Mode {
        self.parsed(
            "mode",
            "one of fork, streaming, serializing, http, static (inproc and afterburn are not supported)",
            |text| Mode::from_str(text, false).ok(),
        )
        .unwrap_or(Mode::Fork)
    }

    fn command(&mut self, mode: Mode) -> Vec<String> {
        let variable = if self.text("function_process").is_some() {
            "function_process"
        } else {
            "fprocess"
        };
        if mode == Mode::Static {
            return Vec::new();
        }
        let Some(text) = self.text(variable).map(str::to_owned) else {
            self.fail(
                variable,
                "is missing; set it, or --command, to the command of the function",
            );
            return Vec::new();
        };
        match shell_words::split(&text) {
            Ok(words) if words.is_empty() => {
                self.fail(variable, "names no command");
                words
            }
            Ok(words) => words,
            Err(error) => {
                self.fail(variable, format!("{error} in '{text}'"));
                Vec::new()
            }
        }
    }

    fn upstream(&mut self) -> Option<Url> {
        let variable = if self.text("upstream_url").is_some() {
            "upstream_url"
        } else {
            "http_upstream_url"
        };
        self.parsed(variable, "a URL such as http://127.0.0.1:5000", |text| {
            let url = Url::parse(text).ok()?;
            (url.scheme() == "http" && url.host().is_some()).then_some(url)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, Vec<SettingError>> {
        let mut env: BTreeMap<String, String> = BTreeMap::from([("fprocess".to_owned(), "cat".to_owned())]);
        env.extend(
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        Settings::from_env(&env)
    }

    #[test]
    fn defaults_follow_the_mode() {
        let fork = read(&[]).expect("valid");
        assert_eq!((fork.mode, fork.exec_timeout), (Mode::Fork, None));
        assert!(fork.combine_output && fork.cgi_headers && fork.prefix_logs);
        assert!(!fork.write_debug && !fork.log_callid && !fork.buffer_http);
        assert_eq!(fork.log_buffer_size, Some(65_536));
        assert_eq!((fork.max_inflight, fork.content_type.as_deref()), (None, None));
        for mode in ["streaming", "serializing", "http", "static"] {
            let other = read(&[("mode", mode)]).expect("valid");
            assert_eq!(other.exec_timeout, Some(Duration::from_secs(30)), "{mode}");
        }
    }

    #[test]
    fn values_are_read() {
        let settings = read(&[
            ("mode", "http"),
            ("function_process", "node 'my server.js' --port=\"1 2\""),
            ("exec_timeout", "1m30s"),
            ("read_timeout", "7"),
            ("write_timeout", "250ms"),
            ("healthcheck_interval", "0"),
            ("max_inflight", "3"),
            ("combine_output", "false"),
            ("log_buffer_size", "-1"),
            ("http_upstream_url", "http://127.0.0.1:5000/base"),
            ("http_buffer_req_body", "1"),
            ("ready_path", "/ready?x=1"),
        ])
        .expect("valid");
        assert_eq!(settings.command, ["node", "my server.js", "--port=1 2"]);
        assert_eq!(settings.exec_timeout, Some(Duration::from_secs(90)));
        assert_eq!(settings.read_timeout, Duration::from_secs(7));
        assert_eq!(settings.write_timeout, Duration::from_millis(250));
        assert_eq!(settings.healthcheck_interval, Some(Duration::ZERO));
        assert_eq!(settings.max_inflight, Some(3));
        assert!(!settings.combine_output && settings.buffer_http);
        assert_eq!(settings.log_buffer_size, None);
        assert_eq!(settings.ready_path.as_deref(), Some("/ready?x=1"));
        assert_eq!(settings.upstream_url.expect("set").port(), Some(5000));
    }

    #[test]
    fn every_malformed_value_is_named() {
        for (variable, value) in [
            ("mode", "inproc"),
            ("mode", "Fork"),
            ("fprocess", "cat 'unclosed"),
            ("fprocess", ""),
            ("fprocess", "  "),
            ("exec_timeout", "-1"),
            ("read_timeout", "abc"),
            ("write_timeout", "0"),
            ("max_inflight", "-1"),
            ("max_inflight", "many"),
            ("max_inflight", "9999999999999999999"),
            ("combine_output", "yes"),
            ("log_buffer_size", "0"),
            ("log_buffer_size", "-2"),
            ("content_type", "a\nb"),
            ("ready_path", "ready"),
            ("upstream_url", "https://127.0.0.1:5000"),
            ("upstream_url", "127.0.0.1:5000"),
            ("port", "99999"),
            ("jwt_auth", "true"),
            ("marshal_request", "true"),
        ] {
            let errors = read(&[(variable, value)]).expect_err(value);
            assert_eq!(errors.len(), 1, "{variable}={value}: {errors:?}");
            assert_eq!(errors[0].variable, variable, "{value}");
        }
        let all = read(&[("exec_timeout", "x"), ("read_timeout", "y"), ("prefix_logs", "z")]);
        assert_eq!(all.expect_err("three mistakes").len(), 3);
    }

    #[test]
    fn a_fixed_port_is_one_of_this_machine() {
        for (mode, url, port) in [
            ("http", "http://127.0.0.1:5000", Some(5000)),
            ("http", "http://localhost:3000/base", Some(3000)),
            ("http", "http://0.0.0.0:3000", Some(3000)),
            ("http", "http://[::1]", Some(80)),
            ("http", "http://fn.example:5000", None),
            ("fork", "http://127.0.0.1:5000", None),
        ] {
            let settings = read(&[("mode", mode), ("upstream_url", url)]).expect("valid");
            assert_eq!(settings.fixed_port(), port, "{mode} {url}");
        }
        assert_eq!(read(&[("mode", "http")]).expect("valid").fixed_port(), None);
    }

    #[test]
    fn static_needs_no_command() {
        let settings = Settings::from_env(&BTreeMap::from([("mode".to_owned(), "static".to_owned())]));
        assert_eq!(settings.expect("valid").static_path, PathBuf::from("/home/app/public"));
        assert_eq!(
            Settings::from_env(&BTreeMap::new()).expect_err("no command")[0].variable,
            "fprocess"
        );
    }
}
