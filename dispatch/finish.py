"""From pixels to a settled image: screen the exact pixels, encode, store, settle under the fence.

If a stage is away it raises StageUnavailable and keeps no pixels: the final checkpoint in the
ledger draws them again.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace

from dispatch.in_flight import Flight
from dispatch.ports import CallLost, Classifier, Postprocessor, StageUnavailable
from dispatch.trials import call
from engine.render import Pixels
from engine.verdict import Verdict
from jobs.blobs.store import image_key, preview_key
from jobs.client.async_ledger import AsyncLedger
from jobs.job import RenderState
from jobs.ledger import LeaseLost, LedgerUnavailable, Outcome
from jobs.request import ImageRequest

RETRY_FIRST_SECONDS = 0.2
RETRY_LAST_SECONDS = 2.0
EDITS_AT_ONCE = 4
"""An edit's pixels are as many as were asked for, a hundred times those that were drawn."""


class Finishing:
    """The stages behind the decoders. Edits are blended before anybody looks at them; those that
    wait for their turn are as small as they were drawn."""

    def __init__(
        self, classifier: Classifier, postprocessor: Postprocessor, limit_seconds: float
    ) -> None:
        self._limit_seconds = limit_seconds
        self._classifier = classifier
        self._postprocessor = postprocessor
        self._edits = asyncio.Semaphore(EDITS_AT_ONCE)

    async def finish(self, flight: Flight, pixels: Pixels) -> Outcome:
        """What became of an image whose passes are all done. Raises StageUnavailable, CallLost,
        CallFailed, and SourceGone for an edit whose picture is not there any more."""
        job = flight.hold.job
        request = job.request
        async with self._room(request):
            pixels = await self._exact(pixels, request)
            verdict = await self._screened(pixels, request)
            if verdict.blocked:
                return blocked(verdict, "output")
            data = await self._encoded(pixels, request)
        key = image_key(job.id, flight.index, job.fence, request.output_format)
        await self._put(key, data, durable=True)
        return Outcome(RenderState.SUCCEEDED, blob=key, checkpoint=flight.checkpoint)

    async def preview(self, flight: Flight, pass_no: int, pixels: Pixels) -> Verdict:
        """The verdict on a preview, which is kept for whoever watches if that is good and the user
        asked for it. Raises as `finish`."""
        job = flight.hold.job
        request = job.request
        async with self._room(request):
            pixels = await self._exact(pixels, request)
            verdict = await self._screened(pixels, request)
            if verdict.blocked or not flight.wants_preview(pass_no):
                return verdict
            data = await self._encoded(pixels, request)
        key = preview_key(job.id, flight.index, pass_no, request.output_format)
        await self._put(key, data, durable=False)
        flight.previews.add(pass_no)
        return verdict

    def _room(self, request: ImageRequest) -> AbstractAsyncContextManager[object]:
        return nullcontext() if request.source is None else self._edits

    async def _exact(self, pixels: Pixels, request: ImageRequest) -> Pixels:
        """Those that somebody may see."""
        if request.source is None:
            return pixels
        return await call("blend", self._postprocessor.blend(pixels, request), self._limit_seconds)

    async def _screened(self, pixels: Pixels, request: ImageRequest) -> Verdict:
        screening = self._classifier.screen_image(pixels, request.moderation)
        return await call("image screen", screening, self._limit_seconds)

    async def _encoded(self, pixels: Pixels, request: ImageRequest) -> bytes:
        return await call(
            "postprocessing", self._postprocessor.encode(pixels, request), self._limit_seconds
        )

    async def _put(self, key: str, data: bytes, *, durable: bool) -> None:
        """What is written says nothing about whether it can be: a store that is silent is away."""
        try:
            put = self._postprocessor.put(key, data, durable=durable)
            await call("blob store", put, self._limit_seconds)
        except CallLost as error:
            raise StageUnavailable(str(error)) from None


def blocked(verdict: Verdict, stage: str) -> Outcome:
    """The outcome of a bad verdict at `stage`, input or output."""
    return Outcome(RenderState.BLOCKED, categories=verdict.categories, stage=stage)


async def settle(
    ledger: AsyncLedger, flight: Flight, outcome: Outcome, lease_seconds: float
) -> None:
    """Write the outcome, however long the ledger is away; nothing once the job was dropped.
    Raises LeaseLost when it is not ours."""
    pause = RETRY_FIRST_SECONDS
    if outcome.state is RenderState.FAILED:  # its tries may have been shorter than a heartbeat
        outcome = replace(outcome, pass_no=flight.furthest, attempts=flight.attempts)
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
