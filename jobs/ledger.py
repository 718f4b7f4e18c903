"""The Ledger protocol: the only source of truth about jobs. Implemented in SQL.

Every verb is one transaction on the ledger's own clock. Calls block: run them off an event loop,
or use `jobs.client.async_ledger`. Ask for the smallest part that is needed. Errors are those of
`jobs.ledger_errors`; any verb may raise LedgerUnavailable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from jobs.admin_calls import AdminLog
from jobs.announcements import AnnouncedModel, Announcement
from jobs.batches import BatchTable
from jobs.costs import ImageCost
from jobs.depth import Depth, QueueEstimate
from jobs.files import UNLIMITED, FileRoom, StoredFile
from jobs.history import LoadSample, QueueHistory, ScalingChange
from jobs.job import Job
from jobs.lease import Beat, Outcome, PreemptionRequest, Renewal
from jobs.limit_levels import LimitLevel
from jobs.operating import FoundJob, JobFilter, JobPage, JobPlace
from jobs.request import Enquiry, ImageRequest, Tenant
from jobs.retention import Batch, Retention, Step
from jobs.tiers import Standing, Tier, Usage
from jobs.usage import UsageQuery, UsedBy
from jobs.verdicts import LoggedVerdict, ReviewDecision, Reviewed, Strikes, VerdictNote
from jobs.webhooks import WebhookTable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Submission:
    """What has become of an order."""

    job: Job
    reattached: bool
    """The job was there before: the order is a retry of it."""
    usage: Usage
    """Of the tenant, with this job."""


class JobQueue(Protocol):
    """A job's way through the queue. Once `submit` has returned, no crash loses it."""

    def submit(self, request: ImageRequest) -> Submission:
        """ONE transaction: quota, place in the fair queue, job and renders. Durable on return.

        Re-attaches instead of inserting: same tenant and idempotency key, or retry_count > 0 with
        the same tenant and body hash within 15 minutes of a job that is unanswered, or was answered
        less than 10 seconds ago; of the same lane and model. Equal retries at the same time find a
        job each, and one that another connection waits for is found last. What the order would be
        promised as a new job holds for the one that it finds: an asynchronous order's lives without
        a watch from then on, and any lives to the later of both deadlines.
        A tenant that asks for the first time is created by it. Raises NotYetOpen, QuotaExceeded,
        QueueFull, IdempotencyMismatch, and ValueError for text that no database stores faithfully.
        """

    def claim(
        self,
        lane: str,
        worker: str,
        limit: int,
        lease_seconds: float,
        sparing: frozenset[str] = frozenset(),
    ) -> list[Job]:
        """At most `limit` jobs in fair order, now LEASED by `worker` under a fresh fence.
        Their renders carry the checkpoints to go on from. Skips cancelled and expired ones, and
        those of the tenants in `sparing` until one of their jobs is let go."""

    def renew(self, beats: Sequence[Beat], lease_seconds: float) -> list[Renewal]:
        """Extend leases and write checkpoints in one transaction; may be lost in a power cut
        (that only costs passes). One Renewal per beat, in order."""

    def finish_render(self, job_id: str, fence: int, index: int, outcome: Outcome) -> Job:
        """Settle one image exactly once; the job settles with its last one. Durable on return.
        Raises LeaseLost when the fence is old or that image was settled before, and ValueError for
        an outcome that does not settle an image."""

    def release(self, job_id: str, fence: int, *, error: str | None = None) -> None:
        """Give a job back at its original place with its checkpoints. With `error` it counts as
        an attempt; too many attempts end it as FAILED with the reasons kept. Ignores old fences."""

    def cancel(self, job_id: str) -> Job | None:
        """Cancel in any state; a queued job at once, a held one by its next renewal. None: unknown.
        Cancelling an ended job changes nothing and returns it. Raises JobUnreadable."""

    def preempt(self, request: PreemptionRequest) -> list[str]:
        """Called while images of a dispatcher's jobs find no slot: jobs of tiers with smaller
        shares are preempted for them and for what is queued, as policy/preemption.py decides. Which
        jobs shall leave, also those of other dispatchers, which are told by their next renewal.
        With nothing to do it takes no write lock."""

    def expire(self) -> int:
        """Lapsed leases go back to the queue with fence + 1 at their original place, overdue jobs
        without progress (and others a day later) end as EXPIRED, unwatched ones as CANCELLED. How
        many rows moved. After an outage of the ledger every holder has one lease to come back, and
        every watcher one grace. With nothing to do it takes no write lock."""


