"""FastAPI and one lock: one process, one picture at a time with all threads, first come first
served. Nothing is durable, nothing is shared, nothing can be in its way."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI

from scripts.bench.drawing import Drawer
from scripts.bench.workload import Recipe, ask_of


def create_app(recipe: Recipe) -> FastAPI:
    """The whole service."""
    app, lock, drawer = FastAPI(), asyncio.Lock(), Drawer(recipe)

    @app.get("/health")
    async def health() -> str:
        return "ok"

    @app.post("/v1/images/generations")
    async def generate(request: dict[str, Any]) -> dict[str, Any]:
        async with lock:
            (png,) = await asyncio.to_thread(drawer.draw, [ask_of(request, recipe.passes)])
        return {"data": [{"b64_json": base64.b64encode(png).decode()}]}

    return app


def main() -> None:
    port, recipe = int(sys.argv[1]), Recipe.from_json(json.loads(sys.argv[2]))
    uvicorn.run(create_app(recipe), host="127.0.0.1", port=port, log_level="error")


if __name__ == "__main__":
    main()
