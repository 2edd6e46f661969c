#!/usr/bin/env python3
"""Is a client of the last release still served? Compares openapi/openapi.json with openapi/released.json.

An operation that is gone, a field that is needed now or was always there before: oasdiff knows some
hundred ways to break clients, and any that it calls an error fails. What it calls a warning is shown.

Exit codes: 0 nothing breaks, or SKIPPED where there is no Go that is new enough; 1 something does; 2 could not be found out.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import tools
from tools import ROOT, Failed
from golang import without_go  # noqa: E402, I001 - found by tools

DOCUMENT = ROOT / "openapi" / "openapi.json"
RELEASED = ROOT / "openapi" / "released.json"
ERROR = 3


def main() -> int:
    began = time.monotonic()
    try:
        if why := without_go():
            # As with faas-cli: what cannot be built here is said to be left out.
            print(f"breaking: SKIPPED: {why}; put Go 1.21 or newer on the PATH")
            return 0
        program = tools.oasdiff()
        released = json.loads(RELEASED.read_text())
        # A comparison that sees nothing passes: it must see an operation that is gone.
        with tempfile.TemporaryDirectory(prefix="breaking-") as directory:
            less = Path(directory) / "less.json"
            less.write_text(json.dumps(released | {"paths": dict(list(released["paths"].items())[1:])}))
            if not any(change["level"] == ERROR for change in changes(program, RELEASED, less)):
                raise Failed("oasdiff does not see that a path is gone")
        found = changes(program, RELEASED, DOCUMENT)
    except Failed as failed:
        print(f"breaking: error: {failed}", file=sys.stderr)
        return 2
    errors = [change for change in found if change["level"] == ERROR]
    for change in found:
        kind = "breaks clients" if change["level"] == ERROR else "may break clients"
        place = f"{change.get('operation', '')} {change.get('path', '')}".strip()
        print(f"breaking: {kind}: {place}: {change['text']} [{change['id']}]", file=sys.stderr)
    if errors:
        print("breaking: if this is meant, see openapi/README.md", file=sys.stderr)
    operations = sum(len(methods) for methods in released["paths"].values())
    print(
        f"breaking: {operations} operations of {RELEASED.name} compared, {len(errors)} changes break clients, "
        f"{len(found) - len(errors)} may, {time.monotonic() - began:.0f} s"
    )
    return 1 if errors else 0


def changes(program: Path, old: Path, new: Path) -> list[dict[str, Any]]:
    """What breaks or may break clients of the old document."""
    command = [str(program), "breaking", "--format", "json", str(old), str(new)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
    try:
        found = json.loads(done.stdout or "null")
    except ValueError:
        found = None
    if done.returncode != 0 or not isinstance(found, list | type(None)):
        raise Failed(f"oasdiff ended with {done.returncode}: {done.stdout[-500:]}{done.stderr[-1000:]}")
    return found or []


if __name__ == "__main__":
    sys.exit(main())
