//! The environment layer: OpenFaaS's variables under their own names, and
//! `FAAS__SECTION__KEY` for every key.

use std::collections::BTreeMap;

use figment::{
    providers::{Format, Toml},
    util::nest,
    value::{Dict, Value},
};

use super::Layer;

/// OpenFaaS's variables and the keys they set (compatibility.md section 2).
/// Values are read by the key's own type, which follows OpenFaaS's parse rules
/// but refuses what OpenFaaS would silently replace by a default.
pub(super) const OPENFAAS: &[(&str, &str)] = &[
    ("functions_provider_url", "provider.url"),
    ("logs_provider_url", "provider.logs_url"),
    ("function_namespace", "provider.default_namespace"),
    ("direct_functions", "provider.direct_functions"),
    ("direct_functions_suffix", "provider.direct_functions_suffix"),
    ("read_timeout", "server.read_timeout"),
    ("write_timeout", "server.write_timeout"),
    ("upstream_timeout", "invoke.upstream_timeout"),
    ("max_idle_conns", "invoke.max_idle_conns"),
    ("max_idle_conns_per_host", "invoke.max_idle_conns_per_host"),
    ("faas_nats_address", "queue.nats_address"),
    ("faas_nats_port", "queue.nats_port"),
    ("faas_nats_cluster_name", "queue.nats_cluster_name"),
    ("faas_nats_channel", "queue.nats_channel"),
    ("faas_prometheus_host", "prometheus.host"),
    ("faas_prometheus_port", "prometheus.port"),
    ("basic_auth", "auth.basic"),
    ("secret_mount_path", "auth.secret_path"),
    ("auth_proxy_url", "auth.proxy_url"),
    ("auth_proxy_pass_body", "auth.proxy_pass_body"),
    ("scale_from_zero", "scaling.from_zero"),
];

/// Set to anything, even nothing, it turns the upstream's address on in the access log.
const WRITE_REQUEST_URI: &str = "write_request_uri";

/// Prefix of the variables that name keys of the file.
const PREFIX: &str = "FAAS__";

/// One layer per variable that says something, so that errors name the variable.
pub(super) fn layers(environment: &BTreeMap<String, String>) -> Vec<Layer> {
    let openfaas = OPENFAAS.iter().filter_map(|(variable, key)| {
        let value = environment.get(*variable).filter(|value| !value.is_empty())?;
        Some(layer(variable, &key.replace('.', "__"), Value::from(value.as_str())))
    });
    let request_uri = environment
        .contains_key(WRITE_REQUEST_URI)
        .then(|| layer(WRITE_REQUEST_URI, "logging__upstream_uri", Value::from(true)));
    let own = environment.iter().filter_map(|(variable, value)| {
        let key = variable.strip_prefix(PREFIX)?;
        Some(layer(variable, &key.to_ascii_lowercase(), parse(value)))
    });
    openfaas.chain(request_uri).chain(own).collect()
}

fn layer(variable: &str, key: &str, value: Value) -> Layer {
    Layer {
        name: format!("environment variable {variable}"),
        dict: nest(&key.replace("__", "."), value).into_dict().unwrap_or_default(),
    }
}

/// Tables and lists are read as TOML writes them; everything else stays text,
/// so that a password of digits or a name like `1e3` is not taken for a number.
fn parse(value: &str) -> Value {
    if value.starts_with(['[', '{']) {
        Toml::from_str::<Dict>(&format!("value = {value}"))
            .ok()
            .and_then(|mut dict| dict.remove("value"))
            .unwrap_or_else(|| Value::from(value))
    } else {
        Value::from(value)
    }
}
