//! The state directory: what is deployed, on disk.
//!
//! Nothing half-written is ever read: see [`crate::state`]. Blocking; callers run
//! it where blocking is allowed. One gateway at a time: the directory is locked
//! while the store exists.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, Permissions, TryLockError},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    model::{FunctionDeployment, FunctionNamespace, FunctionRef, from_json, to_json},
    state::{TEMPORARY, entries, make_directory, remove, remove_temporary, remove_tree, write},
};

/// A deployed function as it is kept.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// Names this incarnation: a function that is deleted and deployed again has another.
    pub(super) uid: String,
    /// Counts the deployments of this incarnation, from 1; scaling does not count.
    pub(super) revision: u64,
    /// When it was first deployed.
    pub(super) created_at: DateTime<Utc>,
    /// Desired replicas.
    pub(super) replicas: u64,
    /// What was sent, with its namespace filled in.
    pub(super) deployment: FunctionDeployment,
}

/// [`Record`] as JSON; the deployment in its wire form.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    uid: String,
    revision: u64,
    created_at: DateTime<Utc>,
    replicas: u64,
    deployment: Value,
}

/// Everything found when a state directory is opened.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) functions: BTreeMap<FunctionRef, Record>,
    pub(super) namespaces: BTreeMap<String, FunctionNamespace>,
    pub(super) secrets: BTreeMap<String, BTreeSet<String>>,
}

/// An open, locked state directory.
#[derive(Debug)]
pub(super) struct Store {
    root: PathBuf,
    /// Holds the lock; released by the system even after `kill -9`.
    lock: Mutex<Option<File>>,
}

