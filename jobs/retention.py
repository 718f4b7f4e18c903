"""How long what is kept, and what a batch of forgetting is. Known to ledgers and collectors."""

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


class Step(StrEnum):
    """What is forgotten, in this order."""

    # and the images that lost leases left behind, and what edits went on from
    PREVIEWS = "previews"
    KEYS = "keys"
    IMAGES = "images"
    ROWS = "rows"


@dataclass(frozen=True, slots=True)
class Batch:
    """Jobs whose tombstone is written. seq: where the cursor goes once `blobs` are deleted. turn:
    until when the step is the taker's. blobs: by job, the keys that must stay."""

    step: Step
    seq: int
    turn: float
    blobs: Mapping[str, tuple[str, ...]]
