//! Bounds on what a function may use, and which mechanism enforces them.
//!
//! A cgroup (version 2) bounds memory and processor time of everything a
//! replica runs together. It needs a hierarchy that this process may divide:
//! a systemd service with `Delegate=yes`, or a container with a writable
//! cgroup namespace. Elsewhere memory is bounded for each process by
//! `RLIMIT_DATA`; resource limits cannot share out processor time, so there
//! `limits.cpu` has no effect, and [`Mechanism`]'s text says so.
//!
//! The provider creates and removes cgroups; the watchdog puts the function's
//! processes into them (see [`super::stage`]).

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::errno::Errno;

/// What enforces limits on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mechanism {
    /// Child cgroups of this directory, with the memory and cpu controllers.
    Cgroup(PathBuf),
    /// `RLIMIT_DATA` for memory, nothing for processor time.
    Rlimit,
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cgroup(base) => write!(f, "memory and cpu by cgroup v2 below {}", base.display()),
            Self::Rlimit => f.write_str(
                "memory by RLIMIT_DATA for each process, cpu not limited: \
                 no cgroup v2 hierarchy with the memory and cpu controllers can be divided here",
            ),
        }
    }
}

/// The leaf that this process moves into, because a cgroup that gives
/// controllers to its children may hold no process itself.
const OWN_LEAF: &str = "faas-gateway";

/// Finds what can enforce limits, and prepares it: where this process is alone
/// in a cgroup that it may divide, it moves to a leaf of it and hands the
/// controllers to its siblings-to-be. Calling it again changes nothing.
pub fn mechanism() -> Mechanism {
    match prepare() {
        Ok(Some(base)) => Mechanism::Cgroup(base),
        Ok(None) => Mechanism::Rlimit,
        Err(error) => {
            tracing::debug!(%error, "no cgroup hierarchy to divide");
            Mechanism::Rlimit
        }
    }
}

/// Creates a cgroup for one replica, below the one that [`mechanism`] found.
///
/// `memory` is in bytes, `cpu` in thousandths of a processor. `None` when
/// cgroups are not what enforces limits here.
///
/// # Errors
/// When the name is no plain file name, or the system refuses.
pub fn create_cgroup(name: &str, memory: Option<u64>, cpu: Option<u64>) -> io::Result<Option<PathBuf>> {
    if name.is_empty() || name.starts_with('.') || name.contains('/') || name == OWN_LEAF {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("'{name}' cannot name a cgroup"),
        ));
    }
    let Mechanism::Cgroup(base) = mechanism() else {
        return Ok(None);
    };
    let path = base.join(name);
    match fs::create_dir(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    for (file, value) in values(memory, cpu) {
        match fs::write(path.join(file), value) {
            // Kernels without swap accounting lack the swap bound, and need none.
            Err(error) if file == "memory.swap.max" && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let error = io::Error::new(
                    error.kind(),
                    format!("cannot set {file} of {}: {error}", path.display()),
                );
                // The first failure is the one worth reporting.
                let _ = fs::remove_dir(&path);
                return Err(error);
            }
            Ok(()) => {}
        }
    }
    Ok(Some(path))
}

/// Kills what is left in a replica's cgroup and removes it. One that is gone
/// already is fine. Blocks for at most half a second.
///
/// # Errors
/// When processes remain in it.
pub fn remove_cgroup(path: &Path) -> io::Result<()> {
    match fs::write(path.join("cgroup.kill"), "1") {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut tries = 0;
    loop {
        match fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // Killed processes leave a moment later.
            Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) && tries < 50 => {
                tries += 1;
                thread::sleep(Duration::from_millis(10));
            }
            other => return other,
        }
    }
}

/// The control files of a replica's cgroup and what to write to them.
fn values(memory: Option<u64>, cpu: Option<u64>) -> Vec<(&'static str, String)> {
    const PERIOD_MICROS: u64 = 100_000;
    const SHORTEST_QUOTA: u64 = 1_000;
    let mut values = Vec::new();
    if let Some(bytes) = memory {
        values.push(("memory.max", bytes.to_string()));
        values.push(("memory.swap.max", "0".to_owned()));
        values.push(("memory.oom.group", "1".to_owned()));
    }
    if let Some(millis) = cpu {
        let quota = millis.saturating_mul(PERIOD_MICROS / 1_000).max(SHORTEST_QUOTA);
        values.push(("cpu.max", format!("{quota} {PERIOD_MICROS}")));
    }
    values
}

