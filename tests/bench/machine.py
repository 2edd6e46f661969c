"""Processes: starting them on a core, ending them, and what they cost."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import signal
import subprocess
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")

# File descriptors of everything that is started: ten thousand connections fit.
FILES = 65536


class Failed(Exception):
    """Something that makes the measurement impossible or worthless."""


class Processes:
    """Everything that was started, so that it can be ended."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.started: list[tuple[str, subprocess.Popen]] = []

    def start(self, name: str, command: list[str], cores: set[int]) -> subprocess.Popen:
        log = (self.directory / f"{name.split()[0]}-{len(self.started)}.log").open("wb")

        def prepare() -> None:
            os.sched_setaffinity(0, cores)
            raise_limit()

        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=self.directory,
            env={"PATH": os.environ["PATH"], "HOME": str(self.directory)},
            preexec_fn=prepare,
        )
        self.started.append((log.name, process))
        log.close()
        return process

    def output(self, process: subprocess.Popen) -> str:
        path = next(path for path, candidate in self.started if candidate is process)
        return Path(path).read_text(errors="replace")[-2000:]

    def stop(self, process: subprocess.Popen) -> None:
        """Ends one process and what it started."""
        below = tree(process.pid)
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # Workers end with their master; where one did not, it is one of ours by its id and name.
        for pid, name in below.items():
            if comm(pid) == name:
                os.kill(pid, signal.SIGKILL)

    def end(self) -> None:
        for _, process in self.started:
            self.stop(process)


def raise_limit() -> None:
    """As many files as may be opened, up to what is needed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, max(FILES, hard)))
    except ValueError:
        # Only root may have more than the hard limit.
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name, or nothing if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def comm(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None


def tree(root: int) -> dict[int, str]:
    """A process and all below it: ids and names."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := stat(int(entry))):
            children.setdefault(int(fields[1]), []).append(int(entry))
    found, queue = {}, [root]
    while queue:
        pid = queue.pop()
        found[pid] = comm(pid) or ""
        queue.extend(children.get(pid, []))
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of a process tree."""
    total = 0
    for member in tree(pid):
        if fields := stat(member):
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def memory_kib(pid: int) -> float:
    """What a process tree keeps in memory; shared pages count once."""
    total = 0
    for member in tree(pid):
        try:
            for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        except OSError:
            continue
    return total


def machine_times() -> tuple[int, int]:
    """Ticks of all cores, and those of them that the hypervisor took."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return sum(fields[:8]), fields[7]


def tool(name: str) -> str:
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if not path:
        raise Failed(f"{name} is not installed: run .ci/install bench")
    return path


def version(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=10)
    return (done.stdout + done.stderr).strip().splitlines()[0]


def described() -> dict:
    model = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    return {"processor": model, "cores": os.cpu_count(), "kernel": platform.release()}
