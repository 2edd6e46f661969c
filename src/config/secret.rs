//! Values that are kept in files of their own: `KEY_file` names the file that
//! holds the value of KEY.
//!
//! A key gets this by a second field beside it, `KEY_file: Option<SecretFile>`
//! (or a table `KEY_file: BTreeMap<String, SecretFile>` beside a table of
//! texts); everything else follows from that. Once the layers are put together,
//! [`super::origins`] reads the file in place of the value, so that all that
//! comes later knows KEY alone, and that it is a secret. Of the two forms the
//! stronger layer's counts. The file's content decides about a reload like the
//! configuration's own.
//!
//! Here are the type, the search for such keys and the reading of one file.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use figment::value::Value;
use serde_json::{Value as Json, json};

use super::{
    entry::{Entry, toml_text},
    files::Fingerprint,
    scalar::scalar,
    schema,
    setting::{Reader, Setting, entry},
};

/// End of the names of such keys.
const SUFFIX: &str = "_file";

/// Largest file that is read, in bytes: headers and URLs are no longer.
const LARGEST: u64 = 64 << 10;

/// Path of the file that holds the value of another key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile(pub PathBuf);

impl Setting for SecretFile {
    fn read(value: &Value, reader: &mut Reader) -> Option<Self> {
        scalar(value, reader, "the path of a file", |text| {
            (!text.is_empty()).then(|| Self(PathBuf::from(text)))
        })
    }

    fn entries(&self, path: &[String], out: &mut Vec<Entry>) {
        entry(path, toml_text(&self.0.to_string_lossy()), out);
    }

    fn files(&self, out: &mut Vec<PathBuf>) {
        out.push(self.0.clone());
    }

    fn schema() -> Json {
        json!({ "type": "string", "minLength": 1, "format": schema::SECRET_FILE })
    }
}

/// A file that a configuration refers to, as it was when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referenced {
    /// Where it is.
    pub path: PathBuf,
    /// Hash of its content; `None` when it could not be read.
    pub content: Option<Fingerprint>,
}

impl Referenced {
    /// As it is now.
    pub fn look(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            content: read_whole(path).ok().map(|content| Fingerprint::of_bytes(&content)),
        }
    }
}

/// A key that names a file, and the key whose value is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) file: Vec<String>,
    pub(super) key: Vec<String>,
}

/// All such keys that a tree sets.
pub(super) fn references(root: &Value) -> Vec<Reference> {
    let mut found = Vec::new();
    search(root, &mut Vec::new(), &mut found);
    found
}

fn search(value: &Value, path: &mut Vec<String>, found: &mut Vec<Reference>) {
    match value {
        Value::Dict(_, table) => {
            for (name, value) in table {
                path.push(name.clone());
                search(value, path, found);
                path.pop();
            }
        }
        Value::Array(_, list) => {
            for (index, value) in list.iter().enumerate() {
                path.push(index.to_string());
                search(value, path, found);
                path.pop();
            }
        }
        _ => {
            let named = path.iter().any(|part| part.ends_with(SUFFIX));
            if let Some(key) = named.then(|| key_of(path)).flatten() {
                let file = path.clone();
                found.push(Reference { file, key });
            }
        }
    }
}

/// The key whose value is in the file that this one names; `None` when it names none.
fn key_of(file: &[String]) -> Option<Vec<String>> {
    if !schema::is_secret_file(file) {
        return None;
    }
    // The name itself ends so, or that of the table of names.
    let parts = (0..file.len()).rev().take(2);
    parts.into_iter().find_map(|part| {
        let mut key = file.to_vec();
        file[part].strip_suffix(SUFFIX)?.clone_into(&mut key[part]);
        (schema::is_key(&key) && !schema::is_secret_file(&key)).then_some(key)
    })
}

/// The key that would name the file of this one's value.
pub(super) fn file_of(key: &[String]) -> Option<Vec<String>> {
    let parts = (0..key.len()).rev().take(2);
    parts.into_iter().find_map(|part| {
        let mut file = key.to_vec();
        file[part].push_str(SUFFIX);
        schema::is_secret_file(&file).then_some(file)
    })
}

/// The other form of a key that has two.
pub(super) fn other_form(key: &[String]) -> Option<Vec<String>> {
    key_of(key).or_else(|| file_of(key))
}

/// Sets a key, and makes the tables on the way to it that are not there.
pub(super) fn put(root: &mut Value, key: &[String], value: Value) {
    let Some((first, rest)) = key.split_first() else {
        *root = value;
        return;
    };
    let tag = value.tag();
    match root {
        Value::Dict(_, table) => {
            let empty = || Value::Dict(tag, figment::value::Dict::new());
            put(table.entry(first.clone()).or_insert_with(empty), rest, value);
        }
        Value::Array(_, list) => {
            if let Some(item) = first.parse().ok().and_then(|index: usize| list.get_mut(index)) {
                put(item, rest, value);
            }
        }
        // Said to be no table where it is read.
        _ => {}
    }
}

