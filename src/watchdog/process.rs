//! Starting the function's processes and making sure that they end.
//!
//! Each one leads a process group of its own, so that what it starts ends with
//! it. What is written to it and read from it is the business of the modes.

use std::{
    ffi::OsStr,
    io,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::{AccessFlags, Pid, access},
};
use tokio::process::{Child, Command};

use super::stage::{self, Bounds};

/// Name of the variable that tells a function where its secrets are.
pub const SECRETS_VARIABLE: &str = "FAAS_SECRETS_DIR";

/// How to start the function.
#[derive(Debug, Clone)]
pub(super) struct Launcher {
    /// Program and arguments; not empty.
    pub(super) program: Vec<String>,
    /// What it must not exceed.
    pub(super) bounds: Bounds,
    /// Its secrets.
    pub(super) secrets: Option<PathBuf>,
}

impl Launcher {
    /// A command for one call. It inherits this process's environment.
    pub(super) fn for_a_call(&self) -> Command {
        if self.bounds.any() {
            return self.through_stage();
        }
        let mut command = Command::new(&self.program[0]);
        command.args(&self.program[1..]);
        self.finish(command)
    }

    /// A command for the watchdog's whole life, which dies with the watchdog
    /// however that ends.
    pub(super) fn for_life(&self) -> Command {
        self.through_stage()
    }

    fn through_stage(&self) -> Command {
        let mut command = Command::new(stage::own_program());
        command.args(self.bounds.arguments(std::process::id(), &self.program));
        self.finish(command)
    }

    fn finish(&self, mut command: Command) -> Command {
        if let Some(secrets) = &self.secrets {
            command.env(SECRETS_VARIABLE, secrets);
        }
        command.stdin(Stdio::null()).process_group(0).kill_on_drop(true);
        command
    }
}

/// A process and its group. Dropping it kills what is left of the group.
#[derive(Debug)]
pub(super) struct Running {
    // Before `child`: the group is signalled while its leader, not yet reaped,
    // keeps the number from being given to others.
    group: Group,
    /// The process itself.
    pub(super) child: Child,
}

#[derive(Debug)]
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

impl Group {
    /// A group that is gone already is what was wanted.
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0
            && let Err(error) = killpg(group, signal)
            && error != nix::errno::Errno::ESRCH
        {
            super::log::note(format_args!("cannot send {signal} to the function: {error}"));
        }
    }
}

impl Running {
    /// Starts a command made by a [`Launcher`].
    pub(super) fn start(mut command: Command) -> io::Result<Self> {
        let child = command.spawn()?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        Ok(Self {
            group: Group(group),
            child,
        })
    }

    /// Kills the group now.
    pub(super) fn kill(&self) {
        self.group.signal(Signal::SIGKILL);
    }

    /// Asks the group to end, waits, and kills what is left.
    pub(super) async fn stop(&mut self, grace: Duration) {
        self.group.signal(Signal::SIGTERM);
        if tokio::time::timeout(grace, self.child.wait()).await.is_err() {
            super::log::note(format_args!(
                "the function did not end within {grace:?} of SIGTERM; killing it"
            ));
        }
        self.kill();
    }
}

/// How a process ended, in Go's words, which OpenFaaS's clients know.
pub(super) fn describe(status: ExitStatus) -> String {
    let Some(signal) = status.signal() else {
        return format!("exit status {}", status.code().unwrap_or_default());
    };
    let name = match Signal::try_from(signal) {
        Ok(Signal::SIGHUP) => "hangup".to_owned(),
        Ok(Signal::SIGINT) => "interrupt".to_owned(),
        Ok(Signal::SIGABRT) => "aborted".to_owned(),
        Ok(Signal::SIGKILL) => "killed".to_owned(),
        Ok(Signal::SIGSEGV) => "segmentation fault".to_owned(),
        Ok(Signal::SIGPIPE) => "broken pipe".to_owned(),
        Ok(Signal::SIGTERM) => "terminated".to_owned(),
        _ => format!("signal {signal}"),
    };
    let core = if status.core_dumped() { " (core dumped)" } else { "" };
    format!("signal: {name}{core}")
}

/// Whether `name` can be run: a path to an executable file, or the name of one
/// in a directory of `search` (the value of `PATH`).
pub fn is_runnable(name: &str, search: Option<&OsStr>) -> bool {
    let executable = |path: &Path| path.is_file() && access(path, AccessFlags::X_OK).is_ok();
    if name.contains('/') {
        return executable(Path::new(name));
    }
    !name.is_empty()
        && search.is_some_and(|search| std::env::split_paths(search).any(|directory| executable(&directory.join(name))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_read_as_go_writes_them() {
        for (raw, text) in [
            (0, "exit status 0"),
            (3 << 8, "exit status 3"),
            (9, "signal: killed"),
            (15, "signal: terminated"),
            (6 | 0x80, "signal: aborted (core dumped)"),
        ] {
            assert_eq!(describe(ExitStatus::from_raw(raw)), text);
        }
    }

    #[test]
    fn commands_are_looked_up_like_a_shell_does() {
        let path = OsStr::new("/nowhere:/usr/bin:/bin");
        for (name, found) in [
            ("sh", true),
            ("/bin/sh", true),
            ("no-such-command", false),
            ("/bin", false),
            ("/etc/passwd", false),
            ("", false),
        ] {
            assert_eq!(is_runnable(name, Some(path)), found, "{name}");
        }
        assert!(!is_runnable("sh", None));
    }
}
