"""What one gateway keeps of each tenant: its open requests, bounded, and whether orders of it were
refused lately."""

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
