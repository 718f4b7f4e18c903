"""Whose orders were refused lately."""

from __future__ import annotations

import time
from collections import OrderedDict

REMEMBERED_SECONDS = 60.0
REMEMBERED = 10_000


class Refused:
    """Tenants whose orders were refused lately: only these are asked about before a small body is
    read, so that the orders of all others cost the ledger no question more."""

    def __init__(self) -> None:
        self._until: OrderedDict[str, float] = OrderedDict()

    def note(self, tenant: str) -> None:
        """One was."""
        self._until[tenant] = time.monotonic() + REMEMBERED_SECONDS
        self._until.move_to_end(tenant)
        if len(self._until) > REMEMBERED:
            self._until.popitem(last=False)

    def lately(self, tenant: str) -> bool:
        """Whether one was."""
        return self._until.get(tenant, 0.0) > time.monotonic()
