"""Lanes: a stock pipeline's call in a greenlet, which stops where it asks for something.

Greenlets stay on the thread that began them, and their frames are invisible to the garbage
collector: a lane that is not closed keeps every tensor of its call alive.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet


class _Greenlet(greenlet):  # type: ignore[misc]  # greenlet has no types
    """A greenlet that code running inside it can recognise as a lane's."""

    lane: PipelineLane | None = None


class PipelineLane:
    """A call that stops at every `ask`, until it is answered."""

    def __init__(self, call: Callable[[], object]) -> None:
        """The call begins with the first `go_on`."""
        self._greenlet = _Greenlet(call)
        self._greenlet.lane = self

    def go_on(self, answer: Any = None) -> Any:
        """Run to the next `ask` and return what it asks; the call's result when it is over. What
        the call raises comes out here, and ends it."""
        self._greenlet.parent = getcurrent()
        return self._greenlet.switch(answer) if self._greenlet else self._greenlet.switch()

    def ask(self, question: Any) -> Any:
        """From inside the call: stop here until `go_on` brings the answer."""
        return self._greenlet.parent.switch(question)

    def close(self) -> None:
        """End the call where it is. On the lane's own thread."""
        if not self.over:
            self._greenlet.parent = getcurrent()
            self._greenlet.throw(GreenletExit)
        self._greenlet.lane = None

    @property
    def over(self) -> bool:
        """The call has returned, raised or been closed."""
        return bool(self._greenlet.dead)


def current_lane() -> PipelineLane | None:
    """The lane that this code runs in."""
    return getattr(getcurrent(), "lane", None)
