"""What a pass costs: measured seconds by family and batch width, and what follows for a request.

Pure: no clock, no tensors. Whoever measures calls `observe`; planners, ETA and the simulator ask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class PassCost:
    """A straight line: what a pass costs whoever rides, and what each row adds."""

    fixed_seconds: float
    row_seconds: float

    def __post_init__(self) -> None:
        if self.fixed_seconds < 0 or self.row_seconds < 0:
            raise ValueError(f"a pass cannot cost less than nothing: {self}")

    def seconds(self, width: int) -> float:
        """Seconds of one pass of `width` renders."""
        return self.fixed_seconds + self.row_seconds * width


PRIOR = PassCost(fixed_seconds=0.005, row_seconds=0.03)
"""Believed of a family until measured: a small model on a CPU, where rows hardly share anything."""


@dataclass(slots=True)
class Fare:
    """What one render's passes have cost so far: of each its share, the batch's seconds over its
    width."""

    seconds: float = 0.0
    passes: int = 0
    widths: int = 0

    def ride(self, pass_seconds: float, width: int) -> None:
        """One more pass, in a batch of `width` renders."""
        self.seconds += pass_seconds / width
        self.passes += 1
        self.widths += width

    def whole(self, passes: int, slots: int) -> float:
        """GPU-seconds of all `passes`; 0.0 when that cannot be said: some were done elsewhere, or
        its batches were on average less than half full, in which a render costs more than it does
        when there is a queue."""
        typical = 2 * self.widths >= slots * self.passes
        return self.seconds if self.passes == passes and typical else 0.0


@dataclass(slots=True)
class CostTable:
    """Seconds per pass of each (family, batch width), learned as an exponential moving average.

    smoothing: weight of a new measurement, 0 < smoothing <= 1; the first one counts fully.
    """

    priors: Mapping[str, PassCost] = field(default_factory=dict)
    smoothing: float = 0.1
    _measured: dict[str, dict[int, float]] = field(default_factory=dict)

    def observe(self, family: str, width: int, seconds: float) -> None:
        """A pass of `width` renders took `seconds`."""
        if width < 1 or seconds < 0:
            raise ValueError(f"not a measured pass: width {width}, {seconds} seconds")
        widths = self._measured.setdefault(family, {})
        before = widths.get(width, seconds)
        widths[width] = before + self.smoothing * (seconds - before)

    def pass_seconds(self, family: str, width: int) -> float:
        """Predicted seconds of one pass of `width` renders.

        An unmeasured width is its prior, scaled by how far the nearest measured width is off its
        own prior: the line's shape is kept, its height learned.
        """
        prior = self.priors.get(family, PRIOR)
        widths = self._measured.get(family)
        if not widths:
            return prior.seconds(width)
        if width in widths:
            return widths[width]
        near = min(widths, key=lambda known: (abs(known - width), known))
        expected = prior.seconds(near)
        scale = widths[near] / expected if expected > 0 else 1.0
        return prior.seconds(width) * scale

    def request_seconds(self, family: str, passes: int, n: int = 1, width: int = 1) -> float:
        """Decoder-seconds of n renders of `passes` passes, riding in batches of `width`.

        This is work, not waiting time: each pays its share of the passes it rides in.
        """
        return passes * n * self.pass_seconds(family, width) / width
