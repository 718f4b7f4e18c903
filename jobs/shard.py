"""One database of several: opened when it is first asked, and left alone while it is away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from jobs.errors import Overtaken
from jobs.ledger import LedgerUnavailable
from jobs.sql_ledger import SqlLedger
from jobs.tiers import Tier

T = TypeVar("T")

_PAUSE_SECONDS = 1.0


class Shard:
    """A SqlLedger that need not answer. After it did not, it is asked again only after a pause, as
    long as it kept us waiting, so that it does not hold up those who ask the others too."""

    def __init__(
        self, open_ledger: Callable[[], SqlLedger], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._open = open_ledger
        self._clock = clock
        self._opening = threading.Lock()
        self._ledger: SqlLedger | None = None
        self._tiers: Mapping[str, Tier] | None = None
        self._away: tuple[float, str] | None = None  # until when, and why

    def ask(self, question: Callable[[SqlLedger], T]) -> T:
        """The ledger's answer. LedgerUnavailable, at once while it is known to be away."""
        asked_at = self._clock()
        away = self._away
        if away is not None and asked_at < away[0]:
            raise LedgerUnavailable(away[1])
        try:
            answer = question(self._opened())
        except Overtaken:
            raise
        except LedgerUnavailable as error:
            now = self._clock()
            self._away = now + max(_PAUSE_SECONDS, now - asked_at), str(error)
            raise
        self._away = None
        return answer

    def promise(self, tiers: Mapping[str, Tier]) -> None:
        """See SqlLedger.tiers."""
        with self._opening:
            self._tiers = tiers
            if self._ledger is not None:
                self._ledger.tiers = tiers

    def close(self) -> None:
        """Close what was opened."""
        with self._opening:
            if self._ledger is not None:
                self._ledger.close()

    def _opened(self) -> SqlLedger:
        with self._opening:
            if self._ledger is None:
                self._ledger = self._open()
                if self._tiers is not None:
                    self._ledger.tiers = self._tiers
            return self._ledger
