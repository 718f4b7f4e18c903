"""The ledger for event loops: the same verbs, awaited. Gateways and dispatchers use this one.

Writes share a thread and their fsyncs. Reads have a thread of their own and never wait for a disk;
those of many rows have another one, so that a long list delays no question about one job.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

from jobs.client.change_poller import Changes
from jobs.client.ledger_thread import SUBMITS, LedgerThread, read_batch, write_batch
from jobs.costs import ImageCost
from jobs.files import UNLIMITED, FileRoom, StoredFile
from jobs.job import Job
from jobs.ledger import Asking, Beat, Depth, Ledger, Outcome, Outlook, Renewal, Standing, Submission
from jobs.limit_levels import LimitLevel
from jobs.policy.settling import Finish
from jobs.request import Enquiry, ImageRequest, Tenant
from jobs.retention import Batch, Retention, Step
from jobs.sql.submitting import Submit
from jobs.tiers import Tier


def _merged() -> None:
    """Is never called: read_batch knows what to do."""


class AsyncLedger:
    """Wraps a Ledger and owns it from then on. Callable from several event loops.

    Errors are those of Ledger. Do not cancel a `claim`: its jobs would wait for their lease to end.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._writes = LedgerThread("ledger-writes", write_batch(ledger), gather=True)
        self._reads = LedgerThread("ledger-reads", read_batch(ledger), gather=False)
        self._lists = LedgerThread("ledger-lists", read_batch(ledger), gather=False)
        self._changes = Changes(ledger.version)

    async def submit(self, request: ImageRequest) -> Submission:
        """See Ledger."""
        run = Submit(self._ledger, request)
        result: Submission = await self._writes.ask(run, rows=f"{SUBMITS}{request.tenant}")
        return result

    async def claim(
        self,
        lane: str,
        worker: str,
        limit: int,
        lease_seconds: float,
        sparing: frozenset[str] = frozenset(),
    ) -> list[Job]:
        """See Ledger."""
        run = partial(self._ledger.claim, lane, worker, limit, lease_seconds, sparing)
        result: list[Job] = await self._writes.ask(run)
        return result

    async def make_way(self, asking: Asking) -> list[str]:
        """See Ledger."""
        run = partial(self._ledger.make_way, asking)
        result: list[str] = await self._writes.ask(run, durable=False)
        return result

    async def renew(self, beats: Sequence[Beat], lease_seconds: float) -> list[Renewal]:
        """See Ledger."""
        run = partial(self._ledger.renew, beats, lease_seconds)
        result: list[Renewal] = await self._writes.ask(run, durable=False)
        return result

    async def finish_render(self, job_id: str, fence: int, index: int, outcome: Outcome) -> Job:
        """See Ledger."""
        run = Finish(self._ledger, job_id, fence, index, outcome)
        result: Job = await self._writes.ask(run)
        return result

    async def release(self, job_id: str, fence: int, *, error: str | None = None) -> None:
        """See Ledger."""
        run = partial(self._ledger.release, job_id, fence, error=error)
        await self._writes.ask(run, rows=f"job {job_id}")

    async def cancel(self, job_id: str) -> Job | None:
        """See Ledger."""
        run = partial(self._ledger.cancel, job_id)
        result: Job | None = await self._writes.ask(run, rows=f"job {job_id}")
        return result

    async def withdraw(self, job_id: str) -> Job | None:
        """See Ledger."""
        run = partial(self._ledger.withdraw, job_id)
        result: Job | None = await self._writes.ask(run, rows=f"job {job_id}")
        return result

    async def watch(self, job_ids: Sequence[str], seconds: float) -> float:
        """See Ledger."""
        run = partial(self._ledger.watch, job_ids, seconds)
        result: float = await self._writes.ask(run, durable=False)
        return result

    async def left(self, seen: Mapping[str, float], grace_seconds: float) -> None:
        """See Ledger."""
        run = partial(self._ledger.left, seen, grace_seconds)
        await self._writes.ask(run, durable=False)

    async def answered(self, job_ids: Sequence[str]) -> None:
        """See Ledger."""
        run = partial(self._ledger.answered, job_ids)
        await self._writes.ask(run, durable=False)

    async def expire(self) -> int:
        """See Ledger."""
        run = self._ledger.expire
        result: int = await self._writes.ask(run)
        return result

    async def retire(self, lane: str, step: Step, kept: Retention) -> Batch | None:
        """See Ledger."""
        run = partial(self._ledger.retire, lane, step, kept)
        result: Batch | None = await self._writes.ask(run)
        return result

    async def retired(self, lane: str, batch: Batch) -> None:
        """See Ledger."""
        await self._writes.ask(partial(self._ledger.retired, lane, batch), durable=False)

    async def get(self, job_id: str) -> Job | None:
        """See Ledger."""
        run = partial(self._ledger.get, job_id)
        result: Job | None = await self._reads.ask(run, job_id=job_id)
        return result

    async def get_many(self, job_ids: Sequence[str]) -> list[Job]:
        """See Ledger."""
        run = partial(self._ledger.get_many, job_ids)
        result: list[Job] = await self._reads.ask(run)
        return result

    async def recent(self, tenant: str, limit: int) -> list[Job]:
        """See Ledger."""
        run = partial(self._ledger.recent, tenant, limit)
        result: list[Job] = await self._lists.ask(run)
        return result

    async def children(self, tenant: str, job_id: str, limit: int = 100) -> list[Job]:
        """See Ledger."""
        run = partial(self._ledger.children, tenant, job_id, limit)
        result: list[Job] = await self._lists.ask(run)
        return result

    async def ancestors(self, tenant: str, job_id: str, limit: int = 100) -> list[Job]:
        """See Ledger."""
        run = partial(self._ledger.ancestors, tenant, job_id, limit)
        result: list[Job] = await self._lists.ask(run)
        return result

    async def add_file(self, file: StoredFile, room: FileRoom = UNLIMITED) -> StoredFile:
        """See Ledger. Uploads wait for uploads of the same tenant only, as submits do."""
        run = partial(self._ledger.add_file, file, room)
        rows = f"{SUBMITS}{file.tenant} files"
        result: StoredFile = await self._writes.ask(run, rows=rows)
        return result

    async def postpone(self, files: Sequence[StoredFile], seconds: float) -> None:
        """See Ledger."""
        await self._writes.ask(partial(self._ledger.postpone, files, seconds))

    async def file(self, tenant: str, file_id: str) -> StoredFile | None:
        """See Ledger."""
        run = partial(self._ledger.file, tenant, file_id)
        result: StoredFile | None = await self._reads.ask(run)
        return result

    async def files(self, tenant: str, limit: int, after: str | None = None) -> list[StoredFile]:
        """See Ledger."""
        run = partial(self._ledger.files, tenant, limit, after)
        result: list[StoredFile] = await self._lists.ask(run)
        return result

    async def drop_file(self, tenant: str, file_id: str) -> bool:
        """See Ledger."""
        result: bool = await self._writes.ask(partial(self._ledger.drop_file, tenant, file_id))
        return result

    async def stale_files(self, limit: int, tenant: str | None = None) -> list[StoredFile]:
        """See Ledger."""
        run = partial(self._ledger.stale_files, limit, tenant)
        result: list[StoredFile] = await self._lists.ask(run)
        return result

    async def forget_files(self, files: Sequence[StoredFile]) -> None:
        """See Ledger."""
        await self._writes.ask(partial(self._ledger.forget_files, files), durable=False)

    async def outlook(self, job_id: str) -> Outlook:
        """One of `outlooks`, empty for a job that does not wait or run; together with others'."""
        result: Outlook = await self._reads.ask(_merged, outlook_of=job_id)
        return result

    async def outlooks(self, job_ids: Sequence[str]) -> dict[str, Outlook]:
        """See Ledger."""
        run = partial(self._ledger.outlooks, job_ids)
        result: dict[str, Outlook] = await self._reads.ask(run)
        return result

    async def key_owner(self, hashed: str) -> tuple[Tenant | None, int]:
        """See Keys.owner."""
        run = partial(self._ledger.accounts.owner, hashed)
        result: tuple[Tenant | None, int] = await self._reads.ask(run)
        return result

    async def key_owners(self, hashes: Sequence[str]) -> tuple[dict[str, Tenant], int]:
        """See Keys.owners."""
        run = partial(self._ledger.accounts.owners, hashes)
        result: tuple[dict[str, Tenant], int] = await self._reads.ask(run)
        return result

    async def keys_revision(self) -> int:
        """See Keys.revision."""
        result: int = await self._reads.ask(self._ledger.accounts.revision)
        return result

    def url_secret(self) -> bytes:
        """See Keys.url_secret. Blocks: call it at the start."""
        return self._ledger.accounts.url_secret()

    async def check_admission(self, enquiry: Enquiry) -> None:
        """See Ledger."""
        await self._reads.ask(partial(self._ledger.check_admission, enquiry))

    async def standing(self, tenant: Tenant, lane: str) -> Standing:
        """See Ledger."""
        run = partial(self._ledger.standing, tenant, lane)
        result: Standing = await self._reads.ask(run)
        return result

    async def depth(self, lane: str) -> Depth:
        """See Ledger."""
        run = partial(self._ledger.depth, lane)
        result: Depth = await self._reads.ask(run)
        return result

    async def learn(self, costs: Sequence[ImageCost]) -> None:
        """See Ledger. In a transaction and on a thread of its own: many processes write the same
        few rows, and nobody's jobs shall wait for that."""
        await asyncio.to_thread(self._ledger.learn, costs)

    async def costs(self, model: str) -> list[ImageCost]:
        """See Ledger."""
        result: list[ImageCost] = await self._reads.ask(partial(self._ledger.costs, model))
        return result

    async def limit_level(self, lane: str) -> tuple[LimitLevel, float]:
        """See Ledger."""
        run = partial(self._ledger.limit_level, lane)
        result: tuple[LimitLevel, float] = await self._reads.ask(run)
        return result

    async def move_limits(self, lane: str, before: LimitLevel, after: LimitLevel) -> bool:
        """See Ledger."""
        run = partial(self._ledger.move_limits, lane, before, after)
        result: bool = await self._writes.ask(run, durable=after.level != before.level)
        return result

    def promise(self, tiers: Mapping[str, Tier]) -> None:
        """See Ledger.tiers."""
        self._ledger.tiers = tiers

    async def version(self) -> int:
        """See Ledger. Take it before a read and pass it to `changed` after it."""
        result: int = await self._reads.ask(self._ledger.version)
        return result

    async def changed(self, seen: int, timeout_seconds: float) -> int:
        """Wait until the ledger's version is not `seen`, or for the timeout; the version then.
        A write that came between `version` and this call returns at once."""
        return await self._changes.wait(seen, timeout_seconds)

    def close(self) -> None:
        """Finish the writes that have arrived, then close threads and ledger. Blocks shortly."""
        self._changes.close()
        self._writes.close()
        self._reads.close()
        self._lists.close()
        self._ledger.close()
