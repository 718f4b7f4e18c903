"""The ledger's queue without a ledger: stamps, turns and limits are decided by the same pure code
of `jobs`, and heaps do what SQL does there."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush

from autoscaling.policy import TierLoad
from autoscaling.simulator.shares import Shares
from autoscaling.simulator.workload import SimulatedJob
from jobs.policy.fair_queue import FairQueue, Head, Served, aged, stamp
from jobs.tiers import DEFAULT_TIER, Tier

DAY_SECONDS = 86_400.0
UNPARKED = 2
"""Jobs of a tenant that are looked at again when one of its jobs ends, as in the ledger."""
NEXT_ONES = 100
"""Of a tier's queue, near its front: among them the oldest is looked for, as in the ledger."""

_Queued = tuple[float, int, SimulatedJob]


@dataclass(slots=True)
class _TierHeap:
    """One tier's heap by (stamp, number), what it was given, its virtual time; and the passes in
    the heap. Parked jobs are elsewhere."""

    heap: list[_Queued] = field(default_factory=list)
    served: Served = field(default_factory=Served)
    vtime: float = 0.0
    vtime_at: float = 0.0
    passes: int = 0

    def push(self, queued: _Queued) -> None:
        heappush(self.heap, queued)
        self.passes += queued[2].all_passes

    def pop(self) -> _Queued:
        queued = heappop(self.heap)
        self.passes -= queued[2].all_passes
        return queued


class SimulatedQueue:
    """Accepted jobs that are not claimed. tiers may be replaced at any time."""

    def __init__(self, tiers: Mapping[str, Tier], least_share: float, row_seconds: float) -> None:
        self.tiers = tiers
        self._least_share = least_share
        self._row_seconds = row_seconds
        self._tiers: dict[str, _TierHeap] = {}
        self._last_stamps: dict[tuple[str, str], float] = {}
        self._parked: dict[str, list[_Queued]] = {}
        self._images_today: Counter[tuple[str, int]] = Counter()
        self._under_way: Counter[str] = Counter()
        self._let_in: set[str] = set()
        self._queued: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._unbegun: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.shares: defaultdict[str, Shares] = defaultdict(Shares)

    @property
    def fair_queue(self) -> FairQueue:
        """The tiers' shares now."""
        return FairQueue(self.tiers, self._least_share)

    def submit(self, job: SimulatedJob, now: float) -> str | None:
        """Take it in; or why it is refused: `rollout`, `quota` or `queue_full`."""
        arrival = job.arrival
        tier = self.tiers.get(arrival.tier, DEFAULT_TIER)
        new = arrival.newcomer and arrival.tenant not in self._let_in
        if not (tier.open_to_newcomer if new else tier.open_to)(arrival.tenant):
            return "rollout"
        if new:
            self._let_in.add(arrival.tenant)
        today = (arrival.tenant, int(now // DAY_SECONDS))
        used = self._images_today[today] + arrival.images
        if tier.images_per_day is not None and used > tier.images_per_day:
            return "quota"
        queued = self._queued[arrival.tier]
        if tier.queued_jobs is not None and queued[arrival.tenant] >= tier.queued_jobs:
            return "queue_full"
        self._images_today[today] = used
        queued[arrival.tenant] += 1
        self._unbegun[arrival.tier][arrival.tenant] += 1
        job.left = [job.passes] * arrival.images
        self._enter(job, now)
        return None

    def _enter(self, job: SimulatedJob, now: float) -> None:
        arrival, cost = job.arrival, job.all_passes * self._row_seconds
        queue = self._tiers.setdefault(arrival.tier, _TierHeap(vtime_at=now))
        flow = (arrival.tier, arrival.tenant)
        vtime = aged(queue.vtime, now - queue.vtime_at)
        job.stamp = self._last_stamps[flow] = stamp(vtime, self._last_stamps.get(flow), cost)
        self._push(job)

    def _push(self, job: SimulatedJob) -> None:
        tier, tenant = job.arrival.tier, job.arrival.tenant
        self._tiers[tier].push((job.stamp, job.number, job))
        if tenant not in self._parked and self._unbegun[tier][tenant]:
            self.shares[tier].enters(tenant)

    def claim(self, now: float) -> SimulatedJob | None:
        """The next job, by turns between tiers and by stamp within one; None when none may."""
        heads = {
            tier: Head(str(job.number), job.stamp, job.all_passes * self._row_seconds)
            for tier, queue in self._tiers.items()
            if (job := self._head(tier, queue)) is not None
        }
        if not heads:
            return None
        fair = self.fair_queue
        served = {tier: queue.served for tier, queue in self._tiers.items()}
        tier = fair.pick(heads, served)
        queue = self._tiers[tier]
        queue.served = fair.after(tier, heads, served)
        queue.vtime = max(aged(queue.vtime, now - queue.vtime_at), heads[tier].vft)
        queue.vtime_at = now
        job = queue.pop()[2]
        tenant, queued = job.arrival.tenant, self._queued[tier]
        self._under_way[tenant] += len(job.left)
        queued[tenant] -= 1
        return job

    def begins(self, job: SimulatedJob) -> None:
        """A claimed job has got its first slot."""
        tier, tenant = job.arrival.tier, job.arrival.tenant
        self.shares[tier].given(tenant, job.all_passes)
        self._unbegun[tier][tenant] -= 1
        if not self._unbegun[tier][tenant]:
            self.shares[tier].leaves(tenant)

    def put_back(self, job: SimulatedJob) -> None:
        """A preempted job waits again, at its place, for what is left of it."""
        tier, tenant = job.arrival.tier, job.arrival.tenant
        self.ended(job)
        self._queued[tier][tenant] += 1
        self._push(job)
        job.left = [render.passes_left for render in job.renders]

    def _head(self, tier: str, queue: _TierHeap) -> SimulatedJob | None:
        """Jobs of tenants that render as much as they may are parked on the way. A job larger than
        the limit runs alone."""
        limit = self.tiers.get(tier, DEFAULT_TIER).concurrent_renders
        while queue.heap:
            job = queue.heap[0][2]
            under_way = self._under_way[job.arrival.tenant]
            if limit is None or not under_way or under_way + len(job.left) <= limit:
                return job
            heappush(self._parked.setdefault(job.arrival.tenant, []), queue.pop())
            self.shares[tier].leaves(job.arrival.tenant)
        return None

    def ended(self, job: SimulatedJob) -> None:
        """A claimed job is held no more: its tenant's parked ones take their places again."""
        tenant = job.arrival.tenant
        self._under_way[tenant] -= len(job.left)
        parked = self._parked.get(tenant, [])
        unparked = [heappop(parked)[2] for _ in range(min(UNPARKED, len(parked)))]
        if not parked:
            self._parked.pop(tenant, None)
        for next_one in unparked:
            self._push(next_one)

    def load(self, now: float) -> dict[str, TierLoad]:
        """Tiers with waiting jobs, as the ledger tells it: without parked ones."""
        return {
            tier: TierLoad(
                len(queue.heap),
                queue.passes * self._row_seconds,
                now - min(job.arrival.at for _, _, job in queue.heap[:NEXT_ONES]),
            )
            for tier, queue in self._tiers.items()
            if queue.heap
        }
