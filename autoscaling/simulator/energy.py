"""What a GPU draws from the wall, busy and idle. Estimates: real pictures are measured, not these.

h200: busy is its 700 W limit, the GPU alone. b200: busy is an eighth of the 9,514 W of a whole
8-GPU server that drew SDXL in MLPerf Power v5.1, the only audited figure for pictures. Idle draw
with the weights loaded is published nowhere: a sixth of busy is assumed.
"""

from __future__ import annotations

from dataclasses import dataclass

JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True, slots=True)
class Watts:
    """Of one GPU."""

    busy: float
    idle: float


WATTS = {"h200": Watts(700.0, 117.0), "b200": Watts(1189.0, 198.0)}


def kwh(watts: Watts, busy_seconds: float, idle_seconds: float) -> float:
    """Energy of GPU-seconds."""
    return (watts.busy * busy_seconds + watts.idle * idle_seconds) / JOULES_PER_KWH
