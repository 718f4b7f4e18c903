"""What one dispatcher holds: jobs under lease and their images on the way.

Mutable, with one owner: the dispatcher's event loop. Nothing here does I/O.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from engine.render import Conditioning, RenderSpec, Source
from jobs.job import SETTLED, Job, Render, RenderState
from jobs.ledger import Beat, RenderBeat
from jobs.policy.attempts import is_suspect
from jobs.request import preview_passes


@dataclass(slots=True, eq=False)
class Flight:
    """One image of a held job. While it flies it is on the shelf, or `task` moves it on.

    furthest: most passes ever done; new ground wipes out earlier `attempts`. accepted, moved: this
    trip has a slot, and has done a pass. seat: the id under which it has one. replica_id: where the
    trip goes. called_back: from a replica at which it waits, since there is a slot elsewhere.
    wanting_since: when it began to wait for one, on the shelf or at a replica; None: it does not.
    others: calls that decoders had taken in at the last of those.
    finishing: its pixels are on their way to the store. suspect: a stage was lost with it, so it is
    tried alone; see trials.py. unheard: trips in a row that were lost before a decoder took it in,
    though it took in others.
    cost_seconds: GPU-seconds of all its passes, once they are known. told: previews that the
    ledger knows of. screens: previews being looked at.
    """

    hold: Hold
    index: int
    state: RenderState
    pass_no: int
    checkpoint: bytes | None
    previews: set[int]
    attempts: int
    furthest: int = 0
    dispatches: int = 0
    accepted: bool = False
    moved: bool = False
    finishing: bool = False
    suspect: bool = False
    unheard: int = 0
    others: int = 0
    seat: str | None = None
    replica_id: str | None = None
    called_back: bool = False
    wanting_since: float | None = None
    cost_seconds: float = 0.0
    told: set[int] = field(default_factory=set)
    task: asyncio.Task[None] | None = None
    screens: set[asyncio.Task[None]] = field(default_factory=set)

    def order(self, screen_after: tuple[int, ...]) -> RenderSpec:
        """The next trip, from the last checkpoint; `screen_after` are passes to look at even
        though nobody asked for a preview.

        The id carries the fence and the number of the trip: neither an orphan that an earlier
        holder left in a decoder nor a late abort of an earlier trip ever meets this one.
        """
        request, conditioning = self.hold.job.request, self.hold.conditioning
        if conditioning is None:
            raise RuntimeError(f"job {self.hold.job.id} is not prepared")
        self.dispatches += 1
        looks = {*preview_passes(request.passes, request.partial_images), *screen_after}
        return RenderSpec(
            render_id=f"{self.hold.job.id}/{self.index}/{self.hold.job.fence}.{self.dispatches}",
            conditioning=conditioning,
            seed=request.image_seed(self.index),
            passes=request.passes,
            guidance=request.guidance,
            preview_after=tuple(sorted(look for look in looks if look > self.pass_no)),
            checkpoint=self.checkpoint,
            source=self.hold.source,
            alone=self.suspect,
        )

    @property
    def flying(self) -> bool:
        """True while this image is ours to go on with."""
        return not self.hold.dropped and self.hold.flights.get(self.index) is self

    def wants_preview(self, pass_no: int) -> bool:
        """True when the user asked for the preview after this pass."""
        request = self.hold.job.request
        return pass_no in preview_passes(request.passes, request.partial_images)

    @property
    def waits_at(self) -> tuple[str, float] | None:
        """The replica at which it waits for a slot, and since when."""
        if self.replica_id is None or self.wanting_since is None:
            return None
        return self.replica_id, self.wanting_since

    def beat(self) -> RenderBeat:
        """Where this image is now."""
        previews = tuple(sorted(self.previews))
        return RenderBeat(self.index, self.state, self.pass_no, self.checkpoint, previews)

    def stop(self) -> None:
        """End whatever moves this image on, except for the task that says so; a decoder that
        draws it is left at the next pass boundary."""
        current = asyncio.current_task()
        tasks = [task for task in (self.task, *self.screens) if task not in (None, current)]
        self.task = None
        for task in tasks:
            if task is not None:
                task.cancel()


@dataclass(slots=True, eq=False)
class Hold:
    """One job under lease. `settling`: images whose end is being written; `preparing` encodes and
    screens the prompt. `waiting_since`: no stage has done with it in time, so it takes no room from
    others; `tries`: how often one has not. `suspect`: as of a flight, while its prompt is prepared.
    `leaving`: on its way back to the queue, as soon as its images have left their slots. `dropped`:
    the lease is lost or given back; write no more."""

    job: Job
    conditioning: Conditioning | None = None
    source: Source | None = None
    flights: dict[int, Flight] = field(default_factory=dict)
    settling: set[Flight] = field(default_factory=set)
    preparing: asyncio.Task[None] | None = None
    waiting_since: float | None = None
    tries: int = 0
    suspect: bool = False
    leaving: bool = False
    dropped: bool = False

    @classmethod
    def of(cls, job: Job) -> Hold:
        """Every image that is not settled becomes a flight, from its checkpoint."""
        hold = cls(job, suspect=is_suspect(job))
        for render in job.renders:
            if render.state not in SETTLED:
                hold.flights[render.index] = _flight(hold, render)
        return hold

    @property
    def done(self) -> bool:
        """Nothing is left to draw or to write."""
        return not (self.flights or self.settling)

    def waits_but_for(self, flight: Flight) -> bool:
        """Whether no other image is in a decoder, or on its way from there."""
        others = (other for other in self.flights.values() if other is not flight)
        return not any(other.seat is not None or other.finishing for other in others)

    @property
    def furthest_share(self) -> float:
        """Share of the passes that its furthest image has done."""
        passes = self.job.request.passes
        return max((flight.pass_no for flight in self.flights.values()), default=0) / passes

    def beat(self) -> Beat:
        """Where every image is that has not met its end."""
        return self.beat_of(self.flights.values())

    def beat_of(self, flights: Iterable[Flight]) -> Beat:
        """Where some of the images are."""
        return Beat(self.job.id, self.job.fence, tuple(flight.beat() for flight in flights))

    def drop(self) -> None:
        """Stop every flight and never write for this job again."""
        self.dropped = True
        if self.preparing is not None and self.preparing is not asyncio.current_task():
            self.preparing.cancel()
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
        furthest=render.pass_no,
        told=set(render.previews),
    )


class Shelf:
    """Encoded, screened images that wait for a slot, in the order they were claimed."""

    def __init__(self) -> None:
        self._ready: deque[Flight] = deque()
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        """Without those of jobs that take no room."""
        return sum(flight.hold.waiting_since is None for flight in self._ready)

    def put(self, flight: Flight, *, first: bool = False) -> None:
        """At the end, or in front when it comes back from a lost or full replica."""
        if flight.wanting_since is None:
            flight.wanting_since = time.monotonic()
        if first:
            self._ready.appendleft(flight)
        else:
            self._ready.append(flight)
        self._filled.set()

    def take(self) -> Flight | None:
        """The next one, or None."""
        self.sweep()
        flight = self._ready.popleft() if self._ready else None
        self.sweep()
        return flight

    def sweep(self) -> None:
        """Forget those that are not ours any more: nobody may ever come to take them."""
        ours = (flight for flight in self._ready if flight.flying)
        self._ready = deque(flight for flight in ours if not flight.hold.leaving)
        if not self._ready:
            self._filled.clear()

    async def filled(self) -> None:
        """Return once something is here."""
        await self._filled.wait()
