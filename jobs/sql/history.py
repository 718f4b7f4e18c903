"""What queues looked like over time. Part of SqlLedger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from jobs.db.errors import again_if_overtaken
from jobs.history import (
    LoadSample,
    QueueHistory,
    ScalingChange,
    is_sampled,
    load_history,
    store_decisions,
    store_sample,
)
from jobs.sql.verbs import SqlVerbs


class SqlLoadHistory(SqlVerbs):
    """See LoadHistory."""

    @again_if_overtaken
    def keep_sample(self, queue: str, sample: LoadSample) -> None:
        with self._read() as connection:
            if is_sampled(connection, queue, sample.at):
                return
        with self._write(self._database.relaxed) as connection:
            store_sample(connection, queue, sample)

    @again_if_overtaken
    def log_scaling(self, queue: str, decided: Sequence[tuple[float, ScalingChange]]) -> None:
        with self._write(self._database.relaxed) as connection:
            now = self._now(connection)
            dated = (replace(one, at=now - seconds) for seconds, one in decided)
            store_decisions(connection, queue, dated)

    def history(self, queue: str, window_seconds: float, most: int) -> QueueHistory:
        with self._read() as connection:
            now = self._now(connection)
            return load_history(connection, queue, window_seconds, most, now)
