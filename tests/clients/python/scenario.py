"""What a user of the generated client does, from the first refusal to the last 404.

The logs are read with the httpx client inside, for openapi-python-client has no
streams and leaves out answers whose content type it does not know.
"""

from __future__ import annotations

import base64
import datetime
import io
import json
import os
import sys
import time
from collections.abc import Callable
from typing import TypeVar

from gateway.api.async_ import get_async_call
from gateway.api.configuration import get_config_status
from gateway.api.functions import delete_function, deploy_function, get_function, list_functions, scale_function
from gateway.api.invoke import invoke_async, invoke_get, invoke_path_get, invoke_post
from gateway.api.namespaces import (
    create_named_namespace,
    delete_namespace,
    get_namespace,
    list_namespaces,
    update_namespace,
)
from gateway.api.secrets import create_secret, delete_secret, list_secrets, update_secret
from gateway.client import AuthenticatedClient, Client
from gateway.models import (
    AsyncCall,
    ConfigStatus,
    DeleteFunctionRequest,
    FunctionDeployment,
    FunctionDeploymentEnvVars,
    FunctionDeploymentLabels,
    FunctionNamespace,
    FunctionNamespaceLabels,
    FunctionStatus,
    LogMessage,
    Problem,
    ScaleServiceRequest,
    Secret,
)
from gateway.types import File

URL, USER, PASSWORD = (os.environ[name] for name in ("GATEWAY_URL", "GATEWAY_USER", "GATEWAY_PASSWORD"))
NAME = "scenario"

Kind = TypeVar("Kind")


def signed_in(user: str, password: str) -> AuthenticatedClient:
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    return AuthenticatedClient(base_url=URL, token=token, prefix="Basic")


gateway = signed_in(USER, PASSWORD)


