"""Overdue jobs: a stage keeps them waiting. They take no room from others, and are bounded."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from dispatch.in_flight import Lease
from dispatch.leases import Leases
from dispatch.ports import CallLost, StageUnavailable
from dispatch.settings import DispatchSettings

OF_ONE_TENANT = 3
"""With so many of them overtaken by others, no more of their tenant's jobs are claimed."""
ALL = 4
"""Times as many may be overdue, with those that were overtaken."""
_DOUBLINGS = 3


class OverdueJobs:
    """Of one dispatcher. room: set when one becomes overdue, or is not any more."""

    def __init__(self, leases: Leases, settings: DispatchSettings, room: asyncio.Event) -> None:
        self._leases = leases
        self._settings = settings
        self._room = room
        self._answered_at = time.monotonic()

    @property
    def full(self) -> bool:
        """Whether there is no room for another one. Those that have been overtaken say little about
        the stages, and so about others."""
        overdue, overtaken, most = self._number, len(self._overtaken), self._settings.waiting
        return overdue - overtaken >= most or overdue >= ALL * most

    @property
    def crowded(self) -> frozenset[str]:
        """Tenants that have their share of it. In an outage of a stage no job overtakes another,
        and that says nothing about a tenant."""
        jobs_of = Counter(lease.job.request.tenant for lease in self._overtaken)
        return frozenset(tenant for tenant, jobs in jobs_of.items() if jobs >= OF_ONE_TENANT)

    @property
    def _number(self) -> int:
        return sum(lease.overdue_since is not None for lease in self._leases)

    @property
    def _overtaken(self) -> list[Lease]:
        """Overdue, although the stages have answered for another job since."""
        since = ((lease, lease.overdue_since) for lease in self._leases)
        return [lease for lease, at in since if at is not None and at < self._answered_at]

    @contextmanager
    def timed(self, lease: Lease) -> Iterator[None]:
        """Around the calls of a job: it is overdue from when they are late."""
        loop = asyncio.get_running_loop()
        late = loop.call_later(self._settings.slow_seconds, self.add, lease)
        try:
            yield
        finally:
            late.cancel()

    def add(self, lease: Lease) -> None:
        """It takes no room from now on."""
        lease.late()
        self._room.set()

    def remove(self, lease: Lease) -> None:
        """The stages have answered."""
        self._answered_at = time.monotonic()
        lease.answered()
        self._room.set()

    def backoff_seconds(self, lease: Lease) -> float:
        """Until its next try, which this counts; jobs that were lost together come back apart."""
        doubled = self._settings.retry_seconds * float(2 ** min(lease.retries, _DOUBLINGS))
        lease.retry()
        return doubled * random.uniform(0.5, 1.5)

    def gives_up(self, lease: Lease, error: StageUnavailable) -> bool:
        """Whether a job that waits for a stage should do so in the queue, where it has its
        deadline. Not a suspect: its next try decides."""
        self.add(lease)
        waited = time.monotonic() - (lease.overdue_since or 0.0)
        return waited > self._settings.patience_seconds and not isinstance(error, CallLost)
