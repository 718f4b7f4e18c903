"""Clients of the official library, each of which asks one model for a picture after the other."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from openai import AsyncOpenAI, OpenAIError

from scripts.load import pixels_digest

WAIT_SECONDS = 300.0
USERS = 4
Asked = tuple[str, int]
"""A model, and a seed that nothing else has."""


async def until(met: Callable[[], bool]) -> None:
    """Ask ten times a second, in a thread."""
    while True:
        if await asyncio.to_thread(met):
            return
        await asyncio.sleep(0.1)


@dataclass
class Clients:
    """pictures: sha256 of the pixels of those that came. failed: what the client raised for the
    others."""

    client: AsyncOpenAI
    pictures: dict[Asked, str] = field(default_factory=dict)
    failed: dict[Asked, str] = field(default_factory=dict)
    _seeds: itertools.count[int] = field(default_factory=itertools.count)

    @asynccontextmanager
    async def drawing(self, model: str) -> AsyncIterator[None]:
        """That many of them while the block runs; what they asked for by then is waited for."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as users:
            for _ in range(USERS):
                users.create_task(self._user(model, stop))
            try:
                yield
            finally:
                stop.set()

    async def drawn(self, model: str, count: int) -> None:
        """Until so many more pictures of a model have come, or its requests fail."""
        wanted = count + self._ended(model)
        await until(lambda: self._ended(model) >= wanted)

    async def draw(self, asked: Asked) -> str:
        """The digest of one picture's pixels. OpenAIError."""
        model, seed = asked
        answer = await self.client.images.generate(
            model=model, prompt=f"a red fox {seed}", size="128x128", extra_body={"seed": seed}
        )
        picture = answer.data[0].b64_json if answer.data else None
        return pixels_digest(picture or "")

    async def _user(self, model: str, stop: asyncio.Event) -> None:
        while not stop.is_set():
            asked = (model, next(self._seeds))
            try:
                self.pictures[asked] = await self.draw(asked)
            except OpenAIError as error:
                self.failed[asked] = repr(error)
                await asyncio.sleep(1.0)

    def _ended(self, model: str) -> int:
        return sum(name == model for name, _ in (*self.pictures, *self.failed))
