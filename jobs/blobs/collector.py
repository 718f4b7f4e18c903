"""Deletes what is old, beside a dispatcher: a batch of tombstones, their blobs, the next batch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from jobs.blobs.store import BlobStore, StoreUnavailable, job_prefixes
from jobs.blobs.threads import in_store
from jobs.client.async_ledger import AsyncDeletionQueue
from jobs.files import LEFTOVER, StoredFile, input_prefix, leftover
from jobs.ledger_errors import LedgerUnavailable
from jobs.retention import Retention, Step

_FILES = 200
log = logging.getLogger(__name__)
_IDLE_SECONDS = 30.0
_RETRY_SECONDS = 3_600.0
_BUSY_SECONDS = 0.2  # between batches: claims and finishes come first


class Collector:
    """One per dispatcher; the ledger lets only one at a time do a step of a lane."""

    def __init__(
        self, ledger: AsyncDeletionQueue, blobs: BlobStore, lane: str, retention: Retention
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
            except LedgerUnavailable as error:
                log.warning("retention waits: %s", error)
            except Exception:
                log.exception("retention failed, trying again")
            await asyncio.sleep(_BUSY_SECONDS if more else _IDLE_SECONDS)

    async def turn(self) -> bool:
        """One batch of every step, of old verdicts and deliveries and of expired files, and one old
        day of usage; whether there was anything to do. What cannot be deleted now is tried again
        later, and keeps nothing else from being forgotten. Raises LedgerUnavailable: then the same
        batch comes again."""
        more = False
        for step in Step:
            batch = await self._ledger.retire(self._lane, step, self._retention)
            if batch is not None:
                await self._clear([leftover(job, keep) for job, keep in batch.blobs.items()])
                await self._ledger.retired(self._lane, batch)
                more = True
        more |= await self._ledger.forget_verdicts(self._lane, self._retention.verdicts_seconds)
        more |= await self._ledger.forget_deliveries(self._retention.webhooks_seconds)
        more |= await self._ledger.compact_usage()
        more |= await self._ledger.forget_batches(self._retention.rows_seconds)
        if files := await self._ledger.stale_files(_FILES):
            await self._ledger.forget_files(await self._clear(files))
            more = True
        return more

    async def _clear(self, files: Sequence[StoredFile]) -> list[StoredFile]:
        """Those whose blobs are gone; the others are postponed."""
        errors = await in_store(self._delete, files)
        left = [file for file in files if file.id in errors]
        if left:
            name, error = next(iter(errors.items()))
            log.warning("%s of %s stay for now: %s: %s", len(left), len(files), name, error)
            await self._ledger.postpone(left, _RETRY_SECONDS)
        return [file for file in files if file.id not in errors]

    def _delete(self, files: Sequence[StoredFile]) -> dict[str, OSError]:
        """What could not be deleted, by id."""
        errors: dict[str, OSError] = {}
        for number, file in enumerate(files):
            for prefix, keep in _blobs_of(file):
                try:
                    self._blobs.clear(prefix, keep)
                except StoreUnavailable as error:  # for the others, too
                    return errors | {left.id: error for left in files[number:]}
                except OSError as error:
                    errors[file.id] = error
        return errors


def _blobs_of(file: StoredFile) -> list[tuple[str, tuple[str, ...]]]:
    """Prefixes to be cleared, and what has to stay below them."""
    if file.purpose == LEFTOVER:
        return [(prefix, file.blobs) for prefix in job_prefixes(file.id)]
    return [(input_prefix(file.id), ())]
