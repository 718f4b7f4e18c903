"""A job's life as one table, and the frozen records of it. All transitions live in this file;
it knows neither SQL nor HTTP. A job's state is a pure function of its renders' states."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from jobs.request import ImageRequest


class JobState(StrEnum):
    """Terminal states are those without exits in TRANSITIONS."""

    QUEUED = "queued"
    LEASED = "leased"
    RUNNING = "running"
    FINISHING = "finishing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    BLOCKED = "blocked"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class RenderState(StrEnum):
    """One image's life."""

    WAITING = "waiting"
    RENDERING = "rendering"
    FINISHING = "finishing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    BLOCKED = "blocked"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Render:
    """One image of a job, as the ledger holds it.

    checkpoint: packed, opaque here. previews: passes whose preview blob exists.
    """

    index: int
    state: RenderState
    pass_no: int = 0
    checkpoint: bytes | None = None
    previews: tuple[int, ...] = ()
    blob: str | None = None
    categories: tuple[str, ...] = ()
    stage: str | None = None
    error: str | None = None
    attempts: int = 0


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
    errors: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        """True in a terminal state."""
        return self.state in TERMINAL


TERMINAL = frozenset(
    {
        JobState.SUCCEEDED,
        JobState.FAILED,
        JobState.BLOCKED,
        JobState.CANCELLED,
        JobState.EXPIRED,
    }
)
