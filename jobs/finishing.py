"""From pixels to a settled image: screen the exact pixels, encode, store, settle under the fence.

Owns no state. If a stage is away it raises StageUnavailable and keeps no pixels: the final
checkpoint in the ledger draws them again.
"""

from __future__ import annotations

import asyncio

from jobs.blobs import image_key, preview_key
from jobs.flight import Flight
from jobs.group_commit import AsyncLedger
from jobs.job import RenderState
from jobs.ledger import LeaseLost, LedgerUnavailable, Outcome
from jobs.ports import Classifier, Press, Screening

RETRY_FIRST_SECONDS = 0.2
RETRY_LAST_SECONDS = 2.0


async def finish(flight: Flight, pixels: object, classifier: Classifier, press: Press) -> Outcome:
    """What became of an image whose passes are all done. Raises StageUnavailable."""
    request = flight.hold.job.request
    verdict = await classifier.screen_image(pixels, request.moderation)
    if verdict.blocked:
        return blocked(verdict, "output")
    data = await press.encode(pixels, request)
    key = image_key(flight.hold.job.id, flight.index, flight.hold.job.fence, request.output_format)
    await press.put(key, data, durable=True)
    return Outcome(RenderState.SUCCEEDED, blob=key, checkpoint=flight.checkpoint)


async def store_preview(flight: Flight, pass_no: int, pixels: object, press: Press) -> None:
    """Keep a screened preview for whoever watches. Raises StageUnavailable."""
    request = flight.hold.job.request
    data = await press.encode(pixels, request)
    key = preview_key(flight.hold.job.id, flight.index, pass_no, request.output_format)
    await press.put(key, data, durable=False)
    flight.previews.add(pass_no)


def blocked(verdict: Screening, stage: str) -> Outcome:
    """The outcome of a bad verdict at `stage`, input or output."""
    return Outcome(RenderState.BLOCKED, categories=verdict.categories, stage=stage)


async def settle(
    ledger: AsyncLedger, flight: Flight, outcome: Outcome, lease_seconds: float
) -> None:
    """Write the outcome, however long the ledger is away; nothing once the job was dropped.
    Raises LeaseLost when it is not ours."""
    pause = RETRY_FIRST_SECONDS
    while not flight.hold.dropped:
        try:
            if flight.previews > flight.told:  # since the last heartbeat; a settled image has none
                await ledger.renew([flight.hold.beat_of([flight])], lease_seconds)
            await _write(ledger, flight, outcome)
        except LedgerUnavailable:
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_LAST_SECONDS)
        else:
            return


async def _write(ledger: AsyncLedger, flight: Flight, outcome: Outcome) -> None:
    """An earlier try may have come through although its answer was lost: that is no lost lease."""
    job = flight.hold.job
    try:
        await ledger.finish_render(job.id, job.fence, flight.index, outcome)
    except LeaseLost:
        stored = await ledger.get(job.id)
        if stored is None or stored.fence != job.fence:
            raise
        render = stored.renders[flight.index]
        if (render.state, render.blob) != (outcome.state, outcome.blob):
            raise
