//! The environment layer: OpenFaaS's variables under their own names, some of
//! OpenTelemetry's, and `FAAS__SECTION__KEY` for every key.

use std::collections::BTreeMap;

use figment::value::Value;

use super::{
    layer::{Layer, Tier},
    setting::ConfigError,
};

mod otel;

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

/// Between the parts of a key, as in the prefix.
const SEPARATOR: &str = "__";

/// Variables of OpenFaaS gateways that change nothing here, and why. Deployments
/// made for those carry them, so they are no mistake; but whoever set one
/// expects something.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    (
        "probe_functions",
        "a call is only sent to a replica that reported ready",
    ),
    (
        "probe_interval",
        "a starting function is looked at every scaling.poll_interval",
    ),
    (
        "probe_count",
        "a call waits scaling.activation_timeout for a starting function",
    ),
    (
        "default_target",
        "this version scales on calls from zero and on request only",
    ),
    ("async", "this version has no asynchronous calls"),
    ("metering", "this version has no metering"),
    ("metering_excluded_namespaces", "this version has no metering"),
    ("metering_default_memory", "this version has no metering"),
    ("pprof", "there is no Go runtime to profile"),
    ("http_proxy", DIRECT),
    ("https_proxy", DIRECT),
    ("HTTP_PROXY", DIRECT),
    ("HTTPS_PROXY", DIRECT),
];

const DIRECT: &str = "the gateway connects to providers and functions directly";

/// One layer per variable that says something, so that errors name the variable.
pub(super) fn layers(environment: &BTreeMap<String, String>) -> Vec<(Tier, Result<Layer, ConfigError>)> {
    let openfaas = OPENFAAS.iter().filter_map(|(variable, key)| {
        let value = environment.get(*variable).filter(|value| !value.is_empty())?;
        let path: Vec<&str> = key.split('.').collect();
        Some(Ok(Layer::value(&origin(variable), &path, Value::from(value.as_str()))))
    });
    let request_uri = environment.contains_key(WRITE_REQUEST_URI).then(|| {
        Ok(Layer::value(
            &origin(WRITE_REQUEST_URI),
            &["logging", "upstream_uri"],
            Value::from(true),
        ))
    });
    let own = environment.iter().filter_map(|(variable, value)| {
        let key = variable.strip_prefix(PREFIX)?.to_ascii_lowercase();
        let path: Vec<&str> = key.split(SEPARATOR).collect();
        Some(Layer::text(&origin(variable), &path, value))
    });
    let openfaas = openfaas.chain(request_uri).map(|layer| (Tier::OpenFaas, layer));
    let otel = otel::layers(environment).into_iter();
    let otel = otel.map(|layer| (Tier::OpenTelemetry, layer));
    let own = own.map(|layer| (Tier::Variables, layer));
    openfaas.chain(otel).chain(own).collect()
}

/// Whether a variable sets a key, or is known to change nothing.
pub(super) fn is_known(variable: &str) -> bool {
    variable.starts_with(PREFIX)
        || variable == WRITE_REQUEST_URI
        || otel::is_known(variable)
        || OPENFAAS.iter().chain(WITHOUT_EFFECT).any(|(name, _)| *name == variable)
}

/// A warning for each variable that is set but changes nothing.
pub(super) fn without_effect(environment: &BTreeMap<String, String>) -> Vec<String> {
    WITHOUT_EFFECT
        .iter()
        .filter(|(variable, _)| {
            environment
                .get(*variable)
                .is_some_and(|value| !matches!(value.as_str(), "" | "false"))
        })
        .map(|(variable, reason)| format!("{} is set but has no effect: {reason}", origin(variable)))
        .collect()
}

fn origin(variable: &str) -> String {
    format!("environment variable {variable}")
}