def expect(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise AssertionError(f"{what}: expected {expected!r}, found {found!r}")


def a(kind: type[Kind], found: object) -> Kind:
    if not isinstance(found, kind):
        raise AssertionError(f"expected a {kind.__name__}, found {found!r}")
    return found


def eventually(what: str, look: Callable[[], object], expected: object) -> None:
    until = time.monotonic() + 20
    while (found := look()) != expected and time.monotonic() < until:
        time.sleep(0.05)
    expect(what, found, expected)


def status(name: str = NAME) -> FunctionStatus:
    return a(FunctionStatus, get_function.sync(name, client=gateway))


def refused(client: AuthenticatedClient) -> None:
    answer = list_functions.sync_detailed(client=client)
    expect("status", answer.status_code, 401)
    problem = a(Problem, answer.parsed)
    expect("problem", (problem.status, problem.component, problem.detail), (401, "gateway", "invalid credentials"))


def refused_without_credentials() -> None:
    # The types do not allow what this step is about.
    refused(Client(base_url=URL))  # type: ignore[arg-type]


def refused_with_wrong_credentials() -> None:
    refused(signed_in(USER, "wrong"))


def deploy() -> None:
    labels = FunctionDeploymentLabels.from_dict({"scenario": "yes"})
    body = FunctionDeployment(service=NAME, image="local", env_process="cat", labels=labels)
    expect("status", deploy_function.sync_detailed(client=gateway, body=body).status_code, 202)
    functions = [function.to_dict() for function in a(list, list_functions.sync(client=gateway))]
    found = [(function["name"], function["envProcess"], function["labels"]["scenario"]) for function in functions]
    expect("functions", found, [(NAME, "cat", "yes")])


def ready() -> None:
    eventually("available replicas", lambda: status().available_replicas, 1)


def invoke() -> None:
    body = File(payload=io.BytesIO("héllo\n".encode()))
    answer = invoke_post.sync_detailed(NAME, client=gateway, body=body)
    expect("status", answer.status_code, 200)
    expect("body", answer.content.decode(), "héllo\n")


def errors_of_calls() -> None:
    variables = FunctionDeploymentEnvVars.from_dict({"mode": "http"})
    body = FunctionDeployment(service="picky", image="local", env_process=os.environ["PICKY"], env_vars=variables)
    expect("status", deploy_function.sync_detailed(client=gateway, body=body).status_code, 202)
    eventually("available replicas", lambda: status("picky").available_replicas, 1)
    # The function's own: bytes.
    own = invoke_path_get.sync_detailed("picky", "404", client=gateway)
    expect("own", (own.status_code, own.content, "x-openfaas-internal" in own.headers), (404, b"[1]", False))
    gone = delete_function.sync_detailed(client=gateway, body=DeleteFunctionRequest(function_name="picky"))
    expect("status", gone.status_code, 202)
    # The gateway's, with its header.
    answer = invoke_get.sync_detailed("nobody", client=gateway)
    problem = Problem.from_dict(json.loads(answer.content))
    expect("problem", (answer.headers["x-openfaas-internal"], problem.status), ("gateway", 404))


def scale() -> None:
    body = ScaleServiceRequest(service_name=NAME, replicas=2)
    expect("status", scale_function.sync_detailed(NAME, client=gateway, body=body).status_code, 202)
    eventually("available replicas", lambda: status().available_replicas, 2)
    expect("replicas", status().replicas, 2)


def logs() -> None:
    # Followed, and left after its first entry.
    parameters = {"name": NAME, "follow": "true"}
    with gateway.get_httpx_client().stream("GET", "/system/logs", params=parameters) as answer:
        expect("status", answer.status_code, 200)
        entry = LogMessage.from_dict(json.loads(next(answer.iter_lines())))
    expect("entry", (entry.name, entry.text), (NAME, "Forking fprocess."))
    age = datetime.datetime.now(datetime.timezone.utc) - entry.timestamp
    expect("recent", abs(age) < datetime.timedelta(minutes=2), True)


def secret_names() -> list[str]:
    return [secret.name for secret in a(list, list_secrets.sync(client=gateway))]


def secrets() -> None:
    created = create_secret.sync_detailed(client=gateway, body=Secret(name="token", value="one"))
    expect("created", created.status_code, 201)
    expect("names", secret_names(), ["token"])
    raw_value = base64.b64encode(b"two").decode()
    updated = update_secret.sync_detailed(client=gateway, body=Secret(name="token", raw_value=raw_value))
    expect("updated", updated.status_code, 202)
    deleted = delete_secret.sync_detailed(client=gateway, body=Secret(name="token"))
    expect("deleted", deleted.status_code, 202)
    expect("names", secret_names(), [])


def namespaces() -> None:
    body = FunctionNamespace(name="team")
    created = create_named_namespace.sync_detailed("team", client=gateway, body=body)
    expect("created", created.status_code, 201)
    body = FunctionNamespace(name="team", labels=FunctionNamespaceLabels.from_dict({"a": "b"}))
    expect("updated", update_namespace.sync_detailed("team", client=gateway, body=body).status_code, 202)
    found = a(FunctionNamespace, get_namespace.sync("team", client=gateway))
    expect("labels", found.to_dict()["labels"], {"a": "b"})
    expect("listed", "team" in a(list, list_namespaces.sync(client=gateway)), True)
    deleted = delete_namespace.sync_detailed("team", client=gateway, body=FunctionNamespace(name="team"))
    expect("deleted", deleted.status_code, 202)
    expect("gone", get_namespace.sync_detailed("team", client=gateway).status_code, 404)


def asynchronous_call() -> None:
    answer = invoke_async.sync_detailed(NAME, client=gateway, body=File(payload=io.BytesIO(b"later")))
    expect("status", answer.status_code, 202)
    call_id = answer.headers["x-call-id"]

    def call() -> AsyncCall:
        return a(AsyncCall, get_async_call.sync(call_id, client=gateway))

    eventually("state", lambda: call().state, "succeeded")
    result = call().to_dict()["result"]
    expect("result", (result["status"], result["body"]), (200, "later"))


def config_status() -> None:
    found = a(ConfigStatus, get_config_status.sync(client=gateway))
    expect("status", (found.generation, found.last_attempt.result, found.pending_restart), (1, "applied", []))


def delete() -> None:
    body = DeleteFunctionRequest(function_name=NAME)
    expect("status", delete_function.sync_detailed(client=gateway, body=body).status_code, 202)
    eventually("status of the function", lambda: get_function.sync_detailed(NAME, client=gateway).status_code, 404)
    problem = a(Problem, get_function.sync(NAME, client=gateway))
    expect("problem", (problem.status, problem.title), (404, "Not Found"))


STEPS = [
    refused_without_credentials,
    refused_with_wrong_credentials,
    deploy,
    ready,
    invoke,
    errors_of_calls,
    scale,
    logs,
    secrets,
    namespaces,
    asynchronous_call,
    config_status,
    delete,
]

for step in STEPS:
    name = step.__name__.replace("_", " ")
    try:
        step()
    except Exception as error:
        print(f"FAILED {name}: {type(error).__name__}: {error}")
        sys.exit(1)
    print(f"ok {name}", flush=True)
