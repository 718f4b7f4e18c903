"""The four HTTP sides of the bench: each starts on loopback, answers the same request, and stops
leaving no process."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import DEVNULL

from scripts.bench.workload import Recipe
from scripts.children import server
from scripts.cluster import Config, args_of, own_config, running
from serve_app.config.cluster import parse_cluster_config
from serve_app.operate.local_cluster import free_port


@dataclass(frozen=True, slots=True)
class Layout:
    """How a rival uses the machine: processes, threads of each, and how it batches."""

    workers: int = 1
    threads: int = 2
    batch: int = 1
    rows_leave: bool = True

    def recipe(self, base: Recipe) -> Recipe:
        """How each of its processes draws."""
        return replace(base, threads=self.threads, batch=self.batch, rows_leave=self.rows_leave)


def recipe_of(config: Config) -> Recipe:
    """What our side draws with."""
    args = parse_cluster_config(args_of(config))
    return Recipe(
        family=args.model.family,
        options=args.model.options,
        passes=args.qualities.offered(),
        guidance=args.model.guidance,
        screens=args.safety.screens,
    )


def clients_of(config: Config) -> int:
    """So many requests under way that none of our decoders is ever idle."""
    decoder = parse_cluster_config(args_of(config)).decoder
    return 2 * decoder.slots * decoder.replicas + 2


@contextmanager
def ours(config: Config) -> Iterator[str]:
    """The whole stack by this config; yields its base URL."""
    with (
        tempfile.TemporaryDirectory(prefix="meltproof-bench-") as folder,
        running(own_config(config, Path(folder))) as cluster,
    ):
        yield cluster.api_url


def serve_batch(base: Recipe, layout: Layout) -> AbstractContextManager[str]:
    """A plain @serve.batch deployment on a Ray of its own."""
    return batching_on_ray(layout.recipe(base), layout.workers)


@contextmanager
def batching_on_ray(recipe: Recipe, replicas: int, **given: float) -> Iterator[str]:
    """The same of that recipe. given: as its `build` takes it."""
    application = {
        "name": "rival",
        "route_prefix": "/",
        "import_path": "scripts.bench.rivals.serve_batch:build",
        "args": {"recipe": recipe.to_json(), "replicas": replicas, **given},
    }
    config = {
        "proxy_location": "HeadOnly",
        "http_options": {"host": "127.0.0.1", "port": free_port()},
        "applications": [application],
    }
    with running(config) as cluster:
        yield cluster.api_url


def litserve(base: Recipe, layout: Layout) -> AbstractContextManager[str]:
    """LitServe with its batching."""
    return rival_server("litserve_batch", layout.recipe(base), str(layout.workers))


def fastapi_lock(base: Recipe, layout: Layout) -> AbstractContextManager[str]:
    """FastAPI and a lock."""
    return rival_server("fastapi_lock", layout.recipe(base))


def rival_server(module: str, recipe: Recipe, *more: str) -> AbstractContextManager[str]:
    """A module of scripts.bench.rivals, started; yields its URL once it is healthy."""
    port = free_port()
    arguments = [str(port), json.dumps(recipe.to_json()), *more]
    command = ["-m", f"scripts.bench.rivals.{module}", *arguments]
    return server(port, command, "/health", stdout=DEVNULL, stderr=DEVNULL)
