//! Fetched contracts in the state directory, so that a gateway that starts knows
//! those of functions that it does not start: one file for each function. What is
//! read is judged like what is fetched, and what cannot be read is left alone until
//! the function is asked again. Blocking; callers run it where blocking is allowed.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{contracts::Saved, model::FunctionRef, state};

/// Most functions whose contracts are kept; those of further ones are fetched again.
const MOST: usize = 1000;

/// Most bytes of all of them.
const BYTES: usize = 64 * 1024 * 1024;

/// A file may be this much larger than the document in it: JSON has up to six bytes
/// for one, and there are names beside it.
const WRITTEN: (usize, usize) = (6, 4096);

/// A file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    name: String,
    namespace: String,
    path: String,
    document: String,
}

/// What is kept, and where.
#[derive(Debug)]
pub(super) struct Kept {
    folder: PathBuf,
    there: BTreeMap<FunctionRef, Content>,
}

/// What is in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Content {
    digest: [u8; 32],
    bytes: usize,
}

impl Content {
    fn of(content: &[u8]) -> Self {
        Self {
            digest: Sha256::digest(content).into(),
            bytes: content.len(),
        }
    }
}

impl Kept {
    /// Finds what an earlier gateway has kept, of documents of `largest` bytes at most.
    pub(super) fn open(folder: PathBuf, largest: usize) -> io::Result<(Self, Vec<Saved>)> {
        state::make_directory(&folder)?;
        state::remove_temporary(&folder)?;
        let entries = state::entries(&folder)?;
        let there = BTreeMap::new();
        let mut kept = Self { folder, there };
        let mut all = Vec::new();
        for (path, _) in entries {
            match read(&path, largest) {
                Ok((saved, content))
                    if path == kept.place(&saved.function) && kept.has_room(&saved.function, content) =>
                {
                    kept.there.insert(saved.function.clone(), content);
                    all.push(saved);
                }
                Ok((saved, _)) => {
                    tracing::warn!(path = %path.display(), function = %saved.function, "a kept contract is at another's place, or one too many; its function is asked again");
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), error, "a kept contract cannot be read; its function is asked again");
                }
            }
        }
        Ok((kept, all))
    }

    /// Where a function's is. Providers name functions as they like, so not by its name.
    fn place(&self, function: &FunctionRef) -> PathBuf {
        let digest = Sha256::digest(format!("{}/{}", function.namespace, function.name));
        let name = BASE64_URL_SAFE_NO_PAD.encode(digest);
        self.folder.join(format!("{name}.json"))
    }

    /// Whether this may be kept of a function, in place of what is.
    fn has_room(&self, function: &FunctionRef, content: Content) -> bool {
        let others = || self.there.iter().filter(|(other, _)| *other != function);
        let bytes: usize = others().map(|(_, content)| content.bytes).sum();
        others().count() < MOST && bytes + content.bytes <= BYTES
    }

    /// Keeps a document, unless it is there already or there is no room for it.
    pub(super) fn put(&mut self, saved: Saved) -> io::Result<()> {
        let Saved { function, path, text } = saved;
        let stored = Stored {
            name: function.name.clone(),
            namespace: function.namespace.clone(),
            path,
            document: text,
        };
        let text = serde_json::to_vec(&stored)?;
        let content = Content::of(&text);
        if self.there.get(&function) == Some(&content) || !self.has_room(&function, content) {
            return Ok(());
        }
        state::write(&self.place(&function), &text)?;
        self.there.insert(function, content);
        Ok(())
    }

    /// Whether all that is kept is of functions that are wanted.
    pub(super) fn is_all(&self, wanted: impl Fn(&FunctionRef) -> bool) -> bool {
        self.there.keys().all(wanted)
    }

    /// Forgets those of functions that are not wanted.
    pub(super) fn retain(&mut self, wanted: impl Fn(&FunctionRef) -> bool) -> io::Result<()> {
        let gone: Vec<_> = self
            .there
            .keys()
            .filter(|function| !wanted(function))
            .cloned()
            .collect();
        for function in gone {
            state::remove(&self.place(&function))?;
            self.there.remove(&function);
        }
        Ok(())
    }
}

