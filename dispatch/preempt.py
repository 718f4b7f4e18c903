"""Preemption: jobs leave their slots, at a pass boundary, to jobs of tiers with a larger share."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable

from dispatch.in_flight import IN_SLOT, LIVE, Lease, State
from dispatch.leases import Leases
from dispatch.ports import Decoders, StageUnavailable
from dispatch.ready_queue import ReadyQueue
from dispatch.settings import DispatchSettings
from jobs.client.async_ledger import AsyncLedger
from jobs.lease import PreemptionRequest
from jobs.policy.preemption import SPARED_FROM, to_recall

log = logging.getLogger(__name__)
_NO_SLOT_SECONDS = 0.03  # an image that has waited for so long has found no free slot
_ASK_SECONDS = 0.01  # between two questions to the ledger


def _spared(lease: Lease) -> bool:
    """Nearly done; batches are spared nothing."""
    return lease.furthest_share >= SPARED_FROM and not lease.job.request.in_batch


class Preemption:
    """Of one dispatcher: asks the ledger which of its jobs to preempt, and preempts them."""

    def __init__(
        self,
        ledger: AsyncLedger,
        leases: Leases,
        ready: ReadyQueue,
        decoders: Decoders,
        settings: DispatchSettings,
    ) -> None:
        self._ledger = ledger
        self._leases = leases
        self._ready = ready
        self._decoders = decoders
        self._settings = settings

    async def turn(self, worker: str) -> None:
        """While images wait for slots, in the ready queue or at replicas, ask at every change of
        the ledger. One that has just come may find a slot yet."""
        if not self._unslotted(0.0):
            await self._ready.filled()
        if not self._unslotted(_NO_SLOT_SECONDS):
            await asyncio.sleep(_NO_SLOT_SECONDS)
            return
        seen = await self._ledger.version()
        unslotted = self._unslotted(0.0)
        preparing = (render.lease for render in self._leases.images(State.PREPARING))
        waiting = unslotted | {lease for lease in preparing if not lease.overdue_since}
        tiers = {lease.job.id: lease.job.request.share_tier for lease in waiting}
        in_slot = self._leases.drawn_shares()
        request = PreemptionRequest(self._settings.lane, worker, tiers, in_slot)
        preempted = await self._ledger.preempt(request)
        if preempted:
            self.preempt(lease for lease in self._leases if lease.job.id in preempted)
        await asyncio.sleep(_ASK_SECONDS)
        await self._ledger.changed(seen, self._settings.heartbeat_seconds)

    def _unslotted(self, for_seconds: float) -> set[Lease]:
        """Jobs of which an image has waited for a slot for so long."""
        before = time.monotonic() - for_seconds
        since = ((r.lease, r.unslotted_since) for r in self._leases.images(*LIVE - IN_SLOT))
        return {lease for lease, at in since if at is not None and at <= before}

    def preempt(self, leases: Iterable[Lease]) -> None:
        """Release these jobs once their slots are clear, except for those that are nearly done."""
        leases = [x for x in leases if not x.preempting and not _spared(x)]
        for lease in leases:
            log.info("%s is preempted", lease.job.id)
            lease.preempt()
        if leases:
            self._leases.spawn(self._clear(leases))

    async def clear_all(self) -> None:
        """Every job leaves its slots for good, with the pass under way; releasing them is the
        caller's. An image that has just had its last pass goes on to its pixels."""
        for lease in self._leases:
            if not lease.preempting:
                lease.preempt()
        in_slot = [r for lease in self._leases for r in lease.live if r.state in IN_SLOT]
        if streams := {render.task for render in in_slot if render.task is not None}:
            try:
                await self._decoders.leave([render.render_id for render in in_slot])
            except StageUnavailable as error:
                log.warning("stopped in the middle of a pass: %s", error)
            else:
                await asyncio.wait(streams)

    async def _clear(self, leases: list[Lease]) -> None:
        patience_seconds = self._settings.lease_seconds
        slots = [r.render_id for lease in leases for r in lease.live if r.state in IN_SLOT]
        try:
            if slots:
                await self._decoders.leave(slots)
        except StageUnavailable as error:
            log.warning("preempted in the middle of a pass: %s", error)
            patience_seconds = 0.0
        except Exception:
            log.exception("preempted in the middle of a pass")
            patience_seconds = 0.0
        for lease in leases:
            self._leases.spawn(self._release(lease, patience_seconds), lease)

    async def _release(self, lease: Lease, patience_seconds: float) -> None:
        """Once its images have left their slots, with the pass under way; unless that was their
        last one, and they go on to their pixels."""
        in_slot = [(r.task, r.replica_id) for r in lease.live if r.state in IN_SLOT and r.task]
        streams = {task for task, _ in in_slot}
        late = (await asyncio.wait(streams, timeout=patience_seconds))[1] if streams else set()
        self._recall(replica_id for _, replica_id in in_slot)
        if late or lease.any_in(State.PREEMPTED, State.READY):
            await self._leases.release(lease)
        else:
            lease.keep()

    def _recall(self, cleared: Iterable[str]) -> None:
        """Slots have been cleared at these replicas: images that wait at full ones get them, before
        the preempted job comes again."""
        dispatched = {
            render: (render.replica_id, render.unslotted_since or 0.0)
            for lease in self._leases
            for render in lease.live
            if render.state is State.DISPATCHED and not lease.preempting
        }
        for render in to_recall(dispatched, cleared):
            render.recall()
