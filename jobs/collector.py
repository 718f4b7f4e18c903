"""Forgets what is old, beside a dispatcher: a batch of tombstones, their blobs, the next batch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from jobs.blobs import BlobStore, job_prefixes
from jobs.files import StoredFile, input_prefix
from jobs.group_commit import AsyncLedger
from jobs.ledger import LedgerUnavailable
from jobs.retention import Batch, Retention, Step

_FILES = 200
log = logging.getLogger(__name__)
_IDLE_SECONDS = 30.0
_BUSY_SECONDS = 0.2  # between batches: claims and finishes come first


class Collector:
    """One per dispatcher; the ledger lets only one at a time do a step of a lane."""

    def __init__(
        self, ledger: AsyncLedger, blobs: BlobStore, lane: str, retention: Retention
    ) -> None:
        self._ledger = ledger
        self._blobs = blobs
        self._lane = lane
        self._retention = retention

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            more = False
            try:
                more = await self.turn()
            except (LedgerUnavailable, OSError) as error:
                log.warning("forgetting waits: %s", error)
            except Exception:
                log.exception("forgetting failed, trying again")
            await asyncio.sleep(_BUSY_SECONDS if more else _IDLE_SECONDS)

    async def turn(self) -> bool:
        """One batch of every step, and one of expired files; whether there was anything to do.
        Raises LedgerUnavailable, and OSError when the blob store is away: then the same batch comes
        again."""
        more = False
        for step in Step:
            batch = await self._ledger.retire(self._lane, step, self._retention)
            if batch is not None:
                await asyncio.to_thread(self._clear, batch)
                await self._ledger.retired(self._lane, batch)
                more = True
        if files := await self._ledger.stale_files(_FILES):
            await asyncio.to_thread(self._clear_files, files)
            await self._ledger.forget_files(files)
            more = True
        return more

    def _clear(self, batch: Batch) -> None:
        for job_id, keep in batch.blobs.items():
            for prefix in job_prefixes(job_id):
                self._blobs.clear(prefix, keep)

    def _clear_files(self, files: Sequence[StoredFile]) -> None:
        for file in files:
            self._blobs.clear(input_prefix(file.id))
