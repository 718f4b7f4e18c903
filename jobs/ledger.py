"""The Ledger protocol: the only source of truth about jobs. Implemented in SQL; read by anybody.

Every verb is one transaction on the ledger's own clock. Calls block: run them off an event loop.

    LedgerError
    ├── LedgerUnavailable   it cannot write now (disk full, database away): answer 503, try again
    ├── JobUnreadable       a newer version wrote the job: one of that version can tell
    ├── LeaseLost           the fence is old: somebody else owns the job, or it has ended
    ├── NotYetOpen          the tenant's tier is not open to it yet
    ├── QuotaExceeded       the tenant has used up today's images
    ├── QueueFull           as many of the tenant's jobs wait in the lane as its tier allows
    ├── FilesFull           as many files as the tenant may keep
    └── IdempotencyMismatch the same key came with another body
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from jobs.costs import ImageCost
from jobs.files import UNLIMITED, FileRoom, StoredFile
from jobs.job import Job, RenderState
from jobs.limit_levels import LimitLevel
from jobs.request import Enquiry, ImageRequest, Tenant
from jobs.retention import Batch, Retention, Step
from jobs.tiers import Tier

T = TypeVar("T")


class LedgerError(Exception):
    """Something the ledger refuses or cannot do."""


class LedgerUnavailable(LedgerError):
    """The ledger cannot write now; nothing was half accepted."""


class JobUnreadable(LedgerError):
    """A newer version wrote the job, and this one does not understand it. It is not lost."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id} was written by a newer version")


class LeaseLost(LedgerError):
    """The write carried an old fence and changed nothing."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tenant has used of a day's images. limit: None for no limit. read_at and resets_at:
    seconds since the epoch on the ledger's clock."""

    used: int
    limit: int | None
    read_at: float
    resets_at: float

    @property
    def remaining(self) -> int | None:
        """Images left today; None: no limit."""
        return None if self.limit is None else max(0, self.limit - self.used)

    @property
    def resets_in_seconds(self) -> float:
        """Until the next day begins."""
        return max(0.0, self.resets_at - self.read_at)


class NotYetOpen(LedgerError):
    """The tenant's tier is not open to it yet; nothing was written. percent: of the tier's tenants
    that are let in so far."""

    def __init__(self, tier: str, percent: float) -> None:
        super().__init__(f"tier {tier!r} is open to {percent:g} % of its accounts so far")
        self.tier = tier
        self.percent = percent


class QuotaExceeded(LedgerError):
    """The tenant has used up its images for today. asked: images of the refused request."""

    def __init__(self, asked: int, usage: Usage) -> None:
        super().__init__(f"{asked} more images asked for, {usage.used} of {usage.limit} used today")
        self.asked = asked
        self.usage = usage


class QueueFull(LedgerError):
    """So many of the tenant's jobs wait as its tier allows. first_job_id: the oldest of them."""

    def __init__(self, limit: int, first_job_id: str) -> None:
        super().__init__(f"{limit} jobs are waiting, and no more may")
        self.limit = limit
        self.first_job_id = first_job_id


class FilesFull(LedgerError):
    """The tenant keeps as much as it may: delete some files first."""

    def __init__(self, room: FileRoom, files: int, size_bytes: int) -> None:
        super().__init__(
            f"{files} files of {size_bytes} bytes are kept; at most {room.files} files of "
            f"{room.bytes} bytes together may be"
        )
        self.room = room


class IdempotencyMismatch(LedgerError):
    """The same Idempotency-Key was used with another request body."""


@dataclass(frozen=True, slots=True)
class Submission:
    """job: the new job, or the one that a retry re-attached to (`reattached`). usage: of the
    tenant, with this job."""

    job: Job
    reattached: bool
    usage: Usage


