"""Two databases behind one Ledger: first every promise of one, then what is special to several."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from jobs.blobs import DirectoryBlobs, image_key
from jobs.erasing import Erased, erase_tenant
from jobs.group_commit import AsyncLedger
from jobs.job import Job, JobState
from jobs.job_ids import VIRTUAL_SHARDS, new_job_id, parse_virtual, virtual_shard
from jobs.ledger import Beat, LedgerUnavailable
from jobs.open_ledger import Places, even_home, open_ledger
from jobs.retention import Retention, Step
from jobs.rotation import Rotation
from jobs.shard import Shard
from jobs.sharded_ledger import ShardedLedger
from jobs.sql_ledger import SqlLedger
from serve_app.gateway import create_app
from tests.contract.databases import PostgresServer
from tests.contract.http_stage import config, drawn
from tests.contract.ledger_kit import (
    LEASE_SECONDS,
    PATIENCE_SECONDS,
    Database,
    beat,
    picture,
    refusal,
    upload,
    wait_until,
    wish,
)
from tests.contract.test_files import *  # noqa: F403
from tests.contract.test_ledger import *  # noqa: F403 - the whole suite, on two databases
from tests.contract.test_ledger_promises import *  # noqa: F403

ADA, BOB = "ada", "bob"  # of different databases, when those share the tenants evenly


@dataclass
class Shards(Database):
    """Two SQLite files."""

    directory: Path = Path()
    busy_seconds: float = PATIENCE_SECONDS
    home: tuple[int, ...] = (1,) * VIRTUAL_SHARDS

    def file(self, tenant: str) -> Path:
        """Where the tenant's jobs are."""
        return self.directory / f"{self.home[virtual_shard(tenant)]}.db"

    def open(self, **arguments: Any) -> ShardedLedger:  # type: ignore[override]
        urls = tuple(
            f"sqlite:///{self.directory}/{n}.db?timeout={self.busy_seconds}" for n in (0, 1)
        )
        ledger = open_ledger(Places(urls[0], urls, self.home), **arguments)
        assert isinstance(ledger, ShardedLedger)
        self.opened.append(ledger)
        return ledger

    def jobs(self, tenant: str) -> int:
        """In the tenant's file, whose ever they are."""
        connection = sqlite3.connect(self.file(tenant))
        try:
            return int(connection.execute("select count(*) from jobs").fetchone()[0])
        finally:
            connection.close()

    @contextmanager
    def away(self, tenant: str) -> Iterator[None]:
        """Nobody can write into the tenant's file."""
        other = sqlite3.connect(self.file(tenant), isolation_level=None)
        try:
            other.execute("begin immediate")
            yield
        finally:
            other.close()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Shards]:
    """Of the two, the second holds every tenant: order is kept inside a database."""
    made = Shards("sqlite", f"sqlite:///{tmp_path}/1.db", directory=tmp_path)
    yield made
    for ledger in made.opened:
        ledger.close()


@pytest.fixture
def both(database: Shards) -> Shards:
    """Both hold tenants."""
    database.home = even_home(2)
    assert database.file(ADA) != database.file(BOB)
    return database


def claimed(ledger: ShardedLedger, limit: int) -> list[str]:
    return sorted(j.request.tenant for j in ledger.claim("chat", "w", limit, LEASE_SECONDS))


def test_a_tenant_lives_in_one_database(both: Shards) -> None:
    ledger = both.open()
    jobs = [ledger.submit(wish(tenant=tenant)).job for tenant in (ADA, BOB, ADA)]
    assert (both.jobs(ADA), both.jobs(BOB)) == (2, 1)
    assert [ledger.get(job.id) for job in jobs] == jobs
    assert {job.id for job in ledger.get_many([job.id for job in jobs])} == {j.id for j in jobs}
    assert [job.id for job in ledger.recent(ADA, 9)] == [jobs[2].id, jobs[0].id]
    assert ledger.depth("chat").queued_jobs == 3
    for unknown in ("none", "", "zz", new_job_id(0)):
        assert ledger.get(unknown) is None
        assert ledger.cancel(unknown) is None


def test_a_claim_takes_what_there_is_wherever_it_is(both: Shards) -> None:
    ledger = both.open()
    for tenant in (ADA, ADA, ADA, BOB):
        ledger.submit(wish(tenant=tenant))
    assert claimed(ledger, 2) == [ADA, BOB]
    assert claimed(ledger, 9) == [ADA, ADA]
    assert claimed(ledger, 9) == []


def test_turns_are_shared_by_what_waits() -> None:
    rotation = Rotation(3)
    turns = [rotation.spread(1, [30.0, 10.0, 0.0]) for _ in range(400)]
    sums = [sum(turn[shard] for turn in turns) for shard in range(3)]
    assert sum(sums) == 400
    assert sums[0] == pytest.approx(3 * sums[1], rel=0.1)
    assert 0 < sums[2] < 20, "an empty one is still looked at"
    assert Rotation(3).spread(6, [0.0, 0.0, 0.0]) == [2, 2, 2]


