#!/usr/bin/env python3
"""Measures the road to functions beside nginx and haproxy.

    make bench                            everything, about 20 minutes
    make bench ARGS="--quick"             fewer and shorter turns, about 6 minutes
    make bench ARGS="--only calls --rounds 5 --json bench.json"

One tiny nginx answers as an OpenFaaS provider. Our gateway, nginx as a reverse
proxy and haproxy stand in front of it, each with the same job (servers.py).
Before anything is measured, each must prove that it does that job.

The proxy under test has one core to itself; the load and the backend share
another. All take turns (A B C C B A), and what is compared are medians of
processor time per request: user and system time of the proxy's process tree,
from /proc/PID/stat, divided by completed requests. Absolute figures do not carry
over to another machine or another hour; the ratios within one run do. Two
references show a bad hour: the backend called directly, and a relay that parses
nothing.

Needs Linux, two cores, and nginx, haproxy, wrk and h2load (`.ci/install bench`).
Everything listens on loopback ports that the system picks, and every process
that is started is ended by its id.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

import cold
import queued
import report
from load import Generator, Load, Turn, idle_memory
from machine import Failed, Processes, described, raise_limit, tool, version
from servers import BODY, GATEWAY, MEBIBYTE, Proxy, Servers

ROOT = Path(__file__).resolve().parents[2]
BASE = "faas-gateway, base lane"
QUIET = "logging.access = false"

# Answered once the body has been read: nginx resets connections whose answer came before.
READ = "/function/bench/read"

CALLS = [
    Load("GET, 64 connections", 64, bytes=len(BODY)),
    Load("GET, 256 connections", 256, bytes=len(BODY)),
    Load("POST 1 KiB, 64 connections", 64, body=1024, bytes=1024),
    Load("POST 1 KiB, 256 connections", 256, body=1024, bytes=1024),
    Load("POST 64 KiB, 64 connections", 64, path=READ, body=64 * 1024, bytes=64 * 1024),
    Load("GET 1 MiB, 16 connections", 16, path="/function/bench/large", bytes=MEBIBYTE),
    Load("POST 1 MiB, 16 connections", 16, path=READ, body=MEBIBYTE, bytes=MEBIBYTE),
]

# Single functions and routes that are configured, so many of each.
MANY = 1000

# What an option costs, each against the gateway without it. None of them may matter to calls of `bench`
# but the ones that say so.
OPTIONS = {
    "access log": "",
    "readiness check": f"{QUIET}\nscaling.from_zero = true",
    "idle limits": f"{QUIET}\n" + 'functions.bench = { max_in_flight = 100000, rate_limit = { requests = 1000000, per = "1s" } }',
    "1000 routes": f"{QUIET}\nroutes = ["
    + ", ".join(f'{{ path = "/p{n}/v1", function = "bench{n}" }}' for n in range(MANY))
    + "]",
    "1000 functions": f"{QUIET}\n" + "\n".join(f'functions.bench{n}.timeouts.total = "50s"' for n in range(MANY)),
}

SECTIONS = ("calls", "options", "latency", "memory", "cores", "cold", "queue")


def progress(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def median(turns: list[Turn]) -> dict:
    def of(value) -> float:
        return round(statistics.median(value(turn) for turn in turns), 2)

    costs = [turn.cpu_us for turn in turns]
    return {
        "cpu_us_per_request": of(lambda turn: turn.cpu_us),
        "cpu_us_spread": [round(min(costs), 2), round(max(costs), 2)],
        "requests_per_second": of(lambda turn: turn.rate),
        "p50_us": of(lambda turn: turn.p50_us),
        "p99_us": of(lambda turn: turn.p99_us),
        "turns": len(turns),
    }


class Bench:
    def __init__(self, options: argparse.Namespace, directory: Path, processes: Processes):
        self.options = options
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise Failed("needs two cores: one for the proxy, one for the load and the backend")
        self.load, self.proxy = {cores[0]}, {cores[1]}
        self.servers = Servers(options.binary, directory, processes, self.load, MANY)
        self.generator = Generator(directory, self.load, options.seconds)
        self.processes = processes

    def take_turns(self, contenders: list[Proxy], references: list[Proxy], load: Load, cores=None) -> dict[str, dict]:
        turns: dict[str, list[Turn]] = {proxy.name: [] for proxy in [*contenders, *references]}
        for number in range(self.options.rounds):
            for proxy in [*contenders, *reversed(contenders), *references]:
                turn = self.generator.turn(proxy, load, cores)
                turns[proxy.name].append(turn)
                progress(f"  {load.name}, round {number + 1}: {proxy.name:30} {turn.cpu_us:8.1f} us/request")
        return {name: median(of) for name, of in turns.items()}

    def calls(self) -> list[dict]:
        """Processor time per request, beside everybody else."""
        ours = self.servers.gateway(self.proxy)
        base = self.servers.gateway(self.proxy, BASE, f"{QUIET}\nserver.fast_lane = false")
        contenders = [ours, base, self.servers.nginx(self.proxy), self.servers.haproxy(self.proxy)]
        for proxy in contenders:
            self.servers.prove(proxy)
        references = [self.servers.relay(self.proxy), self.servers.backend]
        loads = CALLS if not self.options.quick else [CALLS[0], CALLS[2], CALLS[5]]
        measured = [
            {"load": load.name, "bytes": load.bytes, "results": self.take_turns(contenders, references, load)} for load in loads
        ]
        for proxy in [*contenders, references[0]]:
            self.processes.stop(proxy.process)
        return measured

    def costs(self) -> list[dict]:
        """What options cost, each beside the gateway without it."""
        measured = []
        for name, more in OPTIONS.items():
            backend = self.servers.crowded if name == "1000 functions" else None
            contenders = [self.servers.gateway(self.proxy), self.servers.gateway(self.proxy, name, more, backend)]
            for proxy in contenders:
                self.servers.prove(proxy)
            measured.append({"option": name, "results": self.take_turns(contenders, [], CALLS[0])})
            for proxy in contenders:
                self.processes.stop(proxy.process)
        return measured

    def latency(self) -> dict:
        """Latency at a fixed rate: half of what the slowest of all can take."""
        contenders = [self.servers.gateway(self.proxy), self.servers.nginx(self.proxy), self.servers.haproxy(self.proxy)]
        most = {proxy.name: self.generator.wrk(proxy, CALLS[0], self.options.seconds) for proxy in contenders}
        rate = int(min(result["requests"] / result["seconds"] for result in most.values()) / 2)
        times: dict[str, list[tuple[float, float, float]]] = {proxy.name: [] for proxy in contenders}
        for number in range(self.options.rounds):
            for proxy in [*contenders, *reversed(contenders)]:
                seen = self.generator.latencies(proxy, rate, 64)
                times[proxy.name].append(seen)
                progress(f"  latency at {rate}/s, round {number + 1}: {proxy.name:14} p50 {seen[0]:.0f} p99 {seen[1]:.0f} us")
        for proxy in contenders:
            self.processes.stop(proxy.process)
        shares = ("p50_us", "p99_us", "p999_us")
        return {
            "rate": rate,
            "connections": 64,
            "results": {
                name: {share: statistics.median(turn[index] for turn in turns) for index, share in enumerate(shares)}
                for name, turns in times.items()
            },
        }

    def memory(self) -> dict:
        """Memory at rest, and for a connection that waits."""
        count = 2000 if self.options.quick else 10000
        results = {}
        for start in (self.servers.gateway, self.servers.nginx, self.servers.haproxy):
            proxy = start(self.proxy)
            # Every server and we ourselves have as many files, and haproxy wants two for each connection.
            count = min(count, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 - 200)
            idle, each = idle_memory(proxy, count)
            results[proxy.name] = {"idle_mib": round(idle / 1024, 1), "kib_per_connection": round(each, 2)}
            progress(f"  {proxy.name:14} {idle / 1024:.1f} MiB, {each:.2f} KiB for an idle connection")
            self.processes.stop(proxy.process)
        return {"connections": count, "results": results}

    def two_cores(self) -> dict:
        """Processor time per request with two cores against one. Load and backend have to share those two cores
        here, so it is this cost that tells how many requests two cores would take, not the rate."""
        both = self.load | self.proxy
        one, two = self.servers.gateway(self.proxy, "one core"), self.servers.gateway(both, "two cores")
        results = self.take_turns([one, two], [], CALLS[0], both)
        for proxy in (one, two):
            self.processes.stop(proxy.process)
        cost = {name: result["cpu_us_per_request"] for name, result in results.items()}
        return {"results": results, "speedup": round(2 * cost["one core"] / cost["two cores"], 2)}


    def cold_starts(self) -> dict:
        """What the first call of a function at zero waits for."""
        gateway = self.servers.local_gateway(self.load | self.proxy)
        directory = Path(tempfile.mkdtemp(dir=self.processes.directory))
        measured = cold.measure(gateway, self.options.binary, directory, 7 if self.options.quick else 21)
        self.processes.stop(gateway.process)
        return measured

    def queues(self) -> dict:
        """Asynchronous calls with each queue, on all cores: the server shares them with the gateway."""
        return queued.measure(self.servers, self.processes, self.generator, self.proxy)


def measure(options: argparse.Namespace, directory: Path, processes: Processes) -> dict:
    if not options.binary.is_file():
        raise Failed(f"{options.binary} is not there: build it with cargo build --release")
    versions = {
        GATEWAY: version([str(options.binary), "--version"]),
        "nginx": version([tool("nginx"), "-v"]),
        "haproxy": version([tool("haproxy"), "-v"]),
        "wrk": version([tool("wrk"), "-v"]),
        "h2load": version([tool("h2load"), "--version"]),
    }
    bench = Bench(options, directory, processes)
    run = {
        "calls": bench.calls,
        "options": bench.costs,
        "latency": bench.latency,
        "memory": bench.memory,
        "cores": bench.two_cores,
        "cold": bench.cold_starts,
        "queue": bench.queues,
    }
    measured: dict = {}
    for section in SECTIONS:
        if options.only in (None, section):
            progress(section)
            measured[section] = run[section]()
    return {
        "machine": described(),
        "versions": versions,
        "parameters": {"seconds": options.seconds, "rounds": options.rounds, "reply_bytes": len(BODY)},
        **measured,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures faas-gateway beside nginx and haproxy.")
    parser.add_argument("--quick", action="store_true", help="fewer loads, two rounds of short turns")
    parser.add_argument("--only", choices=SECTIONS, help="measure this part alone")
    parser.add_argument("--seconds", type=int, help="length of one turn (default 3)")
    parser.add_argument("--rounds", type=int, help="how often all take turns (default 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    parser.add_argument("--binary", type=Path, default=ROOT / "target/release/faas-gateway", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.binary = options.binary.resolve()
    options.seconds = options.seconds or (2 if options.quick else 3)
    options.rounds = options.rounds or (2 if options.quick else 3)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faas-gateway-bench-") as directory:
        raise_limit()
        processes = Processes(Path(directory))
        try:
            measured = measure(options, Path(directory), processes)
        except Failed as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        finally:
            processes.end()
    print(report.text(measured))
    progress(f"measured in {time.monotonic() - began:.0f} s")
    if options.json:
        options.json.write_text(json.dumps(measured, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
