"""Calls of a stage's worker that wait for it go through its models together."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from dispatch.stage_worker import StageWorker


class Batching:
    """method: of one list, which answers a list of the same length. most: items of one call.
    wait_seconds: how long a first call waits for others; then it goes through, and those that come
    meanwhile are the next batch."""

    def __init__(
        self, worker: StageWorker, method: str, most: int, wait_seconds: float = 0.0
    ) -> None:
        self._worker, self._method, self._most = worker, method, most
        self._wait_seconds = wait_seconds
        self._waiting: deque[tuple[Any, asyncio.Future[Any]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def call(self, item: Any) -> Any:
        """The answer for this item. CallFailed when it is at fault, StageUnavailable."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain())
        return await answer

    async def _drain(self) -> None:
        if self._wait_seconds and len(self._waiting) < self._most:
            await asyncio.sleep(self._wait_seconds)
        while self._waiting:
            some = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
            answers: list[Any]
            try:
                answers = await self._worker.call_each(self._method, [item for item, _ in some])
            except Exception as error:  # noqa: BLE001  # all calls of the batch raise it
                answers = [error] * len(some)
            for (_, waits), answer in zip(some, answers, strict=True):
                if waits.done():  # its caller went away
                    continue
                if isinstance(answer, Exception):
                    waits.set_exception(answer)
                else:
                    waits.set_result(answer)