def test_heartbeats_and_ends_find_their_database(both: Shards) -> None:
    ledger = both.open()
    for tenant in (ADA, BOB):
        ledger.submit(wish(tenant=tenant))
    jobs = ledger.claim("chat", "w", 2, LEASE_SECONDS)
    renewals = ledger.renew([beat(job, 3) for job in jobs], LEASE_SECONDS)
    assert [(r.job_id, r.held) for r in renewals] == [(job.id, True) for job in jobs]
    for job in jobs:
        assert (ledger.get(job.id) or job).renders[0].pass_no == 3
        assert ledger.finish_render(job.id, job.fence, 0, picture()).state is JobState.SUCCEEDED


def test_a_database_that_is_away_makes_only_its_tenants_wait(both: Shards) -> None:
    both.busy_seconds = 1.0
    ledger = both.open()
    for tenant in (ADA, BOB):
        ledger.submit(wish(tenant=tenant))
    held = {j.request.tenant: j for j in ledger.claim("chat", "w", 2, LEASE_SECONDS)}
    with both.away(ADA):
        with pytest.raises(LedgerUnavailable):
            ledger.submit(wish(tenant=ADA))
        ledger.submit(wish(tenant=BOB))
        assert claimed(ledger, 9) == [BOB]
        beats = [Beat(job.id, job.fence, ()) for job in held.values()]
        assert [r.held for r in ledger.renew(beats, LEASE_SECONDS)] == [True, True]
        assert ledger.expire() == 0
    soon(lambda: ledger.submit(wish(tenant=ADA)))
    assert claimed(ledger, 9) == [ADA]


def soon(call: Any) -> Any:
    """Its result, once the ledger is no longer away."""
    results: list[Any] = []

    def called() -> bool:
        with suppress(LedgerUnavailable):
            results.append(call())
        return bool(results)

    wait_until(called, "it is back")
    return results[0]


def test_it_opens_while_a_database_is_away(both: Shards) -> None:
    both.file(ADA).mkdir()
    ledger = both.open()
    assert ledger.submit(wish(tenant=BOB)).job.state is JobState.QUEUED
    with pytest.raises(LedgerUnavailable):
        ledger.submit(wish(tenant=ADA))
    both.file(ADA).rmdir()
    assert soon(lambda: ledger.submit(wish(tenant=ADA))).job.state is JobState.QUEUED


async def test_group_commits_of_both(both: Shards) -> None:
    both.busy_seconds = 1.0
    ledger = AsyncLedger(both.open())
    wishes = [wish(tenant=(ADA, BOB)[n % 2]) for n in range(60)]
    jobs = [done.job for done in await asyncio.gather(*map(ledger.submit, wishes))]
    found = await asyncio.gather(*(ledger.get(job.id) for job in jobs))
    assert found == jobs
    assert (both.jobs(ADA), both.jobs(BOB)) == (30, 30)
    with both.away(ADA):
        answers = await asyncio.gather(*map(ledger.submit, wishes[:20]), return_exceptions=True)
    assert [isinstance(a, LedgerUnavailable) for a in answers] == [True, False] * 10
    ledger.close()


def gone() -> SqlLedger:
    raise LedgerUnavailable("no route to host")


async def test_reads_of_what_is_there_do_not_wait_for_what_is_not(both: Shards) -> None:
    there = partial(SqlLedger, f"sqlite:///{both.file(BOB)}")
    shards = [Shard(gone), Shard(there)] if both.home[virtual_shard(BOB)] else [
        Shard(there), Shard(gone),
    ]  # fmt: skip
    sharded = ShardedLedger(shards, both.home, shards[0])
    kept = sharded.submit(wish(tenant=BOB)).job
    lost = new_job_id(virtual_shard(ADA))
    assert sharded.get_many([lost, kept.id]) == [kept]
    assert sharded.depth("chat").queued_jobs == 1
    ledger = AsyncLedger(sharded)
    answers = await asyncio.gather(ledger.get(lost), ledger.get(kept.id), return_exceptions=True)
    assert isinstance(answers[0], LedgerUnavailable)
    assert answers[1] == kept
    ledger.close()


def test_a_database_that_was_away_is_asked_again_after_a_pause() -> None:
    now, asked = [0.0], []

    def slow() -> SqlLedger:
        asked.append(now[0])
        now[0] += 5  # it kept us waiting
        raise LedgerUnavailable("no route to host")

    shard = Shard(slow, lambda: now[0])
    for _ in range(40):
        with pytest.raises(LedgerUnavailable, match="no route"):
            shard.ask(lambda ledger: ledger.version())
        now[0] += 0.5
    assert asked[:3] == [0.0, 10.0, 20.0], "half of the time at most"


