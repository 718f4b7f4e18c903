"""A job's life as one table, and the frozen records of it. All transitions live in this file;
it knows neither SQL nor HTTP. A job's state is a pure function of its renders' states."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from jobs.request import ImageRequest

_IMAGE_ID = re.compile(r"img_([0-9a-f]{32})_([0-9])")


class IllegalTransition(Exception):
    """That event cannot happen in that state; nothing was changed."""


class RenderState(StrEnum):
    """One image's life. Terminal states are those without exits in TRANSITIONS."""

    # Moved on by the dispatcher that claims its job. It has no holder whose death could hurt it.
    WAITING = "waiting"
    # Moved on by the dispatcher's heartbeat. If the decoder dies, the dispatcher goes on from the
    # last update; if the dispatcher dies, the rescuer returns it with its last stored checkpoint.
    RENDERING = "rendering"
    # All passes done, only pixels are missing; moved on by the holder of the job. If that process
    # dies it stays here, and the next holder starts from the final checkpoint.
    FINISHING = "finishing"
    # Settled: written once, under the fence, by the holder (succeeded, blocked, failed), by a
    # renewal or a cancel (cancelled) or by the rescuer (failed, expired). A death changes nothing.
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    BLOCKED = "blocked"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class RenderEvent(StrEnum):
    """What can happen to one image."""

    START = "start"  # a decoder draws it (again: a checkpoint it cannot use starts from pass 0)
    DECODED = "decoded"  # its last pass is done
    RETURN = "return"  # its job goes back to the queue, with its checkpoints
    SUCCEED = "succeed"
    BLOCK = "block"
    FAIL = "fail"
    CANCEL = "cancel"
    EXPIRE = "expire"


_SETTLE = {
    RenderEvent.SUCCEED: RenderState.SUCCEEDED,
    RenderEvent.BLOCK: RenderState.BLOCKED,
    RenderEvent.FAIL: RenderState.FAILED,
    RenderEvent.CANCEL: RenderState.CANCELLED,
}

# Settling is legal from every unsettled state, since a short render can end between two heartbeats.
# EXPIRE needs a queued job, and a queued job has no image in RENDERING.
TRANSITIONS: Mapping[RenderState, Mapping[RenderEvent, RenderState]] = {
    RenderState.WAITING: {
        RenderEvent.START: RenderState.RENDERING,
        RenderEvent.DECODED: RenderState.FINISHING,
        RenderEvent.RETURN: RenderState.WAITING,
        **_SETTLE,
        RenderEvent.EXPIRE: RenderState.EXPIRED,
    },
    RenderState.RENDERING: {
        RenderEvent.START: RenderState.RENDERING,
        RenderEvent.DECODED: RenderState.FINISHING,
        RenderEvent.RETURN: RenderState.WAITING,
        **_SETTLE,
    },
    RenderState.FINISHING: {
        RenderEvent.START: RenderState.RENDERING,
        RenderEvent.DECODED: RenderState.FINISHING,
        RenderEvent.RETURN: RenderState.FINISHING,
        **_SETTLE,
        RenderEvent.EXPIRE: RenderState.EXPIRED,
    },
    RenderState.SUCCEEDED: {},
    RenderState.FAILED: {},
    RenderState.BLOCKED: {},
    RenderState.CANCELLED: {},
    RenderState.EXPIRED: {},
}

SETTLED = frozenset(state for state, exits in TRANSITIONS.items() if not exits)


class JobState(StrEnum):
    """Never set by hand: always `job_state(...)` of its renders and whether it has a holder."""

    # Moved on by a claim, a cancel or the rescuer. It lives in the ledger only: no death hurts it.
    QUEUED = "queued"
    # Held, prompt being encoded and screened. The holder moves it; if the holder dies the rescuer
    # returns it to its original place when the lease lapses.
    LEASED = "leased"
    # At least one image is being drawn. The holder's heartbeats move it; if the holder dies the
    # rescuer returns it with the checkpoints of the last heartbeat.
    RUNNING = "running"
    # Every unsettled image has its last pass behind it. As RUNNING, but nothing is drawn again.
    FINISHING = "finishing"
    # Ended, in the transaction that settled its last image.
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    BLOCKED = "blocked"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


TERMINAL = frozenset(
    {
        JobState.SUCCEEDED,
        JobState.FAILED,
        JobState.BLOCKED,
        JobState.CANCELLED,
        JobState.EXPIRED,
    }
)
HELD = frozenset({JobState.LEASED, JobState.RUNNING, JobState.FINISHING})
LIVE = HELD | {JobState.QUEUED}
STARTED_KEPT_SECONDS = 86_400.0
"""A job with progress goes on after its deadline, so long at most while it waits to be held again.
While it is held, attempts without progress end it."""


