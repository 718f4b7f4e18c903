"""What a dispatcher and the ledger tell each other about jobs under lease."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jobs.job import RenderState
from jobs.verdicts import VerdictNote


@dataclass(frozen=True, slots=True)
class RenderBeat:
    """Where one image is: the heartbeat is the checkpoint."""

    index: int
    state: RenderState
    """RENDERING, or FINISHING once all passes are done and only pixels are missing."""
    pass_no: int
    checkpoint: bytes | None
    """Packed, or where it is in the blob store; opaque here. None keeps the last one."""
    previews: tuple[int, ...] = ()
    """Passes whose preview is stored and screened."""
    checkpoint_pass: int | None = None
    """See Render."""
    life: str | None = None
    """See Render; with what came before this lease. None keeps the last one, and so below."""
    gpu_seconds: float | None = None
    joules: float | None = None


@dataclass(frozen=True, slots=True)
class Beat:
    """One job's heartbeat under its fence."""

    job_id: str
    fence: int
    renders: tuple[RenderBeat, ...]


@dataclass(frozen=True, slots=True)
class Renewal:
    """The answer to a heartbeat."""

    job_id: str
    held: bool
    """False when the lease is lost: drop the renders."""
    cancelled: bool = False
    """The client asked to stop."""
    yield_to_tier: str | None = None
    """Give the slots back at the next pass boundary, for a job of that tier."""


@dataclass(frozen=True, slots=True)
class PreemptionRequest:
    """A dispatcher's view of its jobs, when images find no slot. Of what it claims while it asks,
    it knows neither."""

    lane: str
    worker: str
    waiting: Mapping[str, str]
    """Jobs with images that wait for slots, and their tiers."""
    rendering: Mapping[str, float]
    """Jobs with a slot, and the share of the passes that they have done."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one image ended: SUCCEEDED with a blob, BLOCKED with categories, FAILED with an error."""

    state: RenderState
    blob: str | None = None
    """Key in the blob store."""
    categories: tuple[str, ...] = ()
    stage: str | None = None
    """Of BLOCKED: "input" or "output"."""
    error: str | None = None
    checkpoint: bytes | None = None
    """The final one, kept as long as the picture is."""
    pass_no: int = 0
    """Of FAILED: how far it came, if no heartbeat has told."""
    attempts: int = 0
    """Of FAILED: in how many tries, if no heartbeat has told."""
    life: str | None = None
    """As in RenderBeat, also below."""
    gpu_seconds: float | None = None
    joules: float | None = None
    revised_prompt: str | None = None
    """Of SUCCEEDED: what was drawn, in words, where the model says it."""
    redrawn: str | None = None
    """Of SUCCEEDED: the cells of a changed picture that were drawn anew, packed as those of
    SourceImage, where the model says it."""
    verdicts: tuple[VerdictNote, ...] = ()
    """Of the image that are not in the audit log yet; they come into it with the outcome."""
