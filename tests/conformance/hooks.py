"""What schemathesis is to know of this gateway: which failures of its checks are none, and why.

No check is off. A failure is dropped only by a rule of PERMITTED, each of which says which operations
and which answers it is about and gives its reason; how often each was used is told at the end of a run.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import jsonschema_rs
import schemathesis
from schemathesis.core.failures import AcceptedNegativeData, Failure, ServerError
from schemathesis.core.transport import Response
from schemathesis.generation.case import Case
from schemathesis.hooks import HookContext
from schemathesis.openapi.checks import (
    ContentDeserializationError,
    EnsureResourceAvailability,
    JsonSchemaError,
    RejectedPositiveData,
)

# Where run.py finds which rules were used.
USED = os.environ.get("CONFORMANCE_USED")
# What errors of the gateway itself carry.
MARK = "x-openfaas-internal"


class Rule(NamedTuple):
    """Failures that are none."""

    name: str
    reason: str
    failure: type[Failure] | tuple[type[Failure], ...]
    # Operation ids; empty for all.
    operations: frozenset[str]
    permits: Callable[[Case, Response], bool]


def says(status: int, pattern: str) -> Callable[[Case, Response], bool]:
    """Whether the answer has this status and its problem's detail matches as a whole."""
    compiled = re.compile(pattern, re.DOTALL)

    def permits(_case: Case, response: Response) -> bool:
        return response.status_code == status and bool(compiled.fullmatch(problem(response).get("detail", "")))

    return permits


def problem(response: Response) -> dict[str, Any]:
    try:
        value = json.loads(response.content)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def rejected(name: str, operations: str, status: int, pattern: str, reason: str) -> Rule:
    return Rule(name, reason, RejectedPositiveData, frozenset(operations.split()), says(status, pattern))


def reads_as_valid(case: Case, response: Response) -> bool:
    """Whether the request is a valid one once it is read as the gateway reads it:

    a field that is null is absent, and so is a body that is null where none is needed, because Go's clients
    write their nil so; of a query parameter that comes twice the last one counts, one that is empty is absent,
    and a flag that is neither true nor false is false, as with the Go servers that clients are written for.
    Go's parsers do the same to all of these.
    """
    document = case.operation.schema.raw_schema
    operation = case.operation.definition.raw
    query = dict(parse_qsl(urlsplit(response.request.url or "").query, keep_blank_values=True))
    for parameter in operation.get("parameters", []):
        if parameter["in"] != "query":
            continue
        text = query.get(parameter["name"], "")
        if not text:
            if parameter.get("required"):
                return False
        elif not text_fits(parameter["schema"], text):
            return False
    if "requestBody" not in operation:
        return True
    schema = operation["requestBody"]["content"].get("application/json", {}).get("schema")
    if schema is None:
        return False
    try:
        body = json.loads(response.request.body or b"null")
    except (ValueError, TypeError):
        return False
    if body is None:
        return not operation["requestBody"].get("required")
    whole = {"$ref": schema["$ref"], "components": document["components"]}
    return jsonschema_rs.is_valid(whole, without_nulls(body, schema, document))


def text_fits(schema: dict[str, Any], text: str) -> bool:
    """Whether the text of a query parameter is what its schema says."""
    if schema["type"] == "boolean":
        return True
    value: Any = text
    if schema["type"] == "integer":
        if not re.fullmatch(r"[+-]?[0-9]+", text):
            return False
        value = int(text)
    return jsonschema_rs.is_valid(schema, value, validate_formats=True)


