"""Serve's own way to choose a replica, but for those that do not answer (see replica_health), and
with those that have just got room first.

Serve looks at two replicas by chance, and rests up to half a second before it looks at two others:
among a thousand full ones it finds the one that has got room after minutes. Here that one is known.

Serve pickles this class with what it names: the state is behind a module, which every process
imports for itself.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from ray.serve._private.request_router import PowerOfTwoChoicesRequestRouter
from ray.serve.config import RequestRouterConfig
from ray.serve.request_router import PendingRequest, ReplicaID, RunningReplica

from deployments import replica_health


class CarefulRouter(PowerOfTwoChoicesRequestRouter):  # type: ignore[misc]  # Ray has no types
    """Of one handle."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._freed: dict[ReplicaID, None] = {}
        """That have got room since they were full, the one freed longest ago first."""
        self._any_freed = asyncio.Event()

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Serve tells which there are."""
        super().update_replicas(replicas)
        replica_health.HEALTH.know(self, replicas)

    def apply_locality_routing(
        self, pending_request: PendingRequest | None = None
    ) -> set[ReplicaID]:
        """Those to choose from."""
        candidates = super().apply_locality_routing(pending_request)
        return replica_health.HEALTH.answering(candidates)

    # Room

    def on_new_queue_len_info(self, replica_id: ReplicaID, num_ongoing_requests: int) -> None:
        """A replica tells how much it has to do."""
        was_full = self._full(replica_id)
        super().on_new_queue_len_info(replica_id, num_ongoing_requests)
        if was_full:
            self._note_room(replica_id)

    def decrement_queue_len_cache(self, replica_id: ReplicaID) -> None:
        """A call has ended there. After ten seconds Serve does not know whether it was full."""
        super().decrement_queue_len_cache(replica_id)
        self._note_room(replica_id)

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """Two by chance, and one that has got room; the least busy of them is chosen."""
        chosen = await super().choose_replicas(candidate_replicas, pending_request)
        freed = self._next_freed()
        return chosen if freed is None else [[freed, *one] for one in chosen]

    async def _backoff(self, attempt: int) -> None:
        """As Serve does, but no longer than until a replica has got room."""
        if not self._freed:
            self._any_freed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._compute_backoff_s(attempt)):
                await self._any_freed.wait()

    def _full(self, replica_id: ReplicaID) -> bool:
        """As far as is known."""
        replica = self._replicas.get(replica_id)
        ongoing = self._replica_queue_len_cache.get(replica_id)
        return None not in (replica, ongoing) and ongoing >= replica.max_ongoing_requests

    def _note_room(self, replica_id: ReplicaID) -> None:
        if not self._full(replica_id):
            self._freed[replica_id] = None
            self._any_freed.set()

    def _next_freed(self) -> RunningReplica | None:
        """Each is offered once: it may be chosen, or be full again, or not answer."""
        while self._freed:
            replica_id = next(iter(self._freed))
            del self._freed[replica_id]
            replica = self._replicas.get(replica_id)
            answers = not replica_health.HEALTH.is_left_out(replica_id)
            if replica is not None and answers and not self._full(replica_id):
                return replica
        return None

    async def _choose_replica_for_request(
        self, pending_request: PendingRequest, *, is_retry: bool = False
    ) -> RunningReplica:
        replica = await super()._choose_replica_for_request(pending_request, is_retry=is_retry)
        replica_health.HEALTH.chosen(pending_request.args, replica)
        return replica


CAREFUL = RequestRouterConfig(request_router_class="deployments.careful_router:CarefulRouter")
"""For deployments that are called through handles."""