class JobWatches(Protocol):
    """Which clients wait for which jobs. Not fsynced: a lost renewal is renewed, long before the
    grace is over. `withdraw` is."""

    def watch(self, job_ids: Sequence[str], seconds: float) -> float:
        """A client still waits for these: watched_until = now + seconds, if it was less; that.
        Passes over jobs that another transaction moves right now."""

    def unwatch(self, seen: Mapping[str, float], grace_seconds: float) -> None:
        """The clients of these jobs have left: watched_until = now + grace, if it was more. Not
        for those that were renewed beyond `seen`, this watcher's last renewal, by another."""

    def answered(self, job_ids: Sequence[str]) -> None:
        """The watcher was sent its answer: 10 seconds from now the same body again is a new order,
        not a retry of these."""

    def withdraw(self, job_id: str) -> Job | None:
        """As `cancel`, for one of the orders that may share the job: the last of them cancels."""


class JobReads(Protocol):
    """Jobs as they are. Lists leave out those that this version cannot read."""

    def get(self, job_id: str) -> Job | None:
        """One job with its renders, or None. Raises JobUnreadable."""

    def get_many(self, job_ids: Sequence[str]) -> list[Job]:
        """Those that exist, in one query, in no particular order."""

    def moved(self, lanes: Sequence[str], since: float | None) -> tuple[frozenset[str], float]:
        """Ids of all that are held now and, of these lanes, of those that ended after `since`, if
        it is given; perhaps some of others; and the time. A transaction may be seen some seconds
        after the time that it writes."""

    def recent(self, tenant: str, limit: int, *, batches: bool = True) -> list[Job]:
        """The tenant's newest jobs, newest first; with or without the lines of batches."""

    def job_ids(self, tenant: str, limit: int) -> list[str]:
        """The tenant's newest, newest first, with those that this version cannot read."""

    def children(self, tenant: str, job_id: str, limit: int = 100) -> list[Job]:
        """The tenant's jobs that go on from an image of that one: the newest, oldest first."""

    def ancestors(self, tenant: str, job_id: str, limit: int = 100) -> list[Job]:
        """The tenant's jobs that this one goes back to, each from an image of the next: its parent
        first. The line ends where a job is forgotten."""

    def version(self) -> int:
        """Changes whenever any process has written; it only grows."""

    def changed(self, seen: int, seconds: float) -> int:
        """The version, once it is not `seen`, or later on: after so long at most, or for no reason.
        Blocks; one thread at a time."""

    def interrupt(self) -> None:
        """`changed` returns at once."""


class QueueReads(Protocol):
    """How long the queue is, for a lane, a job and a tenant."""

    def depth(self, lane: str) -> Depth:
        """What waits and runs now."""

    def estimates(self, job_ids: Sequence[str]) -> dict[str, QueueEstimate]:
        """Position and ETA of those that wait or run; what is known of the lane may be a second
        old. Positions are counted up to the 500th of a tier and estimated behind
        (queue_sketch.py), with what other tiers' shares let them take meanwhile. As cheap for
        thousands as for one."""

    def standing(self, tenant: Tenant, lane: str) -> Standing:
        """What the tenant has used of what its tier allows. Zeros for one that never asked."""

    def check_admission(self, enquiry: Enquiry) -> None:
        """Whether `submit` would take another order, as far as reads can tell. Raises NotYetOpen;
        and QuotaExceeded or QueueFull for what cannot be a retry."""


