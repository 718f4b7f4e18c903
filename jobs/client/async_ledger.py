"""The ledger for event loops: the same verbs, awaited. Gateways and dispatchers use this one.

One class for each protocol of jobs/ledger.py, with a line for each verb that says how it is called.
Ask for the smallest one that is needed. Errors are those of the protocols. `write`, `read`,
`listing` and `apart` make of a verb of a protocol a method with the same arguments and result: on
which of the client's threads it runs, and with which others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeVar

from jobs.admin_calls import AdminLog
from jobs.announcements import AnnouncedModel
from jobs.batches import BatchTable
from jobs.client.ledger_thread import SUBMITS, Changes, LedgerThread, read_batch, write_batch
from jobs.depth import QueueEstimate
from jobs.files import StoredFile
from jobs.job import Job
from jobs.ledger import (
    AuditLog,
    CostsAndLimits,
    DeletionQueue,
    FileTable,
    JobQueue,
    JobReads,
    JobWatches,
    Keys,
    Ledger,
    LoadHistory,
    ModelTable,
    Operating,
    QueueReads,
)
from jobs.limit_levels import LimitLevel
from jobs.request import ImageRequest
from jobs.tiers import Tier
from jobs.webhooks import WebhookTable

P = ParamSpec("P")
T = TypeVar("T")
Verb: TypeAlias = Callable[Concatenate[Any, P], T]
Method: TypeAlias = Callable[Concatenate["LedgerThreads", P], Coroutine[Any, Any, T]]


class LedgerThreads:
    """Wraps a Ledger and owns it from then on. Callable from several event loops.

    Writes share a thread and their fsyncs. Reads have a thread of their own and never wait for a
    disk; those of many rows have another one, so that a long list delays no question about one job.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._writes = LedgerThread("ledger-writes", write_batch(ledger), gather=True)
        self._reads = LedgerThread("ledger-reads", read_batch(ledger), gather=False)
        self._lists = LedgerThread("ledger-lists", read_batch(ledger), gather=False)
        self._changes = Changes(ledger)

    def close(self) -> None:
        """Finish the writes that have arrived, then close threads and ledger. Blocks shortly."""
        self._changes.close()
        self._writes.close()
        self._reads.close()
        self._lists.close()
        self._ledger.close()


def _nothing(*_: Any, **__: Any) -> str:
    return ""


def write(
    verb: Verb[P, T],
    *,
    durable: bool | Callable[..., bool] = True,
    rows: Callable[..., str] = _nothing,
) -> Method[P, T]:
    """In one transaction with the writes that arrive at the same time. durable: whether its caller
    is answered after an fsync. rows: names those that it keeps from others until its transaction
    has ended. Both may look at the verb's arguments."""

    async def call(self: LedgerThreads, /, *args: P.args, **kwargs: P.kwargs) -> T:
        synced = durable if isinstance(durable, bool) else durable(*args, **kwargs)
        run = partial(getattr(self._ledger, verb.__name__), *args, **kwargs)
        result: T = await self._writes.ask(run, durable=synced, rows=rows(*args, **kwargs))
        return result

    return call


def read(verb: Verb[P, T], *, of: Callable[[Ledger], Any] = lambda ledger: ledger) -> Method[P, T]:
    """Of few rows. of: the part of the ledger that has the verb."""

    async def call(self: LedgerThreads, /, *args: P.args, **kwargs: P.kwargs) -> T:
        run = partial(getattr(of(self._ledger), verb.__name__), *args, **kwargs)
        result: T = await self._reads.ask(run)
        return result

    return call


def listing(verb: Verb[P, T]) -> Method[P, T]:
    """Of many rows."""

    async def call(self: LedgerThreads, /, *args: P.args, **kwargs: P.kwargs) -> T:
        run = partial(getattr(self._ledger, verb.__name__), *args, **kwargs)
        result: T = await self._lists.ask(run)
        return result

    return call


def apart(verb: Verb[P, T]) -> Method[P, T]:
    """In a transaction and on a thread of its own: other writes do not wait for it."""

    async def call(self: LedgerThreads, /, *args: P.args, **kwargs: P.kwargs) -> T:
        run: Callable[..., T] = getattr(self._ledger, verb.__name__)
        return await asyncio.to_thread(run, *args, **kwargs)

    return call


def _order_of_tenant(request: ImageRequest) -> str:
    return f"{SUBMITS}{request.tenant}"


