//! Names in a contract as the document of all functions has them: those of
//! components and operations begin with the function's, paths are below it. Pure.

use std::collections::BTreeSet;

/// How one function's names change.
#[derive(Debug)]
pub(super) struct Names<'l> {
    label: &'l str,
    /// What its own paths are below, beginning with a slash unless it is empty.
    base: String,
}

impl<'l> Names<'l> {
    /// For a function of this name whose document has this first server, where it
    /// has one. Of a server elsewhere nothing is taken: the function is called here.
    pub(super) fn new(label: &'l str, server: Option<&str>) -> Self {
        let path = server.filter(|server| server.starts_with('/') && !server.starts_with("//"));
        let path = path.filter(|path| !path.contains(['{', '?', '#'])).unwrap_or_default();
        // It may know where it is called.
        let called = format!("/function/{label}");
        let own = match path.find(&called) {
            Some(at) if matches!(path[at + called.len()..].chars().next(), None | Some('/')) => {
                &path[at + called.len()..]
            }
            _ => path,
        };
        Self {
            label,
            base: own.trim_end_matches('/').to_owned(),
        }
    }

    /// A component's or an operation's: the function's name, `_`, and its own.
    ///
    /// No two functions' names meet. In the function's name `_` is doubled, and what
    /// begins with `_` has a dot before it, so the first odd run of `_` ends with
    /// the one that separates.
    pub(super) fn of(&self, own: &str) -> String {
        let label = self.label.replace('_', "__");
        // With a dot before those with a dot, what begins with `._` is no exception.
        let dot = if own.starts_with(['_', '.']) { "." } else { "" };
        format!("{label}_{dot}{own}")
    }

    /// A path's. The function's root is where it is called without a path.
    pub(super) fn path(&self, own: &str) -> String {
        let Self { label, base } = self;
        match own {
            "/" if base.is_empty() => format!("/function/{label}"),
            _ => format!("/function/{label}{base}{own}"),
        }
    }

    /// What a reference means here, or why it cannot mean anything.
    pub(super) fn reference(&self, reference: &str) -> Result<String, String> {
        let Some(pointer) = reference.strip_prefix('#') else {
            return Err(format!("refers to `{reference}`, which is outside of the document"));
        };
        let parts: Vec<&str> = pointer.split('/').skip(1).collect();
        match parts[..] {
            ["components", section, name, ..] => {
                let rest = [&[""][..], &parts[3..]].concat().join("/");
                // As components are called; what is called otherwise is not there.
                let name = self.of(&unescaped(name)).replace('~', "~0").replace('/', "~1");
                Ok(format!("#/components/{section}/{name}{rest}"))
            }
            ["paths", path, ..] => {
                let path = self.path(&unescaped(path)).replace('~', "~0").replace('/', "~1");
                let rest = [&[""][..], &parts[2..]].concat().join("/");
                Ok(format!("#/paths/{path}{rest}"))
            }
            _ => Err(format!(
                "refers to `{reference}`, which is neither in `components` nor in `paths`"
            )),
        }
    }
}

/// Ids of operations of a document, each once.
#[derive(Debug, Default)]
pub(super) struct OperationIds(BTreeSet<String>);

impl OperationIds {
    /// One that is not taken yet; the second time with a number.
    pub(super) fn take(&mut self, wanted: &str) -> String {
        let mut id = wanted.to_owned();
        let mut number = 1;
        while !self.0.insert(id.clone()) {
            number += 1;
            id = format!("{wanted}_{number}");
        }
        id
    }

