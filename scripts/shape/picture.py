"""Which files one picture passes: an order through the whole pipeline in this process, with every
function call in every thread seen by a profiler."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import httpx

from scripts.shape.source import CORE, ROOT
from tests.page.pipeline import CONFIG, Pipeline

PICTURES = 4
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
    calls, passed = Calls(), []
    with TemporaryDirectory(prefix="meltproof-shape-") as folder, calls.everywhere():
        settings = {**CONFIG, "model": {**CONFIG["model"], "family": family}}
        pipeline = Pipeline(Path(folder), settings)
        try:
            for _ in range(PICTURES):
                calls.files = set()
                asyncio.run(_draw(pipeline.url))
                passed.append(calls.files)
        finally:
            pipeline.close()
    common = set.intersection(*passed)
    return sorted(
        Path(file).relative_to(ROOT).as_posix() for file in common if file.startswith(_HEADS)
    )


async def _draw(url: str) -> None:
    headers = {"authorization": "Bearer sk-local"}
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
        body = {"prompt": "a red fox", "size": "256x256"}
        answer = await client.post("/v1/images/generations", json=body, timeout=60)
        assert answer.raise_for_status().json()["data"][0]["b64_json"]
