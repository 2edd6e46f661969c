"""Cold starts: what a call costs whose function has no replica, beside starting the same by hand."""

from __future__ import annotations

import http.client
import json
import os
import socket
import statistics
import subprocess
import time
from pathlib import Path

from machine import Failed
from servers import Proxy, free_port

SERVER = Path(__file__).resolve().parents[1] / "fixtures/functions/slow.py"

# Name, mode, command: a program that is run for each call, and a server that takes its time to start.
FUNCTIONS = [
    ("cat", "fork", "cat"),
    ("python", "http", f"python3 '{SERVER}' 0"),
]


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str):
        super().__init__("localhost", timeout=10)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(self.path)


def to(port: int):
    """Makes connections to a port."""
    return lambda: http.client.HTTPConnection("127.0.0.1", port, timeout=20)


def asked(connection: http.client.HTTPConnection, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    try:
        connection.request(method, path, body=None if body is None else json.dumps(body))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def until_answered(connect, path: str) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        try:
            if asked(connect(), "GET", path)[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.0005)
    raise Failed(f"{path} is never answered")


def by_hand(binary: Path, directory: Path, number: int, mode: str, command: str) -> float:
    """Seconds from starting a replica as the gateway does to its first answer."""
    path = str(directory / f"w{number}.sock")
    line = [str(binary), "watchdog", "--socket", path, "--mode", mode, "--command", command]
    line += ["--secrets-dir", str(directory), "--drain-delay", "0s", "--drain-timeout", "1s"]
    began = time.monotonic()
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    try:
        until_answered(lambda: UnixConnection(path), "/")
        return time.monotonic() - began
    finally:
        process.terminate()
        process.wait()


def bare(mode: str, command: str) -> float:
    """Seconds of the command alone: to its end, or to its first answer."""
    if mode == "fork":
        began = time.monotonic()
        subprocess.run(command.split(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
        return time.monotonic() - began
    port = free_port()
    began = time.monotonic()
    process = subprocess.Popen(["python3", str(SERVER), "0"], env={**os.environ, "PORT": str(port)})
    try:
        until_answered(to(port), "/")
        return time.monotonic() - began
    finally:
        process.kill()
        process.wait()


def through(gateway: Proxy, name: str) -> float:
    """Seconds of a call whose function is at zero."""
    connect = to(gateway.port)
    status, text = asked(connect(), "POST", f"/system/scale-function/{name}", {"serviceName": name, "replicas": 0})
    if status != 202:
        raise Failed(f"{name} is not stopped: {text!r}")
    deadline = time.monotonic() + 15
    while json.loads(asked(connect(), "GET", f"/system/function/{name}")[1])["availableReplicas"] > 0:
        if time.monotonic() > deadline:
            raise Failed(f"{name} does not stop")
        time.sleep(0.01)
    time.sleep(0.1)
    began = time.monotonic()
    status, text = asked(connect(), "GET", f"/function/{name}")
    if status != 200:
        raise Failed(f"{name} answers {status}: {text!r}")
    return time.monotonic() - began


def measure(gateway: Proxy, binary: Path, directory: Path, rounds: int) -> dict:
    results = {}
    for name, mode, command in FUNCTIONS:
        deployment = {"service": name, "image": "local", "envProcess": command, "envVars": {"mode": mode}}
        connect = to(gateway.port)
        status, text = asked(connect(), "POST", "/system/functions", deployment)
        if status != 202:
            raise Failed(f"{name} is not deployed: {text!r}")
        until_answered(connect, f"/function/{name}")
        times: dict[str, list[float]] = {"bare": [], "replica": [], "call": []}
        for number in range(rounds):
            times["bare"].append(bare(mode, command))
            times["replica"].append(by_hand(binary, directory, number, mode, command))
            times["call"].append(through(gateway, name))
        medians = {what: round(statistics.median(of) * 1000, 2) for what, of in times.items()}
        results[f"{name} ({mode})"] = {**medians, "added": round(medians["call"] - medians["replica"], 2)}
    return {"rounds": rounds, "unit": "ms", "results": results}
