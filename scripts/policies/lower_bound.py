"""A lower bound on the GPU-hours of every schedule, known beforehand or not, that keeps a promise.

The promise: all but 5 % of the jobs begin within W seconds of their arrival, and all are drawn. In
a lane without warm replicas, with one slot a replica and a fixed cold start c, a picture once begun
is drawn in its p seconds without a break. The bound is the optimum of a linear program, of which
every such schedule gives a feasible point that costs no more than the schedule:

* Time is cut into steps of h seconds. a[k] is the mean over step k of the number of replicas that
  have started and are not gone. A schedule pays the integral of that number, which is h * sum a,
  and c for each start. The number rises from 0 only by starts, so there are at least as many as it
  rises in all; and means over adjacent steps rise no more than what they are means of, since
  sum (a[k+1] - a[k])+ <= mean over s in [0, h) of sum (n(kh + h + s) - n(kh + s))+.
* S[k] is the work drawn until the end of step k. It rises by h * a[k] at most: a replica draws one
  picture at a time. It is at most what can be drawn by then: min(p, age) of each picture.
* x[i] is 1 where job i is one of those that may be late, else 0; the program takes any number
  between. The first picture of a job that is on time begins between its arrival and W later, so at
  age t it is drawn between min(p, t - W) and min(p, t) seconds. F[k] is the sum over these
  pictures; the others, S - F, are bounded by their own age and never undone.
* What is left after the last step costs at least itself: h * sum a + c * rises + (work - S).

What is relaxed: replicas and pictures are fluids, late jobs are late in part, and pictures may
change places with those that are on time. So no schedule may reach it; `clairvoyant` is the
cheapest one that is known to exist.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from autoscaling.simulator.clairvoyant import LATE_SHARE
from autoscaling.simulator.workload import Arrival, Lane


def lower_bound(
    lane: Lane,
    arrivals: Sequence[Arrival],
    wait_seconds: float,
    *,
    late_share: float = LATE_SHARE,
    step_seconds: float = 5.0,
) -> float:
    """GPU-seconds. ValueError for a lane that the proof does not cover."""
    _check(lane)
    drawn_in, cold_start = lane.picture_seconds, lane.cold_start.median_seconds
    at = np.array([arrival.at for arrival in arrivals])
    images = np.array([float(arrival.images) for arrival in arrivals])
    steps = math.ceil((at[-1] + wait_seconds + drawn_in) / step_seconds)
    must = _drawn(at + wait_seconds, drawn_in, steps, step_seconds)
    may = _drawn(at, drawn_in, steps, step_seconds)
    can = np.cumsum(may @ images)
    each, one = sparse.identity(steps), np.ones(len(at))
    none, nil = sparse.csr_matrix((steps, len(at))), sparse.csr_matrix((steps, steps))
    rise = sparse.diags([np.ones(steps), -np.ones(steps - 1)], [0, -1])
    # Columns: a, rises of a, S, F, M (F's upper bound), E (F's lower bound), x. Rows: ... <= right.
    below: list[tuple[list[Any], Any]] = [
        ([rise, -each, None, None, None, None, none], 0.0),  # rises count
        ([-step_seconds * each, None, rise, None, None, None, None], 0.0),  # S rises by h a
        ([None, None, each, None, None, None, None], can),
        ([None, None, each, -each, each, None, None], can),  # the others, by their own age
        ([None, None, -rise, rise, None, None, None], 0.0),  # the others are never undone
        ([None, None, None, -rise, None, None, None], 0.0),
        ([None, None, None, each, -each, None, None], 0.0),
        ([None, None, None, -each, None, each, None], 0.0),
    ]
    same: list[tuple[list[Any], Any]] = [
        ([nil, nil, nil, nil, rise, None, may], may @ one),
        ([None, None, None, None, None, rise, must], must @ one),
    ]
    late = sparse.csr_matrix(np.r_[np.zeros(6 * steps), one])
    upper = sparse.vstack([sparse.bmat([row for row, _ in below], format="csr"), late])
    right = np.r_[
        *(np.broadcast_to(limit, steps) for _, limit in below), late_share * len(arrivals)
    ]
    cost = np.zeros(6 * steps + len(at))
    cost[:steps], cost[steps : 2 * steps], cost[3 * steps - 1] = step_seconds, cold_start, -1.0
    equal = sparse.bmat([row for row, _ in same], format="csr")
    bounds = [(0.0, None)] * (6 * steps) + [(0.0, 1.0)] * len(at)
    least = _minimum(cost, (upper, right), (equal, np.r_[*(value for _, value in same)]), bounds)
    return float(least + drawn_in * images.sum())


def _minimum(cost: Any, below: tuple[Any, Any], same: tuple[Any, Any], bounds: Any) -> float:
    """Of the linear program."""
    found = linprog(cost, *below, *same, bounds=bounds, method="highs")
    if found.status != 0:
        raise ArithmeticError(f"the linear program was not solved: {found.message}")
    return float(found.fun)


def _drawn(since: Any, drawn_in: float, steps: int, step_seconds: float) -> Any:
    """(steps, jobs): seconds in each step of a picture that is drawn from `since` on."""
    rows, columns, seconds = list[int](), list[int](), list[float]()
    for job, began in enumerate(since):
        first, end = int(began // step_seconds), math.ceil((began + drawn_in) / step_seconds)
        for step in range(first, min(end, steps)):
            until = min((step + 1) * step_seconds, began + drawn_in)
            rows.append(step)
            columns.append(job)
            seconds.append(until - max(step * step_seconds, began))
    return sparse.csr_matrix((seconds, (rows, columns)), shape=(steps, len(since)))


def _check(lane: Lane) -> None:
    covered = {
        "slots": lane.slots == 1,
        "replicas": lane.replicas == 0,
        "min_replicas": lane.min_replicas == 0,
        "cold_start.p90_seconds": lane.cold_start.p90_seconds is None,
        "failures_per_hour": lane.failures_per_hour == 0,
        "grace_seconds": lane.grace_seconds >= lane.picture_seconds,
    }
    for name, fits in covered.items():
        if not fits:
            raise ValueError(
                f"{name}: the bound is proved for one slot, no warm replica, a fixed "
                "cold start, no failures and a grace of a whole picture"
            )