async def test_databases_of_both_kinds(postgres: PostgresServer, tmp_path: Path) -> None:
    with postgres.database() as server:
        urls = (server, f"sqlite:///{tmp_path}/ledger.db")
        ledger = AsyncLedger(open_ledger(Places(server, urls, even_home(2))))
        wishes = [wish(tenant=(ADA, BOB)[n % 2], idempotency_key=f"k{n}") for n in range(20)]
        await asyncio.gather(*map(ledger.submit, wishes))
        jobs = await ledger.claim("chat", "w", 30, LEASE_SECONDS)
        assert sorted(job.request.tenant for job in jobs) == [ADA] * 10 + [BOB] * 10
        renewals = await ledger.renew([beat(job, 3) for job in jobs], LEASE_SECONDS)
        assert all(renewal.held for renewal in renewals)
        done = await asyncio.gather(
            *(ledger.finish_render(job.id, job.fence, 0, picture()) for job in jobs)
        )
        assert {job.state for job in done} == {JobState.SUCCEEDED}
        await asyncio.to_thread(ledger.close)


async def test_news_from_either_database_wakes(both: Shards) -> None:
    here, there = both.open(), both.open()
    ledger = AsyncLedger(here)
    for tenant in (ADA, BOB):
        seen = await ledger.version()
        waiting = asyncio.create_task(ledger.changed(seen, 20))
        there.submit(wish(tenant=tenant))
        assert await waiting != seen
    ledger.close()


def test_forgetting_goes_through_both(both: Shards, tmp_path: Path) -> None:
    ledger = both.open()
    for tenant in (ADA, BOB):
        ledger.submit(wish(tenant=tenant))
    for job in ledger.claim("chat", "w", 2, LEASE_SECONDS):
        ledger.finish_render(job.id, job.fence, 0, refusal("input"))
    kept = Retention(images_seconds=0.0, rows_seconds=0.0)
    seen = set()
    for step in (Step.IMAGES, Step.ROWS):
        while (batch := ledger.retire("chat", step, kept)) is not None:
            seen.add((step, batch.shard))
            ledger.retired("chat", batch)
    assert seen == {(step, shard) for step in (Step.IMAGES, Step.ROWS) for shard in (0, 1)}
    assert (both.jobs(ADA), both.jobs(BOB)) == (0, 0)
    ledger.submit(wish(tenant=ADA))
    ledger.submit(wish(tenant=BOB))
    assert erase_tenant(ledger, [DirectoryBlobs(tmp_path / "blobs")], ADA) == Erased(jobs=1)
    assert (both.jobs(ADA), both.jobs(BOB)) == (0, 1)


def test_files_live_with_their_tenant(both: Shards) -> None:
    ledger = both.open()
    files = {name: ledger.add_file(upload(name)) for name in (ADA, BOB)}
    for name, file in files.items():
        assert ledger.files(name, 9) == [file]
        assert ledger.drop_file(name, file.id)
    assert {file.tenant for file in ledger.stale_files(9)} == {ADA, BOB}
    ledger.forget_files(ledger.stale_files(9))
    assert ledger.stale_files(9) == []


async def test_through_the_gateway(both: Shards, tmp_path: Path) -> None:
    both.busy_seconds = 1.0
    blobs = DirectoryBlobs(tmp_path / "blobs")
    worker, gateway = both.open(), AsyncLedger(both.open())
    settings = config(keys=[{"key": f"sk-{name}", "tenant": name} for name in (ADA, BOB)])
    ended = threading.Event()

    def draw() -> None:
        while not ended.wait(0.002):
            for job in worker.claim("default", "worker", 4, LEASE_SECONDS):
                finish(worker, blobs, job)

    drawing = threading.Thread(target=draw)
    drawing.start()
    transport = httpx.ASGITransport(create_app(gateway, blobs, settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://lane", timeout=60) as http:

        async def ask(tenant: str) -> httpx.Response:
            return await http.post(
                "/v1/images/generations",
                json={"prompt": "a red fox", "seed": 7},
                headers={"authorization": f"Bearer sk-{tenant}"},
            )

        assert [(await ask(tenant)).status_code for tenant in (ADA, BOB)] == [200, 200]
        with both.away(ADA):
            waits = await ask(ADA)
            assert (waits.status_code, waits.headers["retry-after"]) == (503, "1")
            assert (await ask(BOB)).status_code == 200
    ended.set()
    drawing.join(PATIENCE_SECONDS)
    await asyncio.to_thread(gateway.close)


def finish(ledger: ShardedLedger, blobs: DirectoryBlobs, job: Job) -> None:
    key = image_key(job.id, 0, job.fence, "png")
    blobs.put(key, drawn(job, 0), durable=False)
    ledger.finish_render(job.id, job.fence, 0, picture(key))


def test_ranges_of_virtual_shards() -> None:
    assert parse_virtual("00-02, 80") == [0, 1, 2, 128]
    for wrong in ("0", "00-", "80,", "100", "zz"):
        with pytest.raises(ValueError, match="no range of virtual shards"):
            parse_virtual(wrong)
    assert {even_home(3).count(shard) for shard in range(3)} == {85, 86}