@dataclass(frozen=True, slots=True)
class RenderBeat:
    """Where one image is: the heartbeat is the checkpoint.

    state: RENDERING, or FINISHING once all passes are done and only pixels are missing.
    checkpoint: packed bytes, opaque here. previews: passes whose preview is stored and screened.
    """

    index: int
    state: RenderState
    pass_no: int
    checkpoint: bytes | None
    previews: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asks: a dispatcher of a lane. waiting: its jobs with images that wait for slots, and
    their tiers. drawing: those that have one, and the share of the passes that they have done; of
    what it has claimed since it looked, it knows neither."""

    lane: str
    worker: str
    waiting: Mapping[str, str]
    drawing: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Beat:
    """One job's heartbeat under its fence."""

    job_id: str
    fence: int
    renders: tuple[RenderBeat, ...]


@dataclass(frozen=True, slots=True)
class Renewal:
    """held: False when the lease is lost: drop the renders. cancelled: the user asked to stop.
    yield_to_tier: give the slots back at the next pass boundary, for that tier."""

    job_id: str
    held: bool
    cancelled: bool = False
    yield_to_tier: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one image ended: SUCCEEDED with a blob, BLOCKED with categories, or FAILED with an error.

    blob: key in the blob store. checkpoint: the final one, kept as long as the picture is. stage:
    "input" or "output" for BLOCKED. pass_no, attempts: of FAILED, how far it came and in how many
    tries, if no heartbeat has told.
    """

    state: RenderState
    blob: str | None = None
    categories: tuple[str, ...] = ()
    stage: str | None = None
    error: str | None = None
    checkpoint: bytes | None = None
    pass_no: int = 0
    attempts: int = 0


ARRIVAL_WINDOW_SECONDS = 6.0
"""Over which arrivals are measured: short enough to see a burst begin."""


@dataclass(frozen=True, slots=True)
class TierWaiting:
    """What waits in one tier; seconds are predicted GPU-seconds. Counted up to 500 jobs and
    estimated above that.

    oldest_seconds: how long the one of its next jobs has waited that came first. parked_jobs:
    beside `jobs`, of tenants that render as much at once as they may: more decoders do not help
    them, so their seconds are not counted.
    """

    jobs: int
    seconds: float
    oldest_seconds: float = 0.0
    parked_jobs: int = 0


@dataclass(frozen=True, slots=True)
class Depth:
    """What waits and runs in a lane; seconds are predicted GPU-seconds.

    read_at: on the ledger's clock. waiting: tiers in which somebody waits. active_jobs: held by
    dispatchers, with running_seconds left to draw, of which unbegun_seconds wait for a slot.
    arrival_rate: GPU-seconds of work accepted per
    second, over the last ARRIVAL_WINDOW_SECONDS or the newest thousands of jobs. drawn_rate:
    GPU-seconds drawn per second of the last minute in which anybody was served; None when too
    little has finished to say.
    """

    read_at: float
    waiting: Mapping[str, TierWaiting]
    active_jobs: int
    running_seconds: float
    arrival_rate: float
    drawn_rate: float | None
    unbegun_seconds: float = 0.0

    @property
    def queued_jobs(self) -> int:
        """All that wait, also parked ones."""
        return sum(tier.jobs + tier.parked_jobs for tier in self.waiting.values())

    @property
    def waiting_seconds(self) -> float:
        """Of all tiers."""
        return sum(tier.seconds for tier in self.waiting.values())


@dataclass(frozen=True, slots=True)
class Outlook:
    """How a job stands. position: jobs that would be claimed before it, while it is queued.
    eta_seconds: until it is done; None when nobody can know, as on a lane that has just begun."""

    position: int | None = None
    eta_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a tenant stands against its tier's limits. queued_jobs: in that lane, counted up to
    10,000, or to a larger limit. renders: images that dispatchers hold, in any lane. newcomer: it
    never asked for anything."""

    usage: Usage
    queued_jobs: int
    renders: int
    newcomer: bool


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


