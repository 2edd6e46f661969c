//! A list of functions as text: which entries are right, and what is wrong with the
//! others. Pure.
//!
//! The format is OpenFaaS's; keys that nobody here knows are passed over.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use url::Url;

use crate::model::{StoreFunction, StoreRefusal};

/// Most entries of one list.
const ENTRIES: usize = 5000;

/// Most characters of a text, and of a name's DNS label.
const TEXT: usize = 4096;
const LABEL: usize = 63;

/// A list that was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct List {
    /// The right entries, in their order; of whose store, and whether they can be
    /// deployed, is not said here.
    pub(super) functions: Vec<StoreFunction>,
    /// The others.
    pub(super) refused: Vec<StoreRefusal>,
}

impl List {
    /// Reads a list.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn read(text: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(text).map_err(|error| format!("the list is not JSON: {error}"))?;
        let entries = value.get("functions").and_then(Value::as_array);
        let entries = entries.ok_or("the list is not a store's: it has no array `functions`")?;
        if entries.len() > ENTRIES {
            return Err(format!(
                "the list has {} entries, and {ENTRIES} are read at most",
                entries.len()
            ));
        }
        let (mut list, mut names) = (Self::default(), BTreeSet::new());
        for (index, value) in entries.iter().enumerate() {
            let read = entry(value).and_then(|function| {
                if names.insert(function.name.clone()) {
                    Ok(function)
                } else {
                    Err("an entry before it has the same name".to_owned())
                }
            });
            match read {
                Ok(function) => list.functions.push(function),
                Err(reason) => {
                    let name = value.get("name").and_then(Value::as_str);
                    let name = name.filter(|name| is_plain(name) && name.len() <= LABEL && !name.is_empty());
                    list.refused.push(StoreRefusal {
                        entry: name.map_or_else(|| index.to_string(), str::to_owned),
                        reason,
                    });
                }
            }
        }
        Ok(list)
    }
}

type Entry = Map<String, Value>;

fn entry(value: &Value) -> Result<StoreFunction, String> {
    let entry = value.as_object().ok_or("it is not an object")?;
    let name = text(entry, "name")?.ok_or("`name` is missing")?;
    if !is_label(&name) {
        return Err(format!(
            "`name` must be at most {LABEL} of a-z, 0-9 and '-', not starting or ending with '-'"
        ));
    }
    let images = map(entry, "images")?;
    if images.is_empty() {
        return Err("`images` is missing: it has an image for x86_64, arm64 or armhf".to_owned());
    }
    if let Some((architecture, _)) = images
        .iter()
        .find(|(_, image)| image.is_empty() || image.contains(char::is_whitespace))
    {
        return Err(format!("`images.{architecture}` is not the name of an image"));
    }
    let icon = url(entry, "icon", &["https", "http", "data"])?;
    let environment = map(entry, "environment")?;
    if let Some(odd) = environment
        .keys()
        .find(|name| name.is_empty() || name.contains(['=', '\0']) || name.contains(char::is_whitespace))
    {
        return Err(format!(
            "`environment` has '{}', which cannot be the name of a variable",
            odd.escape_default()
        ));
    }
    Ok(StoreFunction {
        title: text(entry, "title")?.unwrap_or_else(|| name.clone()),
        description: text(entry, "description")?.unwrap_or_default(),
        author: text(entry, "author")?,
        fprocess: text(entry, "fprocess")?,
        repo_url: url(entry, "repo_url", &["https", "http"])?,
        read_only_root_filesystem: flag(entry, "readOnlyRootFilesystem")?,
        labels: map(entry, "labels")?,
        annotations: map(entry, "annotations")?,
        secrets: list(entry, "secrets")?,
        network: text(entry, "network")?,
        requires: list(entry, "requires")?,
        name,
        icon,
        images,
        environment,
        ..StoreFunction::default()
    })
}

/// A text; an empty one counts as absent, as does `null`.
fn text(entry: &Entry, key: &str) -> Result<Option<String>, String> {
    match entry.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.chars().count() > TEXT => {
            Err(format!("`{key}` is longer than {TEXT} characters"))
        }
        Some(Value::String(text)) if text.contains('\0') => Err(format!("`{key}` has a NUL in it")),
        Some(Value::String(text)) => Ok((!text.is_empty()).then(|| text.clone())),
        Some(_) => Err(format!("`{key}` must be a text")),
    }
}

/// A link that a page may show: none of a scheme that runs something.
fn url(entry: &Entry, key: &str, schemes: &[&str]) -> Result<Option<String>, String> {
    let Some(text) = text(entry, key)? else { return Ok(None) };
    let is_picture = |url: &Url| url.scheme() != "data" || url.path().starts_with("image/");
    match Url::parse(&text) {
        Ok(url) if schemes.contains(&url.scheme()) && is_picture(&url) => Ok(Some(text)),
        _ => Err(format!("`{key}` must be an http or https URL")),
    }
}

