"""The load: as many requests as possible, requests at a fixed rate, and
connections that do nothing."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from machine import Failed, cpu_seconds, machine_times, memory_kib, raise_limit, tool
from servers import Proxy

# What another tenant of the machine may take of it before a turn is repeated.
STEAL = 0.06
REPEATS = 2

REPORT = """
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format(
    'RESULT {"requests": %d, "seconds": %.6f, "failed": %d, "p50_us": %.0f, "p99_us": %.0f}\\n',
    summary.requests, summary.duration / 1e6,
    e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True)
class Load:
    """One kind of request, over so many connections."""

    name: str
    connections: int
    path: str = "/function/bench"
    body: int = 0
    bytes: int = 0

    def script(self, directory: Path) -> Path:
        path = directory / f"{self.name.replace(' ', '-').replace(',', '')}.lua"
        lines = [REPORT]
        if self.body:
            lines.append(f'wrk.method = "POST"\nwrk.body = string.rep("x", {self.body})')
        path.write_text("\n".join(lines))
        return path


@dataclass
class Turn:
    """One turn of one proxy."""

    requests: int
    seconds: float
    cpu_us: float
    p50_us: float
    p99_us: float
    steal: float

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


class Generator:
    """Makes load from cores of its own."""

    def __init__(self, directory: Path, cores: set[int], seconds: int):
        self.directory, self.cores, self.seconds = directory, cores, seconds

    def _run(self, command: list[str], seconds: float, cores: set[int] | None = None) -> str:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds + 30,
            preexec_fn=lambda: (os.sched_setaffinity(0, cores or self.cores), raise_limit()),
        )
        return done.stdout + done.stderr

    def wrk(self, proxy: Proxy, load: Load, seconds: float, cores: set[int] | None = None) -> dict:
        said = self._run(
            [
                tool("wrk"), "--threads", "1", "--connections", str(load.connections), "--duration", f"{seconds:.0f}s",
                "--timeout", "5s", "--script", str(load.script(self.directory)), f"http://127.0.0.1:{proxy.port}{load.path}",
            ],
            seconds,
            cores,
        )  # fmt: skip
        for line in said.splitlines():
            if line.startswith("RESULT "):
                return json.loads(line.removeprefix("RESULT "))
        raise Failed(f"wrk said nothing useful about {proxy.name}:\n{said}")

    def turn(self, proxy: Proxy, load: Load, cores: set[int] | None = None) -> Turn:
        """As many requests as possible; again when the machine was taken away meanwhile."""
        for attempt in range(1 + REPEATS):
            self.wrk(proxy, load, 1, cores)
            all_before, stolen_before = machine_times()
            before = cpu_seconds(proxy.process.pid)
            result = self.wrk(proxy, load, self.seconds, cores)
            spent = cpu_seconds(proxy.process.pid) - before
            all_after, stolen_after = machine_times()
            steal = (stolen_after - stolen_before) / max(1, all_after - all_before)
            if result["failed"] or not result["requests"]:
                raise Failed(f"{proxy.name}: {result['failed']} of {result['requests']} requests failed")
            if steal <= STEAL or attempt == REPEATS:
                break
        return Turn(
            result["requests"], result["seconds"], spent / result["requests"] * 1e6,
            result["p50_us"], result["p99_us"], steal,
        )  # fmt: skip

    def latencies(self, proxy: Proxy, rate: int, connections: int) -> tuple[float, float, float]:
        """Median, 99th and 99.9th percentile in microseconds at so many requests a second."""
        log = self.directory / "latencies"
        log.unlink(missing_ok=True)
        each = max(1, rate // connections)
        said = self._run(
            [
                tool("h2load"), "--h1", "--threads", "1", "--clients", str(connections), "--rps", str(each),
                "--duration", f"{self.seconds}s", "--warm-up-time", "1s", "--log-file", str(log),
                f"http://127.0.0.1:{proxy.port}/function/bench",
            ],
            self.seconds + 1,
        )  # fmt: skip
        failed = re.search(r"(\d+) failed, (\d+) errored", said)
        if not failed or failed.groups() != ("0", "0") or not log.exists():
            raise Failed(f"h2load about {proxy.name}:\n{said}")
        times = sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines() if line.split("\t")[1] == "200")
        if len(times) < 1000:
            raise Failed(f"h2load made only {len(times)} requests to {proxy.name}")
        return tuple(float(times[min(len(times) - 1, int(len(times) * share))]) for share in (0.5, 0.99, 0.999))


def idle_memory(proxy: Proxy, connections: int) -> tuple[float, float]:
    """KiB of a proxy before, and for each of so many connections that have made a call and wait."""
    raise_limit()
    before = memory_kib(proxy.process.pid)
    request = b"GET /function/bench HTTP/1.1\r\nHost: bench\r\n\r\n"
    held = []
    try:
        for _ in range(connections):
            held.append(socket.create_connection(("127.0.0.1", proxy.port), timeout=10))
            held[-1].sendall(request)
            answer = b""
            while b"xxx" not in answer:
                more = held[-1].recv(65536)
                if not more:
                    raise Failed(f"{proxy.name} closed an idle connection")
                answer += more
        time.sleep(1)
        after = memory_kib(proxy.process.pid)
    finally:
        for connection in held:
            connection.close()
    return before, (after - before) / connections
