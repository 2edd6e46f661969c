#!/usr/bin/env python3
"""Measures the road to functions beside nginx and haproxy.

    make bench
    make bench ARGS="--seconds 8 --rounds 5 --json bench.json"

One tiny nginx answers as an OpenFaaS provider. Our gateway (http provider, no
access log), nginx as a reverse proxy and haproxy stand in front of it, each
with the same job: keep-alive to the backend, X-Forwarded-For and
X-Forwarded-Host, an X-Call-Id for callers that sent none, no access log,
request bodies not buffered. Before anything is measured, each must prove that
it does that job.

The proxy under test has one core to itself; wrk and the backend share another.
All take turns (A B C C B A), and what is compared are medians of processor
time per request: user and system time of the proxy's process tree, from
/proc/PID/stat, divided by completed requests. Absolute figures do not carry
over to another machine or another hour; the ratios within one run do. Two
references show a bad hour: the backend called directly, and haproxy as a relay
that parses nothing.

Needs Linux, two cores, and nginx, haproxy and wrk (`.ci/install bench`).
Everything listens on loopback ports that the system picks, and every process
that is started is ended by its id.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GATEWAY = "faas-gateway"
PEERS = ("nginx", "haproxy")
RELAY = "haproxy (tcp relay)"
DIRECT = "backend alone"
BODY = "x" * 200
TICKS = os.sysconf("SC_CLK_TCK")
# What another tenant of the machine may take of it before a run is repeated.
STEAL = 0.06
REPEATS = 2

WRK_REPORT = """
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format(
    'RESULT {"requests": %d, "seconds": %.6f, "failed": %d, "p50_us": %.0f, "p99_us": %.0f}\\n',
    summary.requests, summary.duration / 1e6,
    e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


class Failed(Exception):
    """Something that makes the measurement impossible or worthless."""


@dataclass
class Run:
    """One turn of one proxy."""

    name: str
    requests: int
    seconds: float
    cpu_us: float
    p50_us: float
    p99_us: float
    steal: float

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


@dataclass
class Proxy:
    """A running server that is measured."""

    name: str
    port: int
    process: subprocess.Popen
    runs: list[Run] = field(default_factory=list)


# -- processes ----------------------------------------------------------------


class Processes:
    """Everything that was started, so that it can be ended."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.started: list[tuple[str, subprocess.Popen]] = []

    def start(self, name: str, command: list[str], core: int) -> subprocess.Popen:
        log = (self.directory / f"{name.split()[0]}-{len(self.started)}.log").open("wb")
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=self.directory,
            env={"PATH": os.environ["PATH"], "HOME": str(self.directory)},
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
        self.started.append((log.name, process))
        log.close()
        return process

    def output(self, process: subprocess.Popen) -> str:
        path = next(path for path, candidate in self.started if candidate is process)
        return Path(path).read_text(errors="replace")[-2000:]

    def end(self) -> None:
        trees = [tree(process.pid) for _, process in self.started if process.poll() is None]
        for _, process in self.started:
            if process.poll() is None:
                process.terminate()
        for _, process in self.started:
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        # Workers end with their master; where one did not, it is one of ours by its id and name.
        for pids in trees:
            for pid, name in pids.items():
                if comm(pid) == name:
                    os.kill(pid, signal.SIGKILL)


def stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name, or nothing if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def comm(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None


def tree(root: int) -> dict[int, str]:
    """A process and all below it: ids and names."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := stat(int(entry))):
            children.setdefault(int(fields[1]), []).append(int(entry))
    found, queue = {}, [root]
    while queue:
        pid = queue.pop()
        found[pid] = comm(pid) or ""
        queue.extend(children.get(pid, []))
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of a process tree."""
    total = 0
    for member in tree(pid):
        if fields := stat(member):
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def memory_mib(pid: int) -> float:
    """What a process tree keeps in memory; shared pages count once."""
    total = 0
    for member in tree(pid):
        try:
            for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        except OSError:
            continue
    return total / 1024


def machine_times() -> tuple[int, int]:
    """Ticks of all cores, and those of them that the hypervisor took."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return sum(fields[:8]), fields[7]


# -- servers ------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def nginx_config(directory: Path, server: str) -> str:
    user = "user root;" if os.geteuid() == 0 else ""
    temporary = "\n".join(
        f"    {kind}_temp_path {directory}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""{user}
worker_processes 1;
daemon off;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
    tcp_nodelay on;
{temporary}
{server}
}}
"""


def backend_server(port: int) -> str:
    function = {
        "name": "bench",
        "image": "bench",
        "namespace": "openfaas-fn",
        "envProcess": "",
        "labels": {},
        "annotations": {},
        "replicas": 1,
        "availableReplicas": 1,
        "invocationCount": 0,
    }
    info = {"provider": "bench", "orchestration": "bench", "version": {"release": "0", "sha": "0"}}

    def answer(value: object) -> str:
        return f"default_type application/json; return 200 '{json.dumps(value)}';"

    seen = "$http_x_call_id|$http_x_forwarded_for|$http_x_forwarded_host|$http_connection"
    return f"""
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location = /function/bench {{ default_type text/plain; return 200 '{BODY}'; }}
        location = /function/bench/seen {{ default_type text/plain; return 200 '{seen}'; }}
        location = /system/function/bench {{ {answer(function)} }}
        location = /system/functions {{ {answer([function])} }}
        location = /system/namespaces {{ {answer(["openfaas-fn"])} }}
        location = /system/info {{ {answer(info)} }}
        location = /healthz {{ return 200 'OK'; }}
    }}
