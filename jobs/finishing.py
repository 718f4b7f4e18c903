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
from jobs.ledger import LedgerUnavailable, Outcome
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
    return Outcome(RenderState.SUCCEEDED, blob=key)


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


async def settle(ledger: AsyncLedger, flight: Flight, outcome: Outcome) -> None:
    """Write the outcome, however long the ledger is away. Raises LeaseLost when it is not ours."""
    pause = RETRY_FIRST_SECONDS
    while True:
        try:
            await ledger.finish_render(
                flight.hold.job.id, flight.hold.job.fence, flight.index, outcome
            )
            return
        except LedgerUnavailable:
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_LAST_SECONDS)
