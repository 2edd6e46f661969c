#!/usr/bin/env python3
"""Writes openapi/compatibility.md from compatibility.toml and openapi/openapi.json, or checks that it is current.

    make compatibility                      writes it
    python3 tests/conformance/compatibility.py --check

What the table says of OpenFaaS is written by hand; what it says of this gateway is looked up. An operation
that the document does not have, or has at another path, is an error: then one of the two has to change.

Exit codes: 0 current, 1 not current, 2 the table and the document contradict each other.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from tools import HERE, ROOT, Failed

TABLE = HERE / "compatibility.toml"
DOCUMENT = ROOT / "openapi" / "openapi.json"
PAGE = ROOT / "openapi" / "compatibility.md"

KEYS = {"method", "path", "what", "edition", "ours", "absent", "differences"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    try:
        table = tomllib.loads(TABLE.read_text())
        ours = operations(json.loads(DOCUMENT.read_text()))
        text, counts = page(table, ours)
    except Failed as failed:
        print(f"compatibility: error: {failed}", file=sys.stderr)
        return 2
    if not options.check:
        PAGE.write_text(text)
    elif not PAGE.is_file() or PAGE.read_text() != text:
        print("compatibility: openapi/compatibility.md is not current: run make compatibility", file=sys.stderr)
        return 1
    print(f"compatibility: {counts}")
    return 0


def operations(document: dict[str, Any]) -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Method, path and operation by operation id, in the document's order."""
    return {
        operation["operationId"]: (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def shape(path: str) -> str:
    """A path without the names of its parameters."""
    return re.sub(r"\{[^}]*\}", "{}", path)


def checked(entry: dict[str, Any], ours: dict[str, tuple[str, str, dict[str, Any]]]) -> None:
    here = f"compatibility.toml: {entry.get('method')} {entry.get('path')}"
    if unknown := entry.keys() - KEYS:
        raise Failed(f"{here}: unknown keys: {', '.join(sorted(unknown))}")
    if ("ours" in entry) == ("absent" in entry):
        raise Failed(f"{here}: needs either `ours` or `absent`")
    for name in entry.get("ours", []):
        if name not in ours:
            raise Failed(f"{here}: openapi.json has no operation {name}")
        method, path, _ = ours[name]
        if entry["method"] not in ("any", method) or shape(entry["path"]) != shape(path):
            raise Failed(f"{here}: {name} is {method} {path}")
    same = [name for name, (method, path, _) in ours.items()
            if entry["method"] in ("any", method) and shape(path) == shape(entry["path"])]
    if sorted(same) != sorted(entry.get("ours", [])):
        raise Failed(f"{here}: openapi.json has {', '.join(same) or 'nothing'} there")


def page(table: dict[str, Any], ours: dict[str, tuple[str, str, dict[str, Any]]]) -> tuple[str, str]:
    entries = table["operation"]
    for entry in entries:
        checked(entry, ours)
    named = [name for entry in entries for name in entry.get("ours", [])]
    if twice := sorted({name for name in named if named.count(name) > 1}):
        raise Failed(f"compatibility.toml: more than one operation is {', '.join(twice)}")
    own = [name for name in ours if name not in named]
    there = [entry for entry in entries if "ours" in entry]
    absent = [entry for entry in entries if "absent" in entry]
    lines = [
        "<!-- Written by tests/conformance/compatibility.py; change compatibility.toml there. -->",
        "",
        "# OpenFaaS's operations, and ours",
        "",
        "Methods and paths are OpenFaaS's. What is different for whoever calls them is listed here, each with its",
        "reason; [CHANGELOG.md](../CHANGELOG.md) has what is different beside the API.",
        "",
        f"Of {len(entries)} operations of OpenFaaS, {len(there)} are in [openapi.json](openapi.json) and {len(absent)} are not.",
        f"{len(own)} operations are ours only.",
        "",
        "## Everywhere",
        "",
        *(f"- {text}" for text in table["everywhere"]),
        "",
        "## Operations",
        "",
        "| OpenFaaS | | ours | success | different |",
        "| --- | --- | --- | --- | --- |",
        *(row(entry, ours) for entry in there),
        "",
        "## Not in the document",
        "",
        "| OpenFaaS | | why |",
        "| --- | --- | --- |",
        *(f"| {called(entry)} | {entry['what']} | {entry['absent']} |" for entry in absent),
        "",
        "## Ours only",
        "",
        "| operation | | |",
        "| --- | --- | --- |",
        *(f"| `{ours[name][0]} {ours[name][1]}` | {ours[name][2]['summary'].lower()} | `{name}` |" for name in own),
        "",
    ]
    different = sum(len(entry.get("differences", [])) for entry in entries) + len(table["everywhere"])
    counts = f"{len(entries)} operations of OpenFaaS, {len(there)} of them here, {len(own)} of our own, {different} differences"
    return "\n".join(lines), counts


def called(entry: dict[str, Any]) -> str:
    edition = " (Pro)" if entry.get("edition") == "pro" else ""
    return f"`{entry['method']} {entry['path']}`{edition}"


def row(entry: dict[str, Any], ours: dict[str, tuple[str, str, dict[str, Any]]]) -> str:
    statuses = sorted({status for name in entry["ours"] for status in ours[name][2]["responses"] if status.startswith("2")})
    success = ", ".join(statuses) or "the function's"
    names = ", ".join(f"`{name}`" for name in entry["ours"])
    different = " ".join(entry.get("differences", ["–"]))
    return f"| {called(entry)} | {entry['what']} | {names} | {success} | {different} |"


if __name__ == "__main__":
    sys.exit(main())