"""


def nginx_server(port: int, backend: int) -> str:
    return f"""
    map $http_x_call_id $call_id {{ default $http_x_call_id; "" $request_id; }}
    upstream backend {{
        server 127.0.0.1:{backend};
        keepalive 512;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location /function/ {{
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Call-Id $call_id;
            add_header X-Call-Id $call_id always;
        }}
    }}
"""


HAPROXY_GLOBAL = """
global
    nbthread 1
    maxconn 4096
defaults
    timeout connect 5s
    timeout client 300s
    timeout server 300s
"""


def haproxy_http(port: int, backend: int) -> str:
    return (
        HAPROXY_GLOBAL
        + f"""
    mode http
    option http-keep-alive
    http-reuse always
listen gateway
    bind 127.0.0.1:{port} backlog 1024
    option forwardfor
    http-request set-var(txn.call_id) req.hdr(X-Call-Id)
    http-request set-var(txn.call_id) uuid() unless {{ var(txn.call_id) -m found }}
    http-request set-header X-Call-Id %[var(txn.call_id)]
    http-request set-header X-Forwarded-Host %[req.hdr(Host)]
    http-response set-header X-Call-Id %[var(txn.call_id)]
    server backend 127.0.0.1:{backend} pool-max-conn 512
"""
    )


def haproxy_tcp(port: int, backend: int) -> str:
    return (
        HAPROXY_GLOBAL
        + f"""
    mode tcp
listen relay
    bind 127.0.0.1:{port} backlog 1024
    server backend 127.0.0.1:{backend}
"""
    )


def gateway_config(port: int, metrics: int, backend: int) -> str:
    return f"""
