#!/usr/bin/env python3
"""Is the portal what it says? Types, the vendored files, and every screen of it in Chromium before a real gateway.

    make portal                             checks
    make portal ARGS=--write                also writes assets/ui/vendor and the pictures of docs/portal
    make portal ARGS="--only secrets"       only the tests whose name has this in it

Everything is on loopback; what the browser would fetch from elsewhere is a failure. Pictures of all screens are in
target/portal afterwards.

Exit codes: 0 all is well, 1 something is not, 2 could not be found out.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "conformance"))
import tools  # noqa: E402 - found from here on
from tools import ROOT, Failed  # noqa: E402
from served import Served  # noqa: E402

PLACE = ROOT / ".tools" / "portal"
BINARY = ROOT / "target" / "debug" / "faas-gateway"
# What a person types has to survive base64 and UTF-8.
CREDENTIALS = ("admin", "pörtal:secret")
PATIENCE = 240

CONFIGURATION = """\
[provider.process]
stop_timeout = "1s"
images."local".command = "cat"
[queue]
# calls that fail are dead soon
attempts = 2
min_wait = "1s"
max_wait = "1s"
[reload]
debounce = "20ms"
poll_interval = "200ms"
[[stores]]
name = "team"
path = "{store}"
priority = 1
"""

BELOW = """\
[server]
base_path = "/faas"
"""


def packages() -> Path:
    """The packages of package-lock.json."""
    files = [HERE / name for name in ("package.json", "package-lock.json")]
    install = [
        ["cp", *map(str, files), str(PLACE)],
        # Scripts of packages are not run: none is needed, and some would fetch browsers.
        [tools.command("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
    ]
    return tools.prepared(PLACE, "".join(file.read_text() for file in files), install, {}) / "node_modules"


def run(what: str, *command: object, **more: str) -> bool:
    """Runs a part and says how long it took; whether it succeeded."""
    began = time.monotonic()
    try:
        done = subprocess.run(
            list(map(str, command)), cwd=ROOT, env=os.environ | more, stdin=subprocess.DEVNULL, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{what} took more than {PATIENCE} s") from None
    good = done.returncode == 0
    print(f"portal: {what}: {'good' if good else 'FAILED'}, {time.monotonic() - began:.0f} s", flush=True)
    return good


def checked(modules: Path) -> bool:
    """Whether the modules agree with the types of the document."""
    types = PLACE / "openapi.d.ts"
    generate = [modules / ".bin" / "openapi-typescript", ROOT / "openapi" / "openapi.json"]
    done = subprocess.run(
        [*map(str, generate), "--default-non-nullable=false", "--output", str(types)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE,
    )
    if done.returncode != 0:
        raise Failed(f"openapi-typescript failed: {done.stdout[-500:]}{done.stderr[-1000:]}")
    return run("types", modules / ".bin" / "tsc", "--project", HERE)


def commands(directory: Path) -> str:
    """Where functions find commands: a server under a name of its own first, for pictures name no path of this machine."""
    place = directory / "bin"
    place.mkdir()
    server = place / "orders-api"
    server.write_text(f"#!/bin/sh\nexec node '{ROOT}/tests/fixtures/functions/echo.js'\n")
    server.chmod(0o755)
    return f"{place}:{os.environ['PATH']}"


def driven(modules: Path, write: bool, only: str) -> bool:
    """Whether the browser finds everything in place."""
    with (
        tempfile.TemporaryDirectory(prefix="portal-") as one,
        tempfile.TemporaryDirectory(prefix="portal-below-") as other,
        Served(BINARY, Path(one), CREDENTIALS, path=commands(Path(one)), config=CONFIGURATION.format(store=HERE / "store.json")) as gateway,
        Served(BINARY, Path(other), CREDENTIALS, config=BELOW) as below,
    ):
        pattern = [f"--test-name-pattern={only}"] if only else []
        good = run(
            "browser", tools.command("node"), "--test-reporter=spec", "--test", *pattern, HERE / "browser.mjs",
            PORTAL_URL=gateway.url,
            PORTAL_BELOW=f"{below.url}/faas",
            PORTAL_USER=CREDENTIALS[0],
            PORTAL_PASSWORD=CREDENTIALS[1],
            PORTAL_CONFIG=str(gateway.directory / "gateway.toml"),
            PORTAL_MODULES=str(modules),
            PORTAL_CHROMIUM=tools.command("chromium"),
            PORTAL_PICTURES=str(ROOT / "target" / "portal"),
            PORTAL_DOCS=str(ROOT / "docs" / "portal") if write else "",
        )
        if not good:
            print(f"portal: the gateway's log ended with:\n{gateway.tail(2000)}", file=sys.stderr)
        return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the vendored files and the pictures")
    parser.add_argument("--only", default="", help="tests whose name has this in it")
    options = parser.parse_args()
    try:
        modules = packages()
        vendor = [tools.command("node"), HERE / "vendor.mjs", modules, *(["--write"] if options.write else [])]
        parts = [run("vendored files", *vendor), checked(modules), driven(modules, options.write, options.only)]
    except Failed as failed:
        print(f"portal: error: {failed}", file=sys.stderr)
        return 2
    return 0 if all(parts) else 1


if __name__ == "__main__":
    sys.exit(main())