    /// All that are taken.
    pub(super) fn all(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// An id for an operation without: what it does, in characters that ids have.
pub(super) fn made_up(method: &str, path: &str) -> String {
    let words = path.split(|character: char| !character.is_ascii_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    [&[method][..], &words].concat().join("_")
}

/// A part of a JSON pointer as it is meant.
pub(super) fn unescaped(part: &str) -> String {
    let part = percent_encoding::percent_decode_str(part).decode_utf8_lossy();
    part.replace("~1", "/").replace("~0", "~")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_below_the_function_and_its_server() {
        for (server, own, expected) in [
            (None, "/orders", "/function/a.dev/orders"),
            (None, "/", "/function/a.dev"),
            (Some("/"), "/", "/function/a.dev"),
            (Some("/v2/"), "/orders", "/function/a.dev/v2/orders"),
            (Some("/v2"), "/", "/function/a.dev/v2/"),
            (Some("https://api.example/v2"), "/orders", "/function/a.dev/orders"),
            (Some("//api.example/v2"), "/orders", "/function/a.dev/orders"),
            (Some("/{stage}"), "/orders", "/function/a.dev/orders"),
            (Some("/function/a.dev"), "/orders", "/function/a.dev/orders"),
            (Some("/faas/function/a.dev/v2"), "/orders", "/function/a.dev/v2/orders"),
            (Some("/function/a.dev2"), "/x", "/function/a.dev/function/a.dev2/x"),
        ] {
            assert_eq!(Names::new("a.dev", server).path(own), expected, "{server:?} {own}");
        }
    }

    #[test]
    fn names_of_two_functions_never_meet() {
        for (label, own, expected) in [
            ("a", "b_c", "a_b_c"),
            ("a_b", "c", "a__b_c"),
            ("a", "_b_c", "a_._b_c"),
            ("a_", "b", "a___b"),
            ("a", "__b", "a_.__b"),
            ("a", ".b", "a_..b"),
            ("a.dev", "list", "a.dev_list"),
            ("a-b", "list", "a-b_list"),
        ] {
            assert_eq!(Names::new(label, None).of(own), expected);
        }
        // All short words of what matters, and of what does not.
        let mut words = vec![String::new()];
        for length in 0..5 {
            let longest: Vec<_> = words.iter().filter(|word| word.len() == length).cloned().collect();
            words.extend(
                longest
                    .iter()
                    .flat_map(|word| ["_", ".", "a"].map(|more| format!("{word}{more}"))),
            );
        }
        let mut names = std::collections::BTreeMap::new();
        for (label, own) in words.iter().flat_map(|label| words.iter().map(move |own| (label, own))) {
            if let Some(other) = names.insert(Names::new(label, None).of(own), (label, own)) {
                panic!("{other:?} and {:?}", (label, own));
            }
        }
        assert_eq!(names.len(), words.len() * words.len());
    }

    #[test]
    fn references_stay_inside() {
        let names = Names::new("a", None);
        for (reference, expected) in [
            ("#/components/schemas/B", Ok("#/components/schemas/a_B")),
            (
                "#/components/schemas/B/properties/c~1d",
                Ok("#/components/schemas/a_B/properties/c~1d"),
            ),
            ("#/components/schemas/%5FB", Ok("#/components/schemas/a_._B")),
            ("#/components/schemas/b~1c", Ok("#/components/schemas/a_b~1c")),
            ("#/paths/~1b~1{c}/get", Ok("#/paths/~1function~1a~1b~1{c}/get")),
            ("#/paths/~1b~1%7Bc%7D/get", Ok("#/paths/~1function~1a~1b~1{c}/get")),
            ("#/definitions/B", Err("neither in")),
            ("#", Err("neither in")),
            ("#anchor", Err("neither in")),
            ("other.yaml#/B", Err("outside")),
            ("http://127.0.0.1/x", Err("outside")),
            ("/etc/passwd", Err("outside")),
        ] {
            match (names.reference(reference), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{reference}"),
                (Err(found), Err(part)) => assert!(found.contains(part), "{reference}: {found}"),
                (found, _) => panic!("{reference}: {found:?}"),
            }
        }
    }

    #[test]
    fn operations_without_an_id_get_one() {
        let mut ids = OperationIds::default();
        assert_eq!(made_up("get", "/orders/{id}"), "get_orders_id");
        assert_eq!(made_up("post", "/"), "post");
        assert_eq!(ids.take("a_get"), "a_get");
        assert_eq!(ids.take("a_get"), "a_get_2");
        assert_eq!(ids.take("a_get"), "a_get_3");
    }
}
