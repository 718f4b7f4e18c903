"""Noticing that a client has gone while its answer is made or sent."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from starlette.types import Receive


async def disconnected(receive: Receive) -> None:
    """Returns once the client has gone. The request body must have been read before."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_gone(sending: Coroutine[Any, Any, None], receive: Receive) -> bool:
    """Send beside listening for the client to go: whether all was sent. Raises what `sending`
    does."""
    sends = asyncio.ensure_future(sending)
    gone = asyncio.ensure_future(disconnected(receive))
    try:
        await asyncio.wait({sends, gone}, return_when=asyncio.FIRST_COMPLETED)
        if sends.done():
            sends.result()
            return True
        return False
    finally:
        await cancel(gone)
        await cancel(sends)


async def cancel(task: asyncio.Task[Any]) -> None:
    """Cancel and wait, keeping our own cancellation apart from the task's."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # seen: it was reported where the task was awaited, or no longer matters
