"""Which renders share the next pass. Pure bookkeeping: no tensors, no clock, no threads.

Owned by one engine (or one simulated replica), which calls it under its own lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar


class Schedulable(Protocol):
    """What the scheduler needs to know about a render in flight."""

    @property
    def batch_key(self) -> str:
        """Renders share a pass only when their keys are equal."""

    @property
    def leaving(self) -> bool:
        """Done, aborted or failed: the slot is free at the next pass boundary."""


R = TypeVar("R", bound=Schedulable)
GROW_AFTER = 100
"""Full passes that fit, before one more render is tried; twice as many whenever one did not."""
_DOUBLINGS = 6


class Scheduler(Generic[R]):
    """Slots of one running batch. Renders join and leave at any pass boundary.

    Keys take turns: the one that waited longest since its last pass (or since it appeared) goes
    next, so a key waits at most one turn of each other key. Rows keep the order of joining.
    width: slots in use; fewer than `slots_max` after a pass that ran out of memory.
    """

    def __init__(self, slots_max: int) -> None:
        if slots_max < 1:
            raise ValueError(f"slots_max must be at least 1, got {slots_max}")
        self.slots_max = slots_max
        self.width = slots_max
        self.waiting: list[R] = []
        self.running: list[R] = []
        self._turn = 0
        self._last_turn: dict[str, int] = {}
        self._fitted = 0
        self._shrinks = 0

    @property
    def taken(self) -> int:
        """Slots that are taken or promised at the next pass boundary. Those of renders
        that leave there are not: a newcomer joins at that very boundary, not one later."""
        return sum(not render.leaving for render in (*self.waiting, *self.running))

    @property
    def free_slots(self) -> int:
        """How many more renders can be promised a slot now."""
        return max(0, self.width - self.taken)

    def join(self, render: R) -> None:
        """Wait for the next pass boundary; beyond `free_slots`, for a slot."""
        self.waiting.append(render)

    def schedule(self) -> tuple[R, ...]:
        """At a pass boundary: admit those that wait and return the next batch; empty when idle."""
        self._drop_leaving()
        room = max(0, self.width - len(self.running))
        self.running += self.waiting[:room]
        del self.waiting[:room]
        if not self.running:
            return ()
        key = self._next_key()
        return tuple(render for render in self.running if render.batch_key == key)

    def settle(self, batch: Sequence[R]) -> None:
        """After the pass: count the turn, free the slots of those that leave."""
        self._turn += 1
        if batch:
            self._last_turn[batch[0].batch_key] = self._turn
        self._drop_leaving()

    def shrink(self, most: int | None = None) -> list[R]:
        """Memory is short: from now on so many renders, by default half of those that are here,
        and those that came first. Returns the others, which must leave."""
        here = [render for render in (*self.running, *self.waiting) if not render.leaving]
        self.width = max(1, min(self.width, len(here) // 2 if most is None else most))
        self._fitted, self._shrinks = 0, self._shrinks + 1
        return here[self.width :]

    def grow(self) -> bool:
        """A pass has gone well. After enough full ones there is one more slot, and it is True."""
        if self.width == self.slots_max:
            return False
        self._fitted += len(self.running) >= self.width
        if self._fitted < GROW_AFTER * 2 ** min(self._shrinks - 1, _DOUBLINGS):
            return False
        self.width, self._fitted = self.width + 1, 0
        return True

    def _drop_leaving(self) -> None:
        self.waiting = [render for render in self.waiting if not render.leaving]
        self.running = [render for render in self.running if not render.leaving]

    def _next_key(self) -> str:
        """Also notes when a key appeared, so that new keys queue behind those that wait already."""
        present = dict.fromkeys(render.batch_key for render in self.running)
        self._last_turn = {key: self._last_turn.get(key, self._turn) for key in present}
        return min(present, key=self._last_turn.__getitem__)
