"""BentoML with its adaptive batching: each worker draws one static batch at a time. It learns how
long a batch takes, and waits for one to fill by that; requests that it expects to be late it drops,
so LATEST_MS is far.

Run by `bentoml serve` in an environment of its own (scripts.bench_rivals.sides). Its batches are of
lists, so a request is {"asks": [BODY]} and its answer a list. Without `from __future__ import
annotations`, because BentoML reads annotations at run time.
"""

import base64
import json
import os
from typing import Any

import bentoml

from scripts.bench.drawing import Drawer
from scripts.bench.workload import Recipe, ask_of

SETTINGS = "BENCH_RIVAL"
"""Environment variable: JSON of {"recipe", "workers"}."""
LATEST_MS = 3_600_000
GIVEN = json.loads(os.environ[SETTINGS])
RECIPE = Recipe.from_json(GIVEN["recipe"])
PATH = "/v1/images/generations"
BATCH: dict[str, Any] = {}
"""Nothing for one at a time: BentoML does not batch by less than two."""
if RECIPE.batch > 1:
    BATCH = {"batchable": True, "max_batch_size": RECIPE.batch, "max_latency_ms": LATEST_MS}


@bentoml.service(workers=GIVEN["workers"], threads=1, traffic={"timeout": 3600})
class BatchService:
    """The whole service."""

    def __init__(self) -> None:
        self._drawer = Drawer(RECIPE)

    @bentoml.api(route=PATH, **BATCH)  # type: ignore[untyped-decorator]
    def generate(self, asks: list[dict[str, Any]]) -> list[dict[str, str]]:
        pngs = self._drawer.draw([ask_of(ask, RECIPE.passes) for ask in asks])
        return [{"b64_json": base64.b64encode(png).decode()} for png in pngs]