class JobEvent(StrEnum):
    """What can happen to a whole job; a single image ends through `Job.with_render`."""

    LEASE = "lease"
    RETURN = "return"
    CANCEL = "cancel"
    EXPIRE = "expire"
    FAIL = "fail"


# event: states where it is legal, and what it does to every unsettled render. Only LEASE holds.
JOB_EVENTS: Mapping[JobEvent, tuple[frozenset[JobState], RenderEvent | None]] = {
    JobEvent.LEASE: (frozenset({JobState.QUEUED}), None),
    JobEvent.RETURN: (HELD, RenderEvent.RETURN),
    JobEvent.CANCEL: (LIVE, RenderEvent.CANCEL),
    JobEvent.EXPIRE: (frozenset({JobState.QUEUED}), RenderEvent.EXPIRE),
    JobEvent.FAIL: (HELD, RenderEvent.FAIL),
}

# Which end a job without a picture gets when its images ended differently: the first that occurs.
_ENDS = (
    (RenderState.SUCCEEDED, JobState.SUCCEEDED),
    (RenderState.FAILED, JobState.FAILED),
    (RenderState.EXPIRED, JobState.EXPIRED),
    (RenderState.CANCELLED, JobState.CANCELLED),
    (RenderState.BLOCKED, JobState.BLOCKED),
)


def job_state(render_states: Iterable[RenderState], leased: bool) -> JobState:
    """The job's state: any picture makes it SUCCEEDED (its other images carry their own errors)."""
    states = tuple(render_states)
    unsettled = [state for state in states if state not in SETTLED]
    if not unsettled:
        return next(job for render, job in _ENDS if render in states)
    if not leased:
        return JobState.QUEUED
    if all(state is RenderState.FINISHING for state in unsettled):
        return JobState.FINISHING
    if all(state is RenderState.WAITING for state in unsettled):
        return JobState.LEASED
    return JobState.RUNNING


@dataclass(frozen=True, slots=True)
class Render:
    """One image of a job, as the ledger holds it."""

    index: int
    state: RenderState
    pass_no: int = 0
    checkpoint: bytes | None = None
    """Packed, or where it is in the blob store; opaque here. Of a SUCCEEDED one the final tokens,
    as long as its picture is kept."""
    checkpoint_pass: int | None = None
    """Passes done in it; None for all of `pass_no`. Fewer where checkpoints are taken seldom."""
    previews: tuple[int, ...] = ()
    """Passes whose preview blob exists."""
    blob: str | None = None
    categories: tuple[str, ...] = ()
    stage: str | None = None
    error: str | None = None
    attempts: int = 0
    life: str | None = None
    """What happened to it, as life.py packs it."""
    gpu_seconds: float | None = None
    """Its share of the passes that it was in, in all its tries; None is unknown."""
    joules: float | None = None
    revised_prompt: str | None = None
    """Of a SUCCEEDED one: what it shows, in words, where the model says it."""
    redrawn: str | None = None
    """Of a SUCCEEDED one: the cells that were drawn anew, where they may be others than those of
    the request's source."""

    @property
    def settled(self) -> bool:
        """True in a terminal state."""
        return self.state in SETTLED

    @property
    def saved_passes(self) -> int:
        """Passes that its next decoder does not have to do again."""
        if self.checkpoint is None:
            return 0
        return self.pass_no if self.checkpoint_pass is None else self.checkpoint_pass

    def on(self, event: RenderEvent) -> Render:
        """This image after `event`; IllegalTransition where the table has no such exit.
        A settled image needs no checkpoint to go on from; see settling.py for the final one."""
        state = TRANSITIONS[self.state].get(event)
        if state is None:
            raise IllegalTransition(f"image {self.index}: {event} in state {self.state}")
        return replace(self, state=state, checkpoint=None if state in SETTLED else self.checkpoint)


