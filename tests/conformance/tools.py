"""The tools of the gates, pinned, below target/: nothing of them is committed or installed elsewhere.

A tool that cannot be had is a failure: a gate that did not run must not look like one that passed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from served import Failed  # noqa: E402 - found from here on

HERE = Path(__file__).resolve().parent
PLACE = ROOT / "target" / "contract"
# Longest wait for a registry.
PATIENCE = 240


def command(name: str) -> str:
    """Where a command is that `.ci/install test` would have installed."""
    found = shutil.which(name)
    if found is None:
        raise Failed(f"{name} is not installed: run .ci/install test")
    return found


def prepared(directory: Path, pins: str, install: list[list[str]], environment: dict[str, str]) -> Path:
    """A directory that the commands have filled for these pins; done once, and again when the pins change."""
    stamp = directory / "pins"
    if stamp.is_file() and stamp.read_text() == pins:
        return directory
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for arguments in install:
        said = f"could not prepare {directory.relative_to(ROOT)}: {' '.join(map(str, arguments[:4]))} …"
        try:
            done = subprocess.run(
                arguments, cwd=directory, env=os.environ | environment, timeout=PATIENCE, text=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"{said} took more than {PATIENCE} s; is the registry reachable?") from None
        if done.returncode != 0:
            raise Failed(f"{said} failed; is the registry reachable?\n{done.stdout[-2000:]}")
    stamp.write_text(pins)
    return directory


def virtual_environment(directory: Path, pins: str, *wanted: str) -> Path:
    """A virtual environment with what pip makes of `wanted`, for these pins and this Python."""
    install = [
        [sys.executable, "-m", "venv", str(directory)],
        [str(directory / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", "--no-input", *wanted],
    ]
    return prepared(directory, pins + sys.version, install, {})


def schemathesis() -> Path:
    """The schemathesis of requirements.txt."""
    requirements = HERE / "requirements.txt"
    directory = PLACE / "schemathesis"
    made = virtual_environment(directory, requirements.read_text(), "--requirement", str(requirements))
    return made / "bin" / "schemathesis"


def spectral() -> Path:
    """The spectral of lint/package-lock.json."""
    files = [HERE / "lint" / name for name in ("package.json", "package-lock.json")]
    directory = PLACE / "spectral"
    install = [
        ["cp", *map(str, files), str(directory)],
        # Scripts of packages are not run: none is needed, and one reports its use.
        [command("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
    ]
    pins = "".join(file.read_text() for file in files)
    return prepared(directory, pins, install, {}) / "node_modules" / ".bin" / "spectral"


# The version is checked by Go's checksum database.
OASDIFF = "github.com/oasdiff/oasdiff@v1.37.0"

def oasdiff() -> Path:
    """The pinned oasdiff, built here."""
    directory = PLACE / "oasdiff"
    install = [[command("go"), "install", OASDIFF]]
    environment = {"GOBIN": str(directory), "GOFLAGS": "-mod=mod"}
    return prepared(directory, OASDIFF, install, environment) / "oasdiff"
