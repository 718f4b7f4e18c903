"""How much of the promised wait to plan with, learned from the waits that are seen."""

from __future__ import annotations

import math

from autoscaling.policy import TierLoad

LATE_SHARE = 0.05
"""Of the jobs may wait longer than promised."""
RATE = 0.02
"""Step of the logarithm for each job: some 200 on time for a quarter more, a dozen late ones for as
much less."""
MARGIN = 0.9
"""Of the promised wait: from there on a job counts as late, for some are seen too late."""
LEAST, MOST = 0.6, 1.25
"""Bounds of what is planned with, of what was promised. The least is for lanes of many tenants:
those that ask for most wait behind the others, longer than the whole queue takes on average."""
JOBS_AT_ONCE = 20
"""Count at most of one reading: what one burst meets is one piece of evidence."""


class Promise:
    """Of one tier. `scale` times the promised wait is what to plan with: less after jobs were late,
    more while none are, so that as many are late as may be (stochastic approximation of a quantile,
    Robbins and Monro 1951). Starts with 1; a policy that starts anew has lost only this factor."""

    def __init__(self) -> None:
        self.scale = 1.0
        self._before: tuple[float, TierLoad] | None = None

    def observe(
        self, at: float, load: TierLoad | None, wait_seconds: float, busy: bool = True
    ) -> None:
        """What waits now; None: nothing. Jobs that left the queue since the last reading have
        waited about as long as its first one had. busy: something waits or is held for a slot;
        a lane where nothing does teaches nothing but what has just left."""
        before_at, before = self._before or (at, TierLoad(0, 0.0))
        self._before = at, load or TierLoad(0, 0.0)
        passed = at - before_at
        if passed <= 0 or not (busy or before.jobs):
            return
        begun = before.jobs - (load.jobs if load else 0)
        waited = before.oldest_seconds + passed if before.jobs else 0.0
        late = waited > MARGIN * wait_seconds
        count = min(max(begun, min(passed, 1.0)), JOBS_AT_ONCE)
        step = RATE * count * (LATE_SHARE - late)
        self.scale = min(max(self.scale * math.exp(step), LEAST), MOST)