def _upload_of_tenant(file: StoredFile, *_: object, **__: object) -> str:
    """Uploads wait for uploads of the same tenant only, as submits do."""
    return f"{SUBMITS}{file.tenant} files"


def _lines_of_tenant(_batch: str, _fence: int, requests: Mapping[int, ImageRequest]) -> str:
    return "".join(_order_of_tenant(one) for one in list(requests.values())[:1])


def _job(job_id: str, *_: object, **__: object) -> str:
    return f"job {job_id}"


def _changes_level(lane: str, before: LimitLevel, after: LimitLevel) -> bool:
    return after.level != before.level


def _accounts(ledger: Ledger) -> Keys:
    return ledger.accounts


class AsyncJobQueue(LedgerThreads):
    """See JobQueue. Do not cancel a `claim`: its jobs would wait for their lease to end."""

    submit = write(JobQueue.submit, rows=_order_of_tenant)
    claim = write(JobQueue.claim)
    renew = write(JobQueue.renew, durable=False)
    finish_render = write(JobQueue.finish_render)
    release = write(JobQueue.release, rows=_job)
    cancel = write(JobQueue.cancel, rows=_job)
    preempt = write(JobQueue.preempt, durable=False)
    expire = write(JobQueue.expire)


class AsyncJobWatches(LedgerThreads):
    """See JobWatches."""

    watch = write(JobWatches.watch, durable=False)
    unwatch = write(JobWatches.unwatch, durable=False)
    answered = write(JobWatches.answered, durable=False)
    withdraw = write(JobWatches.withdraw, rows=_job)


class AsyncJobReads(LedgerThreads):
    """See JobReads."""

    get_many = read(JobReads.get_many)
    moved = read(JobReads.moved)
    recent = listing(JobReads.recent)
    children = listing(JobReads.children)
    ancestors = listing(JobReads.ancestors)
    version = read(JobReads.version)
    """Take it before a read and pass it to `changed` after it."""

    async def get(self, job_id: str) -> Job | None:
        """See JobReads. In one query with those that are asked at the same time."""
        run = partial(self._ledger.get, job_id)
        job: Job | None = await self._reads.ask(run, job_id=job_id)
        return job

    async def changed(self, seen: int, timeout_seconds: float) -> int:
        """Wait until the ledger's version is not `seen`, or for the timeout; the version then.
        A write that came between `version` and this call returns at once."""
        return await self._changes.wait(seen, timeout_seconds)


class AsyncQueueReads(LedgerThreads):
    """See QueueReads."""

    depth = read(QueueReads.depth)
    estimates = read(QueueReads.estimates)
    standing = read(QueueReads.standing)
    check_admission = read(QueueReads.check_admission)

    async def estimate(self, job_id: str) -> QueueEstimate:
        """One of `estimates`, empty for a job that does not wait or run. In one query with those
        that are asked at the same time."""
        found: QueueEstimate = await self._reads.ask(_merged, estimate_of=job_id)
        return found


class AsyncFileTable(LedgerThreads):
    """See FileTable."""

    add_file = write(FileTable.add_file, rows=_upload_of_tenant)
    file = read(FileTable.file)
    files = listing(FileTable.files)
    drop_file = write(FileTable.drop_file)


class AsyncDeletionQueue(LedgerThreads):
    """See DeletionQueue."""

    retire = write(DeletionQueue.retire)
    retired = write(DeletionQueue.retired, durable=False)
    stale_files = listing(DeletionQueue.stale_files)
    postpone = write(DeletionQueue.postpone)
    forget_files = write(DeletionQueue.forget_files, durable=False)
    forget_verdicts = write(DeletionQueue.forget_verdicts, durable=False)
    forget_deliveries = write(DeletionQueue.forget_deliveries, durable=False)
    forget = write(DeletionQueue.forget)
    compact_usage = write(DeletionQueue.compact_usage)
    forget_batches = write(BatchTable.forget_batches, durable=False)


class AsyncCostsAndLimits(LedgerThreads):
    """See CostsAndLimits. `learn` stands apart: many processes write the same few rows, and no job
    shall wait for that."""

    learn = apart(CostsAndLimits.learn)
    costs = read(CostsAndLimits.costs)
    limit_level = read(CostsAndLimits.limit_level)
    move_limits = write(CostsAndLimits.move_limits, durable=_changes_level)


