"""Batches: files of requests that are drawn within a day, in slots that nothing else wants.

The life of a batch is one table, and so is that of a line. Times are seconds since the epoch on the
ledger's clock.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from jobs.files import StoredFile
from jobs.request import ImageRequest, Tenant

WINDOW_SECONDS = 86_400.0
"""Within which a batch is drawn; what is not drawn by then expires."""
MOST_ERRORS = 1_000
"""Of wrong lines that a batch is refused with."""


class BatchState(StrEnum):
    """As OpenAI's API names them."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


class BatchEvent(StrEnum):
    """What happens to a batch."""

    REFUSE = "refuse"  # lines of it are wrong
    BEGIN = "begin"  # all of them are right
    DRAIN = "drain"  # all lines have ended
    CANCEL = "cancel"
    LAPSE = "lapse"  # its window is over
    COMPLETE = "complete"  # its files are written
    EXPIRE = "expire"  # likewise, without some lines
    WITHDRAW = "withdraw"  # likewise, of a cancelled one


S, E = BatchState, BatchEvent
TRANSITIONS: Mapping[tuple[BatchState, BatchEvent], BatchState] = {
    (S.VALIDATING, E.REFUSE): S.FAILED,
    (S.VALIDATING, E.BEGIN): S.IN_PROGRESS,
    (S.VALIDATING, E.CANCEL): S.CANCELLING,
    (S.VALIDATING, E.LAPSE): S.FINALIZING,
    (S.IN_PROGRESS, E.DRAIN): S.FINALIZING,
    (S.IN_PROGRESS, E.CANCEL): S.CANCELLING,
    (S.IN_PROGRESS, E.LAPSE): S.FINALIZING,
    (S.FINALIZING, E.COMPLETE): S.COMPLETED,
    (S.FINALIZING, E.EXPIRE): S.EXPIRED,
    (S.CANCELLING, E.WITHDRAW): S.CANCELLED,
}
ENDED = frozenset({S.FAILED, S.COMPLETED, S.EXPIRED, S.CANCELLED})
"""Nothing happens to these any more."""
OPEN = tuple(state for state in S if state not in ENDED)
"""All others."""
STAMPS: Mapping[BatchState, str] = {
    state: f"{state}_at" for state in BatchState if state is not S.VALIDATING
}
"""The field that says when a batch came into a state."""


class BatchTransitionError(ValueError):
    """That cannot happen to a batch in that state."""


