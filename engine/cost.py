"""What a pass costs, and a render's share of the passes it was in. Pure: no clock, no tensors."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PassCost:
    """A straight line: what every pass costs, and what each row adds."""

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
class CostMeter:
    """What one render has cost so far: its setup, and of each pass its share, the batch's seconds
    over its width."""

    seconds: float = 0.0
    passes: int = 0
    widths: int = 0
    joules: float = 0.0
    """Its share likewise; 0.0 where nothing counts them."""

    def add_setup(self, seconds: float) -> None:
        """What it took to begin."""
        self.seconds += seconds

    def add_pass(self, pass_seconds: float, width: int, joules: float = 0.0) -> None:
        """One more pass, in a batch of `width` renders."""
        self.seconds += pass_seconds / width
        self.joules += joules / width
        self.passes += 1
        self.widths += width

    def total(self, passes: int, slots: int) -> float:
        """GPU-seconds with all `passes`; 0.0 when that cannot be said: some were done elsewhere, or
        its batches were on average less than half full, in which a render costs more than it does
        when there is a queue."""
        typical = 2 * self.widths >= slots * self.passes
        return self.seconds if self.passes == passes and typical else 0.0
