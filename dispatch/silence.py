"""A call that is silent for long: is it slow, or is the replica that has it gone, with its machine
or the network to it? Asked, the one answers and the other does not, whatever a call may take."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
SILENT_SECONDS = 2.0
"""After which a replica is asked whether it lives."""
AGAIN_SECONDS = 1.0
"""After which one that did not answer is asked once more."""
UNANSWERED = 2
"""Questions in a row, after which it is given up."""


class ReplicaSilent(Exception):
    """The replica that has the call does not say that it lives."""


async def unless_silent(
    work: Awaitable[T],
    lives: Callable[[], Awaitable[bool]],
    silent_seconds: float = SILENT_SECONDS,
    again_seconds: float = AGAIN_SECONDS,
) -> T:
    """What `work` comes to. lives: asks the replica, waits for its answer as long as is sensible,
    and raises nothing. Raises ReplicaSilent, and what `work` does, which is cancelled with this."""
    task = asyncio.ensure_future(work)
    unanswered, pause = 0, silent_seconds
    try:
        while True:
            if (await asyncio.wait({task}, timeout=pause))[0]:
                return task.result()
            unanswered = 0 if await lives() else unanswered + 1
            pause = again_seconds if unanswered else silent_seconds
            if unanswered == UNANSWERED and not task.done():
                raise ReplicaSilent
    finally:
        task.cancel()
