#!/usr/bin/env python3
"""Counts the instructions of the pure parts of the road to functions.

    make instructions                  compares with instructions.json; fails on more
    make instructions ARGS=--write     takes the counts as the new ones

Each case of pure.rs runs a few and many times under callgrind; the difference,
divided, is what one costs. Counts depend on the compiler and the processor's
architecture, and on nothing else that happens on the machine.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
COMMITTED = HERE / "instructions.json"
CASES = [
    "read_request",
    "read_and_write_request",
    "read_and_write_answer",
    "base_lane_headers",
    "trace_context",
    "route_of_1000",
    "scaling_decision",
]
FEW, MANY = 1_000, 11_000
# What a count may grow by before it is a regression: other versions of the compiler differ by as much.
TOLERANCE = 0.05


def binary() -> Path:
    """Builds pure.rs as the release build is built."""
    command = ["cargo", "build", "--release", "--locked", "--bench", "pure", "--message-format=json"]
    built = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    for line in built.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "pure":
            return Path(message["executable"])
    raise SystemExit("cargo built no `pure`")


def instructions(program: Path, case: str, times: int) -> int:
    with tempfile.TemporaryDirectory() as directory:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={directory}/out", str(program), case, str(times)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"Collected : (\d+)", ran.stderr)
    if ran.returncode != 0 or not found:
        raise SystemExit(f"{' '.join(command)} failed:\n{ran.stderr}")
    return int(found.group(1))


def main() -> None:
    program = binary()
    counted = {}
    for case in CASES:
        counted[case] = round((instructions(program, case, MANY) - instructions(program, case, FEW)) / (MANY - FEW))
    machine = platform.machine()
    committed = json.loads(COMMITTED.read_text()) if COMMITTED.exists() else {}
    before = committed.get(machine, {})
    worse = []
    for case, count in counted.items():
        known = before.get(case)
        change = f"{count / known - 1:+.1%}" if known else "new"
        print(f"{case:28}{count:>8} instructions  {change}")
        if known and count > known * (1 + TOLERANCE):
            worse.append(case)
    if "--write" in sys.argv[1:]:
        COMMITTED.write_text(json.dumps({**committed, machine: counted}, indent=2, sort_keys=True) + "\n")
    elif worse:
        raise SystemExit(f"more instructions than before: {', '.join(worse)} (`make instructions ARGS=--write` takes them)")


main()
