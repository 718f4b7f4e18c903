"""A simulated decoder replica: slots, and passes whose batch the engine's scheduler decides."""

from __future__ import annotations

from enum import StrEnum

from autoscaling.simulator.workload import SimulatedRender
from engine.cost import PassCost
from engine.scheduler import Scheduler


class ReplicaState(StrEnum):
    """What a replica is doing; it costs money in each of these but the last."""

    STARTING = "starting"
    DRAWING = "drawing"
    DRAINING = "draining"
    GONE = "gone"


class Replica:
    """number: in the order of asking. node: the lowest that was free. Times are of the fake clock;
    busy_seconds: of passes that were drawn to their end."""

    def __init__(self, number: int, node: int, slots: int, asked_at: float) -> None:
        self.number = number
        self.node = node
        self.asked_at = asked_at
        self.ready_at: float | None = None
        self.gone_at: float | None = None
        self.state = ReplicaState.STARTING
        self.busy_seconds = 0.0
        self.drawn_passes = 0
        self._scheduler: Scheduler[SimulatedRender] = Scheduler(slots)
        self._free_slots = list(range(slots - 1, -1, -1))
        self._batch: tuple[SimulatedRender, ...] = ()
        self._pass_seconds = 0.0
        self.taken = 0

    @property
    def drawing(self) -> bool:
        """True while a pass is under way."""
        return bool(self._batch)

    def join(self, render: SimulatedRender) -> None:
        """Promise a slot; it is in the batch from the next pass boundary on."""
        render.has_slot = True
        self._scheduler.join(render)
        self.taken += 1

    def begin_pass(self, now: float, cost: PassCost) -> float | None:
        """When the pass that begins now will end; None without renders."""
        self._batch = batch = self._scheduler.schedule()
        if not batch:
            return None
        for render in batch:
            if render.slot is None:
                render.slot, render.began_at = self._free_slots.pop(), now
                if render.job.began_at is None:
                    render.job.began_at = now
        self._pass_seconds = cost.seconds(len(batch))
        return now + self._pass_seconds

    def end_pass(self) -> list[SimulatedRender]:
        """The renders that leave after it, done or preempted. Their slots are free."""
        batch, self._batch = self._batch, ()
        self.busy_seconds += self._pass_seconds
        self.drawn_passes += len(batch)
        for render in batch:
            render.passes_left -= 1
            render.leaving = not render.passes_left or render.job.preempted
        leaving = [render for render in batch if render.leaving]
        self._free_slots += [render.slot for render in leaving if render.slot is not None]
        self.taken -= len(leaving)
        self._scheduler.settle(batch)
        return leaving

    def take_renders(self) -> list[SimulatedRender]:
        """All its renders, each at its last whole pass; the pass under way is lost."""
        renders = [*self._scheduler.running, *self._scheduler.waiting]
        self._scheduler = Scheduler(self._scheduler.slots_max)
        self._batch, self.taken = (), 0
        return renders
