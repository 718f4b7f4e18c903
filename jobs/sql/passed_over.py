"""Jobs that a newer version wrote and that this one cannot read: queries look behind them."""

from __future__ import annotations

from collections.abc import Collection, Container

_MOST = 10_000
"""A list this long costs a query milliseconds. Jobs behind it are left to newer versions."""


class PassedOver:
    """Of one ledger client; forgotten with it. Callable from any thread."""

    def __init__(self) -> None:
        self._ids: tuple[str, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        """Those found so far."""
        return self._ids

    def note(self, asked: Collection[str], found: Container[str]) -> bool:
        """Whether some existing jobs that were asked for could not be read. They are remembered."""
        met = tuple(job_id for job_id in asked if job_id not in found)
        if met and len(self._ids) < _MOST:
            self._ids = (*self._ids, *met)
        return bool(met)
