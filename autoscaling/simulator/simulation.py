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
from autoscaling.simulator.making_way import who_leaves
from autoscaling.simulator.replica import Life, Replica
from autoscaling.simulator.waiting import Waiting
from autoscaling.simulator.work import Arrival, Job, Lane, Render
from jobs.limit_levels import LimitLevel

NO_SLOT_SECONDS = 0.03
"""A job that has found no slot in so long asks others to leave theirs, as in dispatchers."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The lane at one tick. waiting_seconds: GPU-seconds in the queue."""

    at: float
    target: int
    starting: int
    drawing: int
    draining: int
    waiting_jobs: int
    waiting_seconds: float


@dataclass(frozen=True, slots=True)
class Trip:
    """One render's stay in a slot; `done`: it left with its last pass."""

    node: int
    seat: int
    began: float
    ended: float
    job: Job
    done: bool


@dataclass(slots=True)
class Outcome:
    """Everything that happened until `ended_at`. decisions: when the number asked for changed, and
    why. levels: of the adaptive limits, when they changed. jain: by tier, see shares.py."""

    lane: Lane
    jobs: list[Job]
    ended_at: float = 0.0
    replicas: list[Replica] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    decisions: list[tuple[float, Decision]] = field(default_factory=list)
    levels: list[LimitLevel] = field(default_factory=list)
    trips: list[Trip] = field(default_factory=list)
    jain: dict[str, float | None] = field(default_factory=dict)
    failed_starts: int = 0
    failures: int = 0


