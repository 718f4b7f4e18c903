"""Forgetting: tombstone, blob, row, in that order, and nothing that is still wanted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest

from jobs.blobs.collector import Collector
from jobs.blobs.store import (
    BlobMissing,
    DirectoryBlobs,
    StoreUnavailable,
    checkpoint_key,
    image_key,
    preview_key,
)
from jobs.client.async_ledger import AsyncLedger
from jobs.files import INPUT, VISION, StoredFile
from jobs.job import Job
from jobs.ledger import Ledger
from jobs.request import SourceImage, Tenant
from jobs.retention import Retention, Step
from jobs.sql.sql_ledger import SqlLedger
from tests.stages.ledger_kit import (
    LEASE_SECONDS,
    Clock,
    Database,
    beat,
    claim_one,
    picture,
    refusal,
    upload,
    wish,
)

KEPT = Retention(previews_seconds=10, images_seconds=100, rows_seconds=1000, idempotency_seconds=50)


@pytest.fixture
def blobs(tmp_path: Path) -> DirectoryBlobs:
    return DirectoryBlobs(tmp_path / "blobs")


@pytest.fixture
async def collector(
    database: Database, clock: Clock, blobs: DirectoryBlobs
) -> AsyncIterator[Collector]:
    ledger = AsyncLedger(database.open(clock=clock))
    yield Collector(ledger, blobs, "chat", KEPT)
    ledger.close()


def drawn(ledger: Ledger, blobs: DirectoryBlobs, **changes: object) -> Job:
    """A finished job with a preview and a picture, and what a lost lease left behind."""
    ledger.submit(wish(**changes))
    lost = claim_one(ledger)
    blobs.put(image_key(lost.id, 0, lost.fence, "png"), b"of an old fence")
    blobs.put(checkpoint_key(lost.id, 0, lost.fence, 6), b"latents")
    ledger.release(lost.id, lost.fence)
    job = claim_one(ledger)
    blobs.put(preview_key(job.id, 0, 6, "png"), b"preview")
    ledger.renew([beat(job, 6, previews=(6,))], LEASE_SECONDS)
    key = image_key(job.id, 0, job.fence, "png")
    blobs.put(key, b"picture")
    return ledger.finish_render(job.id, job.fence, 0, picture(key))


def files(directory: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in directory.rglob("*") if path.is_file())


async def test_what_is_old_goes_in_order(
    ledger: Ledger, clock: Clock, blobs: DirectoryBlobs, collector: Collector, tmp_path: Path
) -> None:
    job = drawn(ledger, blobs, idempotency_key="once")
    assert not await collector.turn()
    assert len(files(tmp_path / "blobs")) == 4

    clock.now += 11
    assert await collector.turn()
    assert files(tmp_path / "blobs") == [b"picture"]
    (render,) = (ledger.get(job.id) or job).renders
    assert (render.previews, render.blob) == ((), image_key(job.id, 0, job.fence, "png"))
    assert render.checkpoint == b"final"

    clock.now += 40
    assert await collector.turn()
    assert not ledger.submit(wish(idempotency_key="once")).reattached

    clock.now += 50
    assert await collector.turn()
    assert files(tmp_path / "blobs") == []
    assert not list((tmp_path / "blobs").glob("images/*/*")), "empty directories go too"
    (render,) = (ledger.get(job.id) or job).renders
    assert (render.blob, render.checkpoint) == (None, None), "its tokens are the picture, too"

    clock.now += 900
    assert await collector.turn()
    assert ledger.get(job.id) is None
    assert not await collector.turn()


async def test_files_go_when_they_expire_their_rows_last(
    ledger: Ledger, clock: Clock, blobs: DirectoryBlobs, collector: Collector, tmp_path: Path
) -> None:
    expiring, dropped, kept = (ledger.add_file(upload(purpose=p)) for p in (INPUT, VISION, VISION))
    ledger.add_file(upload("bob"))  # its blobs never came
    for file in (expiring, dropped, kept):
        blobs.put(file.blobs[0], file.id.encode())
    assert not await collector.turn()
    assert ledger.drop_file("ada", dropped.id)
    assert await collector.turn()
    assert len(files(tmp_path / "blobs")) == 2
    clock.now += 100
    assert {file.id for file in ledger.stale_files(9)} >= {expiring.id, kept.id}
    assert await collector.turn()
    assert files(tmp_path / "blobs") == []
    assert ledger.stale_files(9) == []
    assert not await collector.turn()


async def test_what_an_edit_went_on_from_goes_at_its_end(
    ledger: Ledger, collector: Collector
) -> None:
    """However it ends: who cancels and orders again has the quota back, but not the disk."""

    def edit(tenant: str) -> StoredFile:
        file = ledger.add_file(upload(tenant, INPUT))
        (key,) = file.blobs
        source = SourceImage(canvas=key, small=key, redraw="ff")
        ledger.submit(wish(tenant=tenant, n=2, source=source, watched=False))
        return file

    drawn = edit("ada")
    job = claim_one(ledger)
    edit("bob")
    waiting = edit("eve")
    assert ledger.cancel(ledger.recent("bob", 1)[0].id)
    ledger.finish_render(job.id, job.fence, 0, picture("images/a.png"))
    await collector.turn()
    assert ledger.stale_files(9, "ada") == [drawn], "its other image needs it"
    assert ledger.stale_files(9, "bob") == []
    assert ledger.stale_files(9, "eve") == [waiting]
    ledger.finish_render(job.id, job.fence, 1, refusal("output"))
    await collector.turn()
    assert ledger.stale_files(9, "ada") == []


async def test_jobs_that_have_not_ended_stay(
    ledger: Ledger, clock: Clock, collector: Collector
) -> None:
    waiting = ledger.submit(wish(watched=False, deadline_seconds=1e6)).job
    clock.now += 10_000
    assert not await collector.turn(), "its key, too"
    assert ledger.get(waiting.id) is not None
    assert not await collector.turn()


async def test_another_lane_forgets_by_its_own_rules(
    ledger: Ledger, clock: Clock, blobs: DirectoryBlobs, collector: Collector
) -> None:
    other = ledger.submit(wish(lane="api")).job
    (held,) = ledger.claim("api", "w", 1, LEASE_SECONDS)
    ledger.finish_render(held.id, held.fence, 0, refusal("input"))
    job = drawn(ledger, blobs)
    clock.now += 2000
    while await collector.turn():
        pass
    assert ledger.get(job.id) is None
    assert ledger.get(other.id) is not None


async def test_a_batch_comes_again_until_its_blobs_are_gone(
    ledger: Ledger, clock: Clock, blobs: DirectoryBlobs, collector: Collector
) -> None:
    job = drawn(ledger, blobs)
    clock.now += 101
    taken = ledger.retire("chat", Step.IMAGES, KEPT)
    assert taken is not None
    assert list(taken.blobs) == [job.id]
    assert (ledger.get(job.id) or job).renders[0].blob is None, "the tombstone comes first"
    assert ledger.retire("chat", Step.IMAGES, KEPT) is None, "one at a time"
    clock.now += 61  # that collector has died
    assert await collector.turn()
    with pytest.raises(BlobMissing):
        blobs.get(image_key(job.id, 0, job.fence, "png"))


async def test_rows_wait_for_their_images(
    ledger: Ledger, clock: Clock, blobs: DirectoryBlobs
) -> None:
    drawn(ledger, blobs)
    clock.now += 10_000
    assert ledger.retire("chat", Step.ROWS, KEPT) is None
    images = ledger.retire("chat", Step.IMAGES, KEPT)
    assert images is not None
    assert ledger.retire("chat", Step.ROWS, KEPT) is None, "not while their blobs are there"
    ledger.retired("chat", images)
    assert ledger.retire("chat", Step.ROWS, KEPT) is not None


async def test_a_picture_that_was_being_stored_at_its_end_goes(
    ledger: Ledger, clock: Clock, blobs: DirectoryBlobs, collector: Collector, tmp_path: Path
) -> None:
    """The job succeeds with its other image, at its first lease and without previews."""
    ledger.submit(wish(n=2))
    job = claim_one(ledger)
    keys = [image_key(job.id, index, job.fence, "png") for index in range(2)]
    for key in keys:
        blobs.put(key, key.encode())
    ledger.finish_render(job.id, job.fence, 0, picture(keys[0]))
    ledger.finish_render(job.id, job.fence, 1, refusal("output"))
    clock.now += 11
    assert await collector.turn()
    assert files(tmp_path / "blobs") == [keys[0].encode()]


async def test_old_counts_go_with_their_jobs(
    ledger: SqlLedger, clock: Clock, blobs: DirectoryBlobs, collector: Collector
) -> None:
    async def used_after(seconds: float) -> int:
        asked_at = clock.now
        drawn(ledger, blobs)
        clock.now += seconds
        while await collector.turn():
            pass
        later, clock.now = clock.now, asked_at
        used = ledger.standing(Tenant("ada", "free"), "chat").usage.used
        clock.now = later
        return used

    assert await used_after(2000) == 1, "today's count outlives its jobs"
    assert await used_after(200_000) == 0


async def test_numbers_that_come_again_are_not_taken_for_done(
    ledger: SqlLedger, clock: Clock, blobs: DirectoryBlobs, collector: Collector, tmp_path: Path
) -> None:
    """SQLite gives the number of a deleted newest row to the next one."""
    erased = drawn(ledger, blobs)
    clock.now += 101
    images = ledger.retire("chat", Step.IMAGES, KEPT)
    assert images is not None
    ledger.forget([erased.id])  # while a collector is at work on it
    ledger.retired("chat", images)
    for _ in range(3):
        job = drawn(ledger, blobs)
        clock.now += 2000
        while await collector.turn():
            pass
        assert ledger.get(job.id) is None
    assert len(files(tmp_path / "blobs")) == 4, "of the erased job, not cleared here"


@pytest.mark.parametrize("waits_seconds", [51, 90_000], ids=["as retention says", "a day"])
async def test_the_key_of_a_live_job_is_never_forgotten(
    ledger: Ledger, clock: Clock, collector: Collector, waits_seconds: int
) -> None:
    once = wish(idempotency_key="once", watched=False, deadline_seconds=1e6)
    job = ledger.submit(once).job
    clock.now += waits_seconds
    await collector.turn()
    again = ledger.submit(once)
    assert (again.job.id, again.reattached) == (job.id, True)
    held = claim_one(ledger)
    clock.now += LEASE_SECONDS / 2
    await collector.turn()
    assert ledger.submit(once).job.id == job.id
    ledger.finish_render(held.id, held.fence, 0, picture())
    await collector.turn()
    assert not ledger.submit(once).reattached


def undeletable(directory: Path, key: str) -> Path:
    """A blob that no unlink removes, not even root's."""
    path = directory / "blobs" / key
    path.mkdir(parents=True)
    (path / "in it").touch()
    return path


