"""How many renders are blocked at any of their looks (two previews and the final picture), by both
screens and the presets: of harmless ones each look is one more chance to be blocked wrongly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.capabilities import DEFAULT_WEIGHTS
from engine.policy import DEFAULT_POLICY, Look, SafetyPolicy, Scores, ScreenStage, policy_of
from engine.safety import IMAGE_SCREENS, SafetyScreens
from scripts.report import say
from scripts.weapons.drawings import PREVIEWED, draw_sets, load

LOOKS = (*(Look(ScreenStage.PREVIEW, share=share) for share in PREVIEWED), Look(ScreenStage.FINAL))
SAME_LINE = policy_of({"rules": [{"stages": ["preview"], "actions": {"block": 0.5}}]})
"""Previews judged as finals are."""


def measure_looks(name: str = "measured") -> dict[str, float]:
    """harmless_renders_blocked: at any look, and had previews the same line as finals; of what one
    of the sets draws."""
    draw_sets([name])
    drawn, screens = load(name), SafetyScreens(IMAGE_SCREENS, False, DEFAULT_WEIGHTS)
    scores = [screens.score_images(list(looks)) for looks in drawn.pictures]
    presets, same_line = blocked(scores, DEFAULT_POLICY), blocked(scores, SAME_LINE)
    for kind, rows in (("harmless", ~drawn.weapons), ("weapons", drawn.weapons)):
        say(f"{name}: {rows.sum()} {kind}; blocked at any look, and at each")
        for title, hits in (("presets", presets[rows]), ("same line", same_line[rows])):
            say(f"  {title}: {hits.any(1).sum()}, {hits.sum(0).tolist()}")
        say(f"  a preview between the lines is shown of {shown(presets, same_line)[rows].sum()}")
    calm = ~drawn.weapons
    return {
        "harmless_renders_blocked": round(float(presets[calm].any(1).mean()), 5),
        "harmless_renders_blocked_same_line": round(float(same_line[calm].any(1).mean()), 5),
    }


def shown(presets: NDArray[np.bool_], same_line: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """bool [renders]: whether one of its previews is over the line of finals and not blocked, as no
    earlier one was. Both bool [renders, looks]."""
    stopped = np.logical_or.accumulate(presets, axis=1)
    over: NDArray[np.bool_] = (same_line & ~stopped)[:, :-1].any(1)
    return over


def blocked(scores: Sequence[Sequence[Scores]], policy: SafetyPolicy) -> NDArray[np.bool_]:
    """bool [renders, looks]: what the policy blocks. scores: of each render's LOOKS, in order."""
    return np.array(
        [
            [policy.decide(one, look).blocked for one, look in zip(looks, LOOKS, strict=True)]
            for looks in scores
        ]
    )
