"""A tenant that renders as much at once as its tier allows waits, and delays nobody."""

from __future__ import annotations

import pytest

from jobs.db import statements
from jobs.sql.sql_ledger import SqlLedger
from jobs.tiers import Tier
from tests.stages.ledger_kit import LEASE_SECONDS, Clock, Database, estimate, picture, wish


@pytest.fixture
def limited(database: Database, clock: Clock) -> SqlLedger:
    """Two images at once in tier free."""
    return database.open(clock=clock, tiers={"free": Tier(concurrent_renders=2)})


def claimed(ledger: SqlLedger, limit: int = 8) -> list[str]:
    """Whose jobs a claim takes, as `tenant images`."""
    jobs = ledger.claim("chat", "w", limit, LEASE_SECONDS)
    return [f"{job.request.tenant} {job.request.n}" for job in jobs]


def test_others_do_not_wait_behind_it(limited: SqlLedger) -> None:
    for i in range(400):
        limited.submit(wish(tenant="whale", cost_seconds=0.001, seed=i))
    limited.submit(wish(tenant="ada"))
    taken = [claimed(limited) for _ in range(6)]
    assert sorted(name for names in taken for name in names) == ["ada 1", "whale 1", "whale 1"]
    assert limited.depth("chat").queued_jobs == 398


def test_an_end_lets_the_next_one_in_at_its_place(limited: SqlLedger) -> None:
    jobs = [limited.submit(wish(seed=i)).job for i in range(5)]
    first, second = limited.claim("chat", "w", 8, LEASE_SECONDS)
    assert [first.id, second.id] == [job.id for job in jobs[:2]]
    assert claimed(limited) == []
    assert estimate(limited, jobs[4].id).position is not None
    limited.finish_render(first.id, first.fence, 0, picture())
    (third,) = limited.claim("chat", "w", 8, LEASE_SECONDS)
    assert third.id == jobs[2].id
    limited.release(second.id, second.fence)
    (again,) = limited.claim("chat", "w", 8, LEASE_SECONDS)
    assert again.id == second.id, "it has its old place"


def test_a_job_larger_than_the_limit_runs_alone(limited: SqlLedger) -> None:
    limited.submit(wish(n=1))
    limited.submit(wish(n=4))
    limited.submit(wish(n=1))
    (small,) = limited.claim("chat", "w", 1, LEASE_SECONDS)
    taken = claimed(limited)
    assert taken == ["ada 1"], "the large one does not fit beside it"
    limited.finish_render(small.id, small.fence, 0, picture())


def test_every_job_is_drawn_in_the_end(limited: SqlLedger) -> None:
    for tenant in ("ada", "bob", "eve"):
        for i in range(20):
            limited.submit(wish(tenant=tenant, n=1 + i % 3, seed=i))
    done = 0
    while jobs := limited.claim("chat", "w", 5, LEASE_SECONDS):
        for job in jobs:
            for index in range(job.request.n):
                limited.finish_render(job.id, job.fence, index, picture())
            done += 1
    assert done == 60


def test_strays_are_found(limited: SqlLedger, clock: Clock) -> None:
    """Parked, while the tenant's last job ended."""
    job = limited.submit(wish(watched=False)).job
    with limited._write() as connection:
        connection.execute(statements.PARK, {"ids": [job.id]})
    assert claimed(limited) == []
    limited.expire()
    assert claimed(limited) == ["ada 1"]


def test_a_raised_limit_is_used(limited: SqlLedger) -> None:
    for i in range(12):
        limited.submit(wish(seed=i))
    held = limited.claim("chat", "w", 8, LEASE_SECONDS)
    claimed(limited)
    limited.tiers = {"free": Tier(concurrent_renders=6)}
    under_way = []
    for _ in range(6):
        done = held.pop(0)
        limited.finish_render(done.id, done.fence, 0, picture())
        held += limited.claim("chat", "w", 8, LEASE_SECONDS)
        under_way.append(len(held))
    assert max(under_way) > 2
