"""How long replicas take to start, and whether those that were asked for are late. Pure."""

from __future__ import annotations

from collections import deque

SMOOTHING = 0.5  # of the newest cold start: the last two or three say what the next one will take


class ColdStarts:
    """Measured by how many of the wanted replicas run.

    guess_seconds: until the first one started. late_seconds: without one more for so long while
    some are missing, a node never comes or a replica fails to start.
    """

    def __init__(self, guess_seconds: float, late_seconds: float) -> None:
        self.seconds = guess_seconds
        self.late_seconds = late_seconds
        self._asked: deque[tuple[float, int]] = deque()  # when for how many, growing in both
        self._target = self._running = 0
        self._short_since: float | None = None
        self._measured = self._began = False

    def look(self, at: float, target: int, running: int) -> None:
        """To be called often. What was asked for before the first call is not measured."""
        if self._began and target > self._target:
            self._asked.append((at, target))
        while self._asked and self._asked[-1][1] > target:
            self._asked.pop()
        while self._asked and running >= self._asked[0][1]:
            self._learn(at - self._asked.popleft()[0])
        if running >= target:
            self._short_since = None
        elif self._short_since is None or running > self._running:
            self._short_since = at
        self._target, self._running, self._began = target, running, True

    def missing_seconds(self, at: float) -> float:
        """How long replicas have been missing without a new one; 0 when all run."""
        return 0.0 if self._short_since is None else at - self._short_since

    def late(self, at: float) -> bool:
        """Asking for still more would only pile up."""
        return self.missing_seconds(at) >= max(self.late_seconds, 2 * self.seconds)

    def _learn(self, took: float) -> None:
        weight = SMOOTHING if self._measured else 1.0
        self.seconds += weight * (took - self.seconds)
        self._measured = True