async def test_a_blob_that_cannot_be_deleted_stops_no_other(
    ledger: Ledger, clock: Clock, blobs: DirectoryBlobs, collector: Collector, tmp_path: Path
) -> None:
    stuck, other = drawn(ledger, blobs), drawn(ledger, blobs)
    preview = undeletable(tmp_path, preview_key(stuck.id, 0, 9, "png"))
    image = undeletable(tmp_path, image_key(stuck.id, 0, 9, "png"))
    for seconds in (11, 100, 1000):
        clock.now += seconds
        assert await collector.turn(), "it goes on to the next batch"
    assert ledger.get(other.id) is None
    with pytest.raises(BlobMissing):
        blobs.get(image_key(other.id, 0, other.fence, "png"))
    assert not await collector.turn()

    for path in (preview, image):
        (path / "in it").unlink()
        path.rmdir()
    clock.now += 3601
    assert await collector.turn()
    assert files(tmp_path / "blobs") == []
    assert not await collector.turn()


async def test_what_has_to_stay_stays_when_it_is_tried_again(
    ledger: Ledger, clock: Clock, blobs: DirectoryBlobs, database: Database, tmp_path: Path
) -> None:
    job = drawn(ledger, blobs)
    stuck = undeletable(tmp_path, preview_key(job.id, 0, 9, "png"))
    front = AsyncLedger(database.open(clock=clock))
    collector = Collector(front, blobs, "chat", Retention())
    clock.now += 3601
    assert await collector.turn()
    (stuck / "in it").unlink()
    stuck.rmdir()
    clock.now += 3601
    assert await collector.turn()
    assert files(tmp_path / "blobs") == [b"picture"]
    front.close()


