#!/usr/bin/env python3
"""Lints openapi/openapi.json by openapi/rules.yaml. Any finding fails, whatever its severity.

A rule of our own that looks at the wrong place finds nothing, like one that is kept. So each must first
find the fault that is built into a copy of the document for it.

Exit codes: 0 no findings, 1 findings, 2 could not be found out.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import tools
from tools import ROOT, Failed

DOCUMENT = ROOT / "openapi" / "openapi.json"
RULES = ROOT / "openapi" / "rules.yaml"
# What the gateway makes of functions' own documents; a test keeps it current.
FUNCTIONS = ROOT / "tests" / "fixtures" / "contracts" / "merged.json"
FUNCTIONS_RULES = ROOT / "openapi" / "functions-rules.yaml"


def main() -> int:
    began = time.monotonic()
    try:
        program = tools.spectral()
        document = json.loads(DOCUMENT.read_text())
        with tempfile.TemporaryDirectory(prefix="lint-") as directory:
            bad = Path(directory) / "bad.json"
            faults = spoil(copy.deepcopy(document), bad)
            found = {finding["code"] for finding in findings(program, bad)}
            missed = sorted(faults - found)
            if missed:
                raise Failed(f"rules of openapi/rules.yaml that do not find what is built in for them: {', '.join(missed)}")
            unproven = sorted(own_rules() - faults)
            if unproven:
                raise Failed(f"rules of openapi/rules.yaml without a fault built in for them: {', '.join(unproven)}")
        real = findings(program, DOCUMENT) + findings(program, FUNCTIONS, FUNCTIONS_RULES)
    except Failed as failed:
        print(f"lint: error: {failed}", file=sys.stderr)
        return 2
    for finding in real:
        place = ".".join(str(part) for part in finding["path"])
        print(f"lint: {finding['code']}: {finding['message']} ({place})", file=sys.stderr)
    operations = sum(len(methods) for methods in document["paths"].values())
    print(
        f"lint: {operations} operations, {len(document['components']['schemas'])} schemas, "
        f"{len(faults)} rules of our own beside spectral's, {len(real)} findings, {time.monotonic() - began:.0f} s"
    )
    return 1 if real else 0


def findings(program: Path, document: Path, rules: Path = RULES) -> list[dict[str, Any]]:
    command = [str(program), "lint", "--ruleset", str(rules), "--format", "json", "--quiet", "--fail-severity", "hint", str(document)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)
    try:
        found = json.loads(done.stdout or "[]")
    except ValueError:
        raise Failed(f"spectral said: {done.stdout[-1000:]}{done.stderr[-1000:]}") from None
    # 0 and 1 are its answers; whatever else it says, it did not look.
    if done.returncode not in (0, 1) or bool(found) != bool(done.returncode):
        raise Failed(f"spectral ended with {done.returncode}: {done.stdout[-1000:]}{done.stderr[-1000:]}")
    return found


def own_rules() -> set[str]:
    """Names of the rules that rules.yaml defines: those with a description, two spaces in."""
    names, name = set(), ""
    for line in RULES.read_text().splitlines():
        if line.startswith("  ") and line[2:3].isalpha():
            name = line.strip().split(":")[0]
        elif line.startswith("    description:"):
            names.add(name)
    return names


def spoil(document: dict[str, Any], place: Path) -> set[str]:
    """Writes a document with one fault for each rule of our own, and says for which."""
    paths, components = document["paths"], document["components"]
    info = paths["/system/info"]["get"]
    paths["/system/config"]["get"]["operationId"] = "get_config"
    paths["/system/config/status"]["get"]["tags"] = ["System", "Configuration"]
    del paths["/system/functions"]["get"]["summary"]
    info["responses"]["200"]["description"] = ""
    del components["schemas"]["Secret"]["properties"]["name"]["description"]
    del info["security"]
    del paths["/system/telemetry"]["get"]["responses"]["401"]
    paths["/healthz"]["get"]["responses"]["403"] = {"$ref": "#/components/responses/Problem401"}
    components["responses"]["Problem404"]["content"]["application/problem+json"]["schema"] = {"type": "object"}
    components["responses"]["Problem409"].pop("content")
    components["responses"]["Problem503"].pop("headers")
    paths["/system/namespaces"]["get"]["responses"]["204"] = {"description": "Nothing."}
    components["schemas"]["Alert"]["properties"]["status"]["oneOf"] = [{"type": "string"}, {"type": "integer"}]
    content = paths["/system/functions"]["post"]["requestBody"]["content"]["application/json"]
    content["schema"] = {"type": "object", "properties": {"service": {"type": "string"}}}
    place.write_text(json.dumps(document))
    return {
        "operation-id-is-camel-case", "operation-has-one-tag", "operation-has-a-summary", "response-is-described",
        "schema-is-described", "protected-operation-asks-for-credentials", "protected-operation-may-refuse",
        "open-operation-does-not-refuse", "error-is-a-problem", "error-has-content", "unavailable-says-when",
        "one-success", "no-unions", "schema-has-a-name",
    }


if __name__ == "__main__":
    sys.exit(main())
