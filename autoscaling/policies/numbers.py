"""The numbers of a scaling policy, as a config file gives them. Checked here, once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

POLICIES = ("drain", "ongoing", "static")


@dataclass(frozen=True, slots=True)
class PolicyNumbers:
    """What an operator may say about one deployment's replicas. ValueError names the field."""

    policy: str = "drain"
    """`drain` follows waiting work, `ongoing` requests in progress, `static` is max_replicas."""
    min_replicas: int = 1
    max_replicas: int = 1
    wait_seconds: float = 60.0
    """That 95 % of the jobs may wait."""
    tier_wait_seconds: Mapping[str, float] = field(default_factory=dict)
    """The same by tier, where a tier differs."""
    horizon_seconds: float = 0.0
    """How far ahead arrivals count; at least one cold start always does."""
    smoothing_seconds: float = 30.0
    """Over which the arrival rate is averaged for that."""
    ongoing_per_replica: float = 2.0
    """What `ongoing` aims at."""
    panic_factor: float = 2.0
    """Work that comes at so many times what the replicas draw is a burst."""
    panic_seconds: float = 6.0
    """After a burst began: no step limit up, and no replica is given back."""
    idle_cold_starts: float = 1.0
    """How many cold starts long a replica is kept that is not needed."""
    scale_down_seconds: float = 15.0
    """How long at least."""
    step_up: int | None = None
    """Replicas more in step_seconds, at most; None: no limit."""
    step_down: int | None = None
    """Replicas fewer in step_seconds, at most; None: no limit."""
    step_seconds: float = 10.0

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ValueError(f"policy must be one of {', '.join(POLICIES)}, not {self.policy!r}")
        for name, value in self._floats():
            _check(name, value)
        for name in ("step_up", "step_down"):
            step = getattr(self, name)
            if step is not None and step < 1:
                raise ValueError(f"{name} must be at least 1, not {step}")
        if self.panic_factor < 1:
            raise ValueError(f"panic_factor must be at least 1, not {self.panic_factor:g}")
        if self.min_replicas < 0:
            raise ValueError(f"min_replicas must not be negative: {self.min_replicas}")
        if self.max_replicas < max(1, self.min_replicas):
            raise ValueError(
                f"max_replicas must be at least 1 and at least min_replicas "
                f"({self.min_replicas}), not {self.max_replicas}"
            )

    def wait_of(self, tier: str) -> float:
        """Seconds that 95 % of the tier's jobs may wait."""
        return self.tier_wait_seconds.get(tier, self.wait_seconds)

    def _floats(self) -> list[tuple[str, float]]:
        own = [(f.name, getattr(self, f.name)) for f in fields(self) if f.type == "float"]
        tiers = self.tier_wait_seconds.items()
        return own + [(f"tier_wait_seconds.{tier}", seconds) for tier, seconds in tiers]


def _check(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a number, not {value}")
    if value < 0:
        raise ValueError(f"{name} must not be negative: {value:g}")
    if value == 0 and name.split(".")[0] in _ABOVE_ZERO:
        raise ValueError(f"{name} must be above 0")


_ABOVE_ZERO = ("wait_seconds", "tier_wait_seconds", "ongoing_per_replica", "step_seconds")
