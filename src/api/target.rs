//! Which function or namespace a management request means: the name may carry
//! its namespace (`name.namespace`), the body or the query may give it.
//!
//! Clients disagree: `faas-cli` puts the namespace of a removal into the body,
//! the OpenFaaS portal into the query (compatibility.md section 8.3).

use poem::http::StatusCode;

use crate::{
    model::{FunctionRef, NameError},
    problem::Problem,
};

/// The function that `name` means. The first non-empty namespace wins; without
/// one the name itself may end in `.namespace`, else it is `default`. A namespace
/// that does not count must still be one.
pub(super) fn function(name: &str, namespaces: &[Option<&str>], default: &str) -> Result<FunctionRef, NameError> {
    for namespace in given(namespaces) {
        FunctionRef::parse(namespace, "")?;
    }
    match given(namespaces).next() {
        Some(namespace) => {
            FunctionRef::parse(name, "")?;
            Ok(FunctionRef::new(name, namespace))
        }
        None => FunctionRef::parse(name, default),
    }
}

/// Like [`function`], for a name in the path: one that no function can have
/// is not found, as with OpenFaaS's router.
pub(super) fn in_path(name: &str, namespaces: &[Option<&str>], default: &str) -> Result<FunctionRef, Problem> {
    function(name, namespaces, default).map_err(|error| Problem::new(StatusCode::NOT_FOUND, error.to_string()))
}

/// Like [`function`], for a name in a body or a query.
pub(super) fn in_body(
    field: &str,
    name: &str,
    namespaces: &[Option<&str>],
    default: &str,
) -> Result<FunctionRef, Problem> {
    function(name, namespaces, default)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("field `{field}`: {error}")))
}

/// The namespace that a request means; empty for the provider's default.
pub(super) fn namespace(namespaces: &[Option<&str>]) -> Result<String, Problem> {
    match given(namespaces).find(|namespace| FunctionRef::parse(namespace, "").is_err()) {
        None => Ok(given(namespaces).next().unwrap_or_default().to_owned()),
        Some(odd) => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            format!("'{}' is not the name of a namespace", odd.escape_default()),
        )),
    }
}

fn given<'a>(namespaces: &[Option<&'a str>]) -> impl Iterator<Item = &'a str> {
    namespaces
        .iter()
        .copied()
        .flatten()
        .filter(|namespace| !namespace.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_namespace_wins() {
        for (name, namespaces, expected) in [
            ("figlet", &[None, None][..], ("figlet", "fn")),
            ("figlet", &[Some("dev"), Some("prod")][..], ("figlet", "dev")),
            ("figlet", &[Some(""), Some("prod")][..], ("figlet", "prod")),
            ("figlet.dev", &[None][..], ("figlet", "dev")),
            ("a.b", &[Some("dev")][..], ("a.b", "dev")),
        ] {
            let (name_out, namespace_out) = expected;
            assert_eq!(
                function(name, namespaces, "fn"),
                Ok(FunctionRef::new(name_out, namespace_out)),
                "{name}"
            );
        }
    }

    #[test]
    fn odd_names_are_refused() {
        assert!(function("a@b", &[], "").is_err());
        assert!(function("", &[Some("dev")], "").is_err());
        assert!(function("a", &[Some("../x")], "").is_err());
        assert!(function("a", &[Some("x"), Some("../x")], "").is_err());
        assert_eq!(in_path("a@b", &[], "").expect_err("odd").status, 404);
        assert_eq!(in_body("service", "", &[], "").expect_err("empty").status, 400);
        assert_eq!(namespace(&[Some("../x")]).expect_err("odd").status, 400);
        assert_eq!(namespace(&[Some("x"), Some("../x")]).expect_err("odd").status, 400);
    }
}
