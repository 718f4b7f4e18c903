"""A real nginx on loopback ports, as an unprivileged process in a folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from serve_app.operate.local_cluster import free_port

EXAMPLE = Path(__file__).parents[2] / "examples/nginx.conf"
NOBODY = 65534
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
BARE = """
worker_processes auto;
events { }
http {
  upstream meltproof {
    server 127.0.0.1:8000 max_fails=0;
  }
  server {
    listen 8080;
    location / {
      proxy_pass http://meltproof;
      proxy_read_timeout 650s;
    }
  }
}
"""
"""What everybody starts with: buffering, and HTTP/1.0 towards the gateway."""


def program() -> str:
    """Where nginx is. Without it tests are skipped, unless REQUIRE_ALL=1 asks for all of them."""
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        missing = "nginx is not installed (apt-get install nginx-light)"
        if os.environ.get("REQUIRE_ALL") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    return found


@contextmanager
def nginx(
    gateways: Sequence[str], read_timeout_seconds: int, config: str | None = None
) -> Iterator[str]:
    """The URL of one before these `host:port`, by examples/nginx.conf or another config."""
    port, root = free_port(), os.geteuid() == 0
    with tempfile.TemporaryDirectory(prefix="mp-nginx-") as name:
        folder = Path(name)
        (folder / "nginx.conf").write_text(
            _here(config or EXAMPLE.read_text(), folder, port, gateways, read_timeout_seconds)
        )
        if root:
            os.chown(folder, NOBODY, NOBODY)
        process = subprocess.Popen(
            [program(), "-e", folder / "errors", "-c", folder / "nginx.conf", "-g", "daemon off;"],
            user=NOBODY if root else None,
        )
        try:
            _await_up(process, port, folder)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(60)


def _here(
    config: str, folder: Path, port: int, gateways: Sequence[str], read_timeout_seconds: int
) -> str:
    """The config with what the test makes of it."""
    servers = "".join(f"server {address} max_fails=0;\n" for address in gateways)
    paths = "".join(f"{name}_temp_path {folder}/{name};\n" for name in TEMPORARY)
    paths += "access_log off;\nadd_header x-gateway $upstream_addr;\n"
    changes = {
        "listen 8080;": f"listen 127.0.0.1:{port};",
        "server 127.0.0.1:8000 max_fails=0;": servers,
        "proxy_read_timeout 650s;": f"proxy_read_timeout {read_timeout_seconds}s;",
        "worker_processes auto;": "worker_processes 1;",  # two would take turns each for itself
        "http {": f"pid {folder}/pid;\nhttp {{\n{paths}",
    }
    for before, after in changes.items():
        assert config.count(before) == 1, before
        config = config.replace(before, after)
    return config


def _await_up(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=60)
        except httpx.TransportError:
            time.sleep(0.02)
        else:
            return
    pytest.fail((folder / "errors").read_text())