class FileTable(Protocol):
    """Tenants' uploads, and the directory that their blobs are in."""

    def add_file(self, file: StoredFile, room: FileRoom = UNLIMITED) -> StoredFile:
        """Durable on return; write its blobs after that. As stored: created now, on this clock, to
        live as long as it said. Raises FilesFull when that is more than `room` for files of that
        purpose; INPUT has any."""

    def file(self, tenant: str, file_id: str) -> StoredFile | None:
        """A file of that tenant, of a purpose in files.SHOWN; None when it is another's, has
        expired or was dropped."""

    def files(
        self, tenant: str, limit: int, after: str | None = None, purpose: str = ""
    ) -> list[StoredFile]:
        """Those of the tenant, newest first, from behind the id `after`; purpose: only those."""

    def drop_file(self, tenant: str, file_id: str) -> bool:
        """It expires now: no client sees it, and a collector deletes it; one that an unended batch
        reads only once that needs it no more. False: there is none."""

    def store_id(self, found: str | None = None) -> str | None:
        """What marks the directory of this ledger's pictures; None as long as none is known. With
        `found`, that one, where none was known before. Durable on return."""


class DeletionQueue(Protocol):
    """What is old or unwanted, and is deleted: blobs first, then rows."""

    def retire(self, lane: str, step: Step, kept: Retention) -> Batch | None:
        """Write the tombstones of the lane's next jobs that are too old for `step`; None when there
        are none, or another process is at it. Delete the batch's blobs, then call `retired`. With
        nothing to do it takes no write lock."""

    def retired(self, lane: str, batch: Batch) -> None:
        """The batch's blobs are gone. Without this the same batch comes again after a minute."""

    def stale_files(self, limit: int, tenant: str | None = None) -> list[StoredFile]:
        """Expired files; with a tenant all of its own, whatever their purpose. Delete their blobs,
        then call `forget_files`."""

    def postpone(self, files: Sequence[StoredFile], seconds: float) -> None:
        """Let these expire so much later: their blobs could not be deleted. Also of a LEFTOVER,
        which may be new."""

    def forget_files(self, files: Sequence[StoredFile]) -> None:
        """Delete the rows of these, whose blobs are gone."""

    def forget_verdicts(self, lane: str, kept_seconds: float) -> bool:
        """Delete a batch of the lane's verdicts that are older; whether there were any."""

    def forget_deliveries(self, kept_seconds: float) -> bool:
        """Delete a batch of the webhook deliveries that ended longer ago, or wait longer for an
        endpoint that is disabled; whether there were any."""

    def forget(self, job_ids: Sequence[str]) -> None:
        """Delete the rows of these jobs, which have ended and whose blobs are gone. What a
        dispatcher that was stopped may still store of them is deleted a day later."""

    def forget_tenant(self, tenant: str) -> None:
        """Delete all that names a tenant beside its jobs: keys, quota, its place in the queue."""

    def compact_usage(self) -> bool:
        """Make one day of the hours of a day that is long over; whether there was one. With nothing
        to do it takes no write lock."""

    def scrub(self) -> None:
        """Overwrite the bytes of what was deleted, as far as the database can. Writers wait."""


class CostsAndLimits(Protocol):
    """What images cost lately, and how far a lane's limits are tightened."""

    def learn(self, costs: Sequence[ImageCost]) -> None:
        """Images have cost so much: moves the averages of their kinds. Not fsynced. Call it seldom,
        with what has gathered."""

    def costs(self, model: str) -> list[ImageCost]:
        """What the model's images cost lately, by kind; those that are rendered most often."""

    def limit_level(self, lane: str) -> tuple[LimitLevel, float]:
        """How far the lane's limits are tightened, and the time."""

    def move_limits(self, lane: str, before: LimitLevel, after: LimitLevel) -> bool:
        """Keep a reading; another level goes into the audit log with it, fsynced. False, and
        nothing is written, when another process has taken a reading since `before`."""


class ModelTable(Protocol):
    """The models of a lane, as their dispatchers announce them."""

    def announce(self, model: Announcement, *, ready: bool) -> None:
        """It is here; ready: its decoders draw, or come with the work. Call it every few seconds;
        not fsynced, and with nothing new to say it takes no write lock. A queue has one model and
        a model of a lane one queue: the newest announcement holds."""

    def withdraw_model(self, lane: str, name: str) -> bool:
        """Forget it until it is announced again; its jobs stay in their queue. False: unknown."""

    def models(self, lane: str) -> list[AnnouncedModel]:
        """Those that were announced, also by dispatchers that are gone: the lane's first one first,
        then in the order in which they came."""


