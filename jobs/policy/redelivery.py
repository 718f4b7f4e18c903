"""When a failed delivery is tried again, and when an endpoint has failed for too long. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

_FIRST_SECONDS = 5.0
_LONGEST_SECONDS = 14_400.0
_JITTER = 0.25
"""The share of a wait by which it is longer or shorter."""
_MOST_DOUBLINGS = 32
_FAILING_SHARE = 2
"""One in so many of a gateway's deliveries may go to endpoints that fail."""


@dataclass(frozen=True, slots=True)
class DeliveryRules:
    """seconds: of one try. lease_seconds: how long a claimed delivery is its gateway's; longer than
    a try. retry_seconds: how long tries go on. disable_seconds: how long an endpoint may fail.
    per_endpoint: deliveries to one endpoint at a time, of one gateway."""

    seconds: float = 10.0
    retry_seconds: float = 259_200.0
    disable_seconds: float = 259_200.0
    per_endpoint: int = 4

    @property
    def lease_seconds(self) -> float:
        """A try, the wait for its bookkeeping, and something for slow machines."""
        return 2 * self.seconds + 20.0


@dataclass(frozen=True, slots=True)
class DueEndpoint:
    """An endpoint with a delivery that is due."""

    id: str
    failing: bool


def wait_seconds(attempts: int, jitter: float) -> float:
    """After so many failed tries: doubled each time, up to four hours, give or take a quarter.
    jitter: 0..1."""
    doubled = _FIRST_SECONDS * 2.0 ** min(max(attempts - 1, 0), _MOST_DOUBLINGS)
    return min(doubled, _LONGEST_SECONDS) * (1.0 + _JITTER * (2.0 * jitter - 1.0))


def next_try(attempts: int, now: float, retry_until: float, jitter: float) -> float | None:
    """When it is tried again: the last time at `retry_until`. None: not any more."""
    if now >= retry_until:
        return None
    return min(now + wait_seconds(attempts, jitter), retry_until)


def is_over(failing_since: float | None, now: float, disable_seconds: float) -> bool:
    """Whether an endpoint has failed for as long as it may."""
    return failing_since is not None and now - failing_since >= disable_seconds


def shares(
    due: Sequence[DueEndpoint],
    room: int,
    in_hand: Mapping[str, int],
    failing: Collection[str],
    per_endpoint: int,
) -> dict[str, int]:
    """How many deliveries of each endpoint to take, in that order, so that none delays others: one
    that fails gets one at a time, and all of those no more than half of the room there is in all.
    room: what the gateway can take yet. failing: all endpoints that fail."""
    most = (room + sum(in_hand.values())) // _FAILING_SHARE
    most_failing = most - sum(count for one, count in in_hand.items() if one in failing)
    taken: dict[str, int] = {}
    for one in due:
        own = min((1 if one.failing else per_endpoint) - in_hand.get(one.id, 0), room)
        if one.failing:
            own = min(own, most_failing)
            most_failing -= max(own, 0)
        if own > 0:
            taken[one.id] = own
            room -= own
    return taken
