//! What a configuration was read from, and whose word counted for a key that
//! several layers set.

use std::path::PathBuf;

use figment::value::Value;

use super::{
    ConfigFile, Fingerprint, Origins,
    entry::{Entry, dotted, toml_text},
    layer,
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

/// The configuration's files, whose content is known, and the files it refers
/// to, which are read.
pub fn source_files(files: &[ConfigFile], referenced: &[PathBuf]) -> Vec<SourceFile> {
    let own = files.iter().map(|file| SourceFile {
        path: file.path.clone(),
        sha256: Some(sha256(file.content.as_bytes())),
    });
    let others = referenced.iter().map(|path| SourceFile {
        path: path.clone(),
        sha256: std::fs::read(path).ok().map(|content| sha256(&content)),
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
    /// Every layer above the defaults that sets a key, the one that counts last.
    pub fn layers(&self, path: &[String]) -> Vec<SetBy> {
        let layers = self.layers.iter().skip(1);
        layers
            .filter_map(|layer| {
                let root = layer.root();
                let value = layer::at(&root, &self.within(layer.name(), path)?)?;
                let entry = Entry {
                    path: path.to_vec(),
                    value: Some(written(value)),
                };
                Some(SetBy {
                    source: self.place_in(layer.name(), path),
                    value: entry.masked(self.is_secret_in(layer.name(), path))?,
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
                let by = stronger.iter().rev().find(|(_, root)| layer::at(root, &path).is_some());
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