async def test_a_file_that_cannot_be_deleted_is_tried_again(
    ledger: Ledger, clock: Clock, blobs: DirectoryBlobs, collector: Collector, tmp_path: Path
) -> None:
    stored = [ledger.add_file(upload()) for _ in range(2)]
    stuck = undeletable(tmp_path, stored[0].blobs[0])
    blobs.put(stored[1].blobs[0], b"upload")
    clock.now += 101
    assert await collector.turn()
    with pytest.raises(BlobMissing):
        blobs.get(stored[1].blobs[0])
    assert not await collector.turn()
    (stuck / "in it").unlink()
    stuck.rmdir()
    clock.now += 3601
    assert await collector.turn()
    assert not await collector.turn()
    assert ledger.stale_files(9, "ada") == []


async def test_a_store_that_is_away_is_asked_once_a_batch(
    ledger: Ledger, clock: Clock, blobs: DirectoryBlobs, database: Database, tmp_path: Path
) -> None:
    class Away(DirectoryBlobs):
        asked = 0

        def clear(self, prefix: str, keep: Collection[str] = ()) -> None:
            self.asked += 1
            raise StoreUnavailable("no route to the bucket")

    for _ in range(3):
        drawn(ledger, blobs)
    front, away = AsyncLedger(database.open(clock=clock)), Away(tmp_path / "blobs")
    clock.now += 1111
    while await Collector(front, away, "chat", KEPT).turn():
        pass
    assert 1 <= away.asked <= 3, "once for previews, images and rows"
    clock.now += 3601
    while await Collector(front, blobs, "chat", KEPT).turn():
        pass
    assert files(tmp_path / "blobs") == []
    front.close()
