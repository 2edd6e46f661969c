//! The second stage: a process that bounds itself and then becomes the function.
//!
//! Limits must hold for the function and not for its watchdog, and a process
//! can only bound itself without `unsafe` when it runs our code: so the
//! watchdog starts this binary again, and this stage replaces itself by the
//! function with `exec`.

use std::{
    ffi::OsString,
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use nix::{sys::resource, unistd};

use super::log::note;

/// What the function's processes must not exceed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Most memory in bytes; enforced for each process, unless `cgroup` does it.
    pub(super) memory: Option<u64>,
    /// A cgroup to join; its limits apply then.
    pub(super) cgroup: Option<PathBuf>,
}

impl Bounds {
    /// Whether there is anything to enforce.
    pub(super) fn any(&self) -> bool {
        self.memory.is_some() || self.cgroup.is_some()
    }

    /// Arguments that make our binary run `program` within these bounds.
    pub(super) fn arguments(&self, parent: u32, program: &[String]) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["watchdog".into(), "--exec-limited".into(), parent.to_string().into()];
        if let Some(bytes) = self.memory {
            arguments.extend(["--memory-limit".into(), bytes.to_string().into()]);
        }
        if let Some(cgroup) = &self.cgroup {
            arguments.extend(["--cgroup".into(), cgroup.into()]);
        }
        arguments.push("--".into());
        arguments.extend(program.iter().map(Into::into));
        arguments
    }
}

/// Path of this program, still good when its file was replaced meanwhile.
pub(super) fn own_program() -> PathBuf {
    let link = Path::new("/proc/self/exe");
    if link.exists() {
        return link.to_owned();
    }
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("faas-gateway"))
}

/// Becomes `program`; returns only when that failed.
pub(super) fn run(parent: i32, bounds: &Bounds, program: &[OsString]) -> ExitCode {
    match prepare(parent, bounds, program) {
        Ok(mut command) => {
            let error = command.exec();
            note(format_args!("cannot run {}: {error}", command.get_program().display()));
            ExitCode::from(NOT_RUN)
        }
        Err(message) => {
            note(format_args!("cannot run the function: {message}"));
            ExitCode::from(NOT_RUN)
        }
    }
}

/// What shells exit with when a command cannot be run.
const NOT_RUN: u8 = 126;

fn prepare(parent: i32, bounds: &Bounds, program: &[OsString]) -> Result<Command, String> {
    let (name, arguments) = program.split_first().ok_or("no program was named")?;
    let mut command = Command::new(name);
    command.args(arguments);
    // Not even SIGKILL of the watchdog leaves its function behind.
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)
        .map_err(|error| format!("cannot tie it to its watchdog: {error}"))?;
    if unistd::getppid().as_raw() != parent {
        return Err("its watchdog is gone".to_owned());
    }
    if let Some(cgroup) = &bounds.cgroup {
        // 0 is the writing process.
        fs::write(cgroup.join("cgroup.procs"), "0")
            .map_err(|error| format!("cannot join the cgroup {}: {error}", cgroup.display()))?;
    } else if let Some(bytes) = bounds.memory {
        // Not RLIMIT_AS: runtimes such as V8 reserve far more addresses than
        // they will ever fill, and would not start.
        resource::setrlimit(resource::Resource::RLIMIT_DATA, bytes, bytes)
            .map_err(|error| format!("cannot limit its memory to {bytes} bytes: {error}"))?;
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_read_as_the_command_line_expects() {
        let bounds = Bounds {
            memory: Some(1024),
            cgroup: Some("/sys/fs/cgroup/x".into()),
        };
        assert_eq!(
            bounds.arguments(7, &["cat".to_owned(), "--memory-limit".to_owned()]),
            [
                "watchdog",
                "--exec-limited",
                "7",
                "--memory-limit",
                "1024",
                "--cgroup",
                "/sys/fs/cgroup/x",
                "--",
                "cat",
                "--memory-limit"
            ]
        );
        assert!(bounds.any());
        assert!(!Bounds::default().any());
    }

    #[test]
    fn an_orphan_does_not_start() {
        let error = prepare(-1, &Bounds::default(), &["true".into()]).expect_err("parent is another process");
        assert!(error.contains("watchdog is gone"), "{error}");
    }
}
