"""Heartbeats of a running activity: at once when there is news, and again while there is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from temporalio import activity

from meltproof_temporal.orders import BatchProgress, Progress

EVERY_SECONDS = 10.0
"""Where the workflow set no heartbeat timeout."""
Beat = Callable[[Progress | BatchProgress], None]


@asynccontextmanager
async def heartbeats() -> AsyncIterator[Beat]:
    """Beats three times in a heartbeat timeout as long as it is open. Temporal sends them no more
    often than it needs to, and a cancellation comes back with one."""
    newest: list[Any] = list(activity.info().heartbeat_details)  # those of the attempt before
    limit = activity.info().heartbeat_timeout
    every_seconds = limit.total_seconds() / 3 if limit else EVERY_SECONDS

    def beat(progress: Progress | BatchProgress) -> None:
        newest[:] = [progress]
        activity.heartbeat(progress)

    async def again() -> None:
        while True:
            await asyncio.sleep(every_seconds)
            activity.heartbeat(*newest)

    beating = asyncio.create_task(again())
    try:
        yield beat
    finally:
        beating.cancel()
        with suppress(asyncio.CancelledError):
            await beating
