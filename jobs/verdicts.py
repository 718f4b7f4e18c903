"""The audit log of the safety screens: what was looked at, what was decided, and what people made
of it. Rows are added, never changed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from jobs.job import Render


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictNote:
    """One verdict. It names what was looked at by a digest; words only where that is configured."""

    lane: str
    tenant: str
    job_id: str
    index: int | None
    """Of the image; None for the words and the picture that an order came with."""
    stage: str
    action: str
    """The severest one: block, flag or allow."""
    tier: str
    user: str | None
    """The client's own word for its user, `safety_identifier`."""
    pass_no: int | None
    """Of a preview."""
    sha256: str
    """Of the exact pixels (RGB, row by row) or of the prompt, in hex."""
    categories: tuple[str, ...]
    """Those that the action is taken for."""
    scores: tuple[tuple[str, float], ...]
    policy: str
    screen: str
    words: str | None = None
    """The prompt; None unless that is configured."""


@dataclass(frozen=True, slots=True)
class LoggedVerdict:
    """As it stands in the log. seq: its number. at: seconds since the epoch."""

    seq: int
    at: float
    note: VerdictNote
    decision: str | None
    """Of the latest review."""


class ReviewDecision(StrEnum):
    """What a person makes of a verdict."""

    ALLOW = "allow"  # nothing is wrong: it counts as no strike
    UPHOLD = "uphold"  # the screens are right: it counts as one, and the picture is taken back


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What a review did. withdrawn: images as they were before, whose blobs no row points to any
    more; output_format: of these."""

    verdict: LoggedVerdict
    output_format: str = ""
    withdrawn: tuple[Render, ...] = ()


@dataclass(frozen=True, slots=True)
class Strikes:
    """Orders of a tenant that were blocked, and flagged ones that a review upheld."""

    count: int = 0
    seconds_since: float = 0.0
    """Since the newest one."""


@dataclass(frozen=True, slots=True)
class StrikeRules:
    """From how many strikes within how long a tenant has to wait, and how long after the newest.
    blocks None: never."""

    blocks: int | None = None
    within_seconds: float = 3_600.0
    cooldown_seconds: float = 900.0

    def wait_seconds(self, strikes: Strikes) -> float:
        """How long the tenant has to wait now; 0 for not at all."""
        if self.blocks is None or strikes.count < self.blocks:
            return 0.0
        return max(0.0, self.cooldown_seconds - strikes.seconds_since)
