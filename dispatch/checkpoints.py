"""Large checkpoints are blobs of their job, and the ledger's row says which. Small ones are in the
row itself. See docs/decisions/0058."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial

from dispatch.in_flight import InFlightRender, Lease
from dispatch.metering import Metering
from dispatch.ports import Postprocessor, StageUnavailable
from dispatch.saved import key_of
from jobs.blobs.store import checkpoint_key
from jobs.lease import Beat

log = logging.getLogger(__name__)

Task = asyncio.Task[None]
Spawn = Callable[[Coroutine[None, None, None]], Task]


class Checkpoints:
    """Of one dispatcher: puts them into the store beside everything else, one of a render at a
    time, and deletes those that no row needs any more."""

    def __init__(self, store: Postprocessor, spawn: Spawn, metering: Metering) -> None:
        self._metering = metering
        self._store = store
        self._spawn = spawn
        self._puts: dict[InFlightRender, Task] = {}

    def put(self, renders: Iterable[InFlightRender]) -> list[Task]:
        """Begin to store the newest of each, where none of it is being stored. All that are."""
        renders = list(renders)
        for render in renders:
            if render.saved.unstored and render not in self._puts:
                put = self._puts[render] = self._spawn(self._put(render))
                put.add_done_callback(partial(self._ended, render))
        return [self._puts[render] for render in renders if render in self._puts]

    async def flush(self, renders: Iterable[InFlightRender], patience_seconds: float) -> None:
        """Wait until the newest of each is stored, if it can be in that time."""
        renders = list(renders)
        for _ in range(2):  # one that is under way may be of an older one
            if puts := self.put(renders):
                await asyncio.wait(puts, timeout=patience_seconds / 2)

    async def idle(self, render: InFlightRender) -> None:
        """Wait until nothing more is written of it."""
        if (put := self._puts.get(render)) is not None:
            await asyncio.wait({put})

    def recorded(self, lease: Lease, beat: Beat) -> None:
        """The ledger has this heartbeat: what was stored before can go."""
        rows = {of_render.index: of_render.checkpoint for of_render in beat.renders}
        for render in lease.renders:
            row = rows.get(render.index)
            if row is not None and key_of(row) is None:
                self._metering.checkpoint(len(row), stored=False)
            if row is not None and (keys := render.saved.forget(row)):
                self._spawn(self._delete(keys))

    async def settled(self, render: InFlightRender) -> None:
        """Nothing goes on from it any more."""
        await self._delete(render.saved.forget_all())

    def _ended(self, render: InFlightRender, _: Task) -> None:
        del self._puts[render]

    async def _put(self, render: InFlightRender) -> None:
        job, saved = render.lease.job, render.saved
        data, passes = saved.newest or b"", saved.passes
        key = checkpoint_key(job.id, render.index, job.fence, passes)
        saved.storing(key)
        try:
            await self._store.put(key, data, durable=True)
        except StageUnavailable as error:
            log.warning("a checkpoint of %s is not stored: %s", job.id, error)
        else:
            saved.stored(key, data, passes)
            self._metering.checkpoint(len(data), stored=True)
        finally:
            saved.wrote()

    async def _delete(self, keys: Sequence[str]) -> None:
        """At worst the collector deletes them with their job."""
        try:
            for key in keys:
                await self._store.delete(key)
        except StageUnavailable as error:
            log.warning("old checkpoints stay for now: %s", error)


async def load_checkpoints(lease: Lease, store: Postprocessor) -> None:
    """Those of a job just claimed, from the store; an image whose checkpoint is gone begins again,
    which is no attempt. Raises StageUnavailable."""
    for render in lease.renders:
        key = key_of(render.saved.row)
        if key is not None and render.saved.newest is None:
            data = await store.get(key)
            if data is None:
                log.warning("%s begins again: its checkpoint %s is gone", lease.job.id, key)
            render.saved.loaded(data)
