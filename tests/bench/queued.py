"""Asynchronous calls: how many are kept a second, and how many are made, with each queue.

Beside a loop that publishes messages of the same size to JetStream and waits for
its acknowledgements, with as many under way: what the server itself takes.
"""

from __future__ import annotations

import asyncio
import json
import time

from cold import asked, to
from load import Generator, Load
from machine import Failed, Processes, tool
from servers import Proxy, Servers, free_port

KEPT = Load("kept calls", 64, path="/async-function/bench", body=1024)

# Messages of the loop that publishes.
RAW = 20_000


def nats(servers: Servers, processes: Processes, cores: set[int]) -> int:
    port = free_port()
    directory = servers._directory("nats")
    line = [tool("nats-server"), "--addr", "127.0.0.1", "--port", str(port), "--jetstream", "--store_dir", str(directory)]
    processes.start("nats", line, cores)
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        try:
            asyncio.run(asyncio.wait_for(greeting(port), 1))
            return port
        except (OSError, asyncio.TimeoutError):
            time.sleep(0.05)
    raise Failed("the NATS server does not answer")


async def greeting(port: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()


async def publish(port: int, under_way: int) -> float:
    """Acknowledged messages a second."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await reader.readline()
    writer.write(b'CONNECT {"verbose":false}\r\nSUB answers.* 1\r\n')

    async def acknowledged() -> bytes:
        while True:
            head = await reader.readline()
            if head.startswith(b"MSG"):
                return await reader.readexactly(int(head.split()[-1]) + 2)
            if not head:
                raise Failed("the NATS server closed the connection")

    def send(subject: str, payload: bytes) -> None:
        writer.write(b"PUB %s answers.1 %d\r\n%s\r\n" % (subject.encode(), len(payload), payload))

    stream = {"name": "RAW", "subjects": ["raw"], "storage": "file", "retention": "workqueue", "num_replicas": 1}
    send("$JS.API.STREAM.CREATE.RAW", json.dumps(stream).encode())
    made = await acknowledged()
    if b'"error"' in made:
        raise Failed(f"no stream: {made!r}")
    payload = b"x" * KEPT.body
    for _ in range(under_way):
        send("raw", payload)
    began = time.monotonic()
    for number in range(RAW):
        await acknowledged()
        if number + under_way < RAW:
            send("raw", payload)
    took = time.monotonic() - began
    writer.close()
    return RAW / took


def counts(gateway: Proxy) -> dict[str, int]:
    _, text = asked(to(gateway.port)(), "GET", "/system/async-status")
    found: dict[str, int] = {}
    for count in json.loads(text)["counts"]:
        found[count["state"]] = found.get(count["state"], 0) + count["calls"]
    return found


def of_one(gateway: Proxy, generator: Generator) -> dict:
    asked(to(gateway.port)(), "POST", "/system/async-pause")
    kept = generator.wrk(gateway, KEPT, generator.seconds)
    if kept["failed"]:
        raise Failed(f"{gateway.name}: {kept['failed']} calls were not kept")
    waiting = counts(gateway).get("queued", 0)
    asked(to(gateway.port)(), "POST", "/system/async-resume")
    began = time.monotonic()
    deadline = began + 120
    while any(counts(gateway).get(state) for state in ("queued", "running", "retrying")):
        if time.monotonic() > deadline:
            raise Failed(f"{gateway.name}: calls are not made: {counts(gateway)}")
        time.sleep(0.02)
    took = time.monotonic() - began
    done = counts(gateway)
    if done.get("succeeded", 0) < waiting:
        raise Failed(f"{gateway.name}: of {waiting} calls: {done}")
    return {
        "kept_per_second": round(kept["requests"] / kept["seconds"]),
        "kept_p50_ms": round(kept["p50_us"] / 1000, 2),
        "kept_p99_ms": round(kept["p99_us"] / 1000, 2),
        "made_per_second": round(waiting / took),
        "calls": waiting,
    }


def measure(servers: Servers, processes: Processes, generator: Generator, cores: set[int]) -> dict:
    common = (
        "logging.access = false\nqueue.concurrency = 200\nqueue.function_concurrency = 200\n"
        "queue.max_jobs = 10000000\nqueue.max_bytes = \"100GiB\"\nqueue.accept_unknown = false\n"
    )
    directory = servers._directory("queue")
    port = nats(servers, processes, cores)
    kinds = {
        "embedded": f'queue.kind = "embedded"\nqueue.path = "{directory}"\n',
        "nats": f'queue.kind = "nats"\nqueue.nats_address = "127.0.0.1"\nqueue.nats_port = {port}\n',
    }
    results: dict = {}
    for kind, more in kinds.items():
        gateway = servers.gateway(cores, f"queue {kind}", common + more)
        results[kind] = of_one(gateway, generator)
        processes.stop(gateway.process)
    results["JetStream alone"] = {"kept_per_second": round(asyncio.run(publish(port, KEPT.connections)))}
    return {"connections": KEPT.connections, "bytes": KEPT.body, "results": results}
