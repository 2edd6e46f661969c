//! Secrets where functions look for them: `/var/openfaas/secrets`.
//!
//! Every replica gets its own view of the file system in which its secrets are
//! mounted there, read-only; nothing changes for other processes and nothing is
//! left behind. Root needs only a mount namespace; others get a user namespace
//! too, in which they keep their own id. Where the kernel forbids that,
//! `FAAS_SECRETS_DIR` still names the directory.
//!
//! Must run before the process has a second thread.

use std::path::Path;

/// Where OpenFaaS functions look for their secrets.
pub const SECRETS_PATH: &str = "/var/openfaas/secrets";

/// Mounts `secrets` at [`SECRETS_PATH`] for this process and its children.
///
/// # Errors
/// What the system refused. This process's view may then be a private one, but
/// shows the same files as before.
#[cfg(target_os = "linux")]
pub(super) fn mount_secrets(secrets: &Path) -> Result<(), String> {
    linux::mount_secrets(secrets, Path::new(SECRETS_PATH))
}

/// Only Linux has mount namespaces.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub(super) fn mount_secrets(_: &Path) -> Result<(), String> {
    Err("this system has no mount namespaces".to_owned())
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        fs, io,
        os::{fd::AsRawFd, unix::fs::symlink},
        path::{Path, PathBuf},
    };

    use nix::{
        mount::{MntFlags, MsFlags, mount, umount2},
        sched::{CloneFlags, unshare},
        unistd,
    };

    const NONE: Option<&str> = None;

    /// Where a directory is put together before it covers the real one.
    const STAGING: &str = "/tmp";

    pub(super) fn mount_secrets(secrets: &Path, target: &Path) -> Result<(), String> {
        private_view()?;
        // Held open, so that it can be mounted even when a mount covers its path.
        let open = fs::File::open(secrets).map_err(|error| format!("cannot open {}: {error}", secrets.display()))?;
        let source = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()));
        if target.is_dir() {
            return bind_secrets(&source, target);
        }
        let existing = target
            .ancestors()
            .find(|ancestor| ancestor.is_dir())
            .unwrap_or(Path::new("/"));
        let missing = target.strip_prefix(existing).map_err(|error| error.to_string())?;
        if existing == Path::new("/") {
            fs::create_dir_all(target).map_err(|error| format!("cannot create {}: {error}", target.display()))?;
            return bind_secrets(&source, target);
        }
        extend(existing, missing, &source)
    }

    /// Leaves the mounts that others see.
    fn private_view() -> Result<(), String> {
        let (uid, gid) = (unistd::geteuid(), unistd::getegid());
        if uid.is_root() {
            unshare(CloneFlags::CLONE_NEWNS).map_err(|error| format!("no private mount namespace: {error}"))?;
        } else {
            unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
                .map_err(|error| format!("no private user and mount namespace: {error}"))?;
            for (file, content) in [
                ("/proc/self/setgroups", "deny".to_owned()),
                ("/proc/self/uid_map", format!("{uid} {uid} 1")),
                ("/proc/self/gid_map", format!("{gid} {gid} 1")),
            ] {
                fs::write(file, content).map_err(|error| format!("cannot write {file}: {error}"))?;
            }
        }
        mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)
            .map_err(|error| format!("cannot make mounts private: {error}"))
    }

    fn bind(source: &Path, target: &Path, recursive: bool) -> Result<(), String> {
        let flags = if recursive {
            MsFlags::MS_BIND | MsFlags::MS_REC
        } else {
            MsFlags::MS_BIND
        };
        mount(Some(source), target, NONE, flags, NONE)
            .map_err(|error| format!("cannot mount {} at {}: {error}", source.display(), target.display()))
    }

    /// Mounts the secrets read-only.
    fn bind_secrets(source: &Path, target: &Path) -> Result<(), String> {
        // Recursive, because an unprivileged namespace may not show a directory
        // without what is mounted below it.
        bind(source, target, true)?;
        let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        // A user namespace may not drop restrictions of the original mount, and
        // asking for read-only alone would; then it stays writable for its
        // owner, who could write to the original anyway.
        if mount(NONE, target, NONE, read_only, NONE).is_err() {
            tracing::debug!("secrets stay writable for their owner");
        }
        Ok(())
    }

    /// Shows `existing` with `missing` in it, although that is not on disk: an
    /// empty file system gets everything from `existing` mounted into it, the
    /// secrets as well, and then takes its place.
    fn extend(existing: &Path, missing: &Path, secrets: &Path) -> Result<(), String> {
        let staging = Path::new(STAGING);
        mount(
            Some("faas-gateway"),
            staging,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("mode=0755,size=1m"),
        )
        .map_err(|error| format!("cannot mount a tmpfs: {error}"))?;
        let built = build(existing, missing, secrets, staging).and_then(|()| {
            mount(Some(staging), existing, NONE, MsFlags::MS_MOVE, NONE)
                .map_err(|error| format!("cannot put the tmpfs at {}: {error}", existing.display()))
        });
        if built.is_err() {
            umount2(staging, MntFlags::MNT_DETACH)
                .map_err(|error| format!("cannot uncover {}: {error}", staging.display()))?;
        }
        built
    }

    fn build(existing: &Path, missing: &Path, secrets: &Path, staging: &Path) -> Result<(), String> {
        let say = |error: io::Error| format!("cannot rebuild {}: {error}", existing.display());
        for entry in fs::read_dir(existing).map_err(say)? {
            let entry = entry.map_err(say)?;
            let kind = entry.file_type().map_err(say)?;
            let copy = staging.join(entry.file_name());
            if kind.is_symlink() {
                symlink(fs::read_link(entry.path()).map_err(say)?, &copy).map_err(say)?;
                continue;
            }
            if kind.is_dir() {
                fs::create_dir(&copy).map_err(say)?;
            } else {
                fs::File::create(&copy).map_err(say)?;
            }
            bind(&entry.path(), &copy, true)?;
        }
        let target = staging.join(missing);
        fs::create_dir_all(&target).map_err(say)?;
        bind_secrets(secrets, &target)
    }
}