class LoadHistory(Protocol):
    """What queues looked like over time. Bounded in rows; not fsynced."""

    def keep_sample(self, queue: str, sample: LoadSample) -> None:
        """A reading of the queue's load. Any process may take one; while the finest step has one,
        nothing is written."""

    def log_scaling(self, queue: str, decided: Sequence[tuple[float, ScalingChange]]) -> None:
        """What the queue's scaling policy decided, each with how many seconds ago; their own `at`
        does not count."""

    def history(self, queue: str, window_seconds: float, most: int) -> QueueHistory:
        """Of that long until now, at most so many readings and newest changes, the limits' with
        the one that held at the beginning."""


class AuditLog(Protocol):
    """What the safety screens decided, and what people made of it."""

    def log_verdicts(self, notes: Sequence[VerdictNote]) -> None:
        """Add them to the log. Not fsynced: what has an outcome comes with that."""

    def verdicts(self, action: str, limit: int, *, reviewed: bool = False) -> list[LoggedVerdict]:
        """Those with that action, newest first; `reviewed`: also those that a person has seen."""

    def verdicts_of(self, job_id: str) -> list[LoggedVerdict]:
        """Of one job, oldest first."""

    def review(self, seq: int, decision: ReviewDecision) -> Reviewed | None:
        """Log what a person made of a verdict; the newest review holds. UPHOLD also takes back the
        pictures: delete the blobs that it names. None: there is no such verdict."""

    def strikes(self, tenant: str, within_seconds: float) -> Strikes:
        """Of the tenant, in all lanes."""


class Operating(Protocol):
    """What operators ask of all tenants' jobs, and do to them beside `cancel`."""

    def find_jobs(self, wanted: JobFilter, limit: int, after: JobPlace | None = None) -> JobPage:
        """A page of a list. It looks at operating.SCANNED jobs at most, so it may hold fewer than
        there are, or none, and still not be the last."""

    def find_job(self, job_id: str) -> FoundJob | None:
        """One job, or None. Raises JobUnreadable."""

    def requeue(self, job_id: str) -> Job | None:
        """A job that has failed or expired waits again, at its place by its order of arrival; its
        images are charged to today, whatever the tenant has left. None: unknown. Raises
        IllegalTransition where operating.requeued does, for an edit, and for a job that retention
        has passed; JobUnreadable."""

    def usage(self, query: UsageQuery) -> list[UsedBy]:
        """Sums, those with the most GPU-seconds first, in each bucket where there are any."""


class Keys(Protocol):
    """What a gateway asks the accounts. See jobs.sql.accounts.Accounts."""

    def owner(self, hashed: str) -> tuple[Tenant | None, int]:
        """Whose key that is, and the revision that says so."""

    def owners(self, hashes: Sequence[str]) -> tuple[dict[str, Tenant], int]:
        """Of several keys those that are in use, by their hash, and the revision that says so."""

    def revision(self) -> int:
        """Grows with every change of any key."""

    def url_secret(self) -> bytes:
        """What the URLs of pictures are signed with."""


class Ledger(
    JobQueue,
    JobWatches,
    JobReads,
    QueueReads,
    FileTable,
    DeletionQueue,
    CostsAndLimits,
    ModelTable,
    LoadHistory,
    AuditLog,
    AdminLog,
    Operating,
    WebhookTable,
    BatchTable,
    Protocol,
):
    """The durable truth, whole."""

    tiers: Mapping[str, Tier]
    """What each tier promises. May be replaced at any time."""
    tightened: dict[str, Mapping[str, Tier]]
    """The same for the orders of some queues, where it differs."""

    @property
    def accounts(self) -> Keys:
        """The tenants' keys."""

    def together(
        self, calls: Sequence[Callable[[], T]], *, durable: bool = True
    ) -> list[T | Exception]:
        """Several writes of this ledger in ONE transaction; what one raises undoes only itself and
        is its result. LedgerUnavailable ends them all. Neighbours that are `functools.partial`s of
        `submit` or of `finish_render` are stored at once, in a statement per table."""

    def close(self) -> None:
        """Release connections and threads."""
