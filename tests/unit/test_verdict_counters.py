"""What a verdict counts as in the metrics."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray's own, at import
    from deployments.verdict_counters import tags_of
from engine.policy import ScreenStage
from engine.verdict import Verdict


def test_a_verdict_counts_once_for_each_category_that_something_is_done_about() -> None:
    both = Verdict(True, ("sexual", "minors"), flagged=("weapons",))
    tags = [tuple(one.values()) for one in tags_of(ScreenStage.FINAL, both)]
    assert tags == [
        ("final", "sexual", "block"),
        ("final", "minors", "block"),
        ("final", "weapons", "flag"),
    ]
    (calm,) = tags_of(ScreenStage.PREVIEW, Verdict(blocked=False))
    assert calm == {"stage": "preview", "category": "none", "action": "allow"}