/// The cgroup whose children may have limits, if there is one.
fn prepare() -> io::Result<Option<PathBuf>> {
    let Some(mount) = cgroup2_mount(&fs::read_to_string("/proc/self/mountinfo")?) else {
        return Ok(None);
    };
    let Some(own) = own_cgroup(&fs::read_to_string("/proc/self/cgroup")?).map(str::to_owned) else {
        return Ok(None);
    };
    let own = mount.join(own.trim_start_matches('/'));
    let base = match (own.file_name(), own.parent()) {
        (Some(name), Some(parent)) if name == OWN_LEAF => parent.to_owned(),
        _ => own,
    };
    if !has_both(&fs::read_to_string(base.join("cgroup.controllers"))?) {
        return Ok(None);
    }
    if !has_both(&fs::read_to_string(base.join("cgroup.subtree_control"))?) {
        divide(&base)?;
    }
    nix::unistd::access(&base, nix::unistd::AccessFlags::W_OK)?;
    Ok(Some(base))
}

/// Hands the controllers of `base` to its children.
fn divide(base: &Path) -> io::Result<()> {
    let enable = || fs::write(base.join("cgroup.subtree_control"), "+memory +cpu");
    match enable() {
        Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => {}
        other => return other,
    }
    let leaf = base.join(OWN_LEAF);
    match fs::create_dir(&leaf) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // 0 is the writing process.
    fs::write(leaf.join("cgroup.procs"), "0")?;
    enable().inspect_err(|_| {
        // Others live in `base` too, and moving them is not ours to do: go back.
        let _ = fs::write(base.join("cgroup.procs"), "0").and_then(|()| fs::remove_dir(&leaf));
    })
}

/// Where the version 2 hierarchy is mounted.
fn cgroup2_mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let point = mount.split(' ').nth(4)?;
        (kind.split(' ').next() == Some("cgroup2")).then(|| PathBuf::from(point))
    })
}

/// This process's path in the version 2 hierarchy.
fn own_cgroup(cgroup: &str) -> Option<&str> {
    cgroup.lines().find_map(|line| line.strip_prefix("0::"))
}

fn has_both(controllers: &str) -> bool {
    ["memory", "cpu"]
        .iter()
        .all(|wanted| controllers.split_whitespace().any(|found| found == *wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_control_files() {
        assert_eq!(
            values(Some(5 << 20), Some(250)),
            [
                ("memory.max", "5242880".to_owned()),
                ("memory.swap.max", "0".to_owned()),
                ("memory.oom.group", "1".to_owned()),
                ("cpu.max", "25000 100000".to_owned()),
            ]
        );
        assert_eq!(values(None, Some(1)), [("cpu.max", "1000 100000".to_owned())]);
        assert_eq!(values(None, None), []);
    }

    #[test]
    fn the_hierarchy_is_found() {
        let hybrid = "30 23 0:26 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                      31 23 0:27 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup2_mount(hybrid), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(cgroup2_mount("22 1 8:1 / / rw - ext4 /dev/sda rw\n"), None);
        assert_eq!(
            own_cgroup("4:memory:/x\n0::/system.slice/a.service\n"),
            Some("/system.slice/a.service")
        );
        assert_eq!(own_cgroup("4:memory:/x\n"), None);
    }

    #[test]
    fn both_controllers_are_needed() {
        for (controllers, enough) in [
            ("cpuset cpu io memory pids", true),
            ("cpuset memory", false),
            ("cpu", false),
            ("hugetlb", false),
            ("", false),
        ] {
            assert_eq!(has_both(controllers), enough, "{controllers}");
        }
    }

    #[test]
    fn a_name_cannot_leave_the_hierarchy() {
        for name in ["", ".", "..", "a/b", OWN_LEAF] {
            let error = create_cgroup(name, None, None).expect_err(name);
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}");
        }
    }

    #[test]
    fn removing_what_is_gone_is_fine() {
        let directory = tempfile::tempdir().expect("temp dir");
        remove_cgroup(&directory.path().join("gone")).expect("nothing to do");
    }
}
