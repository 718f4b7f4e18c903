"""Taking turns between shards in proportion to what waits in each. Pure."""

from __future__ import annotations

from collections.abc import Sequence

_LEAST = 0.05
"""Of an equal share: what was empty a moment ago is still looked at now and then."""


class Rotation:
    """Smooth weighted round robin: each turn goes to whoever is furthest behind its share."""

    def __init__(self, shards: int) -> None:
        self._behind = [0.0] * shards

    def spread(self, turns: int, waiting: Sequence[float]) -> list[int]:
        """How many of the next `turns` each shard gets. waiting: work in each, in any unit."""
        total = sum(waiting)
        least = _LEAST * (total / len(waiting) if total else 1.0)
        weights = [work + least for work in waiting]
        given = [0] * len(weights)
        for _ in range(turns):
            self._behind = [b + w for b, w in zip(self._behind, weights, strict=True)]
            chosen = max(range(len(weights)), key=self._behind.__getitem__)
            self._behind[chosen] -= sum(weights)
            given[chosen] += 1
        return given
