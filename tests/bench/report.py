"""What was measured, as tables, with what is asked of it."""

from __future__ import annotations

from servers import GATEWAY

BASE = "faas-gateway, base lane"
PEERS = ("nginx", "haproxy")

# Most processor time per request, in shares of a peer's; loads by the beginning of their names.
SMALL = {"nginx": 0.75, "haproxy": 0.70, "relay": 1.6}
GOALS = {"GET, ": SMALL, "POST 1 KiB": SMALL, "GET 1 MiB": {"nginx": 1.0}, "POST 1 MiB": {"nginx": 1.0}}
BASE_GOAL = 1.0
OPTION_GOALS = {
    "access log": 1.15,
    "readiness check": 1.02,
    "idle limits": 1.03,
    "1000 routes": 1.03,
    "1000 functions": 1.03,
}
IDLE_GOAL_MIB = 15
CONNECTION_GOAL_KIB = 6
CORES_GOAL = 1.9
HOLD_GOAL_MS = 10


def mark(value: float, most: float | None) -> str:
    """A ratio, and whether it is what it should be."""
    if most is None:
        return f"{value:.2f}"
    return f"{value:.2f} {'ok' if round(value, 2) <= most else 'MISSED'} (at most {most:.2f})"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def goals(load: str) -> dict[str, float]:
    return next((goal for beginning, goal in GOALS.items() if load.startswith(beginning)), {})


def calls(measured: list[dict]) -> str:
    parts = []
    for load in measured:
        results = load["results"]
        ours, base = results[GATEWAY]["cpu_us_per_request"], results[BASE]["cpu_us_per_request"]
        rows = []
        for name, result in results.items():
            cost = result["cpu_us_per_request"]
            low, high = result["cpu_us_spread"]
            compared = name in (*PEERS, "relay")
            rows.append([
                name,
                f"{cost:.1f} ({low:.1f} to {high:.1f})",
                mark(ours / cost, goals(load["load"]).get(name)) if compared else "",
                mark(base / cost, BASE_GOAL if name == "nginx" and goals(load["load"]) is SMALL else None) if compared else "",
                f"{result['requests_per_second']:,.0f}",
                f"{result['p50_us']:,.0f}",
                f"{result['p99_us']:,.0f}",
            ])  # fmt: skip
        head = ["", "CPU us/request (min to max)", "ours / theirs", "base lane / theirs", "requests/s", "p50 us", "p99 us"]
        parts.append(f"### {load['load']}\n\n{table(head, rows)}")
    return "\n\n".join(parts)


def options(measured: list[dict]) -> str:
    rows = []
    for option in measured:
        with_it = option["results"][option["option"]]["cpu_us_per_request"]
        without = option["results"][GATEWAY]["cpu_us_per_request"]
        rows.append([
            option["option"],
            f"{without:.1f}",
            f"{with_it:.1f}",
            mark(with_it / without, OPTION_GOALS.get(option["option"])),
        ])  # fmt: skip
    head = ["option (GET, 64 connections)", "CPU us/request without", "with", "with / without"]
    return f"### What options cost\n\n{table(head, rows)}"


def latency(measured: dict) -> str:
    most = measured["results"]["haproxy"]["p99_us"]
    rows = [
        [
            name,
            f"{result['p50_us']:.0f}",
            f"{result['p99_us']:.0f}",
            f"{result['p999_us']:.0f}",
            mark(result["p99_us"] / most, 1.0) if name == GATEWAY else "",
        ]
        for name, result in measured["results"].items()
    ]
    head = ["", "p50 us", "p99 us", "p99.9 us", "p99 / haproxy's"]
    title = f"### Latency at {measured['rate']:,} requests a second, half of what the slowest can take"
    return f"{title}\n\n{table(head, rows)}"


def memory(measured: dict) -> str:
    rows = []
    for name, result in measured["results"].items():
        idle, each = result["idle_mib"], result["kib_per_connection"]
        if name == GATEWAY:
            goal = (
                f"{'ok' if idle <= IDLE_GOAL_MIB else 'MISSED'} (at most {IDLE_GOAL_MIB} MiB), "
                f"{'ok' if each <= CONNECTION_GOAL_KIB else 'MISSED'} (at most {CONNECTION_GOAL_KIB} KiB)"
            )
        else:
            goal = ""
        rows.append([name, f"{idle:.1f}", f"{each:.2f}", goal])
    head = ["", "MiB at rest", f"KiB for each of {measured['connections']:,} idle connections", "goal"]
    return f"### Memory\n\n{table(head, rows)}"


def cores(measured: dict) -> str:
    one = measured["results"]["one core"]["cpu_us_per_request"]
    two = measured["results"]["two cores"]["cpu_us_per_request"]
    speedup = measured["speedup"]
    verdict = f"{'ok' if speedup >= CORES_GOAL else 'MISSED'} (at least {CORES_GOAL})"
    return (
        f"### Two cores\n\nCPU us/request with one core {one:.1f}, with two {two:.1f}: "
        f"two cores do the work of {speedup:.2f}, {verdict}"
    )


def cold(measured: dict) -> str:
    rows = [
        [
            name,
            f"{result['bare']:.1f}",
            f"{result['replica']:.1f}",
            f"{result['call']:.1f}",
            f"{result['added']:.1f} {'ok' if result['added'] < HOLD_GOAL_MS else 'MISSED'} (under {HOLD_GOAL_MS} ms)",
        ]
        for name, result in measured["results"].items()
    ]
    head = ["medians in ms", "the command alone", "a replica started by hand", "a call at zero", "the gateway adds"]
    return f"### Cold starts\n\n{table(head, rows)}"


def queue(measured: dict) -> str:
    rows = []
    for name, result in measured["results"].items():
        row = [name, f"{result['kept_per_second']:,}"]
        row += [f"{result[what]:.1f}" if what in result else "" for what in ("kept_p50_ms", "kept_p99_ms")]
        rows.append([*row, f"{result['made_per_second']:,}" if "made_per_second" in result else ""])
    head = ["", "kept a second", "p50 ms", "p99 ms", "made a second"]
    told = f"{measured['connections']} connections, bodies of {measured['bytes']} bytes."
    return f"### Asynchronous calls\n\n{told}\n\n{table(head, rows)}"


PARTS = {"calls": calls, "options": options, "latency": latency, "memory": memory, "cores": cores, "cold": cold, "queue": queue}


def text(measured: dict) -> str:
    machine = measured["machine"]
    head = f"{machine['processor']}, {machine['cores']} cores, Linux {machine['kernel']}; medians of {measured['parameters']['rounds']} rounds"
    return "\n\n".join([head, *(part(measured[name]) for name, part in PARTS.items() if name in measured)])