def simulate(
    lane: Lane,
    arrivals: Iterable[Arrival],
    policy: Policy | None = None,
    *,
    duration_seconds: float = 0.0,
    seed: int = 0,
) -> Outcome:
    """Run until everybody is served and the duration is over, or until those who wait have passed
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
        jobs = [Job(n, a, a.passes or lane.passes) for n, a in enumerate(arrivals)]
        self._until = duration_seconds
        if jobs:
            self._until = max(duration_seconds, jobs[-1].arrival.at)
        self._over = False
        self._outcome = Outcome(lane, jobs)
        self._coming = iter(jobs)
        self._unended = len(jobs)
        self._waiting = Waiting(lane.tiers, lane.least_share, lane.row_seconds)
        self._shelf: deque[Render] = deque()
        self._held: dict[Job, None] = {}
        self._held_passes = 0
        self._wanting: dict[Job, None] = {}
        shares = self._waiting.fair_queue.shares({a.tier for a in arrivals})
        self._larger = {tier for tier in shares if shares[tier] > min(shares.values())}
        self._filling = False
        self._lately: deque[tuple[float, int]] = deque()
        self._lately_passes = 0
        self._target = lane.replicas
        self._cold_starts = ColdStarts(lane.cold_start.median_seconds, lane.late_seconds)
        self._level = LimitLevel()
        self._drawn_passes = 0
        self._drawn: deque[tuple[float, int]] = deque(maxlen=1 + round(60 / lane.tick_seconds))
        self._fleet = Fleet(lane, seed, self._later, self._lost, self._nudge)

    def _later(self, at: float, happen: Callable[[float], None]) -> None:
        heappush(self._heap, (at, next(self._numbers), happen))

    def run(self) -> Outcome:
        self._next_arrival()
        self._tick(0.0)
        while self._heap and not self._over:
            clock, _, happen = heappop(self._heap)
            happen(clock)
        outcome, fleet = self._outcome, self._fleet
        outcome.replicas = fleet.ever
        shares = self._waiting.shares
        outcome.jain = {tier: shares[tier].index() for tier in sorted(shares)}
        outcome.failed_starts, outcome.failures = fleet.failed_starts, fleet.failures
        return outcome

    # Jobs

    def _next_arrival(self) -> None:
        job = next(self._coming, None)
        if job is not None:
            self._later(job.arrival.at, lambda now: self._arrives(job, now))

    def _arrives(self, job: Job, now: float) -> None:
        job.refused = self._waiting.submit(job, now)
        if job.refused is None:
            self._lately.append((now, job.all_passes))
            self._lately_passes += job.all_passes
            self._nudge(now)
            if job.arrival.tier in self._larger:
                self._want_way(job, now)
        else:
            self._unended -= 1
        self._next_arrival()

    def _nudge(self, now: float) -> None:
        """There may be a slot for somebody."""
        if not self._filling:
            self._filling = True
            self._later(now + self._lane.dispatch_seconds, self._fill)

    def _fill(self, now: float) -> None:
        """Slots for the fairest, as long as there are both; idle replicas begin with them."""
        self._filling = False
        joined: dict[Replica, None] = {}
        self._claim(now)
        while self._shelf and (replica := self._fleet.roomiest()) is not None:
            render = self._shelf.popleft()
            if not render.job.seated:
                render.job.seated = True
                self._waiting.begins(render.job)
            replica.join(render)
            self._fleet.moved(replica, replica.taken - 1)
            joined[replica] = None
            self._claim(now)
        for replica in joined:
            self._begin_pass(replica, now)

    def _claim(self, now: float) -> None:
        """Keep the shelf filled."""
        room = self._lane.shelf + self._lane.headroom * self._fleet.counts[Life.DRAWING]
        while len(self._shelf) < room:
            job = self._waiting.claim(now)
            if job is None:
                return
            job.leased_at = now
            job.claimed_at = now if job.claimed_at is None else job.claimed_at
            job.renders = [Render(job, passes) for passes in job.left]
            self._held[job] = None
            self._held_passes += sum(job.left)
            self._shelf.extend(job.renders)

    def _want_way(self, job: Job, now: float) -> None:
        """If it has found no slot in a moment, others are asked to leave theirs."""
        self._wanting[job] = None
        if len(self._wanting) == 1:
            self._later(now + self._lane.dispatch_seconds + NO_SLOT_SECONDS, self._make_way)

    def _make_way(self, now: float) -> None:
        wanting, self._wanting = list(self._wanting), {}
        leaving = who_leaves(self._waiting.fair_queue, wanting, self._held) if self._shelf else ()
        for job in leaving:
            job.leaving = True
            self._shelf = deque(render for render in self._shelf if render.job is not job)
            self._give_back(job)
        if leaving:
            self._nudge(now)

    def _give_back(self, job: Job) -> None:
        """At its place in the queue, once its images have ended their passes and left."""
        if not any(render.seated for render in job.renders):
            self._waiting.put_back(job)
            job.renders, job.leaving = [], False
            self._held_passes -= sum(job.left)
            del self._held[job]

    # Passes

    def _begin_pass(self, replica: Replica, now: float) -> None:
        """Unless one is under way, or there is nobody to draw."""
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
            self._nudge(now)
        elif leaving:  # somebody joins at this very boundary
            self._fill(now)
        self._begin_pass(replica, now)

    def _leaves(self, render: Render, replica: Replica, now: float) -> None:
        self._trip(render, replica, now)
        job = render.job
        if render.passes_left:
            self._give_back(job)
            return
        job.renders.remove(render)
        if not job.renders:
            job.finished_at = now
            self._unended -= 1
            del self._held[job]
            self._waiting.ended(job)
        elif job.leaving:
            self._give_back(job)

    def _lost(self, replica: Replica, renders: list[Render], now: float) -> None:
        """They go on elsewhere before anybody new, from their last whole pass."""
        for render in renders:
            self._trip(render, replica, now)
        self._shelf.extendleft(render for render in reversed(renders) if not render.job.leaving)
        for render in renders:
            if render.job.leaving and render.job in self._held:
                self._give_back(render.job)
        self._nudge(now)

    def _trip(self, render: Render, replica: Replica, now: float) -> None:
        """It has its slot no more."""
        if render.seat is not None:
            done = not render.passes_left
            trip = Trip(replica.node, render.seat, render.began_at, now, render.job, done)
            self._outcome.trips.append(trip)
        render.seated, render.seat = False, None

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
        row_seconds, drawing = self._lane.row_seconds, self._fleet.counts[Life.DRAWING]
        self._cold_starts.look(now, self._target, drawing)
        return LoadSnapshot(
            at=now,
            waiting=self._waiting.load(now),
            running_seconds=self._held_passes * row_seconds,
            arrival_rate=self._lately_passes * row_seconds / ARRIVAL_WINDOW_SECONDS,
            replicas=drawing,
            target=self._target,
            cold_start_seconds=self._cold_starts.seconds,
            unbegun_seconds=sum(render.passes_left for render in self._shelf) * row_seconds,
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
            return  # nobody knows how hot it is
        self._level = next_level(thresholds, self._level, drain, now)
        if self._level.level != before:
            self._waiting.tiers = tightened(self._lane.tiers, thresholds, self._level.level)
            self._outcome.levels.append(self._level)

    def _decide(self, decision: Decision, now: float) -> None:
        """Within the bounds; like the adapter in Ray, not for more while none of those that are
        missing comes."""
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
        jobs = sum(tier.jobs for tier in snapshot.waiting.values())
        self._outcome.samples.append(
            Sample(
                snapshot.at,
                self._target,
                counts[Life.STARTING],
                counts[Life.DRAWING],
                counts[Life.DRAINING],
                jobs,
                snapshot.waiting_seconds,
            )
        )
