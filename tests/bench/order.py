#!/usr/bin/env python3
"""Writes the order in which the linker places functions (assets/order.ld).

    make order

A gateway that waits has only few of its functions in use, but they lie all over
a large program, and the kernel reads (and counts as its memory) what lies around
each. So those that run come first, together: build.rs gives the linker what
this writes.

What runs is what callgrind sees of gateways that serve calls on the fast lane and
on the base lane, with and without an access log, and of one with its defaults.
All start, wait, and end. First come functions that serve, most work first, then
those that start.

Names of functions end in a hash that another compiler, target or version of a
dependency changes, so the script leaves it out: with an older order, or on
another machine, a program is a little larger at rest, and nothing else. Only
where many functions share a name and few of them run, those are listed with
their hash first, and the others behind everything.

Needs what `make bench` needs; takes about ten minutes, most of them for building.
"""

from __future__ import annotations

import http.client
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from machine import Failed, Processes, tool
from servers import Proxy, Servers

ROOT = Path(__file__).resolve().parents[2]
ORDER = ROOT / "assets" / "order.ld"

# A name whose functions run for less than this share of their bytes is not worth placing as a whole.
DENSE = 0.8
# What a linker script takes as a name without quotes.
NAME = re.compile(r"[A-Za-z0-9_.$]+")

HEAD = """/* The functions that run in a gateway that serves and waits, to be placed together: less of
   the program is in memory then (docs/performance.md). Written by `make order`. */
"""


def build(map: Path) -> Path:
    """The release build with its symbols, which are taken from it last and change nothing else."""
    flags = ["-C", "strip=none", "-C", f"link-arg=-Wl,-Map={map},--no-demangle"]
    command = ["cargo", "rustc", "--release", "--locked", "--bin", "faas-gateway", "--", *flags]
    subprocess.run(command, check=True, cwd=ROOT)
    return ROOT / "target" / "release" / "faas-gateway"


def unlikely(map: Path) -> set[str]:
    """Functions whose section has another name, for the compiler thinks they are called seldom."""
    return set(re.findall(rf"\.text\.unlikely\.({NAME.pattern})", map.read_text(errors="replace")))


def sizes(binary: Path) -> dict[str, int]:
    """Bytes of each function."""
    listed = subprocess.run(["nm", "--print-size", "--defined-only", str(binary)], check=True, stdout=subprocess.PIPE, text=True)
    found = {}
    for line in listed.stdout.splitlines():
        fields = line.split()
        if len(fields) == 4 and fields[2] in "tTwW":
            found[fields[3]] = int(fields[1], 16)
    return found


def costs(dump: Path) -> dict[str, int]:
    """Instructions of each function in one of callgrind's files."""
    names: dict[str, str] = {}
    found: dict[str, int] = defaultdict(int)
    current, of_callee = "", False
    for line in dump.read_text(errors="replace").splitlines():
        if match := re.match(r"(c?)fn=\((\d+)\)(?: (.*))?$", line):
            called, number, name = match.groups()
            if name:
                names[number] = re.sub(r"'\d+$", "", name)
            if not called:
                current = names[number]
        elif line.startswith("calls="):
            of_callee = True
        elif match := re.match(r"[+\-*\d]\S* (\d+)", line):
            if not of_callee:
                found[current] += int(match.group(1))
            of_callee = False
    return found


def exercise(gateway: Proxy, paths: list[str], bodies: list[bytes | None]) -> None:
    """Makes calls until each path of the code had its turn, connections kept and closed."""
    sent = {"User-Agent": "order", "Accept": "*/*", "Connection": "keep-alive", "X-Call-Id": "order"}
    for keep, headers in ((50, {}), (10, sent), (1, {"Connection": "close"})):
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=60)
        for _ in range(keep):
            for path in paths:
                for body in bodies:
                    connection.request("GET" if body is None else "POST", path, body, headers)
                    connection.getresponse().read()
        connection.close()


