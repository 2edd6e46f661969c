//! Reading the configuration's files: one, or all of a directory.
//!
//! A directory is read until two looks in a row see the same, so that files
//! that are replaced together are never mixed. What the files say is not this
//! module's matter.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use sha2::{Digest, Sha256};

use super::{env, interpolate, secret::Referenced, setting::ConfigError};

/// Variable that names the file or the directory.
const FILE_VARIABLE: &str = "FAAS_CONFIG";

/// How often a directory that keeps changing is looked at.
const LOOKS: u32 = 10;
/// Pause between two looks that differ.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Where configuration comes from, apart from the built-in defaults.
#[derive(Clone, Default)]
pub struct Sources {
    /// The TOML file, or a directory of them.
    pub file: Option<PathBuf>,
    /// The process environment, or what a test says it is.
    pub environment: BTreeMap<String, String>,
    /// Dotted keys and their values from the command line.
    pub overrides: Vec<(String, String)>,
}

/// Without the values: variables and flags may hold credentials.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let overrides: Vec<_> = self.overrides.iter().map(|(key, _)| key).collect();
        f.debug_struct("Sources")
            .field("file", &self.file)
            .field("environment", &self.environment.keys())
            .field("overrides", &overrides)
            .finish()
    }
}

/// One file as it was read.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigFile {
    /// Its path, under which errors name it.
    pub path: PathBuf,
    /// Its content.
    pub content: String,
}

/// Without the content, which may hold credentials.
impl fmt::Debug for ConfigFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Sources {
    /// Puts sources together; without `file` the variable `FAAS_CONFIG` names it.
    pub fn new(environment: BTreeMap<String, String>, file: Option<PathBuf>, overrides: Vec<(String, String)>) -> Self {
        let named = || environment.get(FILE_VARIABLE).filter(|path| !path.is_empty());
        Self {
            file: file.or_else(|| named().map(PathBuf::from)),
            environment,
            overrides,
        }
    }

    /// The sources of this process: its environment and the given file.
    ///
    /// A variable that is not UTF-8 is kept with replacement characters, so
    /// that a malformed value is reported rather than overlooked.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the process environment"
    )]
    pub fn of_process(file: Option<PathBuf>, overrides: Vec<(String, String)>) -> Self {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
            .collect();
        Self::new(environment, file, overrides)
    }

    /// Without the variables that set keys. Those that files refer to stay.
    #[must_use]
    pub fn without_environment(mut self) -> Self {
        self.environment.retain(|name, _| !env::is_known(name));
        self
    }

    /// Reads the file, or those of the directory; none when none was named.
    ///
    /// # Errors
    /// A file cannot be read, is not UTF-8 or is empty; a directory has no
    /// `*.toml` or keeps changing while it is read.
    pub fn read(&self) -> Result<Vec<ConfigFile>, ConfigError> {
        match self.file.as_deref() {
            None => Ok(Vec::new()),
            Some(path) if path.is_dir() => read_directory(path),
            Some(path) => Ok(vec![read_file(path.to_path_buf())?]),
        }
    }

    /// The name of the file, as errors show it.
    pub(super) fn file_name(&self) -> PathBuf {
        self.file.clone().unwrap_or_else(|| PathBuf::from("file"))
    }
}

