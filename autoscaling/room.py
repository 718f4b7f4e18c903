"""Do the replicas that a config file promises fit on this machine? Pure arithmetic.

Serve itself would start what fits and let the rest wait for ever without a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reservation:
    """What one deployment holds at all times: its least number of replicas, each with so much."""

    application: str
    deployment: str
    replicas: int
    num_cpus: float
    num_gpus: float


@dataclass(frozen=True, slots=True)
class Room:
    """What a node offers."""

    num_cpus: float
    num_gpus: float


def shortage(reservations: Sequence[Reservation], room: Room) -> str | None:
    """What does not fit, by name and with the sum; None when all of it does."""
    return _shortage(reservations, "num_cpus", room.num_cpus) or _shortage(
        reservations, "num_gpus", room.num_gpus
    )


def _shortage(reservations: Sequence[Reservation], what: str, offered: float) -> str | None:
    terms = [
        (f"{r.application}/{r.deployment} {r.replicas} x {each:g}", r.replicas * each)
        for r in reservations
        if (each := getattr(r, what))
    ]
    needed = round(sum(amount for _, amount in terms), 4)
    if needed <= offered:
        return None
    sum_of_terms = " + ".join(text for text, _ in terms)
    return (
        f"{what}: {sum_of_terms} = {needed:g}, but this machine offers {offered:g}; "
        f"lower replicas or {what} by {needed - offered:.4g}"
    )
