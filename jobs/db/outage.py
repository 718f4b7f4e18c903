"""Whether a lapsed lease means a dead holder, or only that the ledger could not be reached."""

from __future__ import annotations


class Outage:
    """Remembers when this ledger client had no answer. After an outage (or a jump of the clock)
    every lease looks lapsed; the holders get one lease to renew before anything is taken away."""

    def __init__(self) -> None:
        self._last_success_at: float | None = None
        self._failed = False
        self._ended_at = float("-inf")

    def succeeded(self, now: float) -> None:
        """A call had an answer."""
        self._last_success_at = now

    def failed(self) -> None:
        """A call had none."""
        self._failed = True

    def look(self, now: float, patience_seconds: float) -> None:
        """Note an outage that ends now: a failure, or a silence longer than `patience_seconds`.
        One that ended in the future did so before the clock went back."""
        silent = (
            self._last_success_at is not None and now - self._last_success_at > patience_seconds
        )
        self._ended_at = now if self._failed or silent else min(self._ended_at, now)
        self._failed = False

    def lapsed(self, until: float, term_seconds: float, now: float) -> bool:
        """Whether a term that ran to `until` is over, a whole term after any outage at least."""
        return max(until, self._ended_at + term_seconds) <= now
