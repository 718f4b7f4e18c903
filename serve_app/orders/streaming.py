"""The event stream of an order: previews and pictures as they come, until the job has ended."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from jobs.blobs.store import BlobMissing
from jobs.job import Job, Render, RenderState
from jobs.request import preview_passes
from serve_app.delivery.pieces import HOLE, Part, filled
from serve_app.delivery.sse import Event, frame
from serve_app.orders.app_state import AppState
from serve_app.orders.pictures import finished, paced, picture_part, preview_part, without
from serve_app.wire import answers
from serve_app.wire.errors import StillQueued
from serve_app.wire.job_problems import job_problem, render_problem

News = tuple[answers.ImageEvent, Sequence[Part]]
"""An event, and the pictures for the holes in it."""


class Progress:
    """What one stream has sent, so that every state is turned into what is new in it. Looks at two
    previews end in any order: one that comes after a clearer one is not sent any more."""

    def __init__(self, state: AppState) -> None:
        self._state = state
        self._newest: dict[int, int] = {}
        self._settled: set[int] = set()
        self._completed = 0
        self.missing: set[int] = set()
        """Images whose picture is not in the store."""

    async def news(self, job: Job) -> AsyncGenerator[News]:
        """Events that this state adds to what was sent before."""
        for render in job.renders:
            if render.index in self._settled:
                continue
            if render.state is not RenderState.BLOCKED:
                async for event in self._partials(job, render):
                    yield event
            if render.state is RenderState.SUCCEEDED and render.blob is not None:
                self._settled.add(render.index)
                try:
                    yield await self._completed_event(job, render)
                except BlobMissing:
                    self.missing.add(render.index)
                    if job.request.n > 1:
                        yield answers.failed_event(job, replace(render, blob=None)), ()
            elif render_problem(render) is not None and job.request.n > 1:
                self._settled.add(render.index)
                yield answers.failed_event(job, render), ()

    async def _partials(self, job: Job, render: Render) -> AsyncGenerator[News]:
        planned = preview_passes(job.request.passes, job.request.partial_images)
        for pass_no in sorted(render.previews):
            if pass_no <= self._newest.get(render.index, 0):
                continue
            self._newest[render.index] = pass_no
            part = await preview_part(self._state, job, render.index, pass_no)
            if part is not None:
                number = sum(one < pass_no for one in planned)
                yield answers.partial_event(job, render.index, number, HOLE), (part,)

    async def _completed_event(self, job: Job, render: Render) -> News:
        part = await picture_part(self._state, render)
        cells = self._state.models.cells(job.request.model)
        used = answers.usage(job, (render.index,), cells)
        if self._completed:  # what came in is counted once, with the first image
            used = answers.without_input(used)
        self._completed += 1
        return answers.completed_event(job, render.index, HOLE, used), (part,)


async def events(state: AppState, job: Job) -> AsyncGenerator[Event]:
    """From any state of the job to its end, or to that of this gateway."""
    progress = Progress(state)
    async with aclosing(state.watch.snapshots(job)) as states:
        async for job in states:
            async with aclosing(progress.news(job)) as news:
                async for event, pictures in news:
                    pieces = paced(
                        state, job.request.tenant, filled(frame(event, event["type"]), pictures)
                    )
                    async with state.large.turn(job.request.tenant, pieces.size):
                        yield pieces
    if not job.ended:  # this gateway leaves, and the answer is still to come
        yield frame(StillQueued().envelope(), "error")
        return
    job = without(job, progress.missing)
    if not finished(job) and (problem := job_problem(job)) is not None:
        yield frame(problem.envelope(), "error")
    await state.watch.answered(job.id)