fn read(path: &Path, largest: usize) -> Result<(Saved, Content), String> {
    let told = |error: io::Error| error.to_string();
    let (times, more) = WRITTEN;
    let most = largest.saturating_mul(times).saturating_add(more);
    let length = fs::metadata(path).map_err(told)?.len();
    if usize::try_from(length).is_ok_and(|length| length > most) {
        return Err(format!(
            "it has {length} bytes, more than a document of openapi.max_size"
        ));
    }
    let content = fs::read(path).map_err(told)?;
    let stored: Stored = serde_json::from_slice(&content).map_err(|error| error.to_string())?;
    if stored.document.len() > largest {
        return Err("the document is larger than openapi.max_size".to_owned());
    }
    let saved = Saved {
        function: FunctionRef::new(stored.name, stored.namespace),
        path: stored.path,
        text: stored.document,
    };
    Ok((saved, Content::of(&content)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn saved(name: &str, text: &str) -> Saved {
        Saved {
            function: FunctionRef::new(name, "x"),
            path: "/o".to_owned(),
            text: text.to_owned(),
        }
    }

    fn names(all: &[Saved]) -> Vec<&str> {
        all.iter().map(|saved| saved.function.name.as_str()).collect()
    }

    #[test]
    fn what_was_put_is_found_again_and_what_went_is_not() {
        let state = tempfile::tempdir().expect("a directory");
        let folder = state.path().join("contracts");
        let (mut kept, found) = Kept::open(folder.clone(), 100).expect("opened");
        assert!(found.is_empty());
        for name in ["a", "../b", ""] {
            kept.put(saved(name, "one")).expect("written");
        }
        kept.put(saved("a", "two")).expect("written");
        let (mut kept, mut found) = Kept::open(folder.clone(), 100).expect("opened");
        found.sort_by(|one, other| one.function.cmp(&other.function));
        assert_eq!(names(&found), ["", "../b", "a"]);
        assert_eq!((&*found[2].path, &*found[2].text), ("/o", "two"));
        let mode = fs::metadata(kept.place(&found[2].function))
            .expect("there")
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);

        assert!(!kept.is_all(|function| function.name == "a"));
        kept.retain(|function| function.name == "a").expect("removed");
        assert!(kept.is_all(|function| function.name == "a"));
        let (_, found) = Kept::open(folder, 100).expect("opened");
        assert_eq!(names(&found), ["a"]);
    }

    #[test]
    fn what_is_the_same_is_not_written_again() {
        let state = tempfile::tempdir().expect("a directory");
        let (mut kept, _) = Kept::open(state.path().to_owned(), 100).expect("opened");
        kept.put(saved("a", "one")).expect("written");
        let path = kept.place(&FunctionRef::new("a", "x"));
        fs::remove_file(&path).expect("removed");
        kept.put(saved("a", "one")).expect("nothing to do");
        assert!(!path.exists());
        kept.put(saved("a", "two")).expect("written");
        assert!(path.exists());
    }

    #[test]
    fn bad_files_are_left_out_alone() {
        let state = tempfile::tempdir().expect("a directory");
        let folder = state.path();
        let (mut kept, _) = Kept::open(folder.to_owned(), 100).expect("opened");
        kept.put(saved("good", "one")).expect("written");
        kept.put(saved("large", &"l".repeat(101))).expect("written");
        let good = kept.place(&FunctionRef::new("good", "x"));
        for (name, content) in [
            ("cut.json", &b"{\"name\":"[..]),
            ("other.json", b"{}"),
            ("bytes.json", b"\xff\xfe"),
            ("huge.json", &[b' '; 10_000]),
            (".tmp-cut", b"{"),
        ] {
            fs::write(folder.join(name), content).expect("written");
        }
        // At a place that is not its own.
        fs::copy(&good, folder.join("copy.json")).expect("copied");
        fs::create_dir(folder.join("directory.json")).expect("made");
        let (_, found) = Kept::open(folder.to_owned(), 100).expect("opened");
        assert_eq!(names(&found), ["good"]);
        assert!(!folder.join(".tmp-cut").exists() && folder.join("cut.json").exists());
    }

    #[test]
    fn there_is_room_for_so_many_and_so_much() {
        let state = tempfile::tempdir().expect("a directory");
        let (mut kept, _) = Kept::open(state.path().to_owned(), BYTES).expect("opened");
        let content = |bytes| Content { digest: [0; 32], bytes };
        let function = |name: &str| FunctionRef::new(name, "x");
        kept.there.insert(function("large"), content(BYTES - 10));
        for (name, bytes, expected) in [("a", 10, true), ("a", 11, false), ("large", BYTES, true)] {
            assert_eq!(
                kept.has_room(&function(name), content(bytes)),
                expected,
                "{name} {bytes}"
            );
        }
        kept.put(saved("a", "more than ten")).expect("left out");
        assert!(!kept.place(&function("a")).exists());
        let many = (1..MOST).map(|number| (function(&number.to_string()), content(0)));
        kept.there.extend(many);
        assert!(!kept.has_room(&function("a"), content(0)) && kept.has_room(&function("1"), content(1)));
    }
}
