"""A gateway of a run's own, for the programs that talk to one: process provider, basic auth, loopback only."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
from pathlib import Path

PATIENCE = 20.0


class Failed(Exception):
    """Something that keeps a run from telling anything; never a reason to pass."""


class Served:
    """A running gateway; what it writes goes to a log in its directory."""

    def __init__(
        self, binary: Path, directory: Path, credentials: tuple[str, str], path: str | None = None, config: str = ""
    ):
        """`path` is where its functions find commands; the caller's own without it."""
        self.directory = directory
        self.log = directory / "gateway.log"
        secrets = directory / "auth"
        secrets.mkdir()
        for name, value in zip(("user", "password"), credentials):
            (secrets / f"basic-auth-{name}").write_text(value)
        configuration = directory / "gateway.toml"
        configuration.write_text(config or "# nothing\n")
        environment = {
            "PATH": os.environ["PATH"] if path is None else path,
            "HOME": str(directory),
            "basic_auth": "true",
            "secret_mount_path": str(secrets),
            "FAAS__SERVER__LISTEN": "127.0.0.1:0",
            "FAAS__METRICS__LISTEN": "127.0.0.1:0",
            "FAAS__LOGGING__FORMAT": "json",
            "FAAS__PROVIDER__PROCESS__STATE_DIR": str(directory / "state"),
        }
        self.process = subprocess.Popen(
            [str(binary), "serve", "--config", str(configuration)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=directory,
            env=environment,
        )
        self.addresses: queue.Queue[str | None] = queue.Queue()
        self.reader = threading.Thread(target=self.read_log, daemon=True)
        self.reader.start()
        try:
            address = self.addresses.get(timeout=PATIENCE)
        except queue.Empty:
            address = None
        if address is None:
            self.stop()
            raise Failed(f"the gateway did not start:\n{self.tail()}")
        self.url = f"http://{address}"

    def read_log(self) -> None:
        assert self.process.stderr is not None
        with self.log.open("wb") as log:
            for line in self.process.stderr:
                log.write(line)
                log.flush()
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue
                fields = entry.get("fields", entry)
                if fields.get("message", entry.get("message")) == "listening":
                    self.addresses.put(fields.get("address", entry.get("address")))
        self.addresses.put(None)

    def tail(self, size: int = 3000) -> str:
        return self.log.read_text(errors="replace")[-size:] if self.log.exists() else ""

    def stop(self) -> None:
        """Ends the gateway, which ends what it started."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.join(timeout=5)

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
