"""What the ledger's contract suite is run with: one factory per database, a clock, a request."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.depth import QueueEstimate
from jobs.files import VISION, StoredFile, input_key, new_file_id
from jobs.job import Job, RenderState
from jobs.lease import Beat, Outcome, RenderBeat
from jobs.ledger import Ledger
from jobs.request import ImageRequest
from jobs.sql.sql_ledger import SqlLedger

LEASE_SECONDS = 6.0
PATIENCE_SECONDS = 60.0
"""How long a condition may take on a slow machine that also does something else."""


@dataclass
class Clock:
    """Time as an argument."""

    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Database:
    """One database of one kind, empty at first, and every ledger that a test opened on it."""

    kind: str
    url: str
    opened: list[Ledger] = field(default_factory=list)

    def open(self, **arguments: Any) -> SqlLedger:
        """Another client of the same database."""
        ledger = SqlLedger(self.url, **arguments)
        self.opened.append(ledger)
        return ledger


def sqlite(directory: Path) -> Database:
    """A ledger in a file."""
    return Database("sqlite", f"sqlite:///{directory}/ledger.db?timeout={PATIENCE_SECONDS}")


def wish(**changes: Any) -> ImageRequest:
    """A request for one image."""
    fields: dict[str, Any] = {
        "lane": "chat", "tenant": "ada", "tier": "free", "model": "tokens", "prompt": "a red fox",
        "n": 1, "width": 256, "height": 256, "quality": "auto", "passes": 16, "guidance": 3.0,
        "seed": 7,
    }  # fmt: skip
    return ImageRequest(**(fields | changes))


def upload(tenant: str = "ada", purpose: str = VISION, size_bytes: int = 100) -> StoredFile:
    """One that lives for a hundred seconds."""
    file_id = new_file_id()
    return StoredFile(
        id=file_id, tenant=tenant, purpose=purpose, filename="fox.png", bytes=size_bytes,
        width=64, height=32, blobs=(input_key(file_id, "file"),), created_at=0.0, expires_at=100.0,
    )  # fmt: skip


def claim_one(ledger: Ledger, worker: str = "w1") -> Job:
    """The next job of the chat lane."""
    (job,) = ledger.claim("chat", worker, 1, LEASE_SECONDS)
    return job


def beat(job: Job, pass_no: int, *, index: int = 0, previews: tuple[int, ...] = ()) -> Beat:
    """A heartbeat with a checkpoint that tells its pass."""
    checkpoint = f"checkpoint {pass_no}".encode()
    render = RenderBeat(index, RenderState.RENDERING, pass_no, checkpoint, previews)
    return Beat(job.id, job.fence, (render,))


def final_beat(job: Job, *indexes: int) -> Beat:
    """All passes done."""
    renders = (RenderBeat(i, RenderState.FINISHING, 16, b"final") for i in indexes or (0,))
    return Beat(job.id, job.fence, tuple(renders))


def picture(name: str = "images/x.png") -> Outcome:
    return Outcome(RenderState.SUCCEEDED, blob=name, checkpoint=b"final")


def refusal(stage: str) -> Outcome:
    return Outcome(RenderState.BLOCKED, categories=("weapons",), stage=stage)


def wait_until(met: Callable[[], object], what: str) -> None:
    """Poll a condition; `what` says which one never came true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not met():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.005)


def moved_on(ledger: Ledger, seen: int) -> int:
    """Another process's writes move the version in a moment; the new one."""
    wait_until(lambda: ledger.version() != seen, "the version moves")
    return ledger.version()


@contextmanager
def full_disk(directory: Path) -> Iterator[None]:
    """No file of this process grows beyond the largest in `directory`."""
    biggest = max(file.stat().st_size for file in directory.iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (biggest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def wait_while_rescuing(ledger: Ledger, clock: Clock, seconds: float, every: float = 1.0) -> int:
    """Time passes while a rescuer does its round every second. How many rows it moved."""
    moved, end = 0, clock.now + seconds
    while clock.now < end:
        clock.now = min(end, clock.now + every)
        moved += ledger.expire()
    return moved


def estimate(ledger: Ledger, job_id: str) -> QueueEstimate:
    """Of one job; empty for one that neither waits nor runs."""
    return ledger.estimates([job_id]).get(job_id, QueueEstimate())
