"""The sides of the bench: each starts on loopback, answers the same request, and stops leaving no
process."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from engine.registry import create_decoder
from scripts.bench import sides
from scripts.bench.drawing import Drawer, spec_of
from scripts.bench.processes import EngineSide
from scripts.bench.workload import Recipe, asks
from scripts.bench_rivals import bento
from scripts.bench_rivals.loads import Target
from scripts.bench_rivals.plan import PASSES, Batching, Case
from scripts.cluster import args_of
from serve_app.config.serve_file import load_serve_config

CONFIG = Path("configs/paced-gpu.yaml")
LOCK = "fastapi_lock"
RAY = "serve_batch"
BATCHING = ("litserve", RAY, "bentoml")
OURS = "ours"


def settings(case: Case) -> dict[str, Any]:
    """Our config for it."""
    config = copy.deepcopy(load_serve_config(CONFIG))
    args = args_of(config)
    args["model"]["options"] = case.options
    args["model"]["pass_seconds"] = case.seconds(case.slots) / case.slots
    args["decoder"] |= {"slots": case.slots, "replicas": case.devices}
    args["qualities"] = PASSES
    return config


def recipe_of(case: Case, given: Batching | None = None) -> Recipe:
    """How a rival's process draws. Rows stay to the end of their batch, as in a pipeline of
    diffusers or in generate() of transformers."""
    batch = given.batch if given else 1
    args = args_of(settings(case))
    return Recipe(
        "paced", case.options, PASSES, args["model"].get("guidance", 2.0),
        tuple(args["safety"]["screens"]), threads=1, batch=batch, rows_leave=False,
    )  # fmt: skip


@contextmanager
def started(name: str, case: Case, given: Batching) -> Iterator[Target]:
    """One of them, ready. given: what a batching rival batches by."""
    recipe = recipe_of(case, given)
    if name == OURS:
        side: AbstractContextManager[str] = sides.ours(settings(case))
    elif name == LOCK:
        side = sides.rival_server("fastapi_lock", recipe, str(case.devices))
    elif name == "litserve":
        side = sides.rival_server(
            "litserve_batch", recipe, str(case.devices), str(given.wait_seconds)
        )
    elif name == "bentoml":
        side = bento.serving(recipe, case.devices)
    else:
        side = sides.batching_on_ray(recipe, case.devices, wait_seconds=given.wait_seconds)
    with side as url:
        yield Target(name, url, _as_list if name == "bentoml" else _as_it_is)


def _as_list(request: dict[str, Any]) -> dict[str, Any]:
    return {"asks": [request]}


def _as_it_is(request: dict[str, Any]) -> dict[str, Any]:
    return request


def engine_alone(case: Case, count: int) -> float:
    """Images/s of our engine in this process for the same `count` requests, without Ray, HTTP and
    ledger, from the first to the last: filling and emptying are in it, as in `saturate`."""
    recipe = recipe_of(case)
    drawer = Drawer(recipe)
    decoders = [create_decoder("paced", **recipe.options) for _ in range(case.devices)]
    side = EngineSide(decoders, case.slots, lambda pixels: drawer.finisher.postprocess([pixels]))
    began = time.perf_counter()
    finished = side.run(
        spec_of(ask, *drawer.prepare([ask.prompt]), recipe.guidance)
        for ask in asks(0, count, recipe.passes)
    )
    return count / (max(finished) - began)