[server]
listen = "127.0.0.1:{port}"
[metrics]
listen = "127.0.0.1:{metrics}"
[provider]
url = "http://127.0.0.1:{backend}/"
[logging]
level = "warn"
access = false
"""


class Bench:
    """Starts everything and takes turns."""

    def __init__(self, options: argparse.Namespace, directory: Path, processes: Processes):
        self.options = options
        self.directory = directory
        self.processes = processes
        self.load_core, self.proxy_core = sorted(os.sched_getaffinity(0))[:2]
        (directory / "report.lua").write_text(WRK_REPORT)
        self.backend = self._nginx(DIRECT, backend_server, self.load_core)

    def _directory(self, name: str) -> Path:
        path = self.directory / name.replace(" ", "-").strip("()")
        path.mkdir()
        return path

    def _nginx(self, name: str, server, core: int, *arguments: int) -> Proxy:
        directory, port = self._directory(name), free_port()
        config = directory / "nginx.conf"
        config.write_text(nginx_config(directory, server(port, *arguments)))
        command = [tool("nginx"), "-e", "stderr", "-p", str(directory), "-c", str(config)]
        return self._ready(Proxy(name, port, self.processes.start(name, command, core)), "/healthz")

    def nginx(self) -> Proxy:
        return self._nginx("nginx", nginx_server, self.proxy_core, self.backend.port)

    def haproxy(self, name: str, config) -> Proxy:
        directory, port = self._directory(name), free_port()
        path = directory / "haproxy.cfg"
        path.write_text(config(port, self.backend.port))
        process = self.processes.start(name, [tool("haproxy"), "-db", "-q", "-f", str(path)], self.proxy_core)
        return self._ready(Proxy(name, port, process), "/function/bench")

    def gateway(self) -> Proxy:
        directory, port, metrics = self._directory(GATEWAY), free_port(), free_port()
        path = directory / "gateway.toml"
        path.write_text(gateway_config(port, metrics, self.backend.port))
        command = [str(self.options.binary), "serve", "--config", str(path)]
        process = self.processes.start(GATEWAY, command, self.proxy_core)
        return self._ready(Proxy(GATEWAY, port, process), "/function/bench")

    def _ready(self, proxy: Proxy, path: str) -> Proxy:
        """Waits until something answers."""
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            if proxy.process.poll() is not None:
                raise Failed(f"{proxy.name} ended at once:\n{self.processes.output(proxy.process)}")
            try:
                get(proxy.port, path)
                return proxy
            except OSError:
                time.sleep(0.05)
        raise Failed(f"{proxy.name} does not answer:\n{self.processes.output(proxy.process)}")

    def prove(self, proxy: Proxy) -> None:
        """Refuses to measure a proxy that does not do the job."""
        status, headers, body = get(proxy.port, "/function/bench")
        if (status, body) != (200, BODY) or not headers.get("X-Call-Id"):
            raise Failed(f"{proxy.name} answers {status} {dict(headers)} {body[:200]!r}\n"
                         f"{self.processes.output(proxy.process)}")
        _, headers, body = get(proxy.port, "/function/bench/seen")
        call_id, forwarded_for, forwarded_host, connection = body.split("|")
        good = call_id == headers.get("X-Call-Id") and "127.0.0.1" in forwarded_for and forwarded_host
        if not good or connection.lower() == "close":
            raise Failed(f"the backend behind {proxy.name} saw {body!r}: not the same job")
        _, _, body = get(proxy.port, "/function/bench/seen", {"X-Call-Id": "mine"})
        if not body.startswith("mine|"):
            raise Failed(f"{proxy.name} does not keep a caller's X-Call-Id")

    def wrk(self, proxy: Proxy, seconds: float) -> dict:
        command = [
            tool("wrk"), "--threads", "1", "--connections", str(self.options.connections),
            "--duration", f"{seconds:.0f}s", "--timeout", "5s", "--script", str(self.directory / "report.lua"),
            f"http://127.0.0.1:{proxy.port}/function/bench",
        ]  # fmt: skip
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds + 20,
            preexec_fn=lambda: os.sched_setaffinity(0, {self.load_core}),
        )
        for line in done.stdout.splitlines():
            if line.startswith("RESULT "):
                return json.loads(line.removeprefix("RESULT "))
        raise Failed(f"wrk said nothing useful about {proxy.name}:\n{done.stdout}{done.stderr}")

    def turn(self, proxy: Proxy) -> None:
        """Measures once; again when the machine was taken away meanwhile."""
        for attempt in range(1 + REPEATS):
            self.wrk(proxy, 1)
            all_before, stolen_before = machine_times()
            before = cpu_seconds(proxy.process.pid)
            result = self.wrk(proxy, self.options.seconds)
            spent = cpu_seconds(proxy.process.pid) - before
            all_after, stolen_after = machine_times()
            steal = (stolen_after - stolen_before) / max(1, all_after - all_before)
            if result["failed"] or not result["requests"]:
                raise Failed(f"{proxy.name}: {result['failed']} of {result['requests']} requests failed\n"
                             f"{self.processes.output(proxy.process)}")
            if steal <= STEAL or attempt == REPEATS:
                break
        run = Run(
            proxy.name, result["requests"], result["seconds"], spent / result["requests"] * 1e6,
            result["p50_us"], result["p99_us"], steal,
        )  # fmt: skip
        proxy.runs.append(run)
        print(f"  {run.name:20} {run.cpu_us:7.1f} us/request {run.rate:9,.0f} requests/s", file=sys.stderr)


def get(port: int, path: str, headers: dict[str, str] | None = None) -> tuple[int, http.client.HTTPMessage, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.headers, response.read().decode()
    except http.client.HTTPException as error:
        raise ConnectionError(str(error)) from error
    finally:
        connection.close()


# -- report -------------------------------------------------------------------


def tool(name: str) -> str:
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if not path:
        raise Failed(f"{name} is not installed: run .ci/install bench")
    return path


def version(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=10)
    return (done.stdout + done.stderr).strip().splitlines()[0]


def summary(proxy: Proxy) -> dict:
    def median(values) -> float:
        return round(statistics.median(values), 2)

    return {
        "cpu_us_per_request": median(run.cpu_us for run in proxy.runs),
        "cpu_us_spread": [round(min(run.cpu_us for run in proxy.runs), 2), round(max(run.cpu_us for run in proxy.runs), 2)],
        "requests_per_second": median(run.rate for run in proxy.runs),
        "p50_us": median(run.p50_us for run in proxy.runs),
        "p99_us": median(run.p99_us for run in proxy.runs),
        "memory_mib": round(memory_mib(proxy.process.pid), 1),
        "runs": [asdict(run) for run in proxy.runs],
    }


def table(results: dict[str, dict]) -> str:
    ours = results[GATEWAY]["cpu_us_per_request"]
    lines = [
        "| proxy | CPU us/request (min to max) | ours / theirs | requests/s | p50 us | p99 us | memory MiB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, result in results.items():
        low, high = result["cpu_us_spread"]
        ratio = f"{ours / result['cpu_us_per_request']:.2f}" if name in PEERS else ""
        lines.append(
            f"| {name} | {result['cpu_us_per_request']:.1f} ({low:.1f} to {high:.1f}) | {ratio} "
            f"| {result['requests_per_second']:,.0f} | {result['p50_us']:,.0f} | {result['p99_us']:,.0f} "
            f"| {result['memory_mib']:.1f} |"
        )
    return "\n".join(lines)


def machine() -> dict:
    model = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    return {"processor": model, "cores": os.cpu_count(), "kernel": platform.release()}


def measure(options: argparse.Namespace, directory: Path, processes: Processes) -> dict:
    if len(os.sched_getaffinity(0)) < 2:
        raise Failed("needs two cores: one for the proxy, one for wrk and the backend")
    if not options.binary.is_file():
        raise Failed(f"{options.binary} is not there: build it with cargo build --release")
    versions = {
        GATEWAY: version([str(options.binary), "--version"]),
        "nginx": version([tool("nginx"), "-v"]),
        "haproxy": version([tool("haproxy"), "-v"]),
        "wrk": version([tool("wrk"), "-v"]),
    }
    bench = Bench(options, directory, processes)
    contenders = [bench.gateway(), bench.nginx(), bench.haproxy("haproxy", haproxy_http)]
    for proxy in contenders:
        bench.prove(proxy)
    references = [bench.haproxy(RELAY, haproxy_tcp), bench.backend]
    rounds = 0
    deadline = time.monotonic() + options.limit
    for number in range(options.rounds):
        began = time.monotonic()
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
        for proxy in [*contenders, *reversed(contenders), *references]:
            bench.turn(proxy)
        rounds += 1
        if time.monotonic() + (time.monotonic() - began) > deadline:
            if rounds < options.rounds:
                print(f"--limit {options.limit} s leaves no time for more rounds", file=sys.stderr)
            break
    results = {proxy.name: summary(proxy) for proxy in [*contenders, *references]}
    ours = results[GATEWAY]["cpu_us_per_request"]
    return {
        "machine": machine(),
        "versions": versions,
        "parameters": {
            "connections": options.connections,
            "seconds": options.seconds,
            "rounds": rounds,
            "reply_bytes": len(BODY),
        },
        "results": results,
        "cpu_ratio": {peer: round(ours / results[peer]["cpu_us_per_request"], 3) for peer in PEERS},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures faas-gateway beside nginx and haproxy.")
    parser.add_argument("--seconds", type=int, default=4, help="length of one turn (default 4)")
    parser.add_argument("--rounds", type=int, default=3, help="how often all take turns (default 3)")
    parser.add_argument("--connections", type=int, default=64, help="connections of the load (default 64)")
    parser.add_argument("--limit", type=int, default=150, help="begin no round that would end later, in s (default 150)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    parser.add_argument("--binary", type=Path, default=ROOT / "target/release/faas-gateway", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.binary = options.binary.resolve()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="faas-gateway-bench-") as directory:
        processes = Processes(Path(directory))
        try:
            report = measure(options, Path(directory), processes)
        except Failed as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        finally:
            processes.end()
    print(table(report["results"]))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
