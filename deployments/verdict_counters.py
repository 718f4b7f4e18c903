"""Verdicts in Ray's metrics, which Prometheus collects from every node."""

from __future__ import annotations

from collections.abc import Iterator

from ray.serve.metrics import Counter

from engine.policy import Action, ScreenStage
from engine.verdict import Verdict

NAME = "meltproof_verdicts"
TAGS = ("stage", "category", "action")
NO_CATEGORY = "none"
"""Of a verdict that allows everything."""


class VerdictCounters:
    """Of one classifier replica: sum them over all."""

    def __init__(self) -> None:
        self._verdicts = Counter(NAME, "Verdicts by stage, category and action.", TAGS)

    def count(self, stage: ScreenStage, verdict: Verdict) -> None:
        """One more."""
        for tags in tags_of(stage, verdict):
            self._verdicts.inc(1, tags)


def tags_of(stage: ScreenStage, verdict: Verdict) -> Iterator[dict[str, str]]:
    """One for each category that something is done about, or one for none."""
    acted = [(name, Action.BLOCK) for name in verdict.categories]
    acted += [(name, Action.FLAG) for name in verdict.flagged]
    for category, action in acted or [(NO_CATEGORY, Action.ALLOW)]:
        yield dict(zip(TAGS, (stage, category, action), strict=True))
