"""One trip of an image through a decoder, from its last checkpoint to its pixels, or to the reason
why there are none. Keeps the flight up to date on the way; owns no slot and settles nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

from dispatch.in_flight import Flight
from dispatch.ports import Slot, StageUnavailable, leaving_is_away
from engine.decoder import RenderRejected
from engine.render import Pixels, RenderSpec, RenderUpdate
from jobs.job import RenderState

Show = Callable[[Flight, int, Pixels], None]


class RenderFailed(Exception):
    """The decoder reported that a pass of this image failed."""


class RenderLeft(Exception):
    """The image left its slot at a pass boundary, as its decoder was asked to let it."""


async def take_trip(
    flight: Flight, slot: Slot, screen_at: tuple[float, ...], show: Show
) -> Pixels | None:
    """The pixels; None when the replica had no slot after all, or it was called back. `show` gets
    every preview and must return at once. Raises StageUnavailable, RenderFailed, RenderRejected,
    RenderLeft."""
    flight.accepted = flight.moved = flight.called_back = False
    flight.replica_id = slot.replica_id
    order = _order(flight, screen_at)
    try:
        return await _travel(flight, slot, order, show)
    except asyncio.CancelledError:
        if not flight.called_back:
            raise
        return None
    finally:
        flight.seat = flight.replica_id = None


async def _travel(flight: Flight, slot: Slot, order: RenderSpec, show: Show) -> Pixels | None:
    with leaving_is_away():
        async with aclosing(slot.render(order)) as updates:
            async for update in updates:
                if update.kind == "full":
                    return None
                if update.kind == "failed":
                    reason = update.error or "the decoder gave no reason"
                    raise RenderRejected(reason) if update.rejected else RenderFailed(reason)
                flight.seat, flight.wanting_since = order.render_id, None
                _note(flight, update)
                if update.preview is not None:
                    show(flight, update.pass_no, update.preview)
                if update.kind == "left":
                    raise RenderLeft
                if update.pixels is not None:
                    flight.cost_seconds = update.cost_seconds
                    return update.pixels
    raise StageUnavailable("the stream ended before the picture was done")


def _order(flight: Flight, screen_at: tuple[float, ...]) -> RenderSpec:
    passes = flight.hold.job.request.passes
    looks = {round(passes * fraction) for fraction in screen_at}
    return flight.order(tuple(look for look in looks if 0 < look < passes))


def _note(flight: Flight, update: RenderUpdate) -> None:
    """Where the image is now."""
    flight.pass_no = update.pass_no
    all_done = update.pass_no >= flight.hold.job.request.passes
    flight.state = RenderState.FINISHING if all_done else RenderState.RENDERING
    if update.kind == "accepted":
        flight.accepted, flight.unheard = True, 0
    elif update.kind in ("pass", "left"):
        flight.moved = True
        flight.checkpoint = update.checkpoint
        if update.pass_no > flight.furthest:
            flight.furthest = update.pass_no
            flight.attempts = 0
            flight.suspect = False
