//! Invocation counts for lists of functions: from Prometheus, which adds up
//! all gateways and outlives them, else from this gateway's own counters.
//!
//! A list must not fail because Prometheus does, so every failure here is a
//! debug line and the own counters.

use std::{collections::HashMap, net::Ipv6Addr, time::Duration};

use serde::Deserialize;
use url::Url;

use super::{FUNCTION_NAME, INVOCATION_TOTAL, Metrics, replicas::label};
use crate::{
    client,
    config::{self, Unusable},
    model::FunctionStatus,
};

/// Bound on a query: somebody waits for the list.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Completed calls by `function_name`.
pub type Counts = HashMap<String, f64>;

/// A Prometheus server that scrapes this gateway.
#[derive(Debug, Clone)]
pub struct Prometheus {
    client: reqwest::Client,
    base: Url,
}

impl Prometheus {
    /// The server of `[prometheus]`; `None` when no host is set.
    ///
    /// # Errors
    /// When the host cannot be part of a URL.
    pub fn new(settings: &config::Prometheus) -> Result<Option<Self>, Unusable> {
        let Some(host) = &settings.host else {
            return Ok(None);
        };
        Ok(Some(Self {
            client: client::build(TIMEOUT),
            base: base_url(host, settings.port).map_err(|error| Unusable::new(&["prometheus.host"], error))?,
        }))
    }

    /// Completed calls of the functions of a namespace; an empty one means all.
    /// `None` when Prometheus did not answer, which is logged.
    pub async fn invocations(&self, namespace: &str) -> Option<Counts> {
        let url = query_url(&self.base, namespace);
        match self.fetch(url).await {
            Ok(counts) => Some(counts),
            Err(error) => {
                tracing::debug!(%error, "prometheus gave no invocation counts; using this gateway's own");
                None
            }
        }
    }

    /// The values of a query by `function_name`.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn by_function(&self, query: &str) -> Result<Counts, String> {
        let mut url = self.base.clone();
        url.query_pairs_mut().append_pair("query", query);
        self.fetch(url).await
    }

    async fn fetch(&self, url: Url) -> Result<Counts, String> {
        let response = self
            .client
            .get(url)
            .send()
            .await
            .map_err(|error| client::describe(&error))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|error| client::describe(&error))?;
        if !status.is_success() {
            return Err(format!("status {status}"));
        }
        counts(&body)
    }
}

/// Writes `invocationCount` of each function: from Prometheus when it answered
/// (functions it does not know have 0), else what this gateway has counted.
pub fn mix_in(functions: &mut [FunctionStatus], counted: Option<&Counts>, own: &Metrics) {
    for function in functions {
        let label = label(function);
        let count = match counted {
            Some(counts) => counts.get(&label).copied().unwrap_or_default(),
            None => own.invocations(&label),
        };
        function.invocation_count = Some(count.into());
    }
}

fn base_url(host: &str, port: u16) -> Result<Url, String> {
    let host = match host.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => host.to_owned(),
    };
    let text = format!("http://{host}:{port}/api/v1/query");
    if host.contains('@') {
        return Err("has user information, which is never sent".to_owned());
    }
    let url = Url::parse(&text).map_err(|error| format!("'{host}' is not a host name: {error}"))?;
    // `prom/x` parses too, with the port in its path.
    if url.path() != "/api/v1/query" || url.port_or_known_default() != Some(port) {
        return Err(format!("'{host}' is not a host name"));
    }
    Ok(url)
}

fn query_url(base: &Url, namespace: &str) -> Url {
    let mut url = base.clone();
    url.query_pairs_mut().append_pair("query", &query(namespace));
    url
}

/// The sum of completed calls by function, for the functions of a namespace.
fn query(namespace: &str) -> String {
    let pattern = if namespace.is_empty() {
        ".+".to_owned()
    } else {
        format!(r".*\.{}", escape_pattern(namespace))
    };
    let pattern = quoted(&pattern);
    format!("sum by ({FUNCTION_NAME}) ({INVOCATION_TOTAL}{{{FUNCTION_NAME}=~{pattern}}})")
}

/// A text as PromQL writes it.
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', r#"\""#))
}

