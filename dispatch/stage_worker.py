"""A stage's models in a process that can be killed, called from an event loop that stays free."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from dispatch.ports import CallFailed, StageUnavailable
from engine.worker import LIMITS, CallLimits, ItemFailed, Worker, WorkerBroken

T = TypeVar("T")


class StageWorker:
    """One engine.worker.Worker on a thread of its own; calls wait for each other in order, as the
    models use every core that they are given. Raises the errors of dispatch.ports."""

    def __init__(self, threads: ThreadPoolExecutor, worker: Worker) -> None:
        self._threads = threads
        self._worker = worker
        self._broken: WorkerBroken | None = None

    @classmethod
    async def start(
        cls, build: str, arguments: Mapping[str, Any], limits: CallLimits = LIMITS
    ) -> StageWorker:
        """See Worker. WorkerBroken when the models do not load."""
        threads = ThreadPoolExecutor(1, thread_name_prefix="worker")
        work = partial(Worker, build, arguments, limits)
        worker = await asyncio.get_running_loop().run_in_executor(threads, work)
        return cls(threads, worker)

    async def call(self, method: str, *arguments: Any) -> Any:
        """What the method answers. CallFailed, StageUnavailable."""
        return await self._run(partial(self._worker.call, method, *arguments))

    async def call_each(self, method: str, items: Sequence[Any]) -> list[Any]:
        """What the method answers for each item; a CallFailed in the place of those at fault.
        StageUnavailable."""
        answers = await self._run(partial(self._worker.call_each, method, items))
        return [CallFailed(str(a)) if isinstance(a, ItemFailed) else a for a in answers]

    def check(self) -> None:
        """For the replica's health check: WorkerBroken when its process cannot be replaced."""
        if self._broken is not None:
            raise self._broken

    @property
    def pid(self) -> int | None:
        """Of the process, None while there is none."""
        return self._worker.pid

    def close(self) -> None:
        """End the process, after the calls under way."""
        self._threads.submit(self._worker.close).result()
        self._threads.shutdown()

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except ItemFailed as error:
            raise CallFailed(str(error)) from None
        except WorkerBroken as error:
            self._broken = error
            raise StageUnavailable(str(error)) from None
