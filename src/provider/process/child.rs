//! One watchdog process: starting it, stopping it, leaving nothing behind.
//!
//! The watchdog leads a process group of its own, so that its function can be
//! killed with it, and holds the end of a pipe (its standard input) that closes
//! when the gateway ends in any way.

use std::{
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use super::launch::Launch;
use crate::{config::duration, watchdog::limits};

/// Variable by which processes of a replica are found when its watchdog died
/// without ending them. Functions inherit it.
const MARK: &str = "FAAS_REPLICA";

/// A running watchdog. Dropping it kills it and what it started.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    pid: u32,
    id: String,
    socket: PathBuf,
    cgroup: Option<PathBuf>,
    /// Closing it asks the watchdog to stop.
    _lifeline: Option<ChildStdin>,
    /// Whether everything has been cleaned up already.
    finished: bool,
}

/// What a replica writes.
pub(super) struct Output {
    pub(super) stdout: Option<ChildStdout>,
    pub(super) stderr: Option<ChildStderr>,
}

/// Starts the watchdog of a replica; its function may take `drain` to finish
/// the calls that are left when it is terminated. Blocking.
pub(super) fn spawn(
    executable: &Path,
    launch: &Launch,
    socket: PathBuf,
    secrets: &Path,
    drain: Duration,
) -> io::Result<(Process, Output)> {
    // Unique on this machine, also among gateways.
    let id = format!("faas-{}", uuid::Uuid::new_v4().simple());
    let cgroup = if launch.memory.is_some() || launch.cpu.is_some() {
        limits::create_cgroup(&id, launch.memory, launch.cpu)?
    } else {
        None
    };
    let mut command = Command::new(executable);
    command
        .arg("watchdog")
        .arg("--socket")
        .arg(&socket)
        .args(["--mode", &launch.mode])
        .arg("--secrets-dir")
        .arg(secrets)
        .arg("--lifeline")
        // It is off the list of endpoints before it is terminated.
        .args(["--drain-delay", "0s"])
        .args(["--drain-timeout", &duration::format(drain)]);
    if !launch.command.is_empty() {
        command.args(["--command", &launch.command]);
    }
    if let Some(bytes) = launch.memory {
        command.args(["--memory-limit", &bytes.to_string()]);
    }
    if let Some(millis) = launch.cpu {
        command.args(["--cpu-limit", &millis.to_string()]);
    }
    if let Some(cgroup) = &cgroup {
        command.arg("--cgroup").arg(cgroup);
    }
    if let Some(directory) = &launch.directory {
        command.current_dir(directory);
    }
    let started = command
        .env_clear()
        .envs(&launch.environment)
        .env(MARK, &id)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .and_then(|child| {
            let pid = child
                .id()
                .ok_or_else(|| io::Error::other("the watchdog has no process id"))?;
            Ok((child, pid))
        });
    let (mut child, pid) = match started {
        Ok(started) => started,
        Err(error) => {
            remove_cgroup(cgroup.as_deref());
            return Err(error);
        }
    };
    let output = Output {
        stdout: child.stdout.take(),
        stderr: child.stderr.take(),
    };
    let process = Process {
        _lifeline: child.stdin.take(),
        child,
        pid,
        id,
        socket,
        cgroup,
        finished: false,
    };
    Ok((process, output))
}

impl Process {
    /// Its process id, which is also its group's.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Resolves when it has ended. Can be dropped and called again.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Asks it to finish its calls and end.
    pub(super) fn terminate(&self) {
        report(kill(group(self.pid), Signal::SIGTERM), "terminate", self.pid);
    }

    /// Ends it now; [`Process::finish`] ends what it started.
    pub(super) async fn kill(&mut self) {
        self.kill_group();
        if let Err(error) = self.wait().await {
            tracing::warn!(pid = self.pid, %error, "cannot wait for a watchdog");
        }
    }

    /// Removes what an ended watchdog left: processes, socket, cgroup.
    pub(super) async fn finish(mut self) {
        // From here on dropping it has nothing left to do.
        self.finished = true;
        let cleaned = tokio::task::spawn_blocking(move || self.clean_up());
        if let Err(error) = cleaned.await {
            tracing::warn!(%error, "cleaning up after a replica was interrupted");
        }
    }

    fn clean_up(&self) {
        self.kill_group();
        kill_marked(&self.id);
        if let Err(error) = std::fs::remove_file(&self.socket)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(socket = %self.socket.display(), %error, "cannot remove a replica's socket");
        }
        remove_cgroup(self.cgroup.as_deref());
    }

    fn kill_group(&self) {
        report(killpg(group(self.pid), Signal::SIGKILL), "kill", self.pid);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.finished {
            self.clean_up();
        }
    }
}

/// Kills every process that carries the mark of a replica. The function's
/// processes lead groups of their own, so the watchdog's group does not have them.
fn kill_marked(id: &str) {
    let mark = format!("{MARK}={id}");
    // Without /proc, or for processes of others, there is nothing to find.
    let Ok(list) = std::fs::read_dir("/proc") else { return };
    for entry in list.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let marked = std::fs::read(entry.path().join("environ")).is_ok_and(|variables| {
            variables
                .split(|byte| *byte == 0)
                .any(|variable| variable == mark.as_bytes())
        });
        if marked {
            report(kill(group(pid), Signal::SIGKILL), "kill", pid);
        }
    }
}

fn group(pid: u32) -> Pid {
    // Process ids are positive i32 on every Unix; 0 and -1 would mean "everyone".
    Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX))
}

/// A process that has ended already is what was wanted.
fn report(result: nix::Result<()>, what: &str, pid: u32) {
    match result {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => tracing::warn!(pid, %error, "cannot {what} a replica's process"),
    }
}

fn remove_cgroup(cgroup: Option<&Path>) {
    if let Some(cgroup) = cgroup
        && let Err(error) = limits::remove_cgroup(cgroup)
    {
        tracing::warn!(cgroup = %cgroup.display(), %error, "cannot remove a replica's cgroup");
    }
}
