//! The variables of OpenTelemetry that this gateway knows, as layers of `[tracing]`.
//!
//! Read here and nowhere else, so that what they set is checked, shown with its
//! source and beneath the command line like everything else.
//! <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>

use std::{borrow::Cow, collections::BTreeMap};

use figment::value::{Dict, Value};
use percent_encoding::percent_decode_str;

use super::origin;
use crate::config::{entry::dotted, layer::Layer, setting::ConfigError};

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const RESOURCE: &str = "OTEL_RESOURCE_ATTRIBUTES";
const SERVICE: &str = "OTEL_SERVICE_NAME";

/// Those of one value.
const PLAIN: &[(&str, [&str; 2])] = &[
    (ENDPOINT, ["tracing", "otlp_endpoint"]),
    (SERVICE, ["tracing", "service_name"]),
];

/// Those of a list, `NAME=VALUE,NAME=VALUE`.
const LISTS: &[(&str, [&str; 2])] = &[(HEADERS, ["tracing", "headers"]), (RESOURCE, ["tracing", "resource"])];

/// The attribute that has a key and a variable of its own, which is stronger.
const SERVICE_ATTRIBUTE: &str = "service.name";

pub(super) fn is_known(variable: &str) -> bool {
    PLAIN.iter().chain(LISTS).any(|(name, _)| *name == variable)
}

/// One layer per variable and key. An empty variable counts as not set.
pub(super) fn layers(environment: &BTreeMap<String, String>) -> Vec<Result<Layer, ConfigError>> {
    let set = |variable: &str| environment.get(variable).filter(|value| !value.is_empty());
    let mut layers = Vec::new();
    for (variable, key) in LISTS {
        let Some(text) = set(variable) else { continue };
        let Some(mut dict) = list(text) else {
            layers.push(Err(ConfigError {
                origin: origin(variable),
                key: dotted(key),
                // Without the value: it may hold a credential.
                message: "expected NAME=VALUE,NAME=VALUE with other characters as %XX".to_owned(),
            }));
            continue;
        };
        if *variable == RESOURCE
            && let Some(service) = dict.remove(SERVICE_ATTRIBUTE)
        {
            layers.push(Ok(Layer::value(
                &origin(variable),
                &["tracing", "service_name"],
                service,
            )));
        }
        layers.push(Ok(Layer::value(&origin(variable), key, Value::from(dict))));
    }
    for (variable, key) in PLAIN {
        if let Some(text) = set(variable) {
            layers.push(Ok(Layer::value(&origin(variable), key, Value::from(text.as_str()))));
        }
    }
    layers
}

fn list(text: &str) -> Option<Dict> {
    let members = text.split(',').map(str::trim).filter(|member| !member.is_empty());
    members
        .map(|member| {
            let (name, value) = member.split_once('=')?;
            let decoded = |text: &str| percent_decode_str(text.trim()).decode_utf8().ok().map(Cow::into_owned);
            let name = decoded(name).filter(|name| !name.is_empty())?;
            Some((name, Value::from(decoded(value)?)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_opentelemetry_writes_them() {
        for (text, expected) in [
            ("a=b", Some(vec![("a", "b")])),
            (
                " authorization = Bearer%20x%3D , b=1=2,,",
                Some(vec![("authorization", "Bearer x="), ("b", "1=2")]),
            ),
            ("a=", Some(vec![("a", "")])),
            ("a", None),
            ("=b", None),
            ("a=%ff", None),
        ] {
            let seen = list(text).map(|dict| {
                let pairs = dict.into_iter();
                pairs
                    .map(|(name, value)| (name, value.into_string().unwrap_or_default()))
                    .collect::<Vec<_>>()
            });
            let expected = expected.map(|pairs| {
                let pairs = pairs.into_iter();
                pairs
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect::<Vec<_>>()
            });
            assert_eq!(seen, expected, "{text}");
        }
    }
}
