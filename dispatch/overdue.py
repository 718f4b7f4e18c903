"""Jobs that a stage has not done with in time: they take no room from others, and are bounded."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dispatch.in_flight import Hold
from dispatch.leases import Holds

OF_ONE_TENANT = 3
"""So many of them, overtaken by others, and a dispatcher takes no more of their tenant's."""
ALL = 4
"""So many times as many may wait, with those that were overtaken."""
_DOUBLINGS = 3


@dataclass(frozen=True, slots=True)
class Patience:
    """retry_seconds: between two tries at first. slow_seconds: a call that takes longer is late.
    wait_seconds: that a job waits here for a stage that is away. most: jobs that wait."""

    retry_seconds: float
    slow_seconds: float
    wait_seconds: float
    most: int


class WaitingRoom:
    """The waiting jobs of one dispatcher. `changed`: one came or left. draw: so that those that
    were lost together do not come again together."""

    def __init__(
        self,
        holds: Holds,
        patience: Patience,
        changed: Callable[[], None],
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._holds = holds
        self._patience = patience
        self._changed = changed
        self._draw = draw
        self._done_at = time.monotonic()

    @property
    def full(self) -> bool:
        """Whether there is no room for another one that might have to wait. Those that have been
        overtaken wait for their own sake, and say little about others."""
        waiting, overtaken = len(self._holds.waiting), len(self._overtaken)
        return waiting - overtaken >= self._patience.most or waiting >= ALL * self._patience.most

    @property
    def crowded(self) -> frozenset[str]:
        """Tenants that have their share of it. In an outage of a stage no job overtakes another,
        and that says nothing about a tenant."""
        jobs_of = Counter(hold.job.request.tenant for hold in self._overtaken)
        return frozenset(tenant for tenant, jobs in jobs_of.items() if jobs >= OF_ONE_TENANT)

    @property
    def _overtaken(self) -> list[Hold]:
        """Those that wait although the stages have done with another job since."""
        waiting = ((hold, hold.waiting_since) for hold in self._holds.waiting)
        return [hold for hold, since in waiting if since is not None and since < self._done_at]

    @contextmanager
    def timed(self, hold: Hold) -> Iterator[None]:
        """Around the calls of a job: it waits here from when they are late."""
        loop = asyncio.get_running_loop()
        late = loop.call_later(self._patience.slow_seconds, self.enter, hold)
        try:
            yield
        finally:
            late.cancel()

    def enter(self, hold: Hold) -> None:
        """It takes no room from now on."""
        if hold.waiting_since is None:
            hold.waiting_since = time.monotonic()
            self._changed()

    def leave(self, hold: Hold) -> None:
        """The stages have done with it."""
        self._done_at = time.monotonic()
        hold.waiting_since, hold.tries = None, 0
        self._changed()

    def pause(self, hold: Hold) -> float:
        """How long until its next try, in seconds."""
        doubled = self._patience.retry_seconds * 2 ** min(hold.tries, _DOUBLINGS)
        hold.tries += 1
        return float(doubled * (0.5 + self._draw()))

    def impatient(self, hold: Hold) -> bool:
        """Whether it has waited here for long enough."""
        since = hold.waiting_since
        return since is not None and time.monotonic() - since > self._patience.wait_seconds
