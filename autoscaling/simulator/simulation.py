"""One lane on a fake clock. What decides is production code; here is only what happens when."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count

from autoscaling.cold_start import ColdStarts
from autoscaling.heat import drain_seconds
from autoscaling.limits import next_level, tightened
from autoscaling.policy import ARRIVAL_WINDOW_SECONDS, Decision, LoadSnapshot, Policy
from autoscaling.simulator.fleet import Fleet
from autoscaling.simulator.preemption import preempt_jobs
from autoscaling.simulator.queue import SimulatedQueue
from autoscaling.simulator.replica import Replica, ReplicaState
from autoscaling.simulator.workload import Arrival, Lane, SimulatedJob, SimulatedRender
from jobs.limit_levels import LimitLevel

NO_SLOT_SECONDS = 0.03
"""How long a job waits for a slot before others are preempted for it, as in dispatchers."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The lane at one tick. waiting_seconds: GPU-seconds in the queue."""

    at: float
    target: int
    starting: int
    drawing: int
    draining: int
    waiting_seconds: float


@dataclass(frozen=True, slots=True)
class SlotUse:
    """One render's stay in a slot; `done`: it left with its last pass."""

    node: int
    slot: int
    began: float
    ended: float
    job: SimulatedJob
    done: bool


@dataclass(slots=True)
class SimulationResult:
    """Everything that happened until `ended_at`."""

    lane: Lane
    jobs: list[SimulatedJob]
    ended_at: float = 0.0
    replicas: list[Replica] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    decisions: list[tuple[float, Decision]] = field(default_factory=list)
    """When the number asked for changed, and why."""
    levels: list[LimitLevel] = field(default_factory=list)
    """Of the temporary limits, when they changed."""
    slot_uses: list[SlotUse] = field(default_factory=list)
    jain: dict[str, float | None] = field(default_factory=dict)
    """By tier, see shares.py."""
    failed_starts: int = 0
    failures: int = 0


def simulate(
    lane: Lane,
    arrivals: Iterable[Arrival],
    policy: Policy | None = None,
    *,
    duration_seconds: float = 0.0,
    seed: int = 0,
) -> SimulationResult:
    """Run until every job is done and the duration is over, or until those that wait have passed
    the lane's deadline. policy: None leaves the number of replicas as it is."""
    in_order = sorted(arrivals, key=lambda arrival: arrival.at)
    return _Simulation(lane, in_order, policy, duration_seconds, seed).run()


