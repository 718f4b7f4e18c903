"""The loop of a gateway that tends batches: each has one feeder at a time, by a lease.

Everything that it does can be done again: a line is a row that becomes one job in one
transaction, and files are seen once the batch has ended. So whatever dies, the next feeder goes
on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress

from deployments.metrics import catalogue as c
from deployments.metrics.recorder import Metrics
from jobs.batches import (
    OPEN,
    BatchLeaseLost,
    BatchRecord,
    BatchState,
    LineState,
    OpenBatches,
)
from jobs.blobs.store import StoreUnavailable
from jobs.ledger_errors import LedgerUnavailable
from serve_app.batches.feeding import feed, stop
from serve_app.batches.output import write_files
from serve_app.batches.validating import validate
from serve_app.orders.app_state import AppState
from serve_app.wire.errors import NoModel

log = logging.getLogger(__name__)
LEASE_SECONDS = 10.0
HOLD_SECONDS = LEASE_SECONDS / 4
LOOK_SECONDS = 5.0
"""Between two looks for batches that no other feeder has."""
PAUSE_SECONDS = 0.25
"""Before the next look at a batch for which nothing was to be done."""
AT_ONCE = 16
"""Batches that one gateway tends."""
AWAY_SECONDS = 2.0


class BatchFeeder:
    """One for each gateway, on its event loop. state: as it is now."""

    def __init__(self, state: Callable[[], AppState]) -> None:
        self._state = state
        self._tending: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until cancelled; then other feeders may have the batches at once."""
        state = self._state()
        state.metrics.begin(c.BATCHES_ENDED, state.config.lane)
        try:
            while True:
                created = self._state().new_batches
                created.clear()
                await self._look()
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await created.wait()
        finally:
            for task in self._tending:
                task.cancel()
            await asyncio.gather(*self._tending, return_exceptions=True)

    async def _look(self) -> None:
        state, room = self._state(), AT_ONCE - len(self._tending)
        lane, found = state.config.lane, list[BatchRecord]()
        try:
            show_open(state.metrics, lane, await state.ledger.open_batches(lane))
            if room > 0:
                found = await state.ledger.lease_batches(lane, room, LEASE_SECONDS)
        except LedgerUnavailable as error:
            log.warning("batches wait: %s", error)
            await asyncio.sleep(AWAY_SECONDS)
            return
        for batch in found:
            task = asyncio.create_task(self._tend(batch))
            self._tending.add(task)
            task.add_done_callback(self._tending.discard)

    async def _tend(self, batch: BatchRecord) -> None:
        """Until the batch has ended, or another feeder has it."""
        holding = asyncio.create_task(self._hold(batch))
        working = asyncio.create_task(self._work(batch))
        try:
            await asyncio.wait({holding, working}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (holding, working):
                task.cancel()
            for error in await asyncio.gather(holding, working, return_exceptions=True):
                _tell(batch, error)
            with suppress(LedgerUnavailable):
                await self._state().ledger.let_batch_go(batch.id, batch.fence)

    async def _hold(self, batch: BatchRecord) -> None:
        while True:
            with suppress(LedgerUnavailable):
                await self._state().ledger.hold_batch(batch.id, batch.fence, LEASE_SECONDS)
            await asyncio.sleep(HOLD_SECONDS)

    async def _work(self, batch: BatchRecord) -> None:
        while not batch.ended:
            state = self._state()
            try:
                batch, moved = await step(state, batch)
            except (LedgerUnavailable, StoreUnavailable, NoModel) as error:
                log.warning("%s waits: %s", batch.id, error)
                await asyncio.sleep(AWAY_SECONDS)
                continue
            if batch.ended:
                state.metrics.add(c.BATCHES_ENDED, state.config.lane, batch.state)
            elif not moved:
                await asyncio.sleep(PAUSE_SECONDS)


def show_open(metrics: Metrics, lane: str, found: Mapping[BatchState, OpenBatches]) -> None:
    """The unended batches of a lane, as they are now."""
    for state in OPEN:
        metrics.show(c.BATCHES, lane, state, value=found.get(state, OpenBatches()).batches)
    counts = list(found.values())
    completed = sum(one.completed for one in counts)
    failed = sum(one.failed for one in counts)
    waiting = sum(one.lines for one in counts) - completed - failed
    metrics.show(c.BATCH_LINES, lane, LineState.WAITING, value=waiting)
    metrics.show(c.BATCH_LINES, lane, LineState.COMPLETED, value=completed)
    metrics.show(c.BATCH_LINES, lane, LineState.FAILED, value=failed)


def _tell(batch: BatchRecord, error: BaseException | None) -> None:
    if isinstance(error, BatchLeaseLost):
        log.info("%s has another feeder, or is gone", batch.id)
    elif isinstance(error, Exception):
        log.error("%s waits for its next feeder", batch.id, exc_info=error)


async def step(state: AppState, batch: BatchRecord) -> tuple[BatchRecord, bool]:
    """The next thing to be done for it, and whether there was something. Raises BatchLeaseLost,
    LedgerUnavailable, StoreUnavailable, NoModel."""
    ledger, before = state.ledger, batch
    if batch.state is BatchState.VALIDATING:
        batch = await validate(state, batch)
        return batch, batch.state is not before.state
    batch = await ledger.collect_lines(batch.id, batch.fence)
    if batch.state is BatchState.IN_PROGRESS:
        fed = await feed(state, batch)
        return batch, fed > 0 or (batch.completed, batch.failed) != (
            before.completed,
            before.failed,
        )
    if not await stop(state, batch):
        return batch, False
    return await ledger.end_batch(batch.id, batch.fence, await write_files(state, batch)), True
