"""What one dispatcher has in flight: jobs under lease and their images, each in one state.

Only this file writes the fields of Lease and InFlightRender; other files report events. One that
this table does not allow raises IllegalTransition and changes nothing. Owned by the dispatcher's
event loop; no I/O.

| event                | from                                                  | to         |
| -------------------- | ----------------------------------------------------- | ---------- |
| queue                | preparing, dispatched to rendering, finishing, paused | ready      |
| dispatch             | ready                                                 | dispatched |
| recall               | dispatched                                            | recalled   |
| update accepted      | dispatched, recalled                                  | accepted   |
| update pass          | accepted, rendering                                   | rendering  |
| update left, unasked | accepted, rendering                                   | rendering  |
| update done          | accepted, rendering                                   | finishing  |
| pause                | dispatched to rendering, finishing                    | paused     |
| preempt, update left | preparing to rendering, paused                        | preempted  |
| settle               | preparing to preempted                                | settling   |
| record               | settling                                              | settled    |
| drop                 | preparing to settling                                 | dropped    |
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from dispatch.decoder_inputs import DecoderInputs, looks_at
from dispatch.render_life import RenderLife
from dispatch.saved import Saved
from dispatch.stage_times import Passed, StageTimes
from dispatch.trials import Losses
from engine.capabilities import Capabilities
from engine.render import RenderSpec, RenderUpdate, UpdateKind
from jobs.job import IllegalTransition, Job, Render, RenderState
from jobs.lease import Beat, RenderBeat
from jobs.policy.settling import is_suspect
from jobs.request import preview_passes


class State(StrEnum):
    """Where an image stands in this dispatcher; what the ledger says of it is a RenderState."""

    PREPARING = "preparing"  # its prompt is being encoded and screened
    READY = "ready"  # in the ready queue
    DISPATCHED = "dispatched"  # sent to a replica that has not accepted it yet
    RECALLED = "recalled"  # called back from that replica, since another one has a free slot
    ACCEPTED = "accepted"  # in a slot; no pass is done there
    RENDERING = "rendering"  # in a slot; a pass is done there
    FINISHING = "finishing"  # its pixels are screened, encoded and stored
    PAUSED = "paused"  # backs off before it is ready again
    PREEMPTED = "preempted"  # out of its slot, until its job is released
    SETTLING = "settling"  # its outcome is being written
    SETTLED = "settled"  # its outcome is in the ledger
    DROPPED = "dropped"  # the lease is lost or released: nothing more is written


Moved = Callable[["InFlightRender", State], None]
_tell: Moved = lambda *_: None  # noqa: E731
IN_SLOT = frozenset({State.ACCEPTED, State.RENDERING})
_IN_STREAM = IN_SLOT | {State.DISPATCHED, State.RECALLED}
ENDED = frozenset({State.SETTLED, State.DROPPED})
LIVE = frozenset(State) - ENDED - {State.SETTLING}

TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.READY: _IN_STREAM | {State.PREPARING, State.FINISHING, State.PAUSED},
    State.DISPATCHED: frozenset({State.READY}),
    State.RECALLED: frozenset({State.DISPATCHED}),
    State.ACCEPTED: frozenset({State.DISPATCHED, State.RECALLED}),
    State.RENDERING: IN_SLOT,
    State.FINISHING: IN_SLOT,
    State.PAUSED: _IN_STREAM | {State.FINISHING},
    State.PREEMPTED: LIVE - {State.FINISHING, State.PREEMPTED},
    State.SETTLING: LIVE,
    State.SETTLED: frozenset({State.SETTLING}),
    State.DROPPED: LIVE | {State.SETTLING},
}
"""For each state, those from which it is entered."""
_UPDATES = {
    UpdateKind.ACCEPTED: State.ACCEPTED,
    UpdateKind.PASS: State.RENDERING,
    UpdateKind.LEFT: State.PREEMPTED,
    UpdateKind.DONE: State.FINISHING,
}


@dataclass(slots=True, eq=False)
class InFlightRender:
    """One image of a leased job."""

    lease: Lease
    progress: RenderBeat
    """What the next heartbeat writes, beside what is saved."""
    saved: Saved
    recorded: frozenset[int]
    """Previews that the ledger knows of."""
    attempts: int
    """Failures in a row without progress."""
    furthest: int
    """Most passes ever done: more than `progress` after a restart from an unusable checkpoint."""
    times: StageTimes
    life: RenderLife
    state: State = State.PREPARING
    losses: Losses = field(default_factory=Losses)
    dispatches: int = 0
    gained: bool = False
    """The last dispatch has brought a checkpoint."""
    replica_id: str = ""
    """Of the last dispatch."""
    unslotted_since: float | None = None
    """Since when it has been ready without finding a slot; monotonic."""
    task: asyncio.Task[None] | None = None
    """What moves it on, from its dispatch to its outcome."""
    screenings: set[asyncio.Task[None]] = field(default_factory=set)
    """Of its previews."""
    judged: bool = False
    """The final picture has its verdict, which no preview's changes."""

    @classmethod
    def of(cls, lease: Lease, render: Render) -> InFlightRender:
        """From the checkpoint in the ledger."""
        progress = RenderBeat(render.index, render.state, render.pass_no, None, render.previews)
        saved, recorded = Saved.of(render), frozenset(render.previews)
        times = StageTimes.of(lease.job, lease.clock(), render.attempts)
        life = RenderLife.of(lease.job, render)
        return cls(lease, progress, saved, recorded, render.attempts, render.pass_no, times, life)

    @property
    def index(self) -> int:
        """Of the image in its job."""
        return self.progress.index

    @property
    def beat(self) -> RenderBeat:
        """What the next heartbeat writes."""
        row, passes, said = self.saved.row, self.saved.row_passes, self.life.said(self.times)
        return replace(self.progress, checkpoint=row, checkpoint_pass=passes, **said)

    @property
    def render_id(self) -> str:
        """At its decoder. With the fence and the number of the dispatch: neither an orphan of an
        earlier holder nor a late abort of an earlier dispatch meets this one."""
        job = self.lease.job
        return f"{job.id}/{self.index}/{job.fence}.{self.dispatches}"

    @property
    def live(self) -> bool:
        """Whether it still needs an outcome."""
        return self.state in LIVE

    @property
    def mine(self) -> bool:
        """Whether the current task is the one that moves it on."""
        return self.live and self.task is asyncio.current_task()

    def wants_preview(self, pass_no: int) -> bool:
        """Whether the user asked for the preview after this pass."""
        request = self.lease.job.request
        return pass_no in preview_passes(request.passes, request.partial_images)

    # Events

    def queue(self) -> None:
        """It joins the ready queue."""
        self._enter(State.READY)
        self.task = None
        if self.unslotted_since is None:
            self.unslotted_since = time.monotonic()

    def dispatch(
        self, replica_id: str, screen_at: Iterable[float], can: Capabilities | None = None
    ) -> RenderSpec:
        """It is sent to a replica, to go on from its last checkpoint. screen_at: shares of the
        passes after which a preview is screened even if none was asked for. can: as of
        DispatchSettings."""
        self._enter(State.DISPATCHED)
        self.dispatches += 1
        self.gained = False
        self.replica_id = replica_id
        request, inputs = self.lease.job.request, self.lease.inputs
        if inputs is None:
            raise RuntimeError(f"job {self.lease.job.id} is not prepared")
        looks = looks_at(request, screen_at)
        return replace(
            inputs.spec(self.render_id, request, self.index, can),
            preview_after=tuple(look for look in looks if look > self.saved.passes),
            checkpoint=self.saved.newest,
            alone=self.losses.suspect,
        )

    def update(self, update: RenderUpdate) -> None:
        """Its decoder reports: accepted, a pass, left, or pixels. One that left although its job is
        not preempted is to be queued again."""
        unasked = update.kind is UpdateKind.LEFT and not self.lease.preempting
        self._enter(State.RENDERING if unasked else _UPDATES[update.kind])
        self.unslotted_since = None
        state = RenderState.FINISHING if update.decoded else RenderState.RENDERING
        self.progress = replace(self.progress, state=state, pass_no=update.pass_no)
        if update.kind is UpdateKind.ACCEPTED:
            self.losses.accepted()
            self.life.accepted(self.lease.clock(), update.pass_no)
            return
        self.life.drew(update)
        self.passed(Passed.FIRST_PASS)
        if update.decoded or update.kind is UpdateKind.DONE:
            self.passed(Passed.LAST_PASS)
        if update.kind is not UpdateKind.DONE:
            if update.checkpoint is not None:
                self.gained = True
                self.saved.save(update.checkpoint, update.pass_no)
            if update.pass_no > self.furthest:
                self.furthest, self.attempts = update.pass_no, 0
                self.losses.progressed()

    def lost(self, accepted_elsewhere: int, killer_beside: bool) -> bool:
        """Its stream broke; returns whether it is to blame. See Losses.lost. Passes that left no
        checkpoint are no progress: it may break every stream at the same pass."""
        if self.gained:
            return False
        return self.losses.lost(self.state in IN_SLOT, accepted_elsewhere, killer_beside)

    def recall(self) -> None:
        """Another replica has a slot for it: its stream ends, and it is queued again."""
        self._enter(State.RECALLED)
        if self.task is not None:
            self.task.cancel()

    def pause(self) -> None:
        """It is queued again later. Its pixels are not kept: the checkpoint decodes to them."""
        self._enter(State.PAUSED)
        self.task = None

    def preempt(self) -> None:
        """It must not take a slot any more: its job goes back to the queue."""
        self._enter(State.PREEMPTED)
        self.stop()

    def settle(self) -> None:
        """Its outcome is known; what else is said about it comes too late."""
        self._enter(State.SETTLING)
        self.stop()

    def record(self) -> None:
        """Its outcome is in the ledger."""
        self._enter(State.SETTLED)

    def drop(self) -> None:
        """Its lease is lost or released."""
        self._enter(State.DROPPED)
        self.life.left(self.lease.clock(), preempted=self.lease.preempting)
        self.stop()

    # Facts that change no state

    def fail_attempt(self) -> int:
        """A stage failed because of it; returns how many times so far."""
        self.attempts += 1
        self.times = self.times.failed()
        return self.attempts

    def store_preview(self, pass_no: int) -> None:
        """The preview after this pass is in the blob store."""
        previews = tuple(sorted({*self.progress.previews, pass_no}))
        self.progress = replace(self.progress, previews=previews)

    def passed(self, what: Passed) -> None:
        """It has that behind it now."""
        self.times = self.times.passed(what, self.lease.clock())

    def judge(self) -> None:
        """The final picture has its verdict."""
        self.judged = True

    def run_by(self, task: asyncio.Task[None]) -> None:
        """This task moves it on."""
        self.task = task

    def screened_by(self, task: asyncio.Task[None]) -> None:
        """A preview of it is being screened."""
        self.screenings.add(task)
        task.add_done_callback(self.screenings.discard)

    def stop(self) -> None:
        """Cancel its tasks, but for the current one; that closes its stream."""
        tasks = {self.task, *self.screenings} - {None, asyncio.current_task()}
        self.task = None
        for task in tasks:
            if task is not None:
                task.cancel()

    def _enter(self, state: State) -> None:
        if self.state not in TRANSITIONS[state]:
            raise IllegalTransition(f"render {self.render_id}: {state} after {self.state}")
        was, self.state = self.state, state
        self.lease.moved(self, was)


