"""Crowds of less than a minute, as times of arrival: the same ones every time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """rate: jobs a second at a second of it. step_at: when the load jumps, if it does. paid: asked
    by those who were promised a short wait."""

    seconds: float
    rate: Callable[[float], float]
    step_at: float | None = None
    paid: bool = False

    def due(self, scale: float = 1.0) -> list[float]:
        """When each job is due: where the integral of the rate passes the next whole number.
        scale: of time; a tenth of the time has a tenth of the jobs."""
        found, work, moment = [], 0.0, 0.01
        for tick in range(int(self.seconds / moment)):
            work += self.rate(tick * moment) * moment * scale
            while work >= len(found) + 1:
                found.append(tick * moment * scale)
        return found


LEAST, MOST = 0.5, 7.0
"""Jobs a second; a decoder of configs/paced-autoscaling.yaml draws 1.67."""

SHAPES: Mapping[str, Shape] = {
    "step": Shape(30.0, lambda at: 20.0 if 10 <= at < 19 else 1.2, step_at=10.0, paid=True),
    "ramp": Shape(45.0, lambda at: LEAST + (MOST - LEAST) * at / 45),
    "sawtooth": Shape(54.0, lambda at: LEAST + (MOST - LEAST) * (at % 18) / 18),
    "pulse": Shape(40.0, lambda at: 3 * MOST if 10 <= at < 15 else LEAST, step_at=10.0),
}