class AsyncModelTable(LedgerThreads):
    """See ModelTable."""

    announce = write(ModelTable.announce, durable=False)
    withdraw_model = write(ModelTable.withdraw_model)
    models = read(ModelTable.models)

    def models_at_start(self, lane: str) -> list[AnnouncedModel]:
        """See ModelTable.models. Blocks."""
        return self._ledger.models(lane)


class AsyncLoadHistory(LedgerThreads):
    """See LoadHistory. `keep_sample` stands apart: with a reading of this step there it only
    reads."""

    keep_sample = apart(LoadHistory.keep_sample)
    history = listing(LoadHistory.history)


class AsyncAuditLog(LedgerThreads):
    """See AuditLog."""

    log_verdicts = write(AuditLog.log_verdicts, durable=False)
    strikes = read(AuditLog.strikes)


class AsyncAdminLog(LedgerThreads):
    """See AdminLog."""

    log_admin_call = write(AdminLog.log_admin_call)
    admin_calls = listing(AdminLog.admin_calls)


class AsyncOperating(LedgerThreads):
    """See Operating."""

    find_jobs = listing(Operating.find_jobs)
    find_job = read(Operating.find_job)
    requeue = write(Operating.requeue, rows=_job)
    usage = listing(Operating.usage)


class AsyncWebhooks(LedgerThreads):
    """See WebhookTable. A claim and its settling may be lost in a power cut: then what it delivered
    is delivered again."""

    add_endpoint = write(WebhookTable.add_endpoint)
    endpoint = read(WebhookTable.endpoint)
    endpoints = listing(WebhookTable.endpoints)
    change_endpoint = write(WebhookTable.change_endpoint)
    drop_endpoint = write(WebhookTable.drop_endpoint)
    deliveries = listing(WebhookTable.deliveries)
    redeliver = write(WebhookTable.redeliver)
    overdue_deliveries = read(WebhookTable.overdue_deliveries)
    claim_deliveries = write(WebhookTable.claim_deliveries, durable=False)
    settle_deliveries = write(WebhookTable.settle_deliveries, durable=False)


class AsyncBatchTable(LedgerThreads):
    """See BatchTable."""

    add_batch = write(BatchTable.add_batch)
    batch = read(BatchTable.batch)
    batches = listing(BatchTable.batches)
    cancel_batch = write(BatchTable.cancel_batch)
    open_batches = read(BatchTable.open_batches)
    lease_batches = write(BatchTable.lease_batches)
    hold_batch = write(BatchTable.hold_batch, durable=False)
    let_batch_go = write(BatchTable.let_batch_go, durable=False)
    batch_input = read(BatchTable.batch_input)
    keep_lines = write(BatchTable.keep_lines, durable=False)
    begin_batch = write(BatchTable.begin_batch)
    refuse_batch = write(BatchTable.refuse_batch)
    waiting_lines = listing(BatchTable.waiting_lines)
    queued_lines = read(BatchTable.queued_lines)
    feed_lines = write(BatchTable.feed_lines, rows=_lines_of_tenant)
    refuse_lines = write(BatchTable.refuse_lines)
    collect_lines = write(BatchTable.collect_lines)
    stop_lines = write(BatchTable.stop_lines)
    ended_lines = listing(BatchTable.ended_lines)
    end_batch = write(BatchTable.end_batch)


class AsyncKeys(LedgerThreads):
    """See Keys."""

    key_owner = read(Keys.owner, of=_accounts)
    key_owners = read(Keys.owners, of=_accounts)
    keys_revision = read(Keys.revision, of=_accounts)

    def url_secret(self) -> bytes:
        """See Keys. Blocks: call it at the start."""
        return self._ledger.accounts.url_secret()


class AsyncLedger(
    AsyncJobQueue,
    AsyncJobWatches,
    AsyncJobReads,
    AsyncQueueReads,
    AsyncFileTable,
    AsyncDeletionQueue,
    AsyncCostsAndLimits,
    AsyncModelTable,
    AsyncLoadHistory,
    AsyncAuditLog,
    AsyncAdminLog,
    AsyncOperating,
    AsyncWebhooks,
    AsyncBatchTable,
    AsyncKeys,
):
    """See Ledger."""

    def promise(self, tiers: Mapping[str, Tier]) -> None:
        """See Ledger.tiers."""
        self._ledger.tiers = tiers

    def tighten(self, queue: str, tiers: Mapping[str, Tier]) -> None:
        """See Ledger.tightened."""
        self._ledger.tightened[queue] = tiers


def _merged() -> Any:
    """Is never called: read_batch knows what to do."""
