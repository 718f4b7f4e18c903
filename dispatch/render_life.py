"""What one image in flight costs, and what happens to it, for the ledger. With what earlier holders
have written; nothing of that is lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dispatch.stage_times import Passed, StageTimes
from engine.render import RenderUpdate
from jobs.job import Job, Render
from jobs.life import MOST_SLOTS, GivenSlot, Hold, pack, unpack

_News = tuple[StageTimes, tuple[GivenSlot, ...], float | None]


@dataclass(slots=True)
class RenderLife:
    """Of one image under one lease. Owned by its InFlightRender."""

    earlier: tuple[Hold, ...]
    worker: str
    gpu_seconds: float | None
    """Of all tries; None is unknown."""
    joules: float | None
    in_slot: tuple[float, float] = (0.0, 0.0)
    """Of both, in the slot that it has, or had last."""
    slots: tuple[GivenSlot, ...] = ()
    replica: str = ""
    node: str = ""
    passes: int = 0
    redrawn: str | None = None
    """Of its pixels, see RenderUpdate."""
    left_at: float | None = None
    preempted: bool = False
    sent: _News | None = None
    known: _News | None = None
    """What was sent that the ledger has."""

    @classmethod
    def of(cls, job: Job, render: Render) -> RenderLife:
        """Of one whose job was just claimed."""
        spent = render.gpu_seconds, render.joules
        return cls(unpack(render.life), job.worker or "", *spent, passes=render.pass_no)

    def sent_to(self, replica: str, node: str) -> None:
        """It is dispatched to that replica, on the machine with that address."""
        self.replica, self.node = replica, node

    def accepted(self, at: float, from_pass: int) -> None:
        """It has a slot there."""
        self.in_slot, self.passes = (0.0, 0.0), from_pass
        self.slots = (*self.slots, GivenSlot(at, self.replica, from_pass, self.node))
        if len(self.slots) > MOST_SLOTS:
            self.slots = (self.slots[0], *self.slots[2:])

    def drew(self, update: RenderUpdate) -> None:
        """Passes are done there, or its pixels are."""
        self.passes, self.redrawn = update.pass_no, update.redrawn
        seconds, joules = self.in_slot
        if update.gpu_seconds > 0.0:
            self.gpu_seconds = (self.gpu_seconds or 0.0) + update.gpu_seconds - seconds
        if update.joules > 0.0:
            self.joules = (self.joules or 0.0) + update.joules - joules
        self.in_slot = update.gpu_seconds, update.joules

    def left(self, at: float, *, preempted: bool) -> None:
        """Its job goes back to the queue."""
        self.left_at, self.preempted = at, preempted

    def said(self, times: StageTimes, *, whole: bool = False) -> dict[str, Any]:
        """Fields of a RenderBeat, or of an Outcome. The life only where there is news, or if it is
        to be the last of it."""
        self.sent = (times, self.slots, self.left_at)
        news = whole or self.sent != self.known
        life = pack((*self.earlier, self._hold(times))) if news else None
        return {"life": life, "gpu_seconds": self.gpu_seconds, "joules": self.joules}

    def told(self) -> None:
        """The ledger has what was sent last."""
        self.known = self.sent

    def _hold(self, times: StageTimes) -> Hold:
        passed = {what.value: getattr(times, what) for what in Passed}
        return Hold(
            self.worker,
            times.lease,
            times.claimed,
            **passed,
            slots=self.slots,
            passes=self.passes,
            left=self.left_at,
            preempted=self.preempted,
        )