def run(binary: Path, where: Path) -> tuple[dict[str, int], dict[str, int]]:
    """What each function costs while gateways serve and wait, and as they start and end."""
    serving: dict[str, int] = defaultdict(int)
    starting: dict[str, int] = defaultdict(int)
    processes = Processes(where)
    # One file a process, and one more each time that it is told to write what it has.
    observed = [tool("valgrind"), "--tool=callgrind", "--demangle=no", f"--callgrind-out-file={where}/seen.%p", str(binary)]
    wrapped = where / "gateway"
    wrapped.write_text("#!/bin/sh\nexec " + " ".join(observed) + ' "$@" --set logging.level=info\n')
    wrapped.chmod(0o755)
    both = [None, b"x" * 1024]
    calls = ["/function/bench", "/function/bench/large", "/function/bench/read"]
    pages = ["/healthz", "/ui/", "/system/functions", "/system/info", "/metrics", "/no/such/page"]
    try:
        servers = Servers(wrapped, where, processes, {0}, 0)
        for start, paths, bodies in (
            (lambda: servers.gateway({1}, "fast", ""), calls, both),
            (lambda: servers.gateway({1}, "base", "server.fast_lane = false"), calls, both),
            (lambda: servers.gateway({1}, "quiet"), calls, both),
            (lambda: servers.local_gateway({1}), pages, [None]),
        ):
            gateway = start()
            pid = gateway.process.pid
            dumped = ["callgrind_control", "--dump", str(pid)]
            subprocess.run(dumped, check=True, stdout=subprocess.DEVNULL)
            exercise(gateway, paths, bodies)
            # Long enough for what is done every second or two.
            time.sleep(5)
            subprocess.run(dumped, check=True, stdout=subprocess.DEVNULL)
            gateway.process.terminate()
            gateway.process.wait(timeout=60)
            for dump, into in ((f"seen.{pid}.1", starting), (f"seen.{pid}.2", serving), (f"seen.{pid}", starting)):
                for name, cost in costs(where / dump).items():
                    into[name] += cost
    finally:
        processes.end()
    return serving, starting


def without_hash(name: str) -> str:
    """What is the same of a name in other builds, as a pattern."""
    name = re.sub(r"\.llvm\.\d+$", "", name)
    if (legacy := re.sub(r"17h[0-9a-f]{16}E$", "17h", name)) != name:
        return f"{legacy}*"
    return re.sub(r"Cs[0-9A-Za-z]+_", "Cs*_", name) + "*" if name.startswith("_R") else name


def placed(run_first: list[str], sizes: dict[str, int]) -> list[tuple[str, str]]:
    """Patterns of the functions' names, in their order, each with one of them."""
    all_bytes: dict[str, int] = defaultdict(int)
    run_bytes: dict[str, int] = defaultdict(int)
    for name, size in sizes.items():
        all_bytes[without_hash(name)] += size
    for name in run_first:
        run_bytes[without_hash(name)] += sizes[name]
    first, last = {}, {}
    for name in run_first:
        pattern = without_hash(name)
        if run_bytes[pattern] < DENSE * all_bytes[pattern]:
            first.setdefault(re.sub(r"\.llvm\.\d+$", "*", name), name)
            last.setdefault(pattern, name)
        else:
            first.setdefault(pattern, name)
    return [*first.items(), *last.items()]


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        where = Path(directory)
        binary = build(where / "map")
        seldom = {without_hash(name) for name in unlikely(where / "map")}
        serving, starting = run(binary, where)
    known = sizes(binary)
    by_cost = [
        *sorted(serving, key=lambda name: (-serving[name], name)),
        *sorted(starting.keys() - serving.keys(), key=lambda name: (-starting[name], name)),
    ]
    lines = ""
    for pattern, name in placed([name for name in by_cost if name in known and NAME.fullmatch(name)], known):
        also = f" .text.unlikely.{pattern}" if without_hash(name) in seldom else ""
        lines += f"    *(.text.{pattern}{also})\n"
    ORDER.write_text(f"{HEAD}SECTIONS\n{{\n  .text.first :\n  {{\n{lines}  }}\n}}\nINSERT BEFORE .text;\n")
    print(f"{ORDER.relative_to(ROOT)}: {lines.count(chr(10))} patterns")


try:
    main()
except Failed as error:
    sys.exit(f"error: {error}")