def without_nulls(value: Any, schema: dict[str, Any], document: dict[str, Any]) -> Any:
    """The value without fields that are null and need not be there."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return without_nulls(value, document["components"]["schemas"][name], document)
    if "allOf" in schema:
        return without_nulls(value, schema["allOf"][0], document)
    if isinstance(value, dict):
        required = schema.get("required", [])
        properties = schema.get("properties", {})
        others = schema.get("additionalProperties")
        others = others if isinstance(others, dict) else {}
        return {
            name: without_nulls(field, properties.get(name, others), document)
            for name, field in value.items()
            if field is not None or name in required or name not in properties
        }
    if isinstance(value, list):
        return [without_nulls(item, schema.get("items", {}), document) for item in value]
    return value


DEPLOYING = "deployFunction updateFunction"

PERMITTED = [
    Rule(
        "null, empty and repeated values are read as Go reads them",
        "existing clients send them; see reads_as_valid",
        AcceptedNegativeData,
        frozenset(),
        reads_as_valid,
    ),
    Rule(
        "the process provider has no telemetry",
        "501 is how every provider says that it has no such operation, and the document has it",
        ServerError,
        frozenset({"getTelemetry"}),
        says(501, "this provider has no telemetry"),
    ),
    Rule(
        "a call is not at the path of its function",
        "POST /async-function/{name} makes no resource at that path; its id is in X-Call-Id and its place in Location",
        EnsureResourceAvailability,
        frozenset({"cancelAsyncCall"}),
        lambda _case, response: response.status_code == 404,
    ),
    Rule(
        "what a function answers is its own",
        "the document calls it binary, for it may be anything, and functions that were made up echo what they are sent",
        (ContentDeserializationError, JsonSchemaError, ServerError),
        frozenset(),
        lambda case, response: case.operation.path.startswith("/function/") and MARK not in response.headers,
    ),
    rejected(
        "commands must exist", DEPLOYING, 400, r"envProcess: .*",
        "whether a command can be run is known to the machine only",
    ),
    rejected(
        "what a request names must exist", f"{DEPLOYING} createSecret", 400,
        r"(namespace|secrets): '.*' does not exist.*; create it first",
        "which namespaces and secrets there are is known to the provider only",
    ),
    rejected(
        "quantities and bounds", DEPLOYING, 400, r"((limits|requests)\.(memory|cpu)|labels): .*",
        "how a quantity is written, and which labels are bounds, is the provider's to say: others take more",
    ),
    rejected(
        "variables must fit an environment", DEPLOYING, 400, r"envVars: .*",
        "OpenAPI 3.0 cannot say what keys look like",
    ),
    rejected(
        "secrets of a deployment have names of secrets", DEPLOYING, 400, r"name: '.*' is not a secret name: .*",
        "other providers take other names here",
    ),
    rejected(
        "two places, one name", "scaleFunction createNamedNamespace updateNamespace deleteNamespace", 400,
        r"field `(name|serviceName)` is '.*', but the path says '.*'",
        "OpenAPI cannot say that a field and a part of the path agree",
    ),
    rejected(
        "replicas of one machine", "scaleFunction", 400, r"replicas: \d+ is more than the 1000 replicas .*",
        "the bound is the process provider's; others have others",
    ),
    rejected(
        "a name, here", "createNamespace", 400, "missing field `name`",
        "the schema is shared with operations whose path has the name",
    ),
    rejected(
        "the default namespace stays", "deleteNamespace", 400, r"namespace '.*' is the default one and cannot be removed",
        "which one that is, is known to the provider only",
    ),
    rejected(
        "candidates that are no configuration", "validateConfig diffConfig", 422, r".+",
        "whether a text is a configuration is what is asked here, and the answer is no",
    ),
    rejected(
        "files of a candidate have different names", "validateConfig diffConfig", 400,
        r"field `files\[\d+\]\.name` is the name of an earlier file",
        "OpenAPI cannot say that items differ in one field",
    ),
    rejected(
        "a condition that does not hold", "reloadConfig", 412, r"the live configuration is .*",
        "If-Match is a condition: which tag holds is known to the gateway only",
    ),
]


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case, response: Response) -> bool:
    """Whether a failure counts."""
    operation = case.operation.definition.raw.get("operationId", "")
    for rule in PERMITTED:
        concerned = isinstance(failure, rule.failure) and (not rule.operations or operation in rule.operations)
        if concerned and rule.permits(case, response):
            if USED:
                with open(USED, "a", encoding="utf-8") as used:
                    used.write(f"{rule.name}\n")
            return False
    return True


@schemathesis.deserializer("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "text/vnd.yaml")
def yaml_as_it_comes(_context: Any, response: Response) -> str:
    """The gateway writes no YAML, but functions echo what they are sent under the type they are sent it; an echo
    that is no YAML ends the worker of this version of schemathesis, and with it, unseen, the rest of its phase."""
    return response.content.decode(errors="replace")


@schemathesis.check
def log_lines_are_messages(ctx: Any, response: Response, case: Case) -> None:
    """Each line of a log is a LogMessage: OpenAPI 3.0 has no schema for lines, so no other check looks at them."""
    if case.operation.definition.raw.get("operationId") != "getLogs" or response.status_code != 200:
        return
    document = case.operation.schema.raw_schema
    schema = {"$ref": "#/components/schemas/LogMessage", "components": document["components"]}
    for line in response.content.splitlines():
        jsonschema_rs.validate(schema, json.loads(line))


@schemathesis.check
def answers_name_their_configuration(ctx: Any, response: Response, case: Case) -> None:
    """What the document says in words about everything below /system."""
    if case.operation.path.startswith("/system/") and case.operation.path.count("{") == 0:
        text = (response.headers.get("x-config-generation") or [""])[0]
        assert text.isdigit(), f"X-Config-Generation is {text!r}"


@schemathesis.check
def problems_are_problems(ctx: Any, response: Response, case: Case) -> None:
    """An error of the gateway is marked as one, and its problem has the answer's status."""
    if response.headers.get(MARK) != ["gateway"]:
        assert case.operation.path.startswith("/function/") or response.status_code < 400, f"{MARK} is missing"
        return
    if (response.headers.get("content-type") or [""])[0] == "application/problem+json":
        assert problem(response).get("status") == response.status_code
