"""A gateway of the run's own: process provider, basic auth, loopback only."""

from __future__ import annotations

import base64
import json
import os
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

# First, for it finds what the programs of tests/ share.
from tools import Failed
from served import PATIENCE, Served

USER = "admin"
PASSWORD = "conformance"


class Gateway(Served):
    """The gateway under test, with what a run sends to it itself."""

    def __init__(self, binary: Path, directory: Path):
        super().__init__(binary, directory, (USER, PASSWORD), str(commands(directory)), CONFIGURATION)

    def send(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """Status and body of one request with credentials."""
        credentials = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)
        request.add_header("Authorization", f"Basic {credentials}")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        try:
            with OPENER.open(request, timeout=PATIENCE) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def expect(self, status: int, method: str, path: str, body: Any = None, **more: Any) -> bytes:
        got, text = self.send(method, path, body, **more)
        if got != status:
            raise Failed(f"{method} {path} was answered {got}, not {status}: {text[:500]!r}")
        return text


# Whatever proxy the environment names, the gateway is on loopback.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))

CONFIGURATION = """\
[provider.process]
# replicas end at once: nothing that a run deploys has work to finish
stop_timeout = "1s"
# most made-up deployments name no command that exists, or none
images."".command = "cat"
images."local".command = "cat"
[queue]
# calls that fail are dead soon, so the run sees them in every state
attempts = 2
min_wait = "1s"
max_wait = "1s"
"""


def commands(directory: Path) -> Path:
    """A directory with the only command that functions can run.

    A deployment's `envProcess` is run as a command, and the run makes those up:
    with nothing else to find, whatever it writes there starts nothing.
    """
    place = directory / "bin"
    place.mkdir()
    program = shutil.which("cat")
    if program is None:
        raise Failed("there is no cat on this machine, which is what functions run")
    os.symlink(program, place / "cat")
    return place


def populate(gateway: Gateway) -> None:
    """Deploys what made-up requests can meet, under the names that schemathesis.toml knows."""
    functions = ["echo", "tee", "mirror"]
    for name in functions:
        # Whatever they are sent, their answer is text: an echo of a YAML type would be read as YAML.
        variables = {"content_type": "text/plain"}
        deployment = {"service": name, "image": "local", "envProcess": "cat", "envVars": variables}
        gateway.expect(202, "POST", "/system/functions", deployment)
    for name in ("blue", "green"):
        gateway.expect(201, "POST", "/system/namespace/", {"name": name})
    for name in ("token", "key"):
        gateway.expect(201, "POST", "/system/secrets", {"name": name, "value": "secret"})
    until(lambda: all(available(gateway, name) for name in functions), "the functions have no replica")
    # Calls that have ended, that wait, and that were given up.
    failing = {"service": "broken", "image": "local", "envProcess": "cat nothing-of-this-name"}
    gateway.expect(202, "POST", "/system/functions", failing)
    for id, function, headers in [
        *((f"ended-{index}", "echo", {}) for index in range(2)),
        *((f"waiting-{index}", "echo", {"X-Delay": "1h"}) for index in range(6)),
        *((f"dead-{index}", "broken", {}) for index in range(3)),
    ]:
        gateway.expect(202, "POST", f"/async-function/{function}", {}, headers={"X-Call-Id": id} | headers)
    until(lambda: states(gateway) == EXPECTED, "the asynchronous calls are not in the expected states")


EXPECTED = {"succeeded": 2, "queued": 6, "dead": 3}


def states(gateway: Gateway) -> dict[str, int]:
    counts: dict[str, int] = {}
    for count in json.loads(gateway.expect(200, "GET", "/system/async-status"))["counts"]:
        counts[count["state"]] = counts.get(count["state"], 0) + count["calls"]
    return counts


def available(gateway: Gateway, name: str) -> bool:
    return json.loads(gateway.expect(200, "GET", f"/system/function/{name}")).get("availableReplicas", 0) > 0


def until(condition: Any, otherwise: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise Failed(otherwise)
        time.sleep(0.05)
