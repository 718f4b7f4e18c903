"""How deep the stack is from an order's route to the INSERT of its job: `python -m
scripts.shape.frames` prints its frames.

A real order goes through a gateway in this process. When SQLite runs the INSERT into `jobs`, the
frames of the repository's packages are counted: those of the ledger's thread, and those of the
request's coroutines, which await it, from the route on.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import dropwhile
from pathlib import Path
from types import CodeType, CoroutineType, FrameType
from typing import Any

import httpx
from sqlalchemy import Engine, event

from jobs.blobs.store import DirectoryBlobs
from jobs.client.async_ledger import AsyncLedger
from jobs.sql.sql_ledger import SqlLedger
from serve_app.config.cluster import parse_cluster_config
from serve_app.gateway import create_app

ROOT = Path(__file__).parents[2]
PACKAGES = {"serve_app", "deployments", "dispatch", "autoscaling", "engine", "jobs"}
ROUTES = str(ROOT / "serve_app" / "routes")
CONFIG = {
    "model": {"name": "m", "family": "paced"},
    "tiers": {"free": {}},
    "keys": [{"key": "sk-shape", "tenant": "shape"}],
}
HEADERS = {"authorization": "Bearer sk-shape", "prefer": "respond-async"}
ORDER = {"model": "m", "prompt": "a lighthouse"}


def frames_order_to_insert() -> int:
    """Own frames from the route of POST /v1/images/generations to the INSERT into `jobs`."""
    return len(order_to_insert())


def order_to_insert() -> list[str]:
    """Those frames, outermost first."""
    with tempfile.TemporaryDirectory() as directory:
        return asyncio.run(_order(Path(directory)))


async def _order(directory: Path) -> list[str]:
    ledger = AsyncLedger(SqlLedger(f"sqlite:///{directory}/ledger.db"))
    found: list[str] = []
    try:
        app = create_app(ledger, DirectoryBlobs(directory), parse_cluster_config(CONFIG))
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            with _at_insert(found, asyncio.get_running_loop()):
                answer = await client.post("/v1/images/generations", json=ORDER, headers=HEADERS)
            assert answer.status_code == 202, answer.text
    finally:
        await asyncio.to_thread(ledger.close)
    return found


@contextmanager
def _at_insert(found: list[str], loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Fills in the frames at the first INSERT into `jobs`."""

    def look(statement: str) -> None:
        if not found and statement.lower().startswith("insert into jobs"):
            found.extend(_awaiting(asyncio.all_tasks(loop)) + _calling())

    def trace(connection: sqlite3.Connection, _record: object, _proxy: object) -> None:
        connection.set_trace_callback(look)

    event.listen(Engine, "checkout", trace)
    try:
        yield
    finally:
        event.remove(Engine, "checkout", trace)


def _calling() -> list[str]:
    """Of this thread."""
    frame: FrameType | None = sys._getframe()
    codes = []
    while frame is not None:
        codes.append(frame.f_code)
        frame = frame.f_back
    return _ours(reversed(codes))


def _awaiting(tasks: Iterable[asyncio.Task[Any]]) -> list[str]:
    """Of the task that runs the route: from there on each coroutine that awaits the next."""
    for task in tasks:
        codes, awaited = [], task.get_coro()
        while isinstance(awaited, CoroutineType):
            codes.append(awaited.cr_code)
            awaited = awaited.cr_await
        routed = list(dropwhile(lambda code: not code.co_filename.startswith(ROUTES), codes))
        if routed:
            return _ours(routed)
    raise AssertionError("no task runs a route")


def _ours(codes: Iterable[CodeType]) -> list[str]:
    found = []
    for code in codes:
        path = Path(code.co_filename)
        if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in PACKAGES:
            found.append(f"{path.relative_to(ROOT)}:{code.co_qualname}")
    return found


if __name__ == "__main__":
    print(*order_to_insert(), sep="\n")
