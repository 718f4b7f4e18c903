"""Everything about one tenant, gone: keys, jobs, blobs, rows, and the bytes that they leave."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jobs.blobs.store import BlobStore, job_prefixes, preview_key
from jobs.files import VISION, input_prefix
from jobs.job import Job
from jobs.ledger import Ledger
from jobs.ledger_errors import LedgerError
from jobs.verdicts import Reviewed

_BATCH = 200
_PAUSE_SECONDS = 0.2
_LAST_WRITES_SECONDS = 1.0
"""A dispatcher that hears of an end may be storing a picture at that moment. What one stores later,
because it was stopped, a collector deletes: see SqlLedger.forget."""


class StillHeld(LedgerError):
    """A dispatcher did not let go of the tenant's jobs in time."""


class WrittenByNewer(LedgerError):
    """What is left of the tenant was written by a newer version, which can erase it."""


@dataclass(frozen=True, slots=True)
class Erased:
    """What was removed. files: uploads."""

    jobs: int = 0
    images: int = 0
    files: int = 0


def erase_tenant(
    ledger: Ledger,
    stores: Sequence[BlobStore],
    tenant: str,
    patience_seconds: float = 60.0,
    sleep: Callable[[float], None] = time.sleep,
) -> Erased:
    """Erase; again, it finds nothing. Interrupted, it goes on where it was: a job's row goes last.

    Raises StillHeld when jobs do not end within `patience_seconds`, WrittenByNewer,
    LedgerUnavailable, OSError.
    """
    ledger.forget_tenant(tenant)  # its keys: from here on nothing new comes
    jobs = images = 0
    while ids := ledger.job_ids(tenant, _BATCH):
        found = ledger.get_many(ids)
        if not found:
            raise WrittenByNewer(f"{len(ids)} jobs or more were written by a newer version: use it")
        _end(ledger, found, patience_seconds, sleep)
        found = ledger.get_many([job.id for job in found])  # a picture may have come just before
        _clear(stores, found)
        ledger.forget([job.id for job in found])
        jobs += len(found)
        images += sum(render.blob is not None for job in found for render in job.renders)
    files = _erase_files(ledger, stores, tenant)
    ledger.forget_tenant(tenant)
    ledger.scrub()
    return Erased(jobs, images, files)


def delete_withdrawn(store: BlobStore, reviewed: Reviewed) -> int:
    """The blobs of pictures that a review has taken back; how many. OSError when one stays."""
    job_id, extension = reviewed.verdict.note.job_id, reviewed.output_format
    keys = [render.blob for render in reviewed.withdrawn if render.blob is not None]
    keys += [
        preview_key(job_id, render.index, pass_no, extension)
        for render in reviewed.withdrawn
        for pass_no in render.previews
    ]
    for key in keys:
        store.delete(key)
    return len(keys)


def _erase_files(ledger: Ledger, stores: Sequence[BlobStore], tenant: str) -> int:
    """After the jobs that go on from them. How many the tenant had uploaded."""
    uploads = 0
    while found := ledger.stale_files(_BATCH, tenant):
        for store in stores:
            for file in found:
                store.clear(input_prefix(file.id))
        ledger.forget_files(found)
        uploads += sum(file.purpose == VISION for file in found)
    return uploads


def _end(
    ledger: Ledger, jobs: Sequence[Job], patience_seconds: float, sleep: Callable[[float], None]
) -> None:
    """Cancel them; a held one ends with its holder's next heartbeat, or when its lease lapses."""
    waiting = [job.id for job in jobs if not job.ended]
    held = False
    for job_id in waiting:
        cancelled = ledger.cancel(job_id)
        held |= cancelled is not None and not cancelled.ended
    for _ in range(int(patience_seconds / _PAUSE_SECONDS)):
        waiting = [job.id for job in ledger.get_many(waiting) if not job.ended]
        if not waiting:
            if held:
                sleep(_LAST_WRITES_SECONDS)
            return
        sleep(_PAUSE_SECONDS)
        ledger.expire()  # perhaps no dispatcher is alive to do it
    raise StillHeld(f"{len(waiting)} jobs are still held; try again")


def _clear(stores: Sequence[BlobStore], jobs: Sequence[Job]) -> None:
    for store in stores:
        for job in jobs:
            for prefix in job_prefixes(job.id):
                store.clear(prefix)
