"""What the chart's Ingress tells its controllers, put into the real HAProxy and nginx."""

from __future__ import annotations

import subprocess
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from scripts.rayservice.chart import manifests, rendered
from serve_app.operate.local_cluster import end_with_parent, free_port
from tests.stages.tools import programs

TAKEN_OFF = ("x-request-timeout-seconds", "x-request-disconnect-disabled")
START_SECONDS = 20.0


class _Headers(BaseHTTPRequestHandler):
    """Answers with the names of the headers that came."""

    def do_GET(self) -> None:
        body = " ".join(name.lower() for name in self.headers).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def upstream() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Headers)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def annotations(class_name: str) -> dict[str, str]:
    values = {"route": {"kind": "ingress", "ingress": {"className": class_name}}}
    [found] = [one for one in manifests(rendered(values)) if one["kind"] == "Ingress"]
    assert found["spec"]["ingressClassName"] == class_name
    [rule] = found["spec"]["rules"]
    [path] = rule["http"]["paths"]
    assert path["backend"]["service"] == {"name": "meltproof-serve-svc", "port": {"number": 8000}}
    texts: dict[str, str] = found["metadata"]["annotations"]
    return texts


@contextmanager
def proxy(command: list[str | Path]) -> Iterator[None]:
    process = subprocess.Popen(command, preexec_fn=end_with_parent)
    try:
        yield
    finally:
        process.terminate()  # nginx's own processes outlive a SIGKILL of the first
        process.wait()


def arrived(port: int) -> set[str]:
    """Headers that the upstream saw of a request through the proxy."""
    until = time.monotonic() + START_SECONDS
    headers = dict.fromkeys((*TAKEN_OFF, "x-kept"), "1")
    while True:
        try:
            answer = httpx.get(f"http://127.0.0.1:{port}", headers=headers, trust_env=False)
        except httpx.TransportError:
            assert time.monotonic() < until, "the proxy does not come up"
            time.sleep(0.02)
        else:
            return {*answer.text.split()}


def test_haproxy_takes_the_headers_off(upstream: int, tmp_path: Path) -> None:
    [haproxy] = programs("haproxy")
    given = annotations("haproxy")
    port = free_port()
    snippet = textwrap.indent(given["haproxy.org/backend-config-snippet"], "    ")
    config = f"""\
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server {given["haproxy.org/timeout-server"]}
frontend clients
    bind 127.0.0.1:{port}
    default_backend meltproof
backend meltproof
{snippet}
    server one 127.0.0.1:{upstream}
"""
    (tmp_path / "haproxy.cfg").write_text(config)
    with proxy([haproxy, "-db", "-f", tmp_path / "haproxy.cfg"]):
        found = arrived(port)
    assert "x-kept" in found
    assert not found & {*TAKEN_OFF}


def test_nginx_takes_the_headers_off(upstream: int, tmp_path: Path) -> None:
    [nginx] = programs("nginx")
    prefix = "nginx.ingress.kubernetes.io/"
    given = annotations("nginx")
    directives = "".join(
        f"{name.removeprefix(prefix).replace('-', '_').replace('proxy_body', 'client_max_body')} "
        f"{value};\n"
        for name, value in given.items()
        if name != f"{prefix}configuration-snippet"
    )
    port = free_port()
    config = f"""\
daemon off;
pid {tmp_path}/pid;
error_log {tmp_path}/error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {tmp_path}/body;
  proxy_temp_path {tmp_path}/proxy;
  fastcgi_temp_path {tmp_path}/fastcgi;
  uwsgi_temp_path {tmp_path}/uwsgi;
  scgi_temp_path {tmp_path}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      {directives}
      {given[f"{prefix}configuration-snippet"]}
      proxy_pass http://127.0.0.1:{upstream};
    }}
  }}
}}
"""
    (tmp_path / "nginx.conf").write_text(config)
    with proxy([nginx, "-e", tmp_path / "error.log", "-c", tmp_path / "nginx.conf"]):
        found = arrived(port)
    assert "x-kept" in found
    assert not found & {*TAKEN_OFF}