/// The TOML files of a directory in the order of their names. Hidden ones are
/// left out: editors and Kubernetes keep their own things under such names.
pub(super) fn files_of(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension() == Some(OsStr::new("toml")) && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_directory(directory: &Path) -> Result<Vec<ConfigFile>, ConfigError> {
    let mut before = read_directory_once(directory);
    for _ in 0..LOOKS {
        let after = read_directory_once(directory);
        if before == after {
            return after;
        }
        before = after;
        std::thread::sleep(BETWEEN_LOOKS);
    }
    Err(failed(directory, "keeps changing while it is read".to_owned()))
}

fn read_directory_once(directory: &Path) -> Result<Vec<ConfigFile>, ConfigError> {
    let files = files_of(directory).map_err(|error| failed(directory, format!("cannot be read: {error}")))?;
    if files.is_empty() {
        return Err(failed(
            directory,
            "has no *.toml file; a directory that is being filled looks like this, so it is not taken as \
             \"all defaults\""
                .to_owned(),
        ));
    }
    files.into_iter().map(read_file).collect()
}

fn read_file(path: PathBuf) -> Result<ConfigFile, ConfigError> {
    let content = std::fs::read_to_string(&path).map_err(|error| failed(&path, format!("cannot be read: {error}")))?;
    if content.trim().is_empty() {
        return Err(failed(
            &path,
            "is empty; a file that is being written looks like this, so it is not taken as \"all defaults\"".to_owned(),
        ));
    }
    Ok(ConfigFile { path, content })
}

fn failed(path: &Path, message: String) -> ConfigError {
    ConfigError {
        origin: path.display().to_string(),
        key: String::new(),
        message,
    }
}

/// SHA-256 over everything a configuration was made from: the files, the
/// environment and command line as far as they matter, and the files that the
/// configuration refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of the `referenced` files, one that could not be read counts as
    /// different from any content.
    pub fn of(sources: &Sources, files: &[ConfigFile], referenced: &[Referenced]) -> Self {
        let mut hash = Hash::default();
        hash.number(files.len());
        for file in files {
            // Names matter only for the order, which is that of the contents.
            hash.add(Some(file.content.as_bytes()));
        }
        hash.layers(sources, files);
        for file in referenced {
            hash.add(file.content.as_ref().map(|content| content.0.as_slice()));
        }
        Self(hash.0.finalize().into())
    }

    /// Of one content alone: what `sha256sum` says.
    pub(super) fn of_bytes(content: &[u8]) -> Self {
        Self(Sha256::digest(content).into())
    }

    /// Of a configuration that could not be read, so that each reason looks
    /// different and is told about once.
    pub fn of_failure(error: &ConfigError) -> Self {
        let mut hash = Hash::default();
        hash.number(usize::MAX);
        hash.add(Some(error.to_string().as_bytes()));
        Self(hash.0.finalize().into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[derive(Default)]
struct Hash(Sha256);

impl Hash {
    fn number(&mut self, number: usize) {
        self.0.update((number as u64).to_be_bytes());
    }

    fn add(&mut self, part: Option<&[u8]>) {
        // The length in front keeps neighbours apart.
        self.number(part.map_or(usize::MAX, <[u8]>::len));
        self.0.update(part.unwrap_or_default());
    }

    /// The variables that set keys, those that files refer to, and the flags.
    fn layers(&mut self, sources: &Sources, files: &[ConfigFile]) {
        let setting = sources.environment.iter().filter(|(name, _)| env::is_known(name));
        let named = files
            .iter()
            .flat_map(|file| interpolate::names(&file.content))
            .filter_map(|name| sources.environment.get_key_value(name));
        let flags = sources.overrides.iter().map(|(key, value)| (key, value));
        for (name, value) in setting.chain(named).chain(flags) {
            self.add(Some(name.as_bytes()));
            self.add(Some(value.as_bytes()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn sources(path: &Path) -> Sources {
        Sources {
            file: Some(path.to_path_buf()),
            ..Sources::default()
        }
    }

    #[test]
    fn a_directory_is_read_in_the_order_of_names() {
        let directory = tempfile::tempdir().expect("directory");
        let at = |name: &str| directory.path().join(name);
        for name in ["20-b.toml", "10-a.toml", ".hidden.toml", "10-a.toml~", "notes.md"] {
            fs::write(at(name), format!("# {name}")).expect("write");
        }
        fs::create_dir(at("30-dir.toml")).expect("create");
        std::os::unix::fs::symlink("notes.md", at("25-link.toml")).expect("link");
        let names: Vec<_> = sources(directory.path())
            .read()
            .expect("readable")
            .into_iter()
            .map(|file| file.path)
            .collect();
        assert_eq!(names, [at("10-a.toml"), at("20-b.toml"), at("25-link.toml")]);
    }

    #[test]
    fn a_directory_without_files_or_with_an_empty_one_is_refused() {
        let directory = tempfile::tempdir().expect("directory");
        let sources = sources(directory.path());
        let none = sources.read().expect_err("refused").to_string();
        assert!(none.contains("has no *.toml file"), "{none}");
        fs::write(directory.path().join("a.toml"), "x = 1").expect("write");
        fs::write(directory.path().join("b.toml"), " \n").expect("write");
        let empty = sources.read().expect_err("refused").to_string();
        assert!(empty.contains("b.toml: is empty"), "{empty}");
    }

    #[test]
    fn the_fingerprint_covers_files_variables_flags_and_referenced_files() {
        let directory = tempfile::tempdir().expect("directory");
        let secret = directory.path().join("secret");
        let file = |content: &str| ConfigFile {
            path: "f".into(),
            content: content.to_owned(),
        };
        let with = |variables: &[(&str, &str)], contents: &[&str], overrides: &[(&str, &str)]| {
            let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
                let owned = pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
                owned.collect()
            };
            let sources = Sources {
                environment: pairs(variables).into_iter().collect(),
                overrides: pairs(overrides),
                ..Sources::default()
            };
            let files: Vec<_> = contents.iter().map(|content| file(content)).collect();
            Fingerprint::of(&sources, &files, &[Referenced::look(&secret)])
        };
        let base = with(&[], &["a", "b"], &[]);
        assert_eq!(base, with(&[("PWD", "/")], &["a", "b"], &[]), "what has no effect");
        let mut seen = vec![base];
        for other in [
            with(&[], &["b", "a"], &[]),
            with(&[], &["ab"], &[]),
            with(&[], &["ab", ""], &[]),
            with(&[("read_timeout", "1")], &["a", "b"], &[]),
            with(&[("FAAS__X", "1")], &["a", "b"], &[]),
            with(&[], &["a", "b"], &[("x", "1")]),
            with(&[("V", "1")], &["${V}"], &[]),
            with(&[("V", "2")], &["${V}"], &[]),
        ] {
            assert!(!seen.contains(&other), "number {}", seen.len());
            seen.push(other);
        }
        fs::write(&secret, "one").expect("write");
        let one = with(&[], &["a", "b"], &[]);
        fs::write(&secret, "two").expect("write");
        assert!(one != base && one != with(&[], &["a", "b"], &[]));
    }

    #[test]
    fn debug_shows_no_value() {
        let sources = Sources {
            environment: [("TOKEN".to_owned(), "hunter2".to_owned())].into(),
            overrides: vec![("a.b".to_owned(), "hunter2".to_owned())],
            ..Sources::default()
        };
        let file = ConfigFile {
            path: "f".into(),
            content: "hunter2".to_owned(),
        };
        let shown = format!("{sources:?} {file:?}");
        assert!(shown.contains("TOKEN") && !shown.contains("hunter2"), "{shown}");
    }
}
