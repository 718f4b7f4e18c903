"""The four HTTP sides of the bench: each starts on loopback, answers the same request, and stops
leaving no process."""

from __future__ import annotations

import copy
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
from typing import Any

import httpx

from scripts.bench.recipe import Recipe
from serve_app.config.cluster import environment
from serve_app.operate.local_cluster import LocalCluster, descendants, end_leftovers, free_port

KEY = "sk-local"
START_SECONDS = 120.0
STOP_SECONDS = 15.0
Config = dict[str, Any]


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


def args_of(config: Config) -> dict[str, Any]:
    """The args of a Serve config file's one application."""
    args: dict[str, Any] = config["applications"][0]["args"]
    return args


def own_config(config: Config, folder: Path) -> Config:
    """The same config with a port, a ledger and blobs of its own."""
    config = copy.deepcopy(config)
    config["http_options"]["port"] = free_port()
    args = args_of(config)
    args["ledger"] = {"dsn": f"sqlite:///{folder}/ledger.db"}
    args["blobs"] = {"directory": f"{folder}/blobs"}
    return config


@contextmanager
def ours(config: Config) -> Iterator[str]:
    """The whole stack by this config; yields its base URL."""
    with (
        tempfile.TemporaryDirectory(prefix="meltproof-bench-") as folder,
        _cluster(own_config(config, Path(folder))) as url,
    ):
        yield url


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
    with _cluster(config) as url:
        yield url


@contextmanager
def _cluster(config: Config) -> Iterator[str]:
    cluster = LocalCluster(config, environment(), dashboard_port=0)
    try:
        cluster.start()
        yield cluster.api_url
    finally:
        cluster.stop()


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
