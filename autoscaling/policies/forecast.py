"""How much work arrives in the near future: a level and its trend, both smoothed (Holt)."""

from __future__ import annotations

import math

TREND_SLOWNESS = 3.0
"""The trend is smoothed over this multiple of the level's seconds: noise is no ramp."""


class Forecast:
    """GPU-seconds of work per second, some seconds ahead. smoothing_seconds: time constant."""

    def __init__(self, smoothing_seconds: float) -> None:
        self._smoothing = smoothing_seconds
        self._at: float | None = None
        self._level = 0.0
        self._trend = 0.0

    def observe(self, at: float, rate: float) -> None:
        """The rate was measured at `at`, on a clock that never goes back."""
        if self._at is None:
            self._at, self._level = at, rate
            return
        passed = at - self._at
        if passed <= 0:
            return
        expected = self._level + self._trend * passed
        level = max(0.0, expected + _weight(passed, self._smoothing) * (rate - expected))
        slope = (level - self._level) / passed
        self._trend += _weight(passed, self._smoothing * TREND_SLOWNESS) * (slope - self._trend)
        self._at, self._level = at, level

    def ahead(self, seconds: float) -> float:
        """Mean rate over the next `seconds`, never below 0."""
        return max(0.0, self._level + self._trend * seconds / 2)


def _weight(passed: float, smoothing: float) -> float:
    """Of a new value in a moving average that may be asked at any pace."""
    return 1 - math.exp(-passed / smoothing) if smoothing > 0 else 1.0