def after(state: BatchState, event: BatchEvent) -> BatchState:
    """The state that the event leads to. Raises BatchTransitionError."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise BatchTransitionError(f"a batch that is {state} cannot {event}") from None


class LineState(StrEnum):
    """Of one line: it waits, is a job, or has ended."""

    WAITING = "waiting"
    FED = "fed"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchWish:
    """What a client asks for."""

    input_file: str
    endpoint: str
    metadata: Mapping[str, str]
    output_seconds: float
    """How long its files are kept after they were written."""
    window_seconds: float = WINDOW_SECONDS
    body_hash: str = ""
    """Of the request that asked for it, for re-attaching a client's retry."""
    key: str | None = None
    """Its Idempotency-Key."""
    retry: bool = False
    """It says that it is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRecord:
    """One batch."""

    id: str
    tenant: Tenant
    state: BatchState
    wish: BatchWish
    fence: int
    """Grows with every lease; a write with an old one changes nothing."""
    created_at: float
    expires_at: float
    stamps: Mapping[str, float]
    """When it came into a state, by `STAMPS`."""
    total: int = 0
    completed: int = 0
    failed: int = 0
    images: int = 0
    """Of all lines."""
    model: str | None = None
    """Of its first line."""
    errors: Sequence[Mapping[str, Any]] = ()
    """Why it was refused: line, code, message, param."""
    output_file: str | None = None
    error_file: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def ended(self) -> bool:
        """Nothing happens to it any more."""
        return self.state in ENDED


@dataclass(frozen=True, slots=True)
class NewLine:
    """A line that is right. offset, size: bytes of the input file; cost: predicted GPU-seconds."""

    line: int
    custom_id: str
    offset: int
    size: int
    images: int
    queue: str
    cost_seconds: float


@dataclass(frozen=True, slots=True)
class BatchLine:
    """A line as it stands. error: JSON of the body that it ended with, where no job says it."""

    line: int
    custom_id: str
    offset: int
    size: int
    state: LineState
    job_id: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class FinishedFile:
    """A file of results: its row is hidden until the batch ends. bytes: of all its blobs."""

    id: str
    bytes: int
    blobs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BatchFiles:
    """What a batch ends with; None where no line has such a result."""

    output: FinishedFile | None = None
    errors: FinishedFile | None = None
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class OpenBatches:
    """How many batches of one state there are, and lines of them: all, and those that ended."""

    batches: int = 0
    lines: int = 0
    completed: int = 0
    failed: int = 0


class BatchLeaseLost(Exception):
    """Another feeder has the batch: nothing was written."""


class BatchTable(Protocol):
    """Batches and their lines. One feeder has a batch at a time, by a lease that expires; each of
    its verbs carries the fence of that lease and raises BatchLeaseLost when that is old."""

    def add_batch(self, lane: str, tenant: Tenant, wish: BatchWish, most_open: int) -> BatchRecord:
        """Durable on return. A retry, by its key for a day or by its body for 15 minutes, finds the
        batch that is there. Raises NotYetOpen, BatchesFull for more than `most_open` unended ones,
        IdempotencyMismatch, and KeyError when the tenant has no such input file, which is kept
        until the window is over."""

    def batch(self, tenant: str, batch_id: str) -> BatchRecord | None:
        """One of the tenant's batches."""

    def batches(self, tenant: str, limit: int, after: str | None = None) -> list[BatchRecord]:
        """The tenant's batches, newest first, from behind the id `after`."""

    def cancel_batch(self, tenant: str, batch_id: str) -> BatchRecord | None:
        """It is cancelling from now on; one that cannot be cancelled stays as it is, and is
        returned. None: there is no such batch."""

    def open_batches(self, lane: str) -> dict[BatchState, OpenBatches]:
        """The unended batches of the lane, by their states."""

    def lease_batches(self, lane: str, limit: int, seconds: float) -> list[BatchRecord]:
        """Unended batches of the lane that no feeder has, oldest first, now leased for so long.
        With nothing to do it takes no write lock."""

    def hold_batch(self, batch_id: str, fence: int, seconds: float) -> BatchRecord:
        """As it is now, with the lease extended; once its window is over, it is finalizing."""

    def let_batch_go(self, batch_id: str, fence: int) -> None:
        """Another feeder may have it at once."""

    def batch_input(self, batch_id: str) -> StoredFile | None:
        """The file that it reads, although its tenant may have deleted it."""

    def keep_lines(self, batch_id: str, fence: int, lines: Sequence[NewLine]) -> None:
        """Lines of a batch that is validating. One that is there already stays."""

    def begin_batch(
        self, batch_id: str, fence: int, model: str | None, most_images: int
    ) -> BatchRecord:
        """All of its lines are kept: it is in progress. When the tenant's unended batches have more
        images than that together, it is refused."""

    def refuse_batch(
        self, batch_id: str, fence: int, errors: Sequence[Mapping[str, Any]]
    ) -> BatchRecord:
        """It has failed, and its lines are dropped."""

    def waiting_lines(self, batch_id: str, limit: int) -> list[BatchLine]:
        """The next lines that are no jobs yet, in order."""

    def queued_lines(self, batch_id: str) -> int:
        """Of the lines that are jobs, those whose jobs wait in a queue."""

    def feed_lines(
        self, batch_id: str, fence: int, requests: Mapping[int, ImageRequest]
    ) -> list[str]:
        """ONE transaction: these lines are jobs. By line; one that is no longer waiting is passed
        over. The ids of the new jobs."""

    def refuse_lines(self, batch_id: str, fence: int, errors: Mapping[int, str]) -> None:
        """These lines cannot be ordered any more: JSON of the answers."""

    def collect_lines(self, batch_id: str, fence: int) -> BatchRecord:
        """Lines whose jobs have ended have ended; when all have, the batch is finalizing."""

    def stop_lines(self, batch_id: str, fence: int, limit: int) -> list[str] | None:
        """For a batch that is cancelling or finalizing: lines that wait have ended; the ids of jobs
        of others, which are to be cancelled. None: no line is open any more."""

    def ended_lines(self, batch_id: str, after: int, limit: int) -> list[BatchLine]:
        """Lines behind the line number `after`, in order."""

    def end_batch(self, batch_id: str, fence: int, files: BatchFiles) -> BatchRecord:
        """Its files are there: it has ended, and its tenant sees them."""

    def forget_batches(self, kept_seconds: float) -> bool:
        """Delete some batches that ended longer ago; whether there were any."""


def new_batch_id() -> str:
    """128 random bits, which cannot be guessed."""
    return f"batch_{secrets.token_hex(16)}"
