//! What every provider of ours demands of names, quantities and labels.
//!
//! Pure checks with texts for the person who sent the request. Whether a
//! command exists is for the provider that runs it to say; nothing here looks
//! at the machine.

use std::collections::BTreeMap;

use crate::{
    config::Size,
    model::{
        FunctionDeployment, FunctionResources, FunctionStatus,
        label::{SCALE_MAX, SCALE_MIN},
    },
    provider::ProviderError,
};

/// Label that providers add to a function: its own name.
const FAAS_FUNCTION: &str = "faas_function";
/// Longest DNS label.
const LABEL_LEN: usize = 63;
/// Longest DNS name.
const SUBDOMAIN_LEN: usize = 253;
/// Most replicas of one function on one machine: a guard against a slip of the finger.
pub(super) const MAX_REPLICAS: u64 = 1000;

/// Result of a check; the error is [`ProviderError::Invalid`].
type Check<T = ()> = Result<T, ProviderError>;

fn invalid<T>(text: String) -> Check<T> {
    Err(ProviderError::Invalid(text))
}

/// Whether `text` is a DNS-1123 label: `^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`, at most 63 bytes.
fn is_label(text: &str) -> bool {
    text.len() <= LABEL_LEN && is_part(text)
}

/// The same of any length, as in DNS-1123 subdomains (Kubernetes bounds those as a whole).
fn is_part(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    edge(text.as_bytes().first())
        && edge(text.as_bytes().last())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Checks the name of a function to deploy.
pub(super) fn service(name: &str) -> Check {
    if name.is_empty() {
        return invalid("service: the function needs a name".to_owned());
    }
    if is_label(name) {
        return Ok(());
    }
    invalid(format!(
        "service: '{}' is not a function name: use at most {LABEL_LEN} of a-z, 0-9 and '-', not starting or ending with '-'",
        name.escape_default()
    ))
}

/// Checks the name of a namespace to create.
pub(super) fn namespace(name: &str) -> Check {
    if is_label(name) {
        return Ok(());
    }
    invalid(format!(
        "name: '{}' is not a namespace name: use at most {LABEL_LEN} of a-z, 0-9 and '-', not starting or ending with '-'",
        name.escape_default()
    ))
}

/// Checks the name of a secret to create: a DNS-1123 subdomain, which is also a safe file name.
pub(super) fn secret(name: &str) -> Check {
    if !name.is_empty() && name.len() <= SUBDOMAIN_LEN && name.split('.').all(is_part) {
        return Ok(());
    }
    invalid(format!(
        "name: '{}' is not a secret name: use parts of a-z, 0-9 and '-' separated by '.', at most {SUBDOMAIN_LEN} bytes",
        name.escape_default()
    ))
}

/// Checks everything about a deployment that does not depend on the machine or
/// on what else is deployed.
pub(super) fn deployment(deployment: &FunctionDeployment) -> Check {
    service(&deployment.service)?;
    bounds(deployment.labels.as_ref())?;
    for (field, resources) in [("limits", &deployment.limits), ("requests", &deployment.requests)] {
        if let Some(resources) = resources {
            quantities(field, resources)?;
        }
    }
    for (name, value) in deployment.env_vars.iter().flatten() {
        if name.is_empty() || name.contains(['=', '\0']) || name.chars().any(char::is_whitespace) {
            return invalid(format!(
                "envVars: '{}' cannot be the name of an environment variable",
                name.escape_default()
            ));
        }
        if value.contains('\0') {
            return invalid(format!("envVars: the value of '{name}' contains a NUL byte"));
        }
    }
    for name in deployment.secrets.iter().flatten() {
        secret(name)?;
    }
    Ok(())
}

/// Fewest and most replicas that labels ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// At least so many; also how many a new function gets.
    pub(super) min: u64,
    /// At most so many, when the labels say.
    pub(super) max: Option<u64>,
}

impl Bounds {
    /// Replicas of a function that is deployed: a new or stopped one starts
    /// with the least, a running one keeps its count within the bounds.
    pub(super) fn replicas(self, before: Option<u64>) -> u64 {
        match before {
            None | Some(0) => self.min,
            Some(before) => before.min(self.max.unwrap_or(before)).max(self.min),
        }
    }
}

/// Reads the replica bounds from labels.
pub(super) fn bounds(labels: Option<&BTreeMap<String, String>>) -> Check<Bounds> {
    let read = |key: &str| match labels.and_then(|labels| labels.get(key)) {
        None => Ok(None),
        Some(text) => match text.trim().parse::<u64>() {
            Ok(number) if number <= MAX_REPLICAS => Ok(Some(number)),
            _ => invalid(format!(
                "labels: {key} is '{text}', which is not a number of replicas from 0 to {MAX_REPLICAS}"
            )),
        },
    };
    let (min, max) = (read(SCALE_MIN)?, read(SCALE_MAX)?);
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        return invalid(format!("labels: {SCALE_MIN} ({min}) is more than {SCALE_MAX} ({max})"));
    }
    let most = max.unwrap_or(u64::MAX);
    Ok(Bounds {
        min: min.unwrap_or_else(|| most.min(1)),
        max,
    })
}

