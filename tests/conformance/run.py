#!/usr/bin/env python3
"""Does a real gateway keep its contract?

    make contract                                               with the other gates
    python3 tests/conformance/run.py --binary PATH              this one alone

Starts a gateway on free loopback ports (process provider, basic auth), deploys what requests can meet,
and has schemathesis make up requests from the gateway's own OpenAPI document: valid ones, invalid ones,
sequences. All of its checks are on (schemathesis.toml), and what is no failure is said one by one
(hooks.py). Seeded, so it is the same run each time, and bounded in time.

Exit codes: 0 kept, 1 not kept, 2 could not be found out.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tools
from gateway import PASSWORD, USER, Gateway, populate
from tools import HERE, PLACE, ROOT, Failed

# The run itself is bounded by its number of cases; this is for one that hangs.
LIMIT = 240
# Operations that cannot succeed here: the process provider has no telemetry.
NEVER_SUCCESSFUL = {"GET /system/telemetry"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=ROOT / "target" / "debug" / "faas-gateway")
    parser.add_argument("--seed", type=int, help="other requests than the usual ones")
    parser.add_argument("--cases", type=int, help="most made-up requests for each operation and kind")
    options = parser.parse_args()
    try:
        return run(options)
    except Failed as failed:
        print(f"conformance: error: {failed}", file=sys.stderr)
        return 2


def run(options: argparse.Namespace) -> int:
    if not options.binary.is_file():
        raise Failed(f"there is no {options.binary}: run cargo build, or say --binary")
    program = tools.schemathesis()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="conformance-") as name:
        directory = Path(name)
        gateway = Gateway(options.binary.resolve(), directory)
        try:
            populate(gateway)
            status = examine(gateway, program, directory, options)
            alive = gateway.process.poll() is None
        finally:
            gateway.stop()
            PLACE.mkdir(parents=True, exist_ok=True)
            # For whoever looks for the cause of a failure.
            for file in (gateway.log, directory / "output", directory / "events.ndjson"):
                if file.is_file():
                    shutil.copy(file, PLACE / file.name)
        summary(directory, status, time.monotonic() - began)
        panics = [line for line in gateway.log.read_text(errors="replace").splitlines() if "panicked" in line]
    if not alive:
        print(f"conformance: the gateway ended by itself:\n{gateway.process.returncode}", file=sys.stderr)
    for line in panics:
        print(f"conformance: the gateway panicked: {line}", file=sys.stderr)
    if status == 0 and alive and not panics:
        return 0
    print(f"conformance: FAILED; the gateway's log is {(PLACE / 'gateway.log').relative_to(ROOT)}", file=sys.stderr)
    return 1


def examine(gateway: Gateway, program: Path, directory: Path, options: argparse.Namespace) -> int:
    command = [
        str(program), "--config-file", str(HERE / "schemathesis.toml"), "run", f"{gateway.url}/openapi.json",
        "--no-color", "--report", "json", "--report-json-path", str(directory / "report.json"),
        "--report", "ndjson", "--report-ndjson-path", str(directory / "events.ndjson"),
    ]
    if options.seed is not None:
        command += ["--seed", str(options.seed)]
    if options.cases is not None:
        command += ["--max-examples", str(options.cases)]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        # Its answers go in bytes that not every locale has.
        "PYTHONUTF8": "1",
        # For the config file, which cannot know them.
        "CONFORMANCE_USER": USER,
        "CONFORMANCE_PASSWORD": PASSWORD,
        "CONFORMANCE_HOOKS": str(HERE / "hooks.py"),
        "CONFORMANCE_USED": str(directory / "used"),
        "PYTHONDONTWRITEBYTECODE": "1",
        # Whatever proxy this machine has, the gateway is on loopback.
        "NO_PROXY": "*",
    }
    try:
        done = subprocess.run(
            command, cwd=directory, env=environment, timeout=LIMIT, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"the run took more than {LIMIT} s") from None
    (directory / "output").write_bytes(done.stdout)
    if done.returncode != 0:
        sys.stdout.write(done.stdout.decode(errors="replace"))
    return done.returncode


def summary(directory: Path, status: int, seconds: float) -> None:
    """Says what was done, so that a run that did nothing cannot look like one that passed."""
    try:
        report = json.loads((directory / "report.json").read_text())
    except (OSError, ValueError):
        raise Failed("schemathesis left no report; its output is above") from None
    operations, cases = report["operations"], report["test_cases"]
    checks, unsuccessful = looked_at(directory / "events.ndjson")
    used = directory / "used"
    rules = collections.Counter(used.read_text().splitlines() if used.is_file() else [])
    if b"Exception in thread" in (directory / "output").read_bytes():
        raise Failed(f"a worker of schemathesis died; see {(PLACE / 'output').relative_to(ROOT)}")
    if operations["tested"] != operations["total"]:
        raise Failed(f"only {operations['tested']} of {operations['total']} operations were tested")
    # Operations that only ever refused were not examined, whatever the checks say.
    if strangers := sorted(unsuccessful - NEVER_SUCCESSFUL):
        raise Failed(f"no request succeeded, so their answers were not checked: {', '.join(strangers)}")
    if status == 0:
        for rule, count in sorted(rules.items()):
            print(f"conformance: no failure, by hooks.py: {rule} ({count})")
        for check, count in sorted(checks.items()):
            print(f"conformance: {count:6} {check}")
    print(
        f"conformance: {operations['tested']} operations, {cases['generated']} cases, {checks.total()} checks "
        f"({len(checks)} kinds), {cases['unique_failures']} failures, {seconds:.0f} s"
    )


def looked_at(events: Path) -> tuple[collections.Counter[str], set[str]]:
    """How often each check was made, and operations of which no request succeeded."""
    checks: collections.Counter[str] = collections.Counter()
    called: set[str] = set()
    succeeded: set[str] = set()
    with events.open(encoding="utf-8") as lines:
        for line in lines:
            recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder") or {}
            for made in recorder.get("checks", {}).values():
                checks.update(check["name"] for check in made)
            for case, interaction in recorder.get("interactions", {}).items():
                value = recorder["cases"][case]["value"]
                data = value.get("meta", {}).get("phase", {}).get("data", {})
                if data.get("scenario") == "unspecified_http_method":
                    continue
                operation = f"{value['method']} {value['path']}"
                called.add(operation)
                if (interaction.get("response") or {}).get("status_code", 500) < 300:
                    succeeded.add(operation)
    return checks, called - succeeded


if __name__ == "__main__":
    sys.exit(main())
