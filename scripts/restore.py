"""How much a lost disk costs: `make bench-restore`. For SQLite and for PostgreSQL: writers submit
and settle jobs with pictures, backups follow each other, then everything is killed and deleted, and
the newest backup is put back. Compares every job and picture with what the writers wrote down after
the ledger had answered them.

rpo_s: from the newest backup's cut to the end of the writers. rto_s: from an empty disk until a new
job can be submitted and claimed. Pictures are noise, so that nothing is packed away.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from jobs.backup.copying import back_up, restore
from jobs.backup.manifest import Manifest
from jobs.blobs.store import BlobMissing, DirectoryBlobs, image_key
from jobs.job import RenderState
from jobs.lease import Outcome
from jobs.request import ImageRequest
from jobs.sql.sql_ledger import SqlLedger
from scripts.children import await_ready, children
from scripts.postgres import LocalPostgres

LANE = "bench"
LEASE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Drill:
    """One database's result. bytes: of the pictures in the backup."""

    lost: int
    rpo_s: float
    rto_s: float
    jobs: int
    bytes: int


def main() -> int:
    """Run, print a table and a last line of JSON; 1 when anything was lost."""
    options = _parser().parse_args()
    if options.write:
        dsn, blobs, notes = options.write
        return write(dsn, blobs, notes, options.picture_bytes)
    drills = {}
    for name, places in (("sqlite", _sqlite), ("postgresql", _postgresql)):
        with (
            tempfile.TemporaryDirectory(prefix="mp-restore-", dir=options.folder) as folder,
            places(Path(folder)) as (old, new),
        ):
            drills[name] = drill(Path(folder), old, new, options)
    print(f"{'':<11} {'lost':>5} {'rpo_s':>7} {'rto_s':>7} {'jobs':>7} {'MB':>8}")
    for name, one in drills.items():
        figures = f"{one.rpo_s:>7.1f} {one.rto_s:>7.1f} {one.jobs:>7} {one.bytes / 1e6:>8.1f}"
        print(f"{name:<11} {one.lost:>5} {figures}")
    last = {
        "lost": sum(one.lost for one in drills.values()),
        "rpo_s": round(max(one.rpo_s for one in drills.values()), 2),
        "rto_s": round(max(one.rto_s for one in drills.values()), 2),
        "jobs": min(one.jobs for one in drills.values()),
        "bytes": min(one.bytes for one in drills.values()),
        **{name: asdict(one) for name, one in drills.items()},
    }
    print(json.dumps({key: last[key] for key in ("lost", "rpo_s", "rto_s", "jobs", "bytes")}))
    return 1 if last["lost"] else 0


def drill(folder: Path, old: str, new: str, options: argparse.Namespace) -> Drill:
    """Write, back up under load, kill, delete, put back, compare."""
    blobs, notes = folder / "blobs", folder / "notes"
    SqlLedger(old).close()
    size = f"--picture-bytes={options.picture_bytes}"
    command = ("-m", "scripts.restore", size, "--write", old, str(blobs))
    names = [str(notes / str(number)) for number in range(options.writers)]
    notes.mkdir()
    backups: list[tuple[Path, Manifest]] = []
    with children([(*command, name) for name in names]) as writers:
        await_ready(writers)
        ends_at = time.monotonic() + options.seconds
        while not backups or time.monotonic() < ends_at:
            time.sleep(options.every)
            where = folder / f"backup-{len(backups)}"
            backups.append((where, back_up(old, DirectoryBlobs(blobs), where, folder / "none")))
            for stale, _ in backups[:-2]:
                shutil.rmtree(stale, ignore_errors=True)
        time.sleep(random.uniform(0, options.every))  # the disk is lost some time after one
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        lost_at = time.time()
    shutil.rmtree(blobs)
    where, manifest = backups[-1]
    began = time.monotonic()
    store = DirectoryBlobs(folder / "new-blobs")
    restore(where, new, store, folder / "none")
    with closing(SqlLedger(new)) as ledger:
        ledger.submit(_wish(0))
        assert ledger.claim(LANE, "after", 1, LEASE_SECONDS)
        rto = time.monotonic() - began
        noted = [note for name in names for note in _notes(Path(name))]
        before = [note for note in noted if note[2] < manifest.cut_at]
        lost = sum(not _there(ledger, store, *note[:2]) for note in before)
    return Drill(lost, lost_at - manifest.cut_at, rto, len(before), manifest.bytes)


def _there(ledger: SqlLedger, store: DirectoryBlobs, key: str, digest: str) -> bool:
    job = ledger.get(key.split("/")[2])
    if job is None or job.renders[0].blob != key:
        return False
    try:
        return hashlib.sha256(store.get(key)).hexdigest() == digest
    except BlobMissing:
        return False


def _notes(path: Path) -> Iterator[tuple[str, str, float]]:
    """Key, sha256 and time of what was settled; the last line may be torn."""
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            key, digest, at = line.split()
            yield key, digest, float(at)


def write(dsn: str, blobs: str, notes: str, picture_bytes: int) -> int:
    """A writer, until it is killed: one job after another, noted once the ledger has answered."""
    store, chance = DirectoryBlobs(blobs), random.Random(notes)
    with closing(SqlLedger(dsn)) as ledger, Path(notes).open("w") as noted:
        print("ready", flush=True)
        while True:
            ledger.submit(_wish(chance.getrandbits(31)))
            for job in ledger.claim(LANE, notes, 1, LEASE_SECONDS):
                key, data = image_key(job.id, 0, job.fence, "png"), chance.randbytes(picture_bytes)
                store.put(key, data)
                outcome = Outcome(RenderState.SUCCEEDED, blob=key, checkpoint=b"tokens" * 100)
                ledger.finish_render(job.id, job.fence, 0, outcome)
                digest = hashlib.sha256(data).hexdigest()
                noted.write(f"{key} {digest} {time.time()}\n")
                noted.flush()


def _wish(seed: int) -> ImageRequest:
    return ImageRequest(
        lane=LANE, tenant="ada", tier="free", model="tokens", prompt="a red fox", n=1, width=512,
        height=512, quality="auto", passes=16, guidance=3.0, seed=seed, watched=False,
    )  # fmt: skip


@contextmanager
def _sqlite(folder: Path) -> Iterator[tuple[str, str]]:
    yield f"sqlite:///{folder}/old.db?timeout=60", f"sqlite:///{folder}/new.db"


@contextmanager
def _postgresql(folder: Path) -> Iterator[tuple[str, str]]:
    with LocalPostgres(folder=folder.parent) as server:  # it is not root, and may not look inside
        yield server.create_database("old"), server.create_database("new")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.restore", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of load, each (default 60)")
    parser.add_argument("--every", type=float, default=5, help="pause between backups (default 5)")
    parser.add_argument("--writers", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--picture-bytes", type=int, default=100_000, help="default 100000")
    parser.add_argument("--folder", type=Path, help="where disks are meant (default: temporary)")
    parser.add_argument("--write", nargs=3, metavar=("DSN", "BLOBS", "NOTES"), help="one writer")
    return parser


if __name__ == "__main__":
    sys.exit(main())
