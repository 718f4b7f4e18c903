"""What images cost lately, and how far a lane's limits are tightened. Part of SqlLedger."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.costs import KINDS_READ, ImageCost
from jobs.db import statements as sql
from jobs.db.errors import again_if_overtaken
from jobs.limit_levels import LimitChange, LimitLevel, load_changes, load_level, store_level
from jobs.sql.verbs import SqlVerbs


class SqlCostsAndLimits(SqlVerbs):
    """See CostsAndLimits."""

    def learn(self, costs: Sequence[ImageCost]) -> None:
        # In one order, so that two processes that learn do not wait for each other.
        rows = sorted(costs, key=lambda cost: cost.kind)
        with self._write(self._database.relaxed) as connection:
            connection.execute(sql.LEARN, [cost.row() for cost in rows])

    def costs(self, model: str) -> list[ImageCost]:
        with self._read() as connection:
            rows = connection.execute(sql.COSTS, {"model": model, "limit": KINDS_READ})
            return [ImageCost(*row) for row in rows]

    def limit_level(self, lane: str) -> tuple[LimitLevel, float]:
        with self._read() as connection:
            return load_level(connection, lane), self._now(connection)

    @again_if_overtaken
    def move_limits(self, lane: str, before: LimitLevel, after: LimitLevel) -> bool:
        """A reading is not fsynced, a change is."""
        changed = after.level != before.level
        with self._write(None if changed else self._database.relaxed) as connection:
            return store_level(connection, lane, before, after)

    def limit_changes(self, lane: str, limit: int) -> list[LimitChange]:
        """The audit log, newest first."""
        with self._read() as connection:
            return load_changes(connection, lane, limit)
