"""The four HTTP sides of the bench: each starts on loopback, answers the same request, and stops
leaving no process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from scripts.bench.recipe import Recipe
from scripts.cluster import Config, own_config, running
from serve_app.operate.local_cluster import descendants, end_leftovers, free_port

START_SECONDS = 120.0
STOP_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Layout:
    """How a rival uses the machine: processes, threads of each, and how it batches."""

    workers: int = 1
    threads: int = 2
    batch: int = 1
    rows_leave: bool = True

    def recipe(self, base: Recipe) -> Recipe:
        """How each of its processes draws."""
        return replace(
            base,
            threads=self.threads,
            batch=self.batch,
            rows_leave=self.rows_leave,
        )


@contextmanager
def ours(config: Config) -> Iterator[str]:
    """The whole stack by this config; yields its base URL."""
    with (
        tempfile.TemporaryDirectory(prefix="meltproof-bench-") as folder,
        running(own_config(config, Path(folder))) as cluster,
    ):
        yield cluster.api_url


@contextmanager
def serve_batch(base: Recipe, layout: Layout) -> Iterator[str]:
    """A plain @serve.batch deployment on a Ray of its own."""
    application = {
        "name": "rival",
        "route_prefix": "/",
        "import_path": "scripts.bench.rivals.serve_batch:build",
        "args": {"recipe": layout.recipe(base).to_json(), "replicas": layout.workers},
    }
    config = {
        "proxy_location": "HeadOnly",
        "http_options": {"host": "127.0.0.1", "port": free_port()},
        "applications": [application],
    }
    with running(config) as cluster:
        yield cluster.api_url


@contextmanager
def litserve(base: Recipe, layout: Layout) -> Iterator[str]:
    """LitServe with its batching."""
    with _server("litserve_batch", layout.recipe(base), str(layout.workers)) as url:
        yield url


@contextmanager
def fastapi_lock(base: Recipe, layout: Layout) -> Iterator[str]:
    """FastAPI and a lock."""
    with _server("fastapi_lock", layout.recipe(base)) as url:
        yield url


@contextmanager
def _server(module: str, recipe: Recipe, *more: str) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", f"scripts.bench.rivals.{module}", str(port)]
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            [*command, json.dumps(recipe.to_json()), *more],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _await_health(server, url)
            yield url
        finally:
            _end(server)


def _await_health(server: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx.get(f"{url}/health", timeout=2, trust_env=False).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"the server at {url} did not start (exit code {server.poll()})")


def _end(server: subprocess.Popen[bytes]) -> None:
    below = list(descendants(server.pid))
    server.send_signal(signal.SIGTERM)
    try:
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    end_leftovers(below, 2.0)