/// Escapes what is not plain text in a regular expression.
fn escape_pattern(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if r"\.+*?()|[]{}^$".contains(character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Sample>,
}

#[derive(Deserialize)]
struct Sample {
    #[serde(default)]
    metric: HashMap<String, String>,
    value: (f64, String),
}

/// The counts of an answer; samples without function or number are skipped.
fn counts(body: &[u8]) -> Result<Counts, String> {
    let answer: Answer = serde_json::from_slice(body).map_err(|error| format!("unexpected answer: {error}"))?;
    let mut counts = Counts::new();
    for mut sample in answer.data.result {
        let (_, number) = &sample.value;
        let Some(number) = number.parse().ok().filter(|number: &f64| number.is_finite()) else {
            continue;
        };
        if let Some(function) = sample.metric.remove(FUNCTION_NAME) {
            *counts.entry(function).or_default() += number;
        }
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::from_json;

    #[test]
    fn queries_select_a_namespace() {
        for (namespace, pattern) in [
            ("", r".+"),
            ("openfaas-fn", r".*\\.openfaas-fn"),
            (r#"a"b"#, r#".*\\.a\"b"#),
            ("a.b", r".*\\.a\\.b"),
        ] {
            let expected =
                format!(r#"sum by (function_name) (gateway_function_invocation_total{{function_name=~"{pattern}"}})"#);
            assert_eq!(query(namespace), expected);
        }
        let base = base_url("prometheus", 9090).expect("a host name");
        assert_eq!(
            query_url(&base, "dev").as_str(),
            "http://prometheus:9090/api/v1/query?query=sum+by+%28function_name%29+\
             %28gateway_function_invocation_total%7Bfunction_name%3D%7E%22.*%5C%5C.dev%22%7D%29"
        );
    }

    #[test]
    fn hosts_are_hosts() {
        assert_eq!(
            base_url("::1", 9090).expect("an address").as_str(),
            "http://[::1]:9090/api/v1/query"
        );
        assert_eq!(
            base_url("prom", 80).expect("a name").as_str(),
            "http://prom/api/v1/query"
        );
        for wrong in ["", "http://prometheus", "prom/x", "a b", "prom?x"] {
            let error = base_url(wrong, 9090).expect_err(wrong);
            assert!(error.contains("is not a host name"), "{error}");
        }
        let error = base_url("user:pw@prom", 9090).expect_err("refused");
        assert!(!error.contains("pw"), "{error}");
    }

    #[test]
    fn answers_add_up() {
        let body = br#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{"function_name":"a.fn"},"value":[1700000000.1,"2"]},
            {"metric":{"function_name":"a.fn","code":"500"},"value":[1700000000,"3"]},
            {"metric":{"function_name":"b.fn"},"value":[1700000000,"NaN"]},
            {"metric":{},"value":[1700000000,"7"]}]}}"#;
        assert_eq!(counts(body), Ok(Counts::from([("a.fn".to_owned(), 5.0)])));
        assert!(counts(b"<html>").is_err());
        assert!(counts(br#"{"status":"error","error":"parse error"}"#).is_err());
    }

    #[test]
    fn own_counters_stand_in() {
        let list = || -> Vec<FunctionStatus> {
            [
                r#"{"name":"a","namespace":"fn","image":"i"}"#,
                r#"{"name":"b","namespace":"fn","image":"i"}"#,
            ]
            .iter()
            .map(|text| from_json(text.as_bytes()).expect("a status"))
            .collect()
        };
        let own = Metrics::new();
        own.function("a.fn").completed(200, Duration::from_millis(1));

        let mut functions = list();
        mix_in(&mut functions, None, &own);
        let seen: Vec<_> = functions
            .iter()
            .map(|function| function.invocation_count.map(|count| count.0))
            .collect();
        assert_eq!(seen, [Some(1.0), Some(0.0)]);

        let mut functions = list();
        mix_in(&mut functions, Some(&Counts::from([("b.fn".to_owned(), 9.0)])), &own);
        let seen: Vec<_> = functions
            .iter()
            .map(|function| function.invocation_count.map(|count| count.0))
            .collect();
        assert_eq!(seen, [Some(0.0), Some(9.0)]);
    }
}
