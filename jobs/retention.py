"""How long data is kept, and a batch of what is deleted. Known to ledgers and collectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Retention:
    """Seconds after a job's end; for idempotency keys, after its arrival (at most a day
    counts), but never before its end."""

    previews_seconds: float = 3_600.0
    images_seconds: float = 604_800.0
    rows_seconds: float = 2_592_000.0
    idempotency_seconds: float = 86_400.0
    verdicts_seconds: float = 15_552_000.0
    """Of the audit log, after the verdict."""
    webhooks_seconds: float = 604_800.0
    """Of deliveries of webhooks, after their end."""


class Step(StrEnum):
    """What is forgotten, in this order."""

    # and the images that lost leases left behind, and what edits went on from
    PREVIEWS = "previews"
    KEYS = "keys"
    IMAGES = "images"
    ROWS = "rows"


@dataclass(frozen=True, slots=True)
class Batch:
    """Jobs whose tombstone is written."""

    step: Step
    seq: int
    """Where the cursor goes once the blobs are deleted."""
    turn: float
    """Until when the step is this collector's."""
    blobs: Mapping[str, tuple[str, ...]]
    """By job, the keys that must stay."""
