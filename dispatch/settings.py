"""What one dispatcher is told at its start: its numbers, and the stages it sends work to."""

from __future__ import annotations

from dataclasses import dataclass, field

from dispatch.metering import Metering, Unmetered
from dispatch.ports import Classifier, Decoders, Encoder, Postprocessor
from engine.capabilities import Capabilities


@dataclass(frozen=True, slots=True)
class DispatchSettings:
    """How much a dispatcher takes on, and how patient it is."""

    lane: str
    lease_seconds: float = 5.0
    heartbeat_seconds: float = 1.0
    ready: int = 2
    """Images in the ready queue: encoded and screened for slots about to be free."""
    screen_at: tuple[float, ...] = (0.5,)
    """Shares of the passes after which a preview is screened even if none was asked for."""
    attempts: int = 3
    """Failures of one image in a row, without progress, before it fails."""
    finishing: int = 16
    """Images between decoder and store; with so many, nothing new is claimed."""
    idle_poll_seconds: float = 1.0
    full_pause_seconds: float = 0.05
    retry_seconds: float = 1.0
    call_timeout_seconds: float = 60.0
    """Of one call of a stage that is no decoder."""
    slow_seconds: float = 5.0
    """A job whose calls take longer is overdue, and makes room for others."""
    waiting: int = 16
    """Overdue jobs; with so many, nothing new is claimed."""
    log_prompts: bool = False
    """The audit log of verdicts holds the prompts themselves."""
    can: Capabilities | None = None
    """What the decoders' family can do; None where all its pictures are of one size."""
    patience_seconds: float = 60.0
    """After so long of waiting for a stage that is away a job goes back to the queue."""
    last_pass_seconds: float = 8.0
    """For the passes under way when it stops."""


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages a dispatcher sends work to."""

    encoder: Encoder
    classifier: Classifier
    decoders: Decoders
    postprocessor: Postprocessor
    metering: Metering = field(default_factory=Unmetered)
