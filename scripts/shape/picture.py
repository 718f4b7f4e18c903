"""What of the code a real order passes in this process.

Which files one picture passes: an order through the whole pipeline, with every function call in
every thread seen by a profiler. And how deep the stack is from the order's route to the INSERT of
its job: when SQLite runs that, the frames of the core are counted, those of the ledger's thread,
and those of the request's coroutines, which await it, from the route on.
`python -m scripts.shape.picture` prints these frames.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import dropwhile
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType, CoroutineType, FrameType
from typing import Any

import httpx
from sqlalchemy import Engine, event

from jobs.blobs.store import DirectoryBlobs
from jobs.client.async_ledger import AsyncLedger
from jobs.sql.sql_ledger import SqlLedger
from scripts.shape.source import CORE, ROOT
from scripts.wire import GENERATIONS
from serve_app.config.cluster import parse_cluster_config
from serve_app.gateway import create_app
from tests.page.pipeline import CONFIG, Pipeline

PICTURES, MOST_PICTURES = 8, 120
"""So many that take no file from those that all pass are enough, for what runs now and then beside
them may meet several in a row on a busy machine."""
SETTINGS = {
    **CONFIG,
    "tiers": {"free": {"images_per_day": None}},
    "dispatcher": {"lease_seconds": 3600, "heartbeat_seconds": 600},
}
"""Without heartbeats, which pictures that take long would all meet."""
QUICK_SECONDS = 0.4
"""A picture that takes longer meets what comes every second, and says nothing."""
ROUTES = str(ROOT / "serve_app" / "routes")
KEY = {"authorization": "Bearer sk-local"}
ORDER = {"prompt": "a red fox", "size": "256x256"}
_HEADS = tuple(f"{ROOT / folder}/" for folder in CORE)


class Calls:
    """`files`: those in which a function has been called, of the core or not."""

    def __init__(self) -> None:
        self.files: set[str] = set()

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """What sys.setprofile calls."""
        if event == "call":
            self.files.add(frame.f_code.co_filename)

    @contextmanager
    def everywhere(self) -> Iterator[None]:
        """In this thread and in those that start from now on."""
        threading.setprofile(self)
        sys.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]  # the documented way to end it


def files_of_one_picture(family: str = "paced") -> list[str]:
    """Paths below the root, from the route to stored pixels and the answer: gateway, SQLite ledger,
    dispatcher, decoder, postprocessor. Of several pictures what all of them pass: neither what is
    imported or made for the first, nor what runs now and then beside them. Not seen: Ray's shells
    in deployments/, and the text encoder and the classifier, for which small ones stand in."""
    calls, common, unchanged = Calls(), set[str](), 0
    with TemporaryDirectory(prefix="meltproof-shape-") as folder, calls.everywhere():
        settings = {**SETTINGS, "model": {**CONFIG["model"], "family": family}}
        pipeline = Pipeline(Path(folder), settings)
        try:
            for number in range(MOST_PICTURES):
                calls.files, began = set(), time.monotonic()
                asyncio.run(_draw(pipeline.url))
                before, common = common, common & calls.files if number else calls.files
                quick = time.monotonic() - began < QUICK_SECONDS
                unchanged = unchanged + quick if common == before else 0
                if unchanged == PICTURES:
                    break
        finally:
            pipeline.close()
    return sorted(
        Path(file).relative_to(ROOT).as_posix() for file in common if file.startswith(_HEADS)
    )


async def _draw(url: str) -> None:
    async with httpx.AsyncClient(base_url=url, headers=KEY, trust_env=False) as client:
        answer = await client.post(GENERATIONS, json=ORDER, timeout=60)
        assert answer.raise_for_status().json()["data"][0]["b64_json"]


def order_to_insert() -> list[str]:
    """Own frames from the route of POST /v1/images/generations to the INSERT into `jobs`, outermost
    first."""
    with TemporaryDirectory() as directory:
        return asyncio.run(_order(Path(directory)))


async def _order(directory: Path) -> list[str]:
    ledger = AsyncLedger(SqlLedger(f"sqlite:///{directory}/ledger.db"))
    found: list[str] = []
    headers = {**KEY, "prefer": "respond-async"}
    try:
        app = create_app(ledger, DirectoryBlobs(directory), parse_cluster_config(CONFIG))
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            with _at_insert(found, asyncio.get_running_loop()):
                answer = await client.post(GENERATIONS, json=ORDER, headers=headers)
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
    return [
        f"{Path(code.co_filename).relative_to(ROOT)}:{code.co_qualname}"
        for code in codes
        if code.co_filename.startswith(_HEADS)
    ]


if __name__ == "__main__":
    print(*order_to_insert(), sep="\n")
