"""The replicas of a lane: asked for, starting, drawing, draining, gone. Knows no jobs."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random

from autoscaling.simulator.replica import Replica, ReplicaState
from autoscaling.simulator.workload import Lane, SimulatedRender

Later = Callable[[float, Callable[[float], None]], None]
"""at, what: call that when the fake clock says so."""


class Fleet:
    """lost: called with the renders of a replica that ends before they are done. slot_freed: called
    when a slot may have become free."""

    def __init__(
        self,
        lane: Lane,
        seed: int,
        later: Later,
        lost: Callable[[Replica, list[SimulatedRender], float], None],
        slot_freed: Callable[[float], None],
    ) -> None:
        self._lane, self._seed, self._later = lane, seed, later
        self._lost, self._slot_freed = lost, slot_freed
        self._free_nodes: list[int] = []
        self._by_load: list[dict[Replica, None]] = [{} for _ in range(lane.slots + 1)]
        self.ever: list[Replica] = []
        self.alive: dict[Replica, None] = {}
        self.counts = dict.fromkeys(ReplicaState, 0)
        self.target = lane.replicas
        self.failed_starts = 0
        self.failures = 0
        for _ in range(lane.replicas):  # these are warm
            self._ready(self._new(0.0), 0.0)

    def scale(self, target: int, now: float) -> None:
        """Ask for so many. A surplus is stopped newest first, as Ray Serve does it: first those
        that do not draw yet, then the others whatever they draw."""
        self.target = target
        surplus = self.counts[ReplicaState.STARTING] + self.counts[ReplicaState.DRAWING] - target
        if surplus > 0:
            newest_first = list(reversed(self.alive))
            starting = [r for r in newest_first if r.state is ReplicaState.STARTING]
            drawing = [r for r in newest_first if r.state is ReplicaState.DRAWING]
            for replica in [*starting, *drawing][:surplus]:
                self._drain(replica, now)
        self._ask(now)

    def least_loaded(self) -> Replica | None:
        """The drawing replica with the fewest renders; None when every slot is taken."""
        for replicas in self._by_load[:-1]:
            if replicas:
                return next(iter(replicas))
        return None

    def moved(self, replica: Replica, taken_before: int) -> None:
        """Its number of renders has changed."""
        if replica.state is ReplicaState.DRAWING:
            del self._by_load[taken_before][replica]
            self._by_load[replica.taken][replica] = None

    def left_empty(self, replica: Replica, now: float) -> None:
        """A draining replica has drawn its last render."""
        if replica.state is ReplicaState.DRAINING and not replica.taken:
            self._remove(replica, now)

    def _ask(self, now: float) -> None:
        """Start what is missing, as far as there are nodes for it."""
        room = float("inf") if self._lane.nodes is None else self._lane.nodes - len(self.alive)
        missing = (
            self.target - self.counts[ReplicaState.STARTING] - self.counts[ReplicaState.DRAWING]
        )
        for _ in range(int(max(0, min(missing, room)))):
            self._start(self._new(now), now)

    def _new(self, now: float) -> Replica:
        node = heappop(self._free_nodes) if self._free_nodes else len(self.alive)
        replica = Replica(len(self.ever), node, self._lane.slots, now)
        self.ever.append(replica)
        self.alive[replica] = None
        self.counts[ReplicaState.STARTING] += 1
        return replica

    def _start(self, replica: Replica, now: float) -> None:
        seconds = self._lane.cold_start.seconds(self._random("start", replica))
        self._later(now + seconds, lambda at: self._started(replica, at))

    def _random(self, what: str, replica: Replica) -> Random:
        """The same for the n-th replica under every policy."""
        return Random(f"{self._seed}/{what}/{replica.number}")

    def _started(self, replica: Replica, now: float) -> None:
        if replica.state is not ReplicaState.STARTING:
            return
        if self._random("fails", replica).random() < self._lane.start_failures:
            self.failed_starts += 1
            self._remove(replica, now)
            self._ask(now)
            return
        self._ready(replica, now)

    def _ready(self, replica: Replica, now: float) -> None:
        self._turn(replica, ReplicaState.DRAWING)
        replica.ready_at = now
        self._by_load[0][replica] = None
        if self._lane.failures_per_hour:
            random = self._random("lives", replica)
            lives = random.expovariate(self._lane.failures_per_hour / 3600)
            self._later(now + lives, lambda at: self._fails(replica, at))
        self._slot_freed(now)

    def _fails(self, replica: Replica, now: float) -> None:
        if replica.state not in (ReplicaState.DRAWING, ReplicaState.DRAINING):
            return
        self.failures += 1
        self._remove(replica, now)
        self._ask(now)

    def _drain(self, replica: Replica, now: float) -> None:
        if replica.state is ReplicaState.STARTING or not replica.taken:
            self._remove(replica, now)
            return
        del self._by_load[replica.taken][replica]
        self._turn(replica, ReplicaState.DRAINING)
        self._later(now + self._lane.grace_seconds, lambda at: self._grace_ends(replica, at))

    def _grace_ends(self, replica: Replica, now: float) -> None:
        if replica.state is ReplicaState.DRAINING:
            self._remove(replica, now)

    def _remove(self, replica: Replica, now: float) -> None:
        if replica.state is ReplicaState.DRAWING:
            del self._by_load[replica.taken][replica]
        self._turn(replica, ReplicaState.GONE)
        replica.gone_at = now
        del self.alive[replica]
        heappush(self._free_nodes, replica.node)
        if renders := replica.take_renders():
            self._lost(replica, renders, now)

    def _turn(self, replica: Replica, state: ReplicaState) -> None:
        self.counts[replica.state] -= 1
        self.counts[state] += 1
        replica.state = state
