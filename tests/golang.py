"""Whether there is a Go that is new enough: what is built with it asks for a newer one, and it is to fetch that."""

from __future__ import annotations

import re
import shutil
import subprocess

from served import Failed

# The first Go that fetches the one that a program asks for; Debian 12's is older.
OLDEST = (1, 21)


def without_go() -> str | None:
    """Why there is no such Go, if there is none."""
    found = shutil.which("go")
    if found is None:
        return "Go is not installed"
    done = subprocess.run([found, "version"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    version = re.search(r"go(\d+)\.(\d+)", done.stdout)
    if version is None:
        raise Failed(f"go does not say its version: {done.stdout}{done.stderr}")
    too_old = (int(version[1]), int(version[2])) < OLDEST
    return f"{version[0]} cannot fetch the Go that is needed" if too_old else None
