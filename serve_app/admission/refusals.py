"""Tenants whose orders were refused lately."""

from __future__ import annotations

import time
from collections import OrderedDict

REMEMBERED_SECONDS = 60.0
REMEMBERED = 10_000


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
