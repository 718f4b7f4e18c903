"""A plain Ray Serve deployment with @serve.batch: each replica draws one static batch at a time.

Without `from __future__ import annotations`, because Ray reads annotations at run time.
"""

import asyncio
import base64
from typing import Any

from ray import serve
from ray.serve import Application
from starlette.requests import Request

from deployments import loopback
from scripts.bench.drawing import Drawer
from scripts.bench.workload import Ask, Recipe, ask_of

WAIT_SECONDS = 0.05

loopback.install()


class BatchReplica:
    """recipe: how the replica draws; its batch is the largest that it collects, for so long."""

    async def __init__(self, recipe: dict[str, Any], wait_seconds: float) -> None:
        self._recipe = Recipe.from_json(recipe)
        self._drawer = await asyncio.to_thread(Drawer, self._recipe)
        self._draw.set_max_batch_size(self._recipe.batch)
        self._draw.set_batch_wait_timeout_s(wait_seconds)

    async def __call__(self, request: Request) -> dict[str, Any]:
        png = await self._draw(ask_of(await request.json(), self._recipe.passes))
        return {"data": [{"b64_json": base64.b64encode(png).decode()}]}

    @serve.batch
    async def _draw(self, asks: list[Ask]) -> list[bytes]:
        return await asyncio.to_thread(self._drawer.draw, asks)


def build(args: dict[str, Any]) -> Application:
    """args: recipe, replicas and, if wished, wait_seconds."""
    recipe, replicas = args["recipe"], int(args["replicas"])
    deployment = serve.deployment(BatchReplica, name="Batch").options(
        num_replicas=replicas,
        max_ongoing_requests=2 * int(recipe["batch"]),
        ray_actor_options={"num_cpus": 0.5},
    )
    return deployment.bind(recipe, float(args.get("wait_seconds", WAIT_SECONDS)))
