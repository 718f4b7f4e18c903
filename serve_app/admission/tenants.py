"""What one gateway keeps of each tenant: its open requests, bounded, whether orders of it were
refused lately, and token buckets, many and bounded."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Iterator, MutableMapping
from contextlib import ExitStack, contextmanager
from typing import Any

from serve_app.admission.cooldown import PATH, cooldown
from serve_app.wire.errors import TooManyOpen

PER_GATEWAY = 20_000
"""Requests that one gateway is given at the same time."""
KEPT_FREE = 2_000
"""Of them for requests that are answered at once."""
REMEMBERED_SECONDS = 60.0
REMEMBERED = 10_000
"""Tenants with refused orders."""

REFUSED_SECONDS = 1.0
"""How long a refusal stands for the same stream, shorter than the client is told to wait: it may
close another one meanwhile."""
FEW_OPEN = 50
MOST_PATIENT = 10.0
"""Times as silent, at most, is a stream of a tenant that has many."""

ENDING = "meltproof.ending"
"""Where a request's scope has what is to be done once its answer has been sent."""
BURST_SECONDS = 4.0
"""A bucket holds what flows into it in this time."""
BUCKETS = 50_000
"""The one that was used longest ago is forgotten, and forgotten means full: many
addresses get no more than a bucket each, and hold no memory."""


class OpenRequests:
    """One gateway's. No tenant takes more of what is free than it leaves to others, so that the
    gateway's own limit is never used up by them."""

    def __init__(self, room: int = PER_GATEWAY - KEPT_FREE) -> None:
        self._room = room
        self._open: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._open.total()

    def enter(self, tenant: str, most: int) -> None:
        """One more. Raises TooManyOpen."""
        allowed = min(most, self._room - self._open.total())
        if self._open[tenant] >= allowed:
            raise TooManyOpen(
                f"{self._open[tenant]} requests of your account are waiting or streaming here, and "
                "no more may. Close some, or order with 'Prefer: respond-async' and ask for the "
                "job now and then.",
                headers=cooldown(REFUSED_SECONDS, PATH),
            )
        self._open[tenant] += 1

    def keepalive_seconds(self, tenant: str, shortest: float) -> float:
        """How long a stream of the tenant that opens now may be silent: longer the more it has
        open, since a thousand of them that say nothing would keep a gateway busy otherwise."""
        factor = min(MOST_PATIENT, self._open[tenant] / FEW_OPEN)
        return shortest * max(1.0, factor)

    def leave(self, tenant: str) -> None:
        """One of them has been answered, or its client has gone."""
        self._open[tenant] -= 1
        if not self._open[tenant]:
            del self._open[tenant]


@contextmanager
def ending(scope: MutableMapping[str, Any]) -> Iterator[ExitStack]:
    """Around a whole request: at its end, what `stay_open` holds for it is released."""
    with ExitStack() as stack:
        scope[ENDING] = stack
        yield stack


class RecentRefusals:
    """Only these tenants are checked before a small body is read, so that the orders of all others
    cost the ledger no further query."""

    def __init__(self) -> None:
        self._until: OrderedDict[str, float] = OrderedDict()

    def note(self, tenant: str) -> None:
        """An order of the tenant was refused."""
        self._until[tenant] = time.monotonic() + REMEMBERED_SECONDS
        self._until.move_to_end(tenant)
        if len(self._until) > REMEMBERED:
            self._until.popitem(last=False)

    def __contains__(self, tenant: str) -> bool:
        return self._until.get(tenant, 0.0) > time.monotonic()


class Buckets:
    """One bucket a caller. Not for several threads."""

    def __init__(self, most: int = BUCKETS) -> None:
        self._most = most
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, at

    def __len__(self) -> int:
        return len(self._levels)

    def take(self, caller: str, per_second: float, now: float) -> float:
        """Take a token. 0.0, or the seconds until there will be one."""
        level = self._level(caller, per_second, now)
        wait = _wait(level, per_second)
        self._keep(caller, level if wait else level - 1, now)
        return wait

    def wait(self, caller: str, per_second: float, now: float) -> float:
        """What `take` would answer; takes nothing."""
        return _wait(self._level(caller, per_second, now), per_second)

    def charge(self, caller: str, per_second: float, now: float, tokens: float) -> None:
        """Take so many tokens for what has been done already, more than there are if need be: the
        caller waits until they have flowed in again."""
        self._keep(caller, self._level(caller, per_second, now) - tokens, now)

    def _level(self, caller: str, per_second: float, now: float) -> float:
        holds = max(1.0, per_second * BURST_SECONDS)
        level, at = self._levels.get(caller, (holds, now))
        return min(holds, level + max(0.0, now - at) * per_second)

    def _keep(self, caller: str, level: float, now: float) -> None:
        self._levels[caller] = (level, now)
        self._levels.move_to_end(caller)
        if len(self._levels) > self._most:
            self._levels.popitem(last=False)


def _wait(level: float, per_second: float) -> float:
    return 0.0 if level >= 1 else (1 - level) / per_second
