"""What one dispatcher holds: jobs under lease and their images on the way.

Mutable, with one owner: the dispatcher's event loop. Nothing here does I/O.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from jobs.job import Job, Render, RenderState
from jobs.ledger import Beat, RenderBeat
from jobs.ports import RenderOrder

UNSETTLED = frozenset({RenderState.WAITING, RenderState.RENDERING, RenderState.FINISHING})


def preview_passes(passes: int, wanted: int) -> tuple[int, ...]:
    """Evenly spread pass numbers for `wanted` previews, never the last pass."""
    spread = (round(passes * (i + 1) / (wanted + 1)) for i in range(wanted))
    return tuple(sorted({min(max(number, 1), passes - 1) for number in spread if passes > 1}))


@dataclass(slots=True, eq=False)
class Flight:
    """One image of a held job. `dispatches` makes every trip's render id its own, so that a
    straggling abort of an old trip never meets the new one. `accepted`: this trip has a slot."""

    hold: Hold
    index: int
    state: RenderState
    pass_no: int
    checkpoint: bytes | None
    previews: set[int]
    attempts: int
    dispatches: int = 0
    accepted: bool = False
    task: asyncio.Task[None] | None = None
    screens: set[asyncio.Task[None]] = field(default_factory=set)

    def order(self, screen_after: tuple[int, ...]) -> RenderOrder:
        """The next trip, from the last checkpoint; `screen_after` are passes to look at even
        though nobody asked for a preview."""
        request = self.hold.job.request
        self.dispatches += 1
        looks = {*preview_passes(request.passes, request.partial_images), *screen_after}
        return RenderOrder(
            render_id=f"{self.hold.job.id}/{self.index}/{self.hold.job.fence}.{self.dispatches}",
            conditioning=self.hold.conditioning,
            seed=request.image_seed(self.index),
            passes=request.passes,
            guidance=request.guidance,
            preview_after=tuple(sorted(look for look in looks if look > self.pass_no)),
            checkpoint=self.checkpoint,
        )

    @property
    def flying(self) -> bool:
        """True while this image is ours to go on with."""
        return not self.hold.dropped and self.hold.flights.get(self.index) is self

    def wants_preview(self, pass_no: int) -> bool:
        """True when the user asked for the preview after this pass."""
        request = self.hold.job.request
        return pass_no in preview_passes(request.passes, request.partial_images)

    def stop(self) -> None:
        """Leave the decoder at the next pass boundary; called from outside the flight's tasks."""
        current = asyncio.current_task()
        for task in (self.task, *self.screens):
            if task is not None and task is not current:
                task.cancel()


@dataclass(slots=True, eq=False)
class Hold:
    """One job under lease. `dropped`: the lease is lost or the job has ended; write no more."""

    job: Job
    conditioning: object | None = None
    flights: dict[int, Flight] = field(default_factory=dict)
    dropped: bool = False

    @classmethod
    def of(cls, job: Job) -> Hold:
        """Every image that is not settled becomes a flight, from its checkpoint."""
        hold = cls(job)
        for render in job.renders:
            if render.state in UNSETTLED:
                hold.flights[render.index] = _flight(hold, render)
        return hold

    def beat(self) -> Beat:
        """Where every unsettled image is now."""
        renders = tuple(
            RenderBeat(f.index, f.state, f.pass_no, f.checkpoint, tuple(sorted(f.previews)))
            for f in self.flights.values()
        )
        return Beat(self.job.id, self.job.fence, renders)

    def drop(self) -> None:
        """Stop every flight and never write for this job again."""
        self.dropped = True
        for flight in self.flights.values():
            flight.stop()
        self.flights.clear()


def _flight(hold: Hold, render: Render) -> Flight:
    return Flight(
        hold=hold,
        index=render.index,
        state=render.state,
        pass_no=render.pass_no,
        checkpoint=render.checkpoint,
        previews=set(render.previews),
        attempts=render.attempts,
    )


class Shelf:
    """Encoded, screened images that wait for a slot, in the order they were claimed."""

    def __init__(self) -> None:
        self._ready: deque[Flight] = deque()
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._ready)

    def put(self, flight: Flight, *, first: bool = False) -> None:
        """At the end, or in front when it comes back from a lost or full replica."""
        if first:
            self._ready.appendleft(flight)
        else:
            self._ready.append(flight)
        self._filled.set()

    def take(self) -> Flight | None:
        """The next one whose job is still ours, or None."""
        taken = None
        while self._ready and taken is None:
            flight = self._ready.popleft()
            taken = flight if flight.flying else None
        if not self._ready:
            self._filled.clear()
        return taken

    async def filled(self) -> None:
        """Return once something is here."""
        await self._filled.wait()