/// Checks a number of replicas to scale to.
pub(super) fn replicas(count: u64) -> Check {
    if count <= MAX_REPLICAS {
        return Ok(());
    }
    invalid(format!(
        "replicas: {count} is more than the {MAX_REPLICAS} replicas that one function may have here"
    ))
}

fn quantities(field: &str, resources: &FunctionResources) -> Check {
    if let Some(text) = set(resources.memory.as_ref())
        && memory_bytes(text).is_none()
    {
        return invalid(format!(
            "{field}.memory: '{text}' is not a quantity of memory; write bytes with an optional suffix, like 128Mi or 1G"
        ));
    }
    if let Some(text) = set(resources.cpu.as_ref())
        && cpu_millis(text).is_none()
    {
        return invalid(format!(
            "{field}.cpu: '{text}' is not a quantity of processors; write cores or milli-cores, like 0.5 or 100m"
        ));
    }
    Ok(())
}

fn set(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

/// Memory limit of a deployment, in bytes; `None` when it has none.
pub(super) fn memory_limit(deployment: &FunctionDeployment) -> Option<u64> {
    memory_bytes(set(deployment.limits.as_ref()?.memory.as_ref())?)
}

/// Processor limit of a deployment, in milli-cores; `None` when it has none.
pub(super) fn cpu_limit(deployment: &FunctionDeployment) -> Option<u64> {
    cpu_millis(set(deployment.limits.as_ref()?.cpu.as_ref())?)
}

/// Reads a quantity of memory as Kubernetes writes it; zero is not a limit.
fn memory_bytes(text: &str) -> Option<u64> {
    Size::parse(text).map(|Size(bytes)| bytes).filter(|bytes| *bytes > 0)
}

/// Reads `2`, `0.5`, `.5` or `100m` as milli-cores, rounded up as Kubernetes does.
fn cpu_millis(text: &str) -> Option<u64> {
    let (number, per_unit) = match text.strip_suffix('m') {
        Some(millis) => (millis, 0),
        None => (text, 3),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !digits(whole) || !digits(fraction) || (per_unit == 0 && number != whole) {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let kept: String = fraction.chars().chain("000".chars()).take(per_unit).collect();
    let part: u64 = if kept.is_empty() { 0 } else { kept.parse().ok()? };
    let rest = fraction.bytes().skip(per_unit).any(|byte| byte != b'0');
    let millis = whole
        .checked_mul(if per_unit == 0 { 1 } else { 1000 })?
        .checked_add(part)?
        .checked_add(u64::from(rest))?;
    (millis > 0).then_some(millis)
}

/// The status of a deployed function, without usage: what was sent, with empty
/// optional collections absent and both maps present, as clients of OpenFaaS
/// expect (compatibility.md section 9).
pub(super) fn describe(
    deployment: &FunctionDeployment,
    namespace: &str,
    replicas: u64,
    available_replicas: u64,
    created_at: chrono::DateTime<chrono::Utc>,
) -> FunctionStatus {
    let mut labels = deployment.labels.clone().unwrap_or_default();
    labels.insert(FAAS_FUNCTION.to_owned(), deployment.service.clone());
    let resources =
        |resources: &Option<FunctionResources>| resources.clone().filter(|r| *r != FunctionResources::default());
    FunctionStatus {
        name: deployment.service.clone(),
        image: deployment.image.clone(),
        namespace: Some(namespace.to_owned()).filter(|namespace| !namespace.is_empty()),
        env_process: deployment.env_process.clone().filter(|command| !command.is_empty()),
        env_vars: deployment.env_vars.clone().filter(|map| !map.is_empty()),
        constraints: deployment.constraints.clone().filter(|list| !list.is_empty()),
        secrets: deployment.secrets.clone().filter(|list| !list.is_empty()),
        labels: Some(labels),
        annotations: Some(deployment.annotations.clone().unwrap_or_default()),
        limits: resources(&deployment.limits),
        requests: resources(&deployment.requests),
        read_only_root_filesystem: deployment.read_only_root_filesystem,
        invocation_count: None,
        replicas,
        available_replicas,
        created_at: created_at.into(),
        usage: None,
        other: std::collections::HashMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn function_and_namespace_names_are_dns_labels() {
        for name in ["a", "a1", "figlet", "a-b-c", "0", &"a".repeat(63)] {
            assert!(service(name).is_ok() && namespace(name).is_ok(), "{name}");
        }
        for name in ["", "-a", "a-", "A", "a.b", "a_b", "a b", "ä", "../x", &"a".repeat(64)] {
            assert!(service(name).is_err() && namespace(name).is_err(), "{name}");
        }
    }

    #[test]
    fn secret_names_are_dns_subdomains() {
        for name in ["a", "api-key", "db.password", "a.b.c", &"a".repeat(253)] {
            assert!(secret(name).is_ok(), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a.",
            "A",
            "a/b",
            "a_b",
            "../etc",
            &"a.".repeat(200),
        ] {
            assert!(secret(name).is_err(), "{name}");
        }
    }

    #[test]
    fn bounds_from_labels() {
        let ok = |pairs: &[(&str, &str)]| bounds(Some(&labels(pairs))).map(|b| (b.min, b.max)).ok();
        assert_eq!(ok(&[]), Some((1, None)));
        assert_eq!(ok(&[(SCALE_MIN, "2")]), Some((2, None)));
        assert_eq!(ok(&[(SCALE_MIN, "0"), (SCALE_MAX, "4")]), Some((0, Some(4))));
        assert_eq!(ok(&[(SCALE_MAX, "0")]), Some((0, Some(0))));
        assert_eq!(ok(&[(SCALE_MIN, "3"), (SCALE_MAX, "2")]), None);
        assert_eq!(ok(&[(SCALE_MIN, "-1")]), None);
        assert_eq!(ok(&[(SCALE_MAX, "many")]), None);
        assert_eq!(ok(&[(SCALE_MIN, "1000000")]), None);
    }

    #[test]
    fn a_redeployed_function_keeps_its_replicas_within_bounds() {
        let bounds = Bounds { min: 2, max: Some(4) };
        for (before, after) in [(None, 2), (Some(0), 2), (Some(1), 2), (Some(3), 3), (Some(9), 4)] {
            assert_eq!(bounds.replicas(before), after, "{before:?}");
        }
        assert_eq!(Bounds { min: 1, max: None }.replicas(Some(9)), 9);
    }

    #[test]
    fn processor_quantities() {
        for (text, millis) in [
            ("100m", 100),
            ("0.5", 500),
            (".5", 500),
            ("2", 2000),
            ("1.25", 1250),
            ("0.0001", 1),
            ("1.", 1000),
        ] {
            assert_eq!(cpu_millis(text), Some(millis), "{text}");
        }
        for text in [
            "",
            "m",
            ".",
            "0",
            "0m",
            "-1",
            "1.5m",
            "one",
            "1e3",
            "99999999999999999999",
        ] {
            assert_eq!(cpu_millis(text), None, "{text}");
        }
    }

    #[test]
    fn refusals_name_the_field() {
        let base = FunctionDeployment {
            service: "f".to_owned(),
            ..Default::default()
        };
        let memory = FunctionResources {
            memory: Some("lots".to_owned()),
            ..Default::default()
        };
        let cpu = FunctionResources {
            cpu: Some("lots".to_owned()),
            ..Default::default()
        };
        let cases = [
            (
                FunctionDeployment {
                    limits: Some(memory),
                    ..base.clone()
                },
                "limits.memory",
            ),
            (
                FunctionDeployment {
                    requests: Some(cpu),
                    ..base.clone()
                },
                "requests.cpu",
            ),
            (
                FunctionDeployment {
                    env_vars: Some(labels(&[("A=B", "")])),
                    ..base.clone()
                },
                "envVars",
            ),
            (
                FunctionDeployment {
                    service: "No".to_owned(),
                    ..base.clone()
                },
                "service",
            ),
            (
                FunctionDeployment {
                    labels: Some(labels(&[(SCALE_MIN, "x")])),
                    ..base.clone()
                },
                SCALE_MIN,
            ),
        ];
        for (case, expected) in cases {
            let error = deployment(&case).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(deployment(&base).is_ok());
    }

    #[test]
    fn a_status_shows_maps_and_hides_what_is_empty() {
        let sent = FunctionDeployment {
            service: "f".to_owned(),
            env_vars: Some(BTreeMap::new()),
            secrets: Some(Vec::new()),
            limits: Some(FunctionResources::default()),
            ..Default::default()
        };
        let status = describe(&sent, "openfaas-fn", 2, 1, chrono::DateTime::UNIX_EPOCH);
        assert_eq!(status.labels, Some(labels(&[("faas_function", "f")])));
        assert_eq!(status.annotations, Some(BTreeMap::new()));
        assert_eq!((status.env_vars, status.secrets, status.limits), (None, None, None));
        assert_eq!((status.replicas, status.available_replicas), (2, 1));
    }
}