@dataclass(frozen=True, slots=True)
class Job:
    """A request's durable life. Times are seconds since the epoch on the ledger's clock."""

    id: str
    request: ImageRequest
    state: JobState
    renders: tuple[Render, ...]
    fence: int = 0
    worker: str | None = None
    created_at: float = 0.0
    started_at: float | None = None
    finished_at: float | None = None
    deadline_at: float = 0.0
    watched_until: float | None = None
    cancel_requested: bool = False
    attempts: int = 0
    """In a row, that ended in an error or a lapsed lease without any progress."""
    errors: tuple[str, ...] = ()
    """Their reasons, oldest first."""
    preemptions: int = 0
    """How often it has left its slots to others."""

    @classmethod
    def queued(
        cls, job_id: str, request: ImageRequest, now: float, watched_until: float | None
    ) -> Job:
        """A new job at time `now`, all its images waiting."""
        return cls(
            id=job_id,
            request=request,
            state=JobState.QUEUED,
            renders=tuple(Render(index, RenderState.WAITING) for index in range(request.n)),
            created_at=now,
            deadline_at=now + request.deadline_seconds,
            watched_until=watched_until,
        )

    @property
    def ended(self) -> bool:
        """True in a terminal state."""
        return self.state in TERMINAL

    def on(self, event: JobEvent) -> Job:
        """This job after `event`, its unsettled images moved with it; else IllegalTransition."""
        legal, render_event = JOB_EVENTS[event]
        if self.state not in legal:
            raise IllegalTransition(f"job {self.id}: {event} in state {self.state}")
        renders = self.renders
        if render_event is not None:
            renders = tuple(r if r.settled else r.on(render_event) for r in renders)
        state = job_state((r.state for r in renders), leased=event is JobEvent.LEASE)
        return replace(self, state=state, renders=renders)

    def with_render(self, render: Render) -> Job:
        """This held job with one image replaced, its own state following from that."""
        if self.state not in HELD:
            raise IllegalTransition(f"job {self.id}: image {render.index} moves in {self.state}")
        renders = tuple(render if r.index == render.index else r for r in self.renders)
        return replace(
            self, renders=renders, state=job_state((r.state for r in renders), leased=True)
        )

    @property
    def expires_at(self) -> float:
        """When it ends, if it is queued then: at its deadline, unless something of it is done."""
        return self.deadline_at + (STARTED_KEPT_SECONDS if self.progress else 0.0)

    @property
    def progress(self) -> int:
        """Grows with everything that the next holder will not have to do again."""
        return sum(_progress(r) for r in self.renders)


def _progress(render: Render) -> int:
    if render.settled:
        return 1_000_000
    return render.saved_passes + (render.state is RenderState.FINISHING)


def _one_image_edges() -> Iterator[tuple[JobState, str, JobState]]:
    """Every move of a job with one image, found by trying every event in every state."""
    request = ImageRequest(
        lane="", tenant="", tier="", model="", prompt="", n=1, width=1, height=1, quality="",
        passes=1, guidance=1.0, seed=0,
    )  # fmt: skip
    for state in RenderState:
        for leased in (False, True):
            if state is RenderState.RENDERING and not leased:
                continue  # a queued job has no image in a decoder
            render = Render(0, state)
            job = Job("", request, job_state((state,), leased), (render,))
            for event, (legal, _) in JOB_EVENTS.items():
                if job.state in legal:
                    yield job.state, event, job.on(event).state
            for render_event in TRANSITIONS[state]:
                # the other render events happen to the job as a whole, above
                if job.state in HELD and render_event.value not in set(JobEvent) - {JobEvent.FAIL}:
                    yield job.state, render_event, job.with_render(render.on(render_event)).state


def _diagram(start: str, edges: Iterable[tuple[str, str, str]]) -> list[str]:
    labels: dict[tuple[str, str], list[str]] = {}
    for source, event, target in edges:
        events = labels.setdefault((source, target), [])
        if source != target and event not in events:
            events.append(event)
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {start}"]
    lines += [f"    {a} --> {b}: {', '.join(on)}" for (a, b), on in labels.items() if on]
    return [*lines, "```"]


def mermaid() -> str:
    """docs/states.md: both diagrams, drawn from the tables above."""
    render_edges = [
        (state.value, event.value, target.value)
        for state, exits in TRANSITIONS.items()
        for event, target in exits.items()
    ]
    job_edges = [(a.value, event, b.value) for a, event, b in _one_image_edges()]
    return "\n".join(
        [
            "# States",
            "",
            "Drawn from the tables in `jobs/job.py`; a test compares this page with them.",
            "",
            "## One image",
            "",
            *_diagram("waiting", render_edges),
            "",
            "## A job",
            "",
            "A job's state follows from its images and from whether it has a holder. Shown for",
            "one image; with several, a job ends with its last image, and any picture makes it",
            "`succeeded`. An operator may let one that failed or expired wait again, under a new",
            "fence (`jobs/operating.py`).",
            "",
            *_diagram("queued", job_edges),
            "",
        ]
    )


def new_job_id() -> str:
    """128 random bits, in hex."""
    return secrets.token_hex(16)


def image_id(job_id: str, index: int) -> str:
    """The public id of image `index` of a job."""
    return f"img_{job_id}_{index}"


def response_id(job_id: str) -> str:
    """The public id of a job that came as a response."""
    return f"resp_{job_id}"


def parse_image_id(text: str) -> tuple[str, int] | None:
    """(job id, index), or None for what `image_id` never makes."""
    match = _IMAGE_ID.fullmatch(text)
    return (match[1], int(match[2])) if match else None
