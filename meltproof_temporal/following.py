"""What an activity orders: placed once, followed to its end, withdrawn with the activity."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from temporalio import activity
from temporalio.exceptions import ApplicationError

from meltproof_temporal.endings import unwanted
from meltproof_temporal.heartbeats import Beat, heartbeats
from meltproof_temporal.service import Json

PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0)
"""Between tries of which none brought anything; after them the attempt fails."""
LONGEST_PAUSE_SECONDS = 30.0


class Order(Protocol):
    """Of one attempt of one activity. All raise ApplicationError."""

    async def place(self) -> str:
        """Its id: a new one's, or that of what its Idempotency-Key finds."""

    async def end(self, order_id: str, beat: Beat) -> Json:
        """How it stands at its end."""

    async def withdraw(self, order_id: str) -> None:
        """Nothing waits for it any more."""


async def followed(order: Order, known: str | None) -> Json:
    """How it ended. known: the id, where an earlier attempt told it. Raises ApplicationError."""

    async def placed() -> str:
        return known or await order.place()

    async with heartbeats() as beat:
        placing = asyncio.create_task(placed())
        try:
            # A cancelled request may be accepted all the same: it has to be withdrawn, too.
            return await order.end(await asyncio.shield(placing), beat)
        except asyncio.CancelledError:
            await _cancelled(order, placing)
            raise


async def _cancelled(order: Order, placing: asyncio.Task[str]) -> None:
    """Withdraw it if nothing waits for it any more."""
    if not await unwanted():
        placing.cancel()
        return
    for pause_seconds in (*PAUSES_SECONDS, None):
        try:
            await order.withdraw(await placing)
        except ApplicationError as error:
            if pause_seconds is None or error.non_retryable:
                activity.logger.warning("it was not withdrawn: %s", error)
                return
        else:
            return
        await asyncio.sleep(pause_seconds)
        if placing.exception() is not None:  # an answer that was lost: the key finds it
            placing = asyncio.create_task(order.place())


class Patience:
    """How long an order is followed while the service does not answer."""

    def __init__(self) -> None:
        self._vain = 0

    def heard(self) -> None:
        """There was news."""
        self._vain = 0

    async def pause(self, error: ApplicationError | None = None) -> None:
        """Before the next try. Raises the error when there were too many, or no other will help."""
        if error is not None and (error.non_retryable or self._vain >= len(PAUSES_SECONDS)):
            raise error
        seconds = PAUSES_SECONDS[min(self._vain, len(PAUSES_SECONDS) - 1)]
        if error is not None and error.next_retry_delay is not None:  # it is drawn while we wait
            said = error.next_retry_delay.total_seconds()
            seconds = max(seconds, min(said, LONGEST_PAUSE_SECONDS))
        self._vain += 1
        await asyncio.sleep(seconds)


def known_id(name: str) -> str | None:
    """What an earlier attempt was following, if its heartbeat arrived. name: of the id."""
    details: Any = activity.info().heartbeat_details
    known = details[0] if details else None
    found = known.get(name) if isinstance(known, dict) else None
    return found if isinstance(found, str) else None