fn flag(entry: &Entry, key: &str) -> Result<Option<bool>, String> {
    match entry.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(_) => Err(format!("`{key}` must be true or false")),
    }
}

fn map(entry: &Entry, key: &str) -> Result<BTreeMap<String, String>, String> {
    let map = match entry.get(key) {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(map)) => map,
        Some(_) => return Err(format!("`{key}` must be an object of texts")),
    };
    map.iter()
        .map(|(name, value)| match value {
            Value::String(text) if text.len() <= TEXT && !text.contains('\0') => Ok((name.clone(), text.clone())),
            _ => Err(format!(
                "`{key}.{}` must be a text of at most {TEXT} bytes",
                name.escape_default()
            )),
        })
        .collect()
}

fn list(entry: &Entry, key: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("`{key}` must be a list of texts");
    match entry.get(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong))
            .collect(),
        Some(_) => Err(wrong()),
    }
}

fn is_label(name: &str) -> bool {
    let is_edge = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    name.len() <= LABEL && is_edge(name.as_bytes().first()) && is_edge(name.as_bytes().last()) && is_plain(name)
}

fn is_plain(name: &str) -> bool {
    name.bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(functions: &Value) -> List {
        let text = json!({ "version": "0.2.0", "functions": functions }).to_string();
        List::read(text.as_bytes()).expect("a list")
    }

    /// As OpenFaaS's own list has them.
    fn figlet() -> Value {
        json!({
            "title": "Figlet", "name": "figlet", "description": "Text to ASCII", "icon": "https://example.com/i.png",
            "author": "openfaas", "images": { "x86_64": "ghcr.io/openfaas/figlet:latest", "arm64": "ghcr.io/a:1" },
            "repo_url": "https://example.com/figlet", "readOnlyRootFilesystem": true, "network": "func_functions",
            "environment": { "write_timeout": "5s" }, "labels": { "com.openfaas.ui.ext": "png" }, "later": [1]
        })
    }

    #[test]
    fn an_entry_of_openfaas_is_read() {
        let list = read(&json!([figlet()]));
        assert_eq!(list.refused, []);
        let function = &list.functions[0];
        assert_eq!((function.name.as_str(), function.title.as_str()), ("figlet", "Figlet"));
        assert_eq!(function.images["arm64"], "ghcr.io/a:1");
        assert_eq!(function.read_only_root_filesystem, Some(true));
        assert_eq!(function.environment["write_timeout"], "5s");
    }

    #[test]
    fn a_bad_entry_is_left_out_with_its_reason() {
        for (change, reason) in [
            (json!({ "name": "Figlet" }), "`name` must be"),
            (json!({ "name": null }), "`name` is missing"),
            (json!({ "name": "../x" }), "`name` must be"),
            (json!({ "images": {} }), "`images` is missing"),
            (json!({ "images": { "x86_64": "a b" } }), "`images.x86_64` is not"),
            (json!({ "images": "a" }), "`images` must be an object"),
            (json!({ "icon": "javascript:alert(1)" }), "`icon` must be"),
            (json!({ "icon": "data:text/html,x" }), "`icon` must be"),
            (json!({ "repo_url": "file:///etc/passwd" }), "`repo_url` must be"),
            (json!({ "environment": { "a": 1 } }), "`environment.a` must be a text"),
            (json!({ "environment": { "a=b": "1" } }), "`environment` has 'a=b'"),
            (json!({ "secrets": [1] }), "`secrets` must be a list"),
            (
                json!({ "readOnlyRootFilesystem": "yes" }),
                "`readOnlyRootFilesystem` must be",
            ),
            (
                json!({ "description": "x".repeat(TEXT + 1) }),
                "`description` is longer",
            ),
            (json!({ "title": 7 }), "`title` must be a text"),
        ] {
            let mut bad = figlet();
            bad.as_object_mut()
                .expect("an object")
                .extend(change.as_object().expect("an object").clone());
            let other = json!({ "name": "other", "images": { "x86_64": "a" } });
            let list = read(&json!([bad, other]));
            assert_eq!((list.functions.len(), list.refused.len()), (1, 1), "{change}");
            assert!(
                list.refused[0].reason.starts_with(reason),
                "{change}: {:?}",
                list.refused
            );
        }
        let list = read(&json!([figlet(), 7, figlet()]));
        let refused: Vec<_> = list.refused.iter().map(|refused| refused.entry.as_str()).collect();
        assert_eq!(refused, ["1", "figlet"]);
    }

    #[test]
    fn what_is_no_list_is_said_to_be_none() {
        for (text, reason) in [
            ("{", "the list is not JSON"),
            ("[]", "the list is not a store's"),
            (r#"{"functions":{}}"#, "the list is not a store's"),
        ] {
            assert!(
                List::read(text.as_bytes()).expect_err(text).starts_with(reason),
                "{text}"
            );
        }
    }
}
