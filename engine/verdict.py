"""What a screen says about one prompt or one picture, and the error of a screen that cannot start.

Verdicts cross processes; nothing here knows how a screen decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from engine.releases import between_releases


class ScreenUnusable(ValueError):
    """A screen's weights or settings are missing or wrong: the message names file and field.

    A service that cannot screen does not start.
    """

    def __init__(self, path: Path | str, field: str, reason: str) -> None:
        super().__init__(f"{path}: {field}: {reason}")


@between_releases
@dataclass(frozen=True, slots=True)
class Verdict:
    """What the policy makes of a classifier's scores.

    categories: those that are blocked, in OpenAI's words where it has one (policy.Category); empty
        exactly when not blocked.
    scores: (category, 0..1) of everything that was looked at, blocked or not.
    screen: which classifier spoke, or several joined by "+".
    flagged: categories that are to be reviewed.
    policy: which policy decided.
    """

    blocked: bool
    categories: tuple[str, ...] = ()
    scores: tuple[tuple[str, float], ...] = ()
    screen: str = ""
    flagged: tuple[str, ...] = ()
    policy: str = ""


def merge(verdicts: Iterable[Verdict]) -> Verdict:
    """Several verdicts on one request: blocked by any; the highest score of each category."""
    verdicts = list(verdicts)
    scores: dict[str, float] = {}
    for verdict in verdicts:
        for category, score in verdict.scores:
            scores[category] = max(score, scores.get(category, 0.0))
    categories = dict.fromkeys(c for verdict in verdicts for c in verdict.categories)
    flagged = dict.fromkeys(c for verdict in verdicts for c in verdict.flagged)
    return Verdict(
        blocked=any(verdict.blocked for verdict in verdicts),
        categories=tuple(categories),
        scores=tuple(scores.items()),
        screen="+".join(dict.fromkeys(verdict.screen for verdict in verdicts)),
        flagged=tuple(flagged),
        policy="+".join(dict.fromkeys(verdict.policy for verdict in verdicts if verdict.policy)),
    )


def require_sha256(path: Path, expected: str) -> None:
    """Compare a file with its pinned digest; ScreenUnusable when missing or different."""
    if not path.is_file():
        raise ScreenUnusable(path, "file", "missing")
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != expected:
        raise ScreenUnusable(path, "sha256", f"is {actual[:16]}..., expected {expected[:16]}...")