/// The value in a file, and what the file was like; the error says why there is none.
pub(super) fn read(path: &Path) -> (Result<String, String>, Referenced) {
    match read_whole(path) {
        Err(error) => {
            let none = Referenced {
                path: path.to_path_buf(),
                content: None,
            };
            (Err(error), none)
        }
        Ok(content) => {
            let seen = Referenced {
                path: path.to_path_buf(),
                content: Some(Fingerprint::of_bytes(&content)),
            };
            (value_of(content), seen)
        }
    }
}

/// The content of an ordinary file of a sensible size: a pipe may never end.
fn read_whole(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error: io::Error| format!("cannot be read: {error}");
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err("is not a file".to_owned());
    }
    if metadata.len() > LARGEST {
        return Err(format!("is larger than {} KiB", LARGEST >> 10));
    }
    fs::read(path).map_err(unreadable)
}

/// A file's text without the line break at its end.
fn value_of(content: Vec<u8>) -> Result<String, String> {
    let mut text = String::from_utf8(content).map_err(|_| "is not UTF-8 text".to_owned())?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if text.contains(char::is_control) {
        return Err(
            "has a line break or another control character in it, besides the line break at its end".to_owned(),
        );
    }
    Ok(text)
}

/// What of a value must not turn up in a message by itself: of a URL also its
/// user name, password and query.
pub(super) fn parts(value: &str) -> Vec<String> {
    let mut parts = vec![value.to_owned()];
    if let Ok(url) = url::Url::parse(value) {
        parts.push(url.as_str().to_owned());
        parts.push(url.username().to_owned());
        parts.extend(url.password().map(str::to_owned));
        parts.extend(url.query().map(str::to_owned));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::layer;

    fn path(key: &str) -> Vec<String> {
        layer::read_key(key).expect("a key")
    }

    #[test]
    fn keys_with_two_forms() {
        for (file, key) in [
            ("provider.url_file", "provider.url"),
            ("provider.logs_url_file", "provider.logs_url"),
            ("auth.proxy_url_file", "auth.proxy_url"),
            (
                "functions.f.headers.request.set_file.Authorization",
                "functions.f.headers.request.set.Authorization",
            ),
            // A header may be called anything.
            (
                "routes.3.headers.response.set_file.x_file",
                "routes.3.headers.response.set.x_file",
            ),
        ] {
            let (file, key) = (path(file), path(key));
            assert_eq!(key_of(&file), Some(key.clone()), "{file:?}");
            assert_eq!(file_of(&key), Some(file.clone()), "{key:?}");
            assert_eq!((other_form(&file), other_form(&key)), (Some(key), Some(file)));
        }
        for key in [
            "provider.kind",
            "provider.kind_file",
            "functions.f.headers.request.set.x_file",
            "provider.process.images.i.environment.TOKEN_file",
        ] {
            assert_eq!(key_of(&path(key)), None, "{key}");
        }
    }

    #[test]
    fn a_file_holds_one_line() {
        for (content, expected) in [
            (&b"token"[..], Ok("token")),
            (b"token\n", Ok("token")),
            (b"token\r\n", Ok("token")),
            (b" to ken ", Ok(" to ken ")),
            (b"", Err("is empty")),
            (b"\n", Err("is empty")),
            (b"a\nb", Err("line break")),
            (b"token\n\n", Err("line break")),
            (b"a\0b", Err("control character")),
            (b"\xff\xfe", Err("not UTF-8")),
        ] {
            match (value_of(content.to_vec()), expected) {
                (Ok(value), Ok(expected)) => assert_eq!(value, expected),
                (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
                (found, _) => panic!("{content:?}: {found:?}"),
            }
        }
        let directory = tempfile::tempdir().expect("directory");
        let (none, seen) = read(&directory.path().join("none"));
        assert!(none.is_err_and(|error| error.starts_with("cannot be read: ")));
        assert_eq!(seen.content, None);
        assert_eq!(read(directory.path()).0, Err("is not a file".to_owned()));
        let long = directory.path().join("long");
        fs::write(&long, vec![b'x'; 70_000]).expect("written");
        assert_eq!(read(&long).0, Err("is larger than 64 KiB".to_owned()));
    }

    #[test]
    fn parts_of_a_url_are_secrets_too() {
        assert_eq!(parts("token"), ["token"]);
        let url = parts("http://user:pw@host?key=k");
        for part in ["user", "pw", "key=k", "http://user:pw@host/?key=k"] {
            assert!(url.iter().any(|found| found == part), "{part}: {url:?}");
        }
    }
}
