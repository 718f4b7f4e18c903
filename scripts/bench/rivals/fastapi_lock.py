"""FastAPI and one lock: one process, one picture at a time with all threads, first come first
served. Nothing is durable, nothing is shared, nothing can be in its way.

python -m scripts.bench.rivals.fastapi_lock PORT RECIPE_JSON [DEVICES]

With DEVICES there are so many decoders, as of as many GPUs, each behind its lock, with one line
before them; only the passes are behind it, prompts and files are made beside them."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
from fastapi import FastAPI

from engine.registry import create_decoder
from scripts.bench.drawing import Drawer, run_static, spec_of
from scripts.bench.workload import Ask, Recipe, ask_of

Draw = Callable[[Ask], Awaitable[bytes]]


def create_app(recipe: Recipe, draw: Draw) -> FastAPI:
    """The whole service."""
    app = FastAPI()

    @app.get("/health")
    async def health() -> str:
        return "ok"

    @app.post("/v1/images/generations")
    async def generate(request: dict[str, Any]) -> dict[str, Any]:
        png = await draw(ask_of(request, recipe.passes))
        return {"data": [{"b64_json": base64.b64encode(png).decode()}]}

    return app


def under_one_lock(recipe: Recipe) -> Draw:
    """The whole work of a picture."""
    lock, drawer = asyncio.Lock(), Drawer(recipe)

    async def draw(ask: Ask) -> bytes:
        async with lock:
            (png,) = await asyncio.to_thread(drawer.draw, [ask])
        return png

    return draw


def passes_alone(recipe: Recipe, devices: int) -> Draw:
    """Of `devices` decoders whichever is free first."""
    drawer = Drawer(recipe)
    free: asyncio.Queue[Any] = asyncio.Queue()
    for _ in range(devices):
        free.put_nowait(create_decoder(recipe.family, **recipe.decoder_options()))

    async def draw(ask: Ask) -> bytes:
        (conditioning,) = await asyncio.to_thread(drawer.prepare, [ask.prompt])
        spec = spec_of(ask, conditioning, recipe.guidance)
        decoder = await free.get()
        try:
            pixels = await asyncio.to_thread(run_static, decoder, [spec], rows_leave=True)
        finally:
            free.put_nowait(decoder)
        (png,) = await asyncio.to_thread(drawer.finisher.postprocess, pixels)
        return png

    return draw


def main() -> None:
    port, recipe = int(sys.argv[1]), Recipe.from_json(json.loads(sys.argv[2]))
    devices = sys.argv[3:]
    draw = passes_alone(recipe, int(devices[0])) if devices else under_one_lock(recipe)
    uvicorn.run(create_app(recipe, draw), host="127.0.0.1", port=port, log_level="error")


if __name__ == "__main__":
    main()
