//! What a configuration was read from, and whose word counted for a key that
//! several layers set.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
};

use figment::value::Value;

use super::{
    ConfigFile, Fingerprint, Origins,
    entry::{Entry, MASK, dotted, toml_text},
    layer,
    secret::{self, Referenced},
    setting::child,
};

/// A file that a configuration was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its content's SHA-256 in hexadecimal; `None` when it could not be read.
    pub sha256: Option<String>,
}

/// A file that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// Where it is.
    pub path: PathBuf,
    /// `added`, `removed` or `changed`.
    pub change: &'static str,
}

/// `changed /etc/faas-gateway/gateway.toml`
impl fmt::Display for FileChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.change, self.path.display())
    }
}

/// The files whose content differs, in the order of their paths. One that
/// could not be read counts as not there.
pub fn changed_files(old: &[SourceFile], new: &[SourceFile]) -> Vec<FileChange> {
    let contents = |files: &[SourceFile]| -> BTreeMap<PathBuf, String> {
        let readable = files
            .iter()
            .filter_map(|file| Some((file.path.clone(), file.sha256.clone()?)));
        readable.collect()
    };
    let (old, new) = (contents(old), contents(new));
    let paths: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    paths
        .into_iter()
        .filter_map(|path| {
            let change = match (old.get(path), new.get(path)) {
                (Some(old), Some(new)) if old == new => return None,
                (Some(_), Some(_)) => "changed",
                (None, _) => "added",
                (_, None) => "removed",
            };
            let path = path.clone();
            Some(FileChange { path, change })
        })
        .collect()
}

/// The configuration's files and the files it refers to. What variables gave
/// is masked in their paths.
pub fn source_files(files: &[ConfigFile], referenced: &[Referenced], origins: &Origins) -> Vec<SourceFile> {
    let own = files.iter().map(|file| SourceFile {
        path: file.path.clone(),
        sha256: Some(sha256(file.content.as_bytes())),
    });
    let others = referenced.iter().map(|file| SourceFile {
        path: PathBuf::from(origins.masked(file.path.display().to_string())),
        sha256: file.content.map(|content| content.to_string()),
    });
    own.chain(others).collect()
}

fn sha256(content: &[u8]) -> String {
    Fingerprint::of_bytes(content).to_string()
}

/// A key of the file whose value does not count, because the environment or the
/// command line sets it too.
#[derive(Clone)]
pub struct Shadowed {
    /// The key.
    pub key: String,
    /// The place in a file that sets it.
    pub file: String,
    /// What counts instead, such as `environment variable read_timeout`.
    pub by: String,
    /// What the file says, to tell whether that changed; may be a secret.
    written: String,
}

/// Where in the file it stands makes no difference.
impl PartialEq for Shadowed {
    fn eq(&self, other: &Self) -> bool {
        (&self.key, &self.by, &self.written) == (&other.key, &other.by, &other.written)
    }
}

impl Eq for Shadowed {}

impl std::fmt::Debug for Shadowed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shadowed")
            .field("key", &self.key)
            .field("file", &self.file)
            .field("by", &self.by)
            .finish_non_exhaustive()
    }
}

/// A layer that sets a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetBy {
    /// The layer's name.
    pub source: String,
    /// What it says, secrets masked.
    pub value: String,
}

impl Origins {
    /// Every layer above the defaults that sets a key, by value or by file, the
    /// one that counts last.
    pub fn layers(&self, path: &[String]) -> Vec<SetBy> {
        let other_form = secret::other_form(path);
        let layers = self.layers.iter().skip(1);
        layers
            .filter_map(|layer| {
                let root = layer.root();
                let set = |path: &[String]| Some(written(layer::at(&root, &self.within(layer.name(), path)?)?));
                if let Some(value) = set(path) {
                    let secret = self.is_secret_in(layer.name(), path);
                    let entry = Entry {
                        path: path.to_vec(),
                        value: Some(value),
                    };
                    return Some(SetBy {
                        source: self.place_in(layer.name(), path),
                        value: entry.masked(secret)?,
                    });
                }
                let other = other_form.as_deref()?;
                set(other).map(|_| SetBy {
                    source: self.place_in(layer.name(), other),
                    value: toml_text(MASK),
                })
            })
            .collect()
    }

    /// Keys of the file that a stronger layer sets too, in the order of their names.
    pub fn shadowed(&self) -> Vec<Shadowed> {
        let (files, stronger) = self.layers.split_at(self.written.min(self.layers.len()));
        let stronger: Vec<_> = stronger.iter().map(|layer| (layer.name(), layer.root())).collect();
        let mut found = Vec::new();
        for file in files.iter().skip(1) {
            let mut leaves = Vec::new();
            collect(&file.root(), &[], &mut leaves);
            for (path, value) in leaves {
                let other_form = secret::other_form(&path);
                let sets = |root: &Value| {
                    let forms = [Some(&path), other_form.as_ref()];
                    forms.into_iter().flatten().any(|form| layer::at(root, form).is_some())
                };
                let by = stronger.iter().rev().find(|(_, root)| sets(root));
                if let Some((by, _)) = by {
                    found.push(Shadowed {
                        key: dotted(&path),
                        file: self.place_in(file.name(), &path),
                        by: (*by).to_owned(),
                        written: value,
                    });
                }
            }
        }
        found
    }
}

fn collect(value: &Value, path: &[String], out: &mut Vec<(Vec<String>, String)>) {
    match value.as_dict() {
        Some(table) => {
            for (key, value) in table {
                collect(value, &child(path, key), out);
            }
        }
        None => out.push((path.to_vec(), written(value))),
    }
}

/// A value as TOML writes it, or nearly: lists and tables are JSON.
pub(super) fn written(value: &Value) -> String {
    match value.as_str() {
        Some(text) => toml_text(text),
        None => serde_json::to_string(value).unwrap_or_else(|_| "a value".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_files_are_told_from_those_that_are_the_same() {
        let files = |files: &[(&str, Option<&str>)]| -> Vec<SourceFile> {
            let files = files.iter().map(|(path, sha256)| SourceFile {
                path: path.into(),
                sha256: sha256.map(str::to_owned),
            });
            files.collect()
        };
        let old = files(&[
            ("same", Some("1")),
            ("edited", Some("1")),
            ("gone", Some("1")),
            ("lost", Some("1")),
            ("never", None),
        ]);
        let new = files(&[
            ("new", Some("1")),
            ("edited", Some("2")),
            ("same", Some("1")),
            ("lost", None),
            ("never", None),
        ]);
        let shown: Vec<_> = changed_files(&old, &new).iter().map(FileChange::to_string).collect();
        assert_eq!(shown, ["changed edited", "removed gone", "removed lost", "added new"]);
        assert_eq!(changed_files(&old, &old), []);
    }
}
