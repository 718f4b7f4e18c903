"""The best schedule in hindsight: a policy that knows every arrival beforehand.

Drawn work, as a curve over time, must stay below what has arrived and above what has run out of
patience. Of all curves between these two, the taut string changes its slope least, and its slope is
the number of busy replicas: no replica idles, and as few as possible are started. It is near the
optimum and not below it: what is promised is run through the simulator like any other policy.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from autoscaling.policy import Decision, LoadSnapshot
from autoscaling.simulator.simulation import SimulationResult, simulate
from autoscaling.simulator.workload import Arrival, Lane
from jobs.tiers import Tier

LATE_SHARE = 0.05
MARGINS = (0.1, 1.6)
"""Share of the promised wait that a plan counts on, at least and at most: on more than all of it
where 5 % may wait longer, on less where whole pictures are no fluid."""
TRIALS = 7


@dataclass(frozen=True, slots=True)
class Schedule:
    """Replicas asked for in each second from 0 on; afterwards one, while any job waits."""

    targets: Sequence[int]

    def __call__(self, snapshot: LoadSnapshot) -> Decision:
        second = int(snapshot.at)
        if second < len(self.targets):
            return Decision(self.targets[second], "known beforehand")
        left = snapshot.waiting_seconds + snapshot.running_seconds
        return Decision(int(left > 0), "what is left")


def clairvoyant(
    lane: Lane, arrivals: Sequence[Arrival], wait_seconds: float, *, seed: int = 0
) -> SimulationResult | None:
    """The cheapest run found in which 95 % of the jobs begin within wait_seconds, with the lane's
    cold start and bounds; all of them in the order of arrival, without shares.
    None: not found, however much is allowed."""
    lane = replace(lane, tiers={"": Tier()})
    alike = [replace(a, tenant="", tier="", newcomer=False) for a in arrivals]

    def run(margin: float, occupied: bool) -> SimulationResult:
        schedule = plan(lane, alike, margin * wait_seconds, occupied)
        return simulate(lane, alike, schedule, seed=seed)

    found = [_most_patient(run, occupied, wait_seconds) for occupied in (True, False)]
    return min((outcome for outcome in found if outcome), key=gpu_seconds, default=None)


def _most_patient(
    run: Callable[[float, bool], SimulationResult], occupied: bool, wait_seconds: float
) -> SimulationResult | None:
    """By bisection, the one whose plan counts on the longest wait."""
    found: SimulationResult | None = None
    least, most = MARGINS
    for _ in range(TRIALS):
        margin = (least + most) / 2
        outcome = run(margin, occupied)
        if late_share(outcome, wait_seconds) <= LATE_SHARE:
            found, least = outcome, margin
        else:
            most = margin
    return found


def gpu_seconds(outcome: SimulationResult) -> float:
    """Paid, from asking for each replica until it is gone."""
    end = outcome.ended_at
    return sum((r.gone_at or end) - r.asked_at for r in outcome.replicas)


def late_share(outcome: SimulationResult, wait_seconds: float) -> float:
    """Of the accepted jobs, those that waited longer or for ever."""
    accepted = [job for job in outcome.jobs if job.refused is None]
    late = sum(job.wait_seconds is None or job.wait_seconds > wait_seconds for job in accepted)
    return late / max(1, len(accepted))


def plan(
    lane: Lane, arrivals: Sequence[Arrival], wait_seconds: float, occupied: bool = True
) -> Schedule:
    """By which every job would begin within wait_seconds, were work a fluid. occupied: as many
    replicas as that work occupies; else as many as draw it at the pace at which it begins."""
    times = [a.at for a in arrivals]
    work = [a.images * (a.passes or lane.passes) * lane.row_seconds for a in arrivals]
    so_far = [0.0, *accumulate(work)]
    patience = max(1, math.floor(wait_seconds))
    end = math.ceil(times[-1]) + patience + 2 if times else 2
    arrived = [so_far[bisect_right(times, second)] for second in range(end)]
    due = [0.0] * patience + arrived[: end - patience]
    due[-1] = arrived[-1]
    begun = taut_string(due, arrived)
    drawn_in = max(1, round(lane.picture_seconds * lane.slots)) if occupied else 1
    before, after = [0.0] * drawn_in + begun, begun + begun[-1:] * drawn_in
    busy = [(b - a) / drawn_in for a, b in zip(before, after, strict=True)]
    if occupied:  # what a replica has begun it also ends after it was given back
        early = min(drawn_in // 2, int(lane.grace_seconds))
        busy = [
            min(now, soon) for now, soon in zip(busy, busy[early:] + [0.0] * early, strict=True)
        ]
    return Schedule(_ahead(_within(busy, lane), math.ceil(lane.cold_start.median_seconds), lane))


def taut_string(lower: Sequence[float], upper: Sequence[float]) -> list[float]:
    """The shortest way from lower[0] to lower[-1] that stays between both; neither ever falls."""
    last, at, height = len(lower) - 1, 0, lower[0]
    way = [height]
    while at < last:
        knee, reached = _next_knee(lower, upper, at, height)
        slope = (reached - height) / (knee - at)
        way += [height + slope * step for step in range(1, knee - at + 1)]
        at, height = knee, reached
    return way


def _next_knee(
    lower: Sequence[float], upper: Sequence[float], at: int, height: float
) -> tuple[int, float]:
    """How far the string runs straight: until one side bends it around the other."""
    steepest, flattest = math.inf, -math.inf
    roof = floor = at + 1
    for j in range(at + 1, len(lower)):
        to_lower, to_upper = (lower[j] - height) / (j - at), (upper[j] - height) / (j - at)
        if to_lower > steepest:
            return roof, upper[roof]
        if to_upper < flattest:
            return floor, lower[floor]
        if to_lower >= flattest:
            flattest, floor = to_lower, j
        if to_upper <= steepest:
            steepest, roof = to_upper, j
    return len(lower) - 1, lower[-1]


def _within(busy: Sequence[float], lane: Lane) -> list[int]:
    """Whole replicas, as many as there may be at most; what they leave is drawn later."""
    owed, found = 0.0, list[int]()
    most = min(lane.max_replicas, lane.nodes or lane.max_replicas)
    for wanted in busy:
        replicas = min(most, math.floor(wanted + owed + 0.5))
        owed += wanted - replicas
        found.append(replicas)
    return found + [most] * math.ceil(owed / most)


def _ahead(replicas: Sequence[int], cold_start: int, lane: Lane) -> list[int]:
    """Asked for one cold start early; and kept over a gap that is shorter than one."""
    early = [*replicas, *[0] * cold_start]
    return [
        max(lane.min_replicas, *early[second : second + cold_start + 1])
        for second in range(len(early))
    ]
