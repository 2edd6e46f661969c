#!/usr/bin/env python3
"""Generates clients from openapi/openapi.json, compiles them, and runs the same scenario with each.

    make test-clients                                  all languages
    make test-clients ARGS="--only python,go"          some of them
    python3 tests/clients/run.py --binary FILE         a gateway that is built already

Every language has a directory here with the scenario, the versions of everything
it needs, and a script `client` with the verbs version, install, generate, compile
and run. Nothing that is generated or built is kept: it all goes to target/clients.

Each language gets a gateway of its own, with basic authentication and nothing
deployed, on a free loopback port. The scenario prints `ok NAME` for each of STEPS,
in this order; anything else is a failure, but for Go where neither the PATH nor PyPI
has one that can build its client. Everything that is started is ended by
its process id.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from golang import without_go  # noqa: E402 - found from here on
from served import Failed, Served  # noqa: E402

# The fast ones first.
LANGUAGES = ["typescript", "python", "go", "java", "rust"]

STEPS = [
    "refused without credentials",
    "refused with wrong credentials",
    "deploy",
    "ready",
    "invoke",
    "errors of calls",
    "scale",
    "logs",
    "secrets",
    "namespaces",
    "asynchronous call",
    "config status",
    "delete",
]

USER, PASSWORD = "admin", "correct horse"

# A function whose answer to `GET STATUS` has this status and the body `[1]`, with `mode=http`.
PICKY = f"python3 '{ROOT / 'tests/fixtures/functions/picky.py'}'"

# In place of the number of steps.
SKIPPED = "skipped"

# Seconds: a build may fetch what it needs first.
BUILD, RUN = 1200, 120


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument(
        "--binary", type=Path, default=ROOT / "target/debug/faas-gateway", help="the gateway to test"
    )
    arguments.add_argument("--only", default=",".join(LANGUAGES), help="languages, with commas between them")
    options = arguments.parse_args()
    wanted = options.only.split(",")
    if unknown := set(wanted) - set(LANGUAGES):
        arguments.error(f"no such language: {', '.join(sorted(unknown))}")
    if not options.binary.is_file():
        arguments.error(f"there is no {options.binary}: run cargo build first")

    # So that what was started is ended too when this is asked to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rows = [tested(language, options.binary.resolve()) for language in wanted]
    head = ("language", "generator", "generate s", "compile s", "run s", "steps")
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    print()
    for row in [head, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    passed = sum(row[-1] == f"{len(STEPS)}/{len(STEPS)}" for row in rows)
    skipped = sum(row[-1] == SKIPPED for row in rows)
    failed = len(rows) - passed - skipped
    print(f"\n{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed else 0


def tested(language: str, binary: Path) -> tuple[str, ...]:
    """One row of the table."""
    client = Client(language)
    cells = dict.fromkeys(("version", "generate", "compile", "run"), "-")
    steps: list[str] = []
    try:
        if language == "go" and (why := without_go()):
            print(f"SKIPPED: go: {why}; put Go 1.21 or newer on the PATH", file=sys.stderr, flush=True)
            return (language, *cells.values(), SKIPPED)
        cells["version"] = client.verb("version", BUILD)[0].strip()
        client.verb("install", BUILD)
        for verb in ("generate", "compile"):
            cells[verb] = f"{client.verb(verb, BUILD)[1]:.1f}"
        with tempfile.TemporaryDirectory() as directory, Served(binary, Path(directory), (USER, PASSWORD)) as gateway:
            environment = {
                "GATEWAY_URL": gateway.url,
                "GATEWAY_USER": USER,
                "GATEWAY_PASSWORD": PASSWORD,
                "PICKY": PICKY,
            }
            cells["run"] = f"{client.verb('run', RUN, environment, steps)[1]:.1f}"
        if steps != STEPS:
            raise Failed(f"{language}: run: expected the steps {STEPS}, found {steps}")
    except Failed as failure:
        print(f"FAILED: {failure}", file=sys.stderr, flush=True)
        return (language, *cells.values(), f"{min(len(steps), len(STEPS) - 1)}/{len(STEPS)}")
    return (language, *cells.values(), f"{len(steps)}/{len(STEPS)}")


class Client:
    """The script of one language."""

    def __init__(self, language: str):
        self.language = language
        self.script = HERE / language / "client"
        self.build = ROOT / "target/clients" / language

    def verb(
        self, verb: str, seconds: float, environment: dict[str, str] | None = None, steps: list[str] | None = None
    ) -> tuple[str, float]:
        """What the script printed, and how long it took."""
        began = time.monotonic()
        self.build.mkdir(parents=True, exist_ok=True)
        script = subprocess.Popen(
            [self.script, verb],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=self.build,
            env={
                **os.environ,
                "DOCUMENT": str(ROOT / "openapi/openapi.json"),
                "BUILD": str(self.build),
                **(environment or {}),
            },
            start_new_session=True,
        )
        late = threading.Timer(seconds, end_group, [script])
        late.start()
        try:
            lines = []
            for line in script.stdout:
                lines.append(line)
                if steps is not None:
                    print(f"{self.language}: {line}", end="", flush=True)
                    if line.startswith("ok "):
                        steps.append(line[3:].strip())
            status = script.wait()
        finally:
            late.cancel()
            if script.poll() is None:
                end_group(script)
        output = "".join(lines)
        if status != 0:
            why = f"exit code {status}" if time.monotonic() - began < seconds else f"not done after {seconds} s"
            raise Failed(f"{self.language}: {verb}: {why}\n{output[-6000:]}")
        return output, time.monotonic() - began


def end_group(process: subprocess.Popen) -> None:
    """Ends a process and what it started: it leads a group of its own."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


if __name__ == "__main__":
    sys.exit(main())
