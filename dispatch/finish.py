"""From pixels to a blob: screen the exact pixels, encode, store.

If a stage is away it raises StageUnavailable and keeps no pixels: the final checkpoint in the
ledger draws them again.
"""

from __future__ import annotations

import asyncio
from contextlib import nullcontext

from dispatch.in_flight import InFlightRender
from dispatch.ports import CallLost, StageUnavailable
from dispatch.settings import Stages
from dispatch.stage_times import Passed
from dispatch.trials import call
from dispatch.verdict_notes import VerdictNotes, screened_picture
from engine.cut_out import looks
from engine.policy import Look, ScreenStage
from engine.render import Pixels
from engine.verdict import Verdict
from jobs.blobs.store import image_key, preview_key
from jobs.job import RenderState
from jobs.lease import Outcome
from jobs.request import ImageRequest

EDITS_AT_ONCE = 4
"""An edit's pixels are as many as were asked for, a hundred times those that were drawn."""


class Finishing:
    """The stages behind the decoders. Edits are blended before they are screened; those that wait
    for their turn are as small as they were drawn."""

    def __init__(self, stages: Stages, limit_seconds: float, notes: VerdictNotes) -> None:
        self._notes = notes
        self._limit_seconds = limit_seconds
        self._classifier = stages.classifier
        self._postprocessor = stages.postprocessor
        self._edits = asyncio.Semaphore(EDITS_AT_ONCE)

    async def finish(self, render: InFlightRender, pixels: Pixels) -> Outcome:
        """What became of an image whose passes are all done. Raises StageUnavailable, CallLost,
        CallFailed, and SourceGone for an edit whose picture is not there any more."""
        job = render.lease.job
        verdict, data = await self._file(render, pixels)
        if data is None:
            return blocked(verdict, ScreenStage.FINAL)
        key = image_key(job.id, render.index, job.fence, job.request.output_format)
        render.passed(Passed.FINISHED)
        await self._put(key, data, durable=True)
        render.passed(Passed.STORED)
        inputs, tokens = render.lease.inputs, render.saved.final_tokens
        said = None if inputs is None else inputs.conditioning.revised_prompt
        return Outcome(
            RenderState.SUCCEEDED,
            blob=key,
            checkpoint=tokens,
            revised_prompt=said,
            redrawn=render.life.redrawn,
        )

    async def preview(self, render: InFlightRender, pass_no: int, pixels: Pixels) -> Verdict:
        """The verdict on a preview, which is in the blob store if that is good and the user asked
        for it. Raises as `finish`."""
        job = render.lease.job
        verdict, data = await self._file(render, pixels, pass_no)
        if data is not None:
            key = preview_key(job.id, render.index, pass_no, job.request.output_format)
            await self._put(key, data, durable=False)
        return verdict

    async def _file(
        self, render: InFlightRender, pixels: Pixels, pass_no: int | None = None
    ) -> tuple[Verdict, bytes | None]:
        """The verdict on the exact pixels, and their file if that is good and it is wanted: it is
        made meanwhile, and goes nowhere before the verdict. pass_no: of a preview."""
        request, limit = render.lease.job.request, self._limit_seconds
        blended = request.source is not None and request.source.canvas is not None
        async with self._edits if blended else nullcontext():
            if blended:
                pixels = await call("blend", self._postprocessor.blend(pixels, request), limit)
            if pass_no is not None and not render.wants_preview(pass_no):
                return await self._screen(render, pixels, pass_no), None
            file = asyncio.create_task(self._encode(pixels, request, pass_no))  # meanwhile
            try:
                verdict = await self._screen(render, pixels, pass_no)
                return verdict, None if verdict.blocked else await file
            finally:
                file.cancel()
                await asyncio.gather(file, return_exceptions=True)

    async def _encode(self, pixels: Pixels, request: ImageRequest, pass_no: int | None) -> bytes:
        preview = pass_no is not None
        encoding = self._postprocessor.encode(pixels, request, preview=preview)
        return await call("postprocessing", encoding, self._limit_seconds)

    async def _screen(self, render: InFlightRender, pixels: Pixels, pass_no: int | None) -> Verdict:
        """Of a picture with alpha all that was drawn, and what is left of it before white."""
        job = render.lease.job
        look, verdicts = _look(job.request, pass_no), list[Verdict]()
        for seen in (pixels,) if pixels.shape[2] == 3 else await asyncio.to_thread(looks, pixels):
            screening = self._classifier.screen_image(seen, look)
            verdict = await call("image screen", screening, self._limit_seconds)
            screened = await screened_picture(look.stage, verdict, seen, pass_no)
            self._notes.add(job, render.index, screened)
            verdicts.append(verdict)
        if pass_no is None:
            render.passed(Passed.SCREENED)
        return next((one for one in verdicts if one.blocked), verdicts[-1])

    async def _put(self, key: str, data: bytes, *, durable: bool) -> None:
        """What is written says nothing about whether it can be: a store that is silent is away."""
        try:
            put = self._postprocessor.put(key, data, durable=durable)
            await call("blob store", put, self._limit_seconds)
        except CallLost as error:
            raise StageUnavailable(str(error)) from None


def _look(request: ImageRequest, pass_no: int | None = None) -> Look:
    """pass_no: of a preview."""
    if pass_no is None:
        return Look(ScreenStage.FINAL, request.tier, request.moderation)
    share = pass_no / request.passes
    return Look(ScreenStage.PREVIEW, request.tier, request.moderation, share)


def blocked(verdict: Verdict, stage: ScreenStage) -> Outcome:
    """The outcome of a bad verdict at that stage."""
    return Outcome(RenderState.BLOCKED, categories=verdict.categories, stage=stage.side)
