//! What names look like, as regular expressions for the document.
//!
//! The checks themselves are elsewhere ([`crate::model`] for names in requests,
//! the provider for names of what is created); poem derives types from handlers,
//! not what else a text must be. `tests/conformance` sends what these patterns
//! permit and what they do not, so they cannot say something else than the checks.

use serde_json::{Value, json};

/// Most characters of any name.
pub(super) const NAME_LEN: usize = 253;
/// `name` or `name.namespace`: what [`crate::model::FunctionRef::parse`] takes.
pub(super) const NAME: &str = "^([A-Za-z0-9_-]+|[A-Za-z0-9_.-]+\\.[A-Za-z0-9_-]*)$";
/// The same, or nothing, which is as good as absent.
pub(super) const NAME_OR_EMPTY: &str = "^([A-Za-z0-9_-]+|[A-Za-z0-9_.-]+\\.[A-Za-z0-9_-]*)?$";
/// A DNS-1123 label: a function or a namespace that is created.
const LABEL: &str = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$";
/// The same, or nothing: the path has the name.
const LABEL_OR_EMPTY: &str = "^([a-z0-9]([a-z0-9-]*[a-z0-9])?)?$";
/// Most characters of a DNS-1123 label.
const LABEL_LEN: usize = 63;
/// A DNS-1123 subdomain: a secret.
const SUBDOMAIN: &str = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$";
/// Fits on a line.
const ONE_LINE: &str = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$";
/// Is not blank.
pub(super) const NOT_BLANK: &str = "\\S";

/// Adds to the schemas of request bodies what their fields must look like.
pub(super) fn constrain(document: &mut Value) {
    let file_name_len = super::payload::FILE_NAME_LEN;
    for (schema, property, limits) in [
        (
            "FunctionDeployment",
            "service",
            json!({ "pattern": LABEL, "maxLength": LABEL_LEN }),
        ),
        (
            "FunctionDeployment",
            "namespace",
            json!({ "pattern": NAME_OR_EMPTY, "maxLength": NAME_LEN }),
        ),
        (
            "DeleteFunctionRequest",
            "functionName",
            json!({ "pattern": NAME, "maxLength": NAME_LEN }),
        ),
        (
            "DeleteFunctionRequest",
            "namespace",
            json!({ "pattern": NAME_OR_EMPTY, "maxLength": NAME_LEN }),
        ),
        (
            "ScaleServiceRequest",
            "namespace",
            json!({ "pattern": NAME_OR_EMPTY, "maxLength": NAME_LEN }),
        ),
        ("ScaleServiceRequest", "replicas", json!({ "maximum": u64::MAX })),
        ("Secret", "name", json!({ "pattern": SUBDOMAIN, "maxLength": NAME_LEN })),
        (
            "Secret",
            "namespace",
            json!({ "pattern": NAME_OR_EMPTY, "maxLength": NAME_LEN }),
        ),
        (
            "FunctionNamespace",
            "name",
            json!({ "pattern": LABEL_OR_EMPTY, "maxLength": LABEL_LEN }),
        ),
        ("ConfigCandidate", "files", json!({ "minItems": 1 })),
        (
            "ConfigCandidateFile",
            "name",
            json!({ "pattern": ONE_LINE, "maxLength": file_name_len }),
        ),
        ("ConfigCandidateFile", "content", json!({ "pattern": NOT_BLANK })),
    ] {
        let field = &mut document["components"]["schemas"][schema]["properties"][property];
        let field = field.as_object_mut().expect("a schema of ours has this field");
        let limits = limits.as_object().expect("written above");
        field.extend(limits.iter().map(|(name, limit)| (name.clone(), limit.clone())));
    }
}