class _Simulation:
    def __init__(
        self,
        lane: Lane,
        arrivals: Sequence[Arrival],
        policy: Policy | None,
        duration_seconds: float,
        seed: int,
    ) -> None:
        self._lane = lane
        self._policy = policy
        self._heap: list[tuple[float, int, Callable[[float], None]]] = []
        self._numbers = count()
        jobs = [SimulatedJob(n, a, a.passes or lane.passes) for n, a in enumerate(arrivals)]
        self._until = duration_seconds
        if jobs:
            self._until = max(duration_seconds, jobs[-1].arrival.at)
        self._over = False
        self._outcome = SimulationResult(lane, jobs)
        self._coming = iter(jobs)
        self._unended = len(jobs)
        self._queue = SimulatedQueue(lane.tiers, lane.least_share, lane.row_seconds)
        self._ready_queue: deque[SimulatedRender] = deque()
        self._held: dict[SimulatedJob, None] = {}
        self._held_passes = 0
        self._without_slot: dict[SimulatedJob, None] = {}
        shares = self._queue.fair_queue.shares({a.tier for a in arrivals})
        self._larger = {tier for tier in shares if shares[tier] > min(shares.values())}
        self._filling = False
        self._lately: deque[tuple[float, int]] = deque()
        self._lately_passes = 0
        self._target = lane.replicas
        self._cold_starts = ColdStarts(lane.cold_start.median_seconds, lane.late_seconds)
        self._level = LimitLevel()
        self._drawn_passes = 0
        self._drawn: deque[tuple[float, int]] = deque(maxlen=1 + round(60 / lane.tick_seconds))
        self._fleet = Fleet(lane, seed, self._later, self._lost, self._fill_soon)

    def _later(self, at: float, happen: Callable[[float], None]) -> None:
        heappush(self._heap, (at, next(self._numbers), happen))

    def run(self) -> SimulationResult:
        self._next_arrival()
        self._tick(0.0)
        while self._heap and not self._over:
            clock, _, happen = heappop(self._heap)
            happen(clock)
        outcome, fleet = self._outcome, self._fleet
        outcome.replicas = fleet.ever
        shares = self._queue.shares
        outcome.jain = {tier: shares[tier].index() for tier in sorted(shares)}
        outcome.failed_starts, outcome.failures = fleet.failed_starts, fleet.failures
        return outcome

    # Jobs

    def _next_arrival(self) -> None:
        job = next(self._coming, None)
        if job is not None:
            self._later(job.arrival.at, lambda now: self._arrives(job, now))

    def _arrives(self, job: SimulatedJob, now: float) -> None:
        job.refused = self._queue.submit(job, now)
        if job.refused is None:
            self._lately.append((now, job.all_passes))
            self._lately_passes += job.all_passes
            self._fill_soon(now)
            if job.arrival.tier in self._larger:
                self._wants_slot(job, now)
        else:
            self._unended -= 1
        self._next_arrival()

    def _fill_soon(self, now: float) -> None:
        """A slot may be free, or a job may wait for one."""
        if not self._filling:
            self._filling = True
            self._later(now + self._lane.dispatch_seconds, self._fill)

    def _fill(self, now: float) -> None:
        """Fill free slots in fair order; idle replicas begin a pass."""
        self._filling = False
        joined: dict[Replica, None] = {}
        self._claim(now)
        while self._ready_queue and (replica := self._fleet.least_loaded()) is not None:
            render = self._ready_queue.popleft()
            if not render.job.has_begun:
                render.job.has_begun = True
                self._queue.begins(render.job)
            replica.join(render)
            self._fleet.moved(replica, replica.taken - 1)
            joined[replica] = None
            self._claim(now)
        for replica in joined:
            self._begin_pass(replica, now)

    def _claim(self, now: float) -> None:
        """Keep the ready queue filled."""
        room = (
            self._lane.ready_images + self._lane.headroom * self._fleet.counts[ReplicaState.DRAWING]
        )
        while len(self._ready_queue) < room:
            job = self._queue.claim(now)
            if job is None:
                return
            job.leased_at = now
            job.renders = [SimulatedRender(job, passes) for passes in job.left]
            self._held[job] = None
            self._held_passes += sum(job.left)
            self._ready_queue.extend(job.renders)

    def _wants_slot(self, job: SimulatedJob, now: float) -> None:
        """If it has found no slot in a moment, others are preempted."""
        self._without_slot[job] = None
        if len(self._without_slot) == 1:
            self._later(now + self._lane.dispatch_seconds + NO_SLOT_SECONDS, self._preempt)

    def _preempt(self, now: float) -> None:
        without_slot, self._without_slot = list(self._without_slot), {}
        leaving = (
            preempt_jobs(self._queue.fair_queue, without_slot, self._held)
            if self._ready_queue
            else ()
        )
        for job in leaving:
            job.preempted = True
            self._ready_queue = deque(
                render for render in self._ready_queue if render.job is not job
            )
            self._return_to_queue(job)
        if leaving:
            self._fill_soon(now)

    def _return_to_queue(self, job: SimulatedJob) -> None:
        """At its place in the queue, once its images have ended their passes and left."""
        if not any(render.has_slot for render in job.renders):
            self._queue.put_back(job)
            job.renders, job.preempted = [], False
            self._held_passes -= sum(job.left)
            del self._held[job]

    # Passes

    def _begin_pass(self, replica: Replica, now: float) -> None:
        """Unless one is under way, or there is nothing to draw."""
        ends = None if replica.drawing else replica.begin_pass(now, self._lane.cost)
        if ends is not None:
            self._later(ends, lambda at: self._pass_ends(replica, at))

    def _pass_ends(self, replica: Replica, now: float) -> None:
        if not replica.drawing:
            return  # it was lost meanwhile
        taken, drawn = replica.taken, replica.drawn_passes
        leaving = replica.end_pass()
        self._held_passes -= replica.drawn_passes - drawn
        self._drawn_passes += replica.drawn_passes - drawn
        for render in leaving:
            self._leaves(render, replica, now)
        self._fleet.moved(replica, taken)
        self._fleet.left_empty(replica, now)
        if leaving and self._lane.dispatch_seconds > 0:
            self._fill_soon(now)
        elif leaving:  # a waiting image joins at this very boundary
            self._fill(now)
        self._begin_pass(replica, now)

    def _leaves(self, render: SimulatedRender, replica: Replica, now: float) -> None:
        self._free_slot(render, replica, now)
        job = render.job
        if render.passes_left:
            self._return_to_queue(job)
            return
        job.renders.remove(render)
        if not job.renders:
            job.finished_at = now
            self._unended -= 1
            del self._held[job]
            self._queue.ended(job)
        elif job.preempted:
            self._return_to_queue(job)

    def _lost(self, replica: Replica, renders: list[SimulatedRender], now: float) -> None:
        """They go on elsewhere before any other image, from their last whole pass."""
        for render in renders:
            self._free_slot(render, replica, now)
        self._ready_queue.extendleft(
            render for render in reversed(renders) if not render.job.preempted
        )
        for render in renders:
            if render.job.preempted and render.job in self._held:
                self._return_to_queue(render.job)
        self._fill_soon(now)

    def _free_slot(self, render: SimulatedRender, replica: Replica, now: float) -> None:
        """Record its stay in the slot that it leaves."""
        if render.slot is not None:
            done = not render.passes_left
            use = SlotUse(replica.node, render.slot, render.began_at, now, render.job, done)
            self._outcome.slot_uses.append(use)
        render.has_slot, render.slot = False, None

    # Ticks

    def _tick(self, now: float) -> None:
        snapshot = self._snapshot(now)
        if self._lane.thresholds:
            self._tighten(snapshot)
        if self._policy is not None:
            self._decide(self._policy(snapshot), now)
        self._sample(snapshot)
        late = now >= self._until + self._lane.deadline_seconds
        self._over = late or (now >= self._until and not self._unended)
        self._outcome.ended_at = now
        if not self._over:
            self._later(now + self._lane.tick_seconds, self._tick)

    def _snapshot(self, now: float) -> LoadSnapshot:
        while self._lately and self._lately[0][0] <= now - ARRIVAL_WINDOW_SECONDS:
            self._lately_passes -= self._lately.popleft()[1]
        row_seconds, drawing = self._lane.row_seconds, self._fleet.counts[ReplicaState.DRAWING]
        self._cold_starts.look(now, self._target, drawing)
        return LoadSnapshot(
            at=now,
            waiting=self._queue.load(now),
            running_seconds=self._held_passes * row_seconds,
            arrival_rate=self._lately_passes * row_seconds / ARRIVAL_WINDOW_SECONDS,
            replicas=drawing,
            target=self._target,
            cold_start_seconds=self._cold_starts.seconds,
            unbegun_seconds=sum(render.passes_left for render in self._ready_queue) * row_seconds,
        )

    def _tighten(self, snapshot: LoadSnapshot) -> None:
        """Temporary limits, by what was drawn within the last minute."""
        thresholds, before, now = self._lane.thresholds, self._level.level, snapshot.at
        self._drawn.append((now, self._drawn_passes))
        since, drawn = self._drawn[0]
        work = snapshot.waiting_seconds + snapshot.running_seconds
        rate = (self._drawn_passes - drawn) * self._lane.row_seconds / max(now - since, 1.0)
        drain = drain_seconds(work, rate)
        if drain is None:
            return  # the heat is unknown
        self._level = next_level(thresholds, self._level, drain, now)
        if self._level.level != before:
            self._queue.tiers = tightened(self._lane.tiers, thresholds, self._level.level)
            self._outcome.levels.append(self._level)

    def _decide(self, decision: Decision, now: float) -> None:
        """Within the bounds; like the adapter in Ray, no more are asked for while late ones are
        missing."""
        lane = self._lane
        target = min(max(decision.replicas, lane.min_replicas), lane.max_replicas)
        if target > self._target and self._cold_starts.late(now):
            target = self._target
        if target != self._target:
            self._target = target
            self._outcome.decisions.append((now, Decision(target, decision.reason)))
        self._fleet.scale(target, now)

    def _sample(self, snapshot: LoadSnapshot) -> None:
        counts = self._fleet.counts
        self._outcome.samples.append(
            Sample(
                snapshot.at,
                self._target,
                counts[ReplicaState.STARTING],
                counts[ReplicaState.DRAWING],
                counts[ReplicaState.DRAINING],
                snapshot.waiting_seconds,
            )
        )
