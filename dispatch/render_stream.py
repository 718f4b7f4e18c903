"""One dispatch of an image to a decoder: the stream of its updates, from its last checkpoint to its
pixels. Reports them to the in-flight render; owns no slot and settles nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

from dispatch.in_flight import InFlightRender, State
from dispatch.ports import Slot, StageUnavailable, leaving_is_away
from dispatch.settings import DispatchSettings
from engine.decoder import OtherEncoder, RenderRejected
from engine.render import Pixels, RenderUpdate

Show = Callable[[InFlightRender, int, Pixels], None]


class RenderFailed(Exception):
    """The decoder reported that a pass of this image failed."""


class RenderLeft(Exception):
    """The image left its slot at a pass boundary, as its decoder was asked to let it. One that left
    unasked is as one that found no slot, with another checkpoint."""


async def stream_render(
    render: InFlightRender, slot: Slot, settings: DispatchSettings, show: Show
) -> RenderUpdate | None:
    """The update with its pixels; None when the replica had no slot after all, or no memory for it,
    or it was recalled or stopped. `show` gets every preview and must return at once. Raises
    StageUnavailable, RenderFailed, RenderRejected, RenderLeft, OtherEncoder."""
    spec = render.dispatch(slot.replica_id, settings.screen_at, settings.can)
    render.life.sent_to(slot.replica_id, slot.node)
    try:
        with leaving_is_away():
            async with aclosing(slot.render(spec)) as updates:
                async for update in updates:
                    if not render.mine:
                        return None
                    if update.unread is not None:
                        raise OtherEncoder(update.unread)
                    if update.kind == "full":
                        return None
                    _report(render, update, show)
                    if update.pixels is not None:
                        return update
                    if update.kind == "left":
                        return None
    except asyncio.CancelledError:
        if render.state is not State.RECALLED:
            raise
        return None
    raise StageUnavailable("the stream ended before the picture was done")


def _report(render: InFlightRender, update: RenderUpdate, show: Show) -> None:
    if update.kind == "failed":
        reason = update.error or "the decoder gave no reason"
        raise RenderRejected(reason) if update.rejected else RenderFailed(f"decoder: {reason}")
    render.update(update)
    if update.preview is not None:
        show(render, update.pass_no, update.preview)
    if render.state is State.PREEMPTED:
        raise RenderLeft