@dataclass(slots=True, eq=False)
class Lease:
    """One job that this dispatcher holds, with its images that were not settled before."""

    job: Job
    losses: Losses
    """Of the stages that prepare it."""
    retries: int
    """Of stages, since one has answered."""
    clock: Callable[[], float] = time.time
    """The ledger's."""
    renders: tuple[InFlightRender, ...] = ()
    inputs: DecoderInputs | None = None
    overdue_since: float | None = None
    """Since when it waits for a late stage, and takes no room from others."""
    preempting: bool = False
    """It is released as soon as its images have left their slots."""
    moved: Moved = _tell  # told of every event of an image, with the state that it was in

    @classmethod
    def of(cls, job: Job, clock: Callable[[], float] = time.time, moved: Moved = _tell) -> Lease:
        """Of a job just claimed."""
        suspect = is_suspect(job)
        lease = cls(job, Losses(suspect), job.attempts if suspect else 0, clock, moved=moved)
        unsettled = (render for render in job.renders if not render.settled)
        lease.renders = tuple(InFlightRender.of(lease, render) for render in unsettled)
        return lease

    @property
    def live(self) -> list[InFlightRender]:
        """Images that still need an outcome."""
        return [render for render in self.renders if render.live]

    @property
    def ended(self) -> bool:
        """Whether every image is settled or dropped."""
        return all(render.state in ENDED for render in self.renders)

    @property
    def furthest_share(self) -> float:
        """Share of the passes that its furthest image has done."""
        passes = (render.progress.pass_no for render in self.live)
        return max(passes, default=0) / self.job.request.passes

    def any_in(self, *states: State) -> bool:
        """Whether an image is in one of these states."""
        return any(render.state in states for render in self.renders)

    def beat(self, *renders: InFlightRender) -> Beat:
        """Where these images are; by default all that still need an outcome."""
        beats = tuple(render.beat for render in renders or self.live)
        return Beat(self.job.id, self.job.fence, beats)

    def prepared(self, inputs: DecoderInputs) -> None:
        """What decoders need is here."""
        self.inputs = inputs
        for render in self.live:
            render.passed(Passed.ENCODED)

    def busy_beside(self, render: InFlightRender) -> bool:
        """Whether another image is in a slot, or on its way from there."""
        busy = IN_SLOT | {State.FINISHING}
        return any(other.state in busy for other in self.renders if other is not render)

    def late(self) -> None:
        """A stage keeps it waiting."""
        self.overdue_since = self.overdue_since or time.monotonic()

    def answered(self) -> None:
        """The stages have answered."""
        self.overdue_since, self.retries = None, 0

    def retry(self) -> None:
        """A stage is asked again."""
        self.retries += 1

    def beaten(self, beat: Beat) -> None:
        """The ledger has this heartbeat."""
        previews = {of_render.index: of_render.previews for of_render in beat.renders}
        for render in self.renders:
            if render.index in previews:
                render.recorded |= set(previews[render.index])
                render.life.told()

    def preempt(self) -> None:
        """It clears its slots for another job, and takes none that is being cleared."""
        self.preempting = True
        for render in self.live:
            if render.unslotted_since is not None or render.state is State.PREPARING:
                render.preempt()

    def keep(self) -> None:
        """It goes on after all: no image is left to preempt."""
        self.preempting = False

    def drop(self) -> None:
        """It is lost or released."""
        for render in self.renders:
            if render.state not in ENDED:
                render.drop()
