"""What is measured and what it talks to: configurations, and starting them.

Everybody has the same job: keep-alive to the backend, X-Forwarded-For and
X-Forwarded-Host, an X-Call-Id for callers that sent none, no access log,
request bodies not buffered.
"""

from __future__ import annotations

import http.client
import json
import os
import resource
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from machine import Failed, Processes, tool

GATEWAY = "faas-gateway"
BODY = "x" * 200
MEBIBYTE = 1 << 20


@dataclass
class Proxy:
    """A running server that is measured."""

    name: str
    port: int
    process: subprocess.Popen


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
events {{ worker_connections 24000; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
    client_max_body_size 0;
    tcp_nodelay on;
    sendfile on;
{temporary}
{server}
}}
"""


def backend_server(port: int, directory: Path, functions: int) -> str:
    """An OpenFaaS provider of functions that do nothing: `bench`, and others with a number behind."""

    def function(name: str) -> dict:
        return {
            "name": name,
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
    files = directory / "files"
    files.mkdir()
    (files / "large").write_bytes(b"x" * MEBIBYTE)
    names = ["bench", *(f"bench{number}" for number in range(functions))]
    (files / "functions").write_text(json.dumps([function(name) for name in names]))

    def answer(value: object) -> str:
        return f"default_type application/json; return 200 '{json.dumps(value)}';"

    seen = "$http_x_call_id|$http_x_forwarded_for|$http_x_forwarded_host|$http_connection"
    status = json.dumps(function("NAME")).replace("NAME", "$1")
    return f"""
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /function/bench/seen {{ default_type text/plain; return 200 '{seen}'; }}
        location = /function/bench/large {{ default_type text/plain; alias {files}/large; }}
        location = /function/bench/read {{
            client_body_buffer_size 2m;
            proxy_pass http://127.0.0.1:{port}/function/bench;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
        }}
        location ~ ^/function/bench {{ default_type text/plain; return 200 '{BODY}'; }}
        location ~ ^/system/function/(bench[0-9]*)$ {{ default_type application/json; return 200 '{status}'; }}
        location = /system/functions {{ default_type application/json; alias {files}/functions; }}
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
        listen 127.0.0.1:{port} backlog=4096;
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


def haproxy_global() -> str:
    # It wants two files for each connection, and does not start without them.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 - 100
    return f"""
global
    nbthread 1
    maxconn {most}
defaults
    timeout connect 5s
    timeout client 300s
    timeout server 300s
"""


def haproxy_http(port: int, backend: int) -> str:
    return (
        haproxy_global()
        + f"""
    mode http
    option http-keep-alive
    http-reuse always
listen gateway
    bind 127.0.0.1:{port} backlog 4096
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
        haproxy_global()
        + f"""
    mode tcp
listen relay
    bind 127.0.0.1:{port} backlog 4096
    server backend 127.0.0.1:{backend}
"""
    )


def gateway_config(port: int, metrics: int, backend: int, more: str) -> str:
    # `more` comes first: it may have keys of tables that are opened below.
    return f"""
server.listen = "127.0.0.1:{port}"
metrics.listen = "127.0.0.1:{metrics}"
metrics.refresh_interval = "1h"
provider.url = "http://127.0.0.1:{backend}/"
provider.default_namespace = "openfaas-fn"
logging.level = "warn,access=info"
{more}
"""


class Servers:
    """Starts servers on the cores that they are measured on."""

    def __init__(self, binary: Path, directory: Path, processes: Processes, load: set[int], functions: int):
        self.binary, self.directory, self.processes = binary, directory, processes
        self.backend = self._nginx("backend alone", load, lambda port, where: backend_server(port, where, 0))
        # The same with many more functions than the one that is called.
        self.crowded = self._nginx("backend of many", load, lambda port, where: backend_server(port, where, functions))

    def _directory(self, name: str) -> Path:
        plain = "".join(letter if letter.isalnum() else "-" for letter in name)
        number = len(self.processes.started)
        path = self.directory / f"{plain}-{number}"
        path.mkdir()
        return path

    def _nginx(self, name: str, cores: set[int], server) -> Proxy:
        directory, port = self._directory(name), free_port()
        config = directory / "nginx.conf"
        config.write_text(nginx_config(directory, server(port, directory)))
        command = [tool("nginx"), "-e", "stderr", "-p", str(directory), "-c", str(config)]
        return self._ready(Proxy(name, port, self.processes.start(name, command, cores)), "/function/bench")

    def nginx(self, cores: set[int]) -> Proxy:
        return self._nginx("nginx", cores, lambda port, _: nginx_server(port, self.backend.port))

    def haproxy(self, cores: set[int], name: str = "haproxy", config=haproxy_http) -> Proxy:
        directory, port = self._directory(name), free_port()
        path = directory / "haproxy.cfg"
        path.write_text(config(port, self.backend.port))
        process = self.processes.start(name, [tool("haproxy"), "-db", "-q", "-f", str(path)], cores)
        return self._ready(Proxy(name, port, process), "/function/bench")

    def relay(self, cores: set[int]) -> Proxy:
        return self.haproxy(cores, "relay", haproxy_tcp)

    def gateway(
        self, cores: set[int], name: str = GATEWAY, more: str = "logging.access = false", backend: Proxy | None = None
    ) -> Proxy:
        directory, port, metrics = self._directory(name), free_port(), free_port()
        path = directory / "gateway.toml"
        path.write_text(gateway_config(port, metrics, (backend or self.backend).port, more))
        command = [str(self.binary), "serve", "--config", str(path)]
        process = self.processes.start(name, command, cores)
        return self._ready(Proxy(name, port, process), "/function/bench")

    def local_gateway(self, cores: set[int]) -> Proxy:
        """One whose functions are processes of this machine."""
        directory, port, metrics = self._directory("local"), free_port(), free_port()
        path = directory / "gateway.toml"
        path.write_text(
            f'server.listen = "127.0.0.1:{port}"\nmetrics.listen = "127.0.0.1:{metrics}"\nlogging.level = "warn"\n'
            f'logging.access = false\nprovider.process.state_dir = "{directory}/state"\n'
        )
        process = self.processes.start("local", [str(self.binary), "serve", "--config", str(path)], cores)
        return self._ready(Proxy("local", port, process), "/healthz")

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
            raise Failed(
                f"{proxy.name} answers {status} {dict(headers)} {body[:200]!r}\n{self.processes.output(proxy.process)}"
            )
        _, headers, body = get(proxy.port, "/function/bench/seen")
        call_id, forwarded_for, forwarded_host, connection = body.split("|")
        good = call_id == headers.get("X-Call-Id") and "127.0.0.1" in forwarded_for and forwarded_host
        if not good or connection.lower() == "close":
            raise Failed(f"the backend behind {proxy.name} saw {body!r}: not the same job")
        _, _, body = get(proxy.port, "/function/bench/seen", {"X-Call-Id": "mine"})
        if not body.startswith("mine|"):
            raise Failed(f"{proxy.name} does not keep a caller's X-Call-Id")
        _, _, body = get(proxy.port, "/function/bench/large")
        if len(body) != MEBIBYTE:
            raise Failed(f"{proxy.name} lost some of a large answer")


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
