"""How much waits in each shard, looked up now and then beside those who claim."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from jobs.ledger import LedgerError
from jobs.shard import Shard

_FRESH_SECONDS = 5.0  # counting a million waiting jobs takes most of a second


class ShardDepths:
    """Waiting GPU-seconds of a lane by shard, at most a few seconds old; zeros at first."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards
        self._looking = ThreadPoolExecutor(1, thread_name_prefix="shard-depths")
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, list[float]]] = {}

    def waiting_seconds(self, lane: str) -> list[float]:
        """Of each shard. Never waits for a database."""
        now = time.monotonic()
        with self._lock:
            looked_at, waiting = self._known.get(lane, (float("-inf"), [0.0] * len(self._shards)))
            if now - looked_at > _FRESH_SECONDS:
                self._known[lane] = now, waiting
                self._looking.submit(self._look, lane)
        return waiting

    def close(self) -> None:
        """Stop looking."""
        self._looking.shutdown(cancel_futures=True)

    def _look(self, lane: str) -> None:
        waiting = [_waiting(shard, lane) for shard in self._shards]
        with self._lock:
            self._known[lane] = time.monotonic(), waiting


def _waiting(shard: Shard, lane: str) -> float:
    try:
        return shard.ask(lambda ledger: ledger.depth(lane)).waiting_seconds
    except LedgerError:
        return 0.0
