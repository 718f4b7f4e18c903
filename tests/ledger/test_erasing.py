"""Erasing a tenant: nothing of it is left in any table, store or file; nobody else is touched."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import yaml

from jobs.blobs.collector import Collector
from jobs.blobs.erasing import Erased, StillHeld, erase_tenant
from jobs.blobs.store import BlobMissing, DirectoryBlobs, checkpoint_key, image_key, preview_key
from jobs.client.async_ledger import AsyncLedger
from jobs.files import INPUT, VISION, StoredFile
from jobs.lease import Beat
from jobs.ledger import Ledger
from jobs.ledger_errors import LeaseLost
from jobs.retention import Retention
from jobs.sql.sql_ledger import SqlLedger
from serve_app.__main__ import main
from tests.stages.ledger_kit import (
    LEASE_SECONDS,
    PATIENCE_SECONDS,
    Clock,
    Database,
    beat,
    claim_one,
    picture,
    upload,
    wish,
)

SECRET = "a very private wish"


@pytest.fixture
def blobs(tmp_path: Path) -> DirectoryBlobs:
    return DirectoryBlobs(tmp_path / "blobs")


def drawn(ledger: Ledger, blobs: DirectoryBlobs, tenant: str, prompt: str) -> None:
    ledger.submit(wish(tenant=tenant, prompt=prompt, idempotency_key=f"key of {prompt[:40]}"))
    job = claim_one(ledger)
    blobs.put(preview_key(job.id, 0, 6, "png"), prompt.encode())
    blobs.put(checkpoint_key(job.id, 0, job.fence, 6), prompt.encode())
    ledger.renew([beat(job, 6, previews=(6,))], LEASE_SECONDS)
    key = image_key(job.id, 0, job.fence, "png")
    blobs.put(key, prompt.encode())
    ledger.finish_render(job.id, job.fence, 0, picture(key))


def uploaded(
    ledger: Ledger, blobs: DirectoryBlobs, tenant: str, purpose: str = VISION
) -> StoredFile:
    stored = ledger.add_file(upload(tenant, purpose))
    blobs.put(stored.blobs[0], f"of {tenant}".encode())
    return stored


def test_nothing_of_the_tenant_is_left(ledger: SqlLedger, blobs: DirectoryBlobs) -> None:
    for number in range(30):
        drawn(ledger, blobs, "ada", f"{SECRET} {number} " + "and so on " * 300)
    drawn(ledger, blobs, "bob", "a red fox")
    ledger.accounts.create("ada", "free")
    ledger.submit(wish(tenant="ada", prompt=SECRET))
    theirs = [uploaded(ledger, blobs, tenant) for tenant in ("ada", "bob")]
    uploaded(ledger, blobs, "ada", INPUT)

    assert erase_tenant(ledger, [blobs], "ada") == Erased(jobs=31, images=30, files=1)
    assert ledger.stale_files(9, "ada") == []
    assert ledger.files("bob", 9) == theirs[1:]
    assert blobs.get(theirs[1].blobs[0]) == b"of bob"
    with pytest.raises(BlobMissing):
        blobs.get(theirs[0].blobs[0])
    assert ledger.recent("ada", 100) == []
    assert ledger.accounts.keys("ada") == []
    (other,) = ledger.recent("bob", 100)
    assert blobs.get(other.renders[0].blob or "") == b"a red fox"
    assert erase_tenant(ledger, [blobs], "ada") == Erased()


def test_no_byte_of_the_prompt_is_left_in_any_file(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path / "blobs")
    ledger = SqlLedger(f"sqlite:///{tmp_path}/ledger.db")
    for number in range(50):
        drawn(ledger, blobs, "ada", f"{SECRET} {number} " + "and so on " * 300)
        drawn(ledger, blobs, "bob", f"a red fox {number}")

    def anywhere(words: str) -> list[Path]:
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        return [path for path in files if words.encode() in path.read_bytes()]

    assert len(anywhere(SECRET)) > 1
    assert anywhere(f"key of {SECRET}")
    erase_tenant(ledger, [blobs], "ada")
    assert anywhere(SECRET) == []
    assert anywhere(f"key of {SECRET}") == []
    assert anywhere("a red fox")
    ledger.close()


def test_a_running_job_is_cancelled_first(
    ledger: SqlLedger, database: Database, clock: Clock, blobs: DirectoryBlobs
) -> None:
    ledger.submit(wish(tenant="ada"))
    job = claim_one(ledger)
    erasing = threading.Thread(
        target=erase_tenant, args=(database.open(clock=clock), [blobs], "ada")
    )
    erasing.start()
    while True:  # the dispatcher's heartbeats
        (renewal,) = ledger.renew([Beat(job.id, job.fence, ())], LEASE_SECONDS)
        if not renewal.held:
            break
        time.sleep(0.01)
    erasing.join(PATIENCE_SECONDS)
    assert ledger.get(job.id) is None
    with pytest.raises(LeaseLost):
        ledger.finish_render(job.id, job.fence, 0, picture())


def test_a_job_whose_dispatcher_is_dead_waits_for_its_lease(
    ledger: SqlLedger, clock: Clock, blobs: DirectoryBlobs
) -> None:
    ledger.submit(wish(tenant="ada"))
    job = claim_one(ledger)
    with pytest.raises(StillHeld, match="1 jobs are still held"):
        erase_tenant(ledger, [blobs], "ada", patience_seconds=1, sleep=lambda _: None)
    assert ledger.get(job.id) is not None

    def later(_: float) -> None:
        clock.now += 1

    assert erase_tenant(ledger, [blobs], "ada", sleep=later) == Erased(jobs=1)


def test_a_picture_that_was_being_stored_goes_too(ledger: SqlLedger, blobs: DirectoryBlobs) -> None:
    """Its dispatcher heard of the end while the store had it already."""
    ledger.submit(wish(tenant="ada"))
    job = claim_one(ledger)
    key = image_key(job.id, 0, job.fence, "png")
    held = [True]

    def meanwhile(_: float) -> None:
        if not held[-1]:
            blobs.put(key, b"late")
        (renewal,) = ledger.renew([Beat(job.id, job.fence, ())], LEASE_SECONDS)
        held.append(renewal.held)

    assert erase_tenant(ledger, [blobs], "ada", sleep=meanwhile) == Erased(jobs=1)
    assert held == [True, False, False], "the store was given a moment"
    with pytest.raises(BlobMissing):
        blobs.get(key)


async def test_what_a_stopped_dispatcher_stores_after_the_erasure_goes_too(
    ledger: SqlLedger, database: Database, clock: Clock, blobs: DirectoryBlobs, tmp_path: Path
) -> None:
    """It was stopped between its last heartbeat and the store, and goes on hours later."""
    drawn(ledger, blobs, "ada", "a red fox")
    ledger.submit(wish(tenant="ada"))
    job = claim_one(ledger)

    def later(_: float) -> None:
        clock.now += 1

    assert erase_tenant(ledger, [blobs], "ada", sleep=later) == Erased(jobs=2, images=1)
    clock.now += 40_000
    blobs.put(image_key(job.id, 0, job.fence, "png"), b"late")
    blobs.put(preview_key(job.id, 0, 6, "png"), b"late")
    front = AsyncLedger(database.open(clock=clock))
    collector = Collector(front, blobs, "chat", Retention())
    assert not await collector.turn()
    clock.now += 50_000
    assert await collector.turn()
    assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []
    assert not await collector.turn()
    front.close()


def test_the_command(
    tmp_path: Path, blobs: DirectoryBlobs, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = SqlLedger(f"sqlite:///{tmp_path}/ledger.db")
    drawn(ledger, blobs, "ada", SECRET)
    file = {
        "applications": [
            {
                "import_path": "serve_app.app:build",
                "args": {
                    "ledger": {"dsn": f"sqlite:///{tmp_path}/ledger.db"},
                    "blobs": {"directory": str(tmp_path / "blobs")},
                },
            }
        ]
    }
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(file))
    command = ["erase", "ada", "--config", str(config)]
    assert main(command) == 0
    assert "1 jobs, 1 images and 0 files removed" in capsys.readouterr().err
    assert main(command) == 0
    assert "no jobs here" in capsys.readouterr().err
    assert main(["erase", "ada", "--config", str(tmp_path / "none.yaml")]) == 2
    ledger.close()