class Ledger(Protocol):
    """The durable truth. When `submit` has returned, a crash of anything loses nothing."""

    tiers: Mapping[str, Tier]
    """What each tier promises. May be replaced at any time."""

    @property
    def accounts(self) -> Keys:
        """Who may ask."""

    def submit(self, request: ImageRequest) -> Submission:
        """ONE transaction: quota, place in the fair queue, job and renders. Durable on return.

        Re-attaches instead of inserting: same tenant and idempotency key, or retry_count > 0 with
        the same tenant and body hash within 15 minutes of a job that is unanswered, or was answered
        less than 10 seconds ago; of the same lane and model. Equal retries at the same time find a
        job each, and one that another connection waits for is found last. What the order would be
        promised as a new job holds for the one that it finds: an asynchronous order's lives without
        a watch from then on, and any lives to the later of both deadlines.
        A tenant that asks for the first time is created by it. Raises NotYetOpen, QuotaExceeded,
        QueueFull, IdempotencyMismatch, LedgerUnavailable.
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

    def make_way(self, asking: Asking) -> list[str]:
        """Called while images of a dispatcher's jobs find no slot: jobs of tiers with smaller
        shares give way to them and to what is queued, as giving_way.py decides. Which jobs shall
        leave, also those of others, who are told by their next renewal. With nothing to do it takes
        no write lock."""

    def renew(self, beats: Sequence[Beat], lease_seconds: float) -> list[Renewal]:
        """Extend leases and write checkpoints in one transaction; may be lost in a power cut
        (that only costs passes). One Renewal per beat, in order."""

    def finish_render(self, job_id: str, fence: int, index: int, outcome: Outcome) -> Job:
        """Settle one image exactly once; the job settles with its last one. Durable on return.
        Raises LeaseLost when the fence is old or that image was settled before."""

    def release(self, job_id: str, fence: int, *, error: str | None = None) -> None:
        """Give a job back at its original place with its checkpoints. With `error` it counts as
        an attempt; too many attempts end it as FAILED with the reasons kept. Ignores old fences."""

    def cancel(self, job_id: str) -> Job | None:
        """Cancel in any state; a queued job at once, a held one by its next renewal. None: unknown.
        Cancelling an ended job changes nothing and returns it. Raises JobUnreadable."""

    def withdraw(self, job_id: str) -> Job | None:
        """As `cancel`, for one of the orders that may share the job: the last of them cancels."""

    def get(self, job_id: str) -> Job | None:
        """One job with its renders, or None. Raises JobUnreadable."""

    def get_many(self, job_ids: Sequence[str]) -> list[Job]:
        """Those that exist, in one query, in no particular order. Here and in every other list,
        without those that this version cannot read."""

    def recent(self, tenant: str, limit: int) -> list[Job]:
        """The tenant's newest jobs, newest first."""

    def job_ids(self, tenant: str, limit: int) -> list[str]:
        """The tenant's newest, newest first, with those that this version cannot read."""

    def children(self, tenant: str, job_id: str, limit: int = 100) -> list[Job]:
        """The tenant's jobs that go on from an image of that one: the newest, oldest first."""

    def ancestors(self, tenant: str, job_id: str, limit: int = 100) -> list[Job]:
        """The tenant's jobs that this one goes back to, each from an image of the next: its parent
        first. The line ends where a job is forgotten."""

    def add_file(self, file: StoredFile, room: FileRoom = UNLIMITED) -> StoredFile:
        """Durable on return; write its blobs after that. As stored: created now, on this clock, to
        live as long as it said. Raises FilesFull when that is more than `room` for VISION files."""

    def postpone(self, files: Sequence[StoredFile], seconds: float) -> None:
        """Let these expire so much later: their blobs could not be deleted. Also of a LEFTOVER,
        which may be new."""

    def file(self, tenant: str, file_id: str) -> StoredFile | None:
        """A VISION file of that tenant; None when it is another's, has expired or was dropped."""

    def files(self, tenant: str, limit: int, after: str | None = None) -> list[StoredFile]:
        """The tenant's VISION files, newest first, from behind the id `after`."""

    def drop_file(self, tenant: str, file_id: str) -> bool:
        """It expires now: nobody sees it, and a collector deletes it. False: there is none."""

    def stale_files(self, limit: int, tenant: str | None = None) -> list[StoredFile]:
        """Expired files; with a tenant all of its own, whatever their purpose. Delete their blobs,
        then call `forget_files`."""

    def forget_files(self, files: Sequence[StoredFile]) -> None:
        """Delete the rows of these, whose blobs are gone."""

    def watch(self, job_ids: Sequence[str], seconds: float) -> float:
        """A client still waits for these: watched_until = now + seconds, if it was less; that."""

    def left(self, seen: Mapping[str, float], grace_seconds: float) -> None:
        """The clients of these jobs have left: watched_until = now + grace, if it was more. Not
        for those that were renewed beyond `seen`, this watcher's last renewal, by another."""

    def answered(self, job_ids: Sequence[str]) -> None:
        """The watcher was sent its answer: 10 seconds from now the same body again is a new wish,
        not a retry of these."""

    def together(
        self, calls: Sequence[Callable[[], T]], *, durable: bool = True
    ) -> list[T | Exception]:
        """Several writes of this ledger in ONE transaction; what one raises undoes only itself and
        is its result. LedgerUnavailable ends them all."""

    def expire(self) -> int:
        """Lapsed leases go back to the queue with fence + 1 at their original place, overdue jobs
        without progress (and others a day later) end as EXPIRED, unwatched ones as CANCELLED. How
        many rows moved."""

    def retire(self, lane: str, step: Step, kept: Retention) -> Batch | None:
        """Write the tombstones of the lane's next jobs that are too old for `step`; None when there
        are none, or somebody else is at it. Delete the batch's blobs, then call `retired`."""

    def retired(self, lane: str, batch: Batch) -> None:
        """The batch's blobs are gone. Without this the same batch comes again after a minute."""

    def forget(self, job_ids: Sequence[str]) -> None:
        """Delete the rows of these jobs, which have ended and whose blobs are gone."""

    def store_id(self, found: str | None = None) -> str | None:
        """What marks the directory of this ledger's pictures; None as long as none is known. With
        `found`, that one, where none was known before. Durable on return."""

    def forget_tenant(self, tenant: str) -> None:
        """Delete all that names a tenant beside its jobs: keys, quota, its place in the queue."""

    def scrub(self) -> None:
        """Overwrite the bytes of what was deleted, as far as the database can. Writers wait."""

    def position(self, job_id: str) -> int | None:
        """Jobs of the lane that would be claimed before this one; None once it is not queued.
        Counted up to the 500th of its tier and estimated behind (queue_sketch.py), with what other
        tiers' shares let them take meanwhile."""

    def outlooks(self, job_ids: Sequence[str]) -> dict[str, Outlook]:
        """Position and ETA of those that wait or run; what is known of the lane may be a second
        old. As cheap for thousands as for one."""

    def check_admission(self, enquiry: Enquiry) -> None:
        """Whether `submit` would take another order, as far as reads can tell. Raises NotYetOpen;
        and QuotaExceeded or QueueFull for what cannot be a retry."""

    def standing(self, tenant: Tenant, lane: str) -> Standing:
        """What the tenant has used of what its tier allows. Zeros for one that never asked."""

    def depth(self, lane: str) -> Depth:
        """What waits and runs now."""

    def learn(self, costs: Sequence[ImageCost]) -> None:
        """Images have cost so much: moves the averages of their kinds. Not fsynced. Call it seldom,
        with what has gathered."""

    def costs(self, model: str) -> list[ImageCost]:
        """What the model's images cost lately, by kind; those that are drawn most often."""

    def limit_level(self, lane: str) -> tuple[LimitLevel, float]:
        """How far the lane's limits are tightened, and the time."""

    def move_limits(self, lane: str, before: LimitLevel, after: LimitLevel) -> bool:
        """Keep a reading; another level goes into the audit log with it. False, and nothing is
        written, when somebody has taken a reading since `before`."""

    def version(self) -> int:
        """Changes whenever any process has written; cheap enough to poll at 100 Hz."""

    def close(self) -> None:
        """Release connections and threads."""