impl Store {
    /// Creates what is missing, takes the lock and removes what a killed
    /// gateway left half-written.
    ///
    /// # Errors
    /// A text for the operator: which directory, and what is wrong with it.
    pub(super) fn open(root: &Path) -> Result<Self, String> {
        let failed =
            |what: &str, error: &io::Error| format!("cannot {what} state directory {}: {error}", root.display());
        make_directory(root).map_err(|error| failed("create", &error))?;
        fs::set_permissions(root, Permissions::from_mode(0o700)).map_err(|error| failed("protect", &error))?;
        // Sockets and secrets are handed to other processes by path, which must not depend on theirs.
        let root = &root.canonicalize().map_err(|error| failed("resolve", &error))?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(root.join("lock"))
            .map_err(|error| failed("lock", &error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(format!(
                    "state directory {} is in use by another gateway; stop it, or give this one its own --state-dir",
                    root.display()
                ));
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock", &error)),
        }
        for name in ["functions", "namespaces", "secrets", "logs"] {
            make_directory(&root.join(name)).map_err(|error| failed("create", &error))?;
            remove_temporary(&root.join(name)).map_err(|error| failed("clean", &error))?;
        }
        remove_tree(&root.join("run")).map_err(|error| failed("clean", &error))?;
        make_directory(&root.join("run")).map_err(|error| failed("create", &error))?;
        Ok(Self {
            root: root.clone(),
            lock: Mutex::new(Some(lock)),
        })
    }

    /// Lets another gateway have the directory; nothing may be kept afterwards.
    pub(super) fn release(&self) {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Directory of logs; each function has one of its own below.
    pub(super) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Directory of what lives only as long as the gateway; empty at the start.
    pub(super) fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// Remembers a directory of sockets outside of the state directory.
    pub(super) fn sockets_elsewhere(&self) -> PathBuf {
        self.root.join("sockets")
    }

    /// Reads everything. A file that cannot be understood is reported and
    /// skipped: one bad record must not keep all other functions down.
    pub(super) fn load(&self) -> io::Result<Found> {
        let mut found = Found::default();
        for (path, name) in entries(&self.root.join("namespaces"))? {
            let Some(name) = name.strip_suffix(".json") else {
                continue;
            };
            match fs::read(&path)
                .map_err(|error| error.to_string())
                .and_then(|text| from_json(&text))
            {
                Ok(namespace) => {
                    found.namespaces.insert(name.to_owned(), namespace);
                }
                Err(error) => tracing::error!(path = %path.display(), %error, "cannot read a namespace, skipping it"),
            }
        }
        for (folder, namespace) in entries(&self.root.join("functions"))? {
            for (path, name) in entries(&folder)? {
                let Some(name) = name.strip_suffix(".json") else {
                    continue;
                };
                match read_record(&path) {
                    Ok(record) => {
                        found.functions.insert(FunctionRef::new(name, &namespace), record);
                    }
                    Err(error) => {
                        tracing::error!(path = %path.display(), %error, "cannot read a function, skipping it");
                    }
                }
            }
        }
        for (folder, namespace) in entries(&self.root.join("secrets"))? {
            let names = entries(&folder)?.into_iter().map(|(_, name)| name).collect();
            found.secrets.insert(namespace, names);
        }
        Ok(found)
    }

    /// Keeps a function.
    pub(super) fn put_function(&self, function: &FunctionRef, record: &Record) -> io::Result<()> {
        let stored = Stored {
            uid: record.uid.clone(),
            revision: record.revision,
            created_at: record.created_at,
            replicas: record.replicas,
            deployment: serde_json::from_str(&to_json(&record.deployment))?,
        };
        write(&self.function(function), &serde_json::to_vec_pretty(&stored)?)
    }

    /// Forgets a function.
    pub(super) fn remove_function(&self, function: &FunctionRef) -> io::Result<()> {
        remove(&self.function(function))
    }

    /// Keeps a namespace.
    pub(super) fn put_namespace(&self, namespace: &FunctionNamespace) -> io::Result<()> {
        write(&self.namespace(&namespace.name), to_json(namespace).as_bytes())
    }

    /// Forgets a namespace and all of its secrets; its functions must be gone.
    pub(super) fn remove_namespace(&self, name: &str) -> io::Result<()> {
        remove_tree(&self.root.join("functions").join(name))?;
        remove_tree(&self.root.join("secrets").join(name))?;
        remove(&self.namespace(name))
    }

    /// Keeps a secret's value.
    pub(super) fn put_secret(&self, namespace: &str, name: &str, value: &[u8]) -> io::Result<()> {
        write(&self.secret(namespace, name), value)
    }

    /// Reads a secret's value.
    pub(super) fn read_secret(&self, namespace: &str, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.secret(namespace, name))
    }

    /// Forgets a secret.
    pub(super) fn remove_secret(&self, namespace: &str, name: &str) -> io::Result<()> {
        remove(&self.secret(namespace, name))
    }

    /// Whether new state could be kept now.
    pub(super) fn check_writable(&self) -> io::Result<()> {
        tempfile::Builder::new()
            .prefix(TEMPORARY)
            .tempfile_in(self.root.join("run"))
            .map(drop)
    }

    fn function(&self, function: &FunctionRef) -> PathBuf {
        self.root
            .join("functions")
            .join(&function.namespace)
            .join(format!("{}.json", function.name))
    }

    fn namespace(&self, name: &str) -> PathBuf {
        self.root.join("namespaces").join(format!("{name}.json"))
    }

    fn secret(&self, namespace: &str, name: &str) -> PathBuf {
        self.root.join("secrets").join(namespace).join(name)
    }
}

fn read_record(path: &Path) -> Result<Record, String> {
    let text = fs::read(path).map_err(|error| error.to_string())?;
    let stored: Stored = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    Ok(Record {
        uid: stored.uid,
        revision: stored.revision,
        created_at: stored.created_at,
        replicas: stored.replicas,
        deployment: from_json(stored.deployment.to_string().as_bytes())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(replicas: u64) -> Record {
        Record {
            uid: "u".to_owned(),
            revision: 3,
            created_at: DateTime::from_timestamp(1_700_000_000, 123_456_789).expect("valid"),
            replicas,
            deployment: FunctionDeployment {
                service: "f".to_owned(),
                env_process: Some("cat".to_owned()),
                labels: Some(BTreeMap::new()),
                ..Default::default()
            },
        }
    }

    #[test]
    fn what_was_put_is_found_again() {
        let folder = tempfile::tempdir().expect("temp dir");
        let function = FunctionRef::new("f", "ns");
        {
            let store = Store::open(folder.path()).expect("opens");
            store.put_function(&function, &record(2)).expect("written");
            store
                .put_function(&FunctionRef::new("gone", "ns"), &record(1))
                .expect("written");
            store.remove_function(&FunctionRef::new("gone", "ns")).expect("removed");
            store.put_secret("ns", "key", b"\0secret").expect("written");
            let namespace = FunctionNamespace {
                name: "ns".to_owned(),
                ..Default::default()
            };
            store.put_namespace(&namespace).expect("written");
        }
        let store = Store::open(folder.path()).expect("opens again");
        let found = store.load().expect("loads");
        let kept = found.functions.get(&function).expect("kept");
        assert_eq!(found.functions.len(), 1);
        assert_eq!(
            (kept.replicas, kept.revision, kept.created_at),
            (2, 3, record(0).created_at)
        );
        assert_eq!(kept.deployment, record(0).deployment);
        assert_eq!(found.namespaces.keys().collect::<Vec<_>>(), ["ns"]);
        assert_eq!(store.read_secret("ns", "key").expect("read"), b"\0secret");
    }

    #[test]
    fn half_written_and_broken_files_are_not_read() {
        let folder = tempfile::tempdir().expect("temp dir");
        let function = FunctionRef::new("f", "ns");
        let functions = folder.path().join("functions/ns");
        {
            let store = Store::open(folder.path()).expect("opens");
            store.put_function(&function, &record(2)).expect("written");
            fs::write(functions.join(".tmp-abc"), "{\"uid\":").expect("written");
            fs::write(functions.join("broken.json"), "{\"uid\":").expect("written");
        }
        let store = Store::open(folder.path()).expect("opens again");
        assert_eq!(
            store.load().expect("loads").functions.into_keys().collect::<Vec<_>>(),
            [function]
        );
        assert!(!functions.join(".tmp-abc").exists(), "leftovers are removed");
    }

    #[test]
    fn a_state_directory_belongs_to_one_gateway() {
        let folder = tempfile::tempdir().expect("temp dir");
        let first = Store::open(folder.path()).expect("opens");
        let error = Store::open(folder.path()).expect_err("locked");
        assert!(error.contains("in use by another gateway"), "{error}");
        drop(first);
        Store::open(folder.path()).expect("free again");
    }

    #[test]
    fn files_are_for_this_user_alone() {
        let folder = tempfile::tempdir().expect("temp dir");
        let root = folder.path().join("deep/state");
        let store = Store::open(&root).expect("opens");
        store.put_secret("ns", "key", b"x").expect("written");
        let mode = |path: &Path| fs::metadata(path).expect("exists").permissions().mode() & 0o777;
        assert_eq!(mode(&root), 0o700);
        assert_eq!(mode(&root.join("secrets/ns")), 0o700);
        assert_eq!(mode(&root.join("secrets/ns/key")), 0o600);
    }
}
