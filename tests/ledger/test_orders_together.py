"""Orders that arrive together get what they would have got one by one."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from jobs.db.database import open_database
from jobs.ledger import Submission
from jobs.ledger_errors import IdempotencyMismatch, QueueFull, QuotaExceeded
from jobs.request import ImageRequest
from jobs.sql.sql_ledger import SqlLedger
from jobs.tiers import Tier
from tests.stages.ledger_kit import Clock, Database, claim_one, sqlite, wish

ROOMY = {"free": Tier(images_per_day=500, queued_jobs=500), "plus": Tier(images_per_day=500)}
TIGHT = {"free": Tier(images_per_day=4), "plus": Tier(queued_jobs=3)}
BATCHES, AT_ONCE = 6, 12


def order(dice: random.Random, odd: bool) -> ImageRequest:
    """Of few tenants with few keys, so that they meet each other; `odd` ones are refused at times.
    (Who repeats a body without a key finds whichever job came with it: not among these.)"""
    tenant, words = dice.choice(["ada", "bob", "cyd", "dan"]), dice.choice("abc")
    return wish(
        tenant=tenant,
        tier={"ada": "free", "bob": "plus"}.get(tenant, "pro"),
        prompt=words,
        body_hash=words,
        n=dice.choice([1, 1, 2]),
        cost_seconds=dice.choice([0.5, 1.0, 4.0]),
        idempotency_key=dice.choice([None, None, f"key {dice.random()}", f"key {words}"])
        if not odd
        else dice.choice([None, None, "key"]),
        watched=dice.choice([True, False]),
    )


def told(results: Sequence[Any]) -> list[Any]:
    """What each was told, without what is random: a job is known by who got it first. (What a
    retry hears of the day is of the whole batch.)"""
    names: dict[str, int] = {}
    return [
        (names.setdefault(r.job.id, len(names)), r.reattached or r.usage)
        if isinstance(r, Submission)
        else (type(r), str(r))
        for r in results
    ]


def kept(database: Database) -> list[Any]:
    """Rows that decide the order and what is left of the day."""
    opened = open_database(database.url)
    with closing(opened), opened.reader.begin() as connection:
        return [
            connection.execute(text(f"select {columns} from {table} order by {columns}")).all()
            for table, columns in (
                ("jobs", "tenant, vft, coalesce(idempotency_key, ''), body_hash, watched_until"),
                ("renders join jobs on jobs.id = job_id", "tenant, vft, idx"),
                ("quota", "tenant, day, used"),
                ("flows", "lane, tier, tenant, vft"),
                ("tenants", "id, tier"),
            )
        ]


@pytest.mark.parametrize(
    ("tiers", "odd", "told_of"),
    [
        (ROOMY, False, {Submission}),
        (TIGHT, True, {Submission, QuotaExceeded, QueueFull, IdempotencyMismatch}),
    ],
    ids=["accepted", "refused"],
)
def test_together_as_one_by_one(
    tiers: Mapping[str, Tier],
    odd: bool,
    told_of: set[type],
    database: Database,
    tmp_path: Path,
) -> None:
    dice, seen = random.Random(5), set()
    alone = sqlite(tmp_path / "alone")
    ledgers = [place.open(tiers=tiers, clock=Clock()) for place in (database, alone)]
    for _ in range(BATCHES):
        batch = [order(dice, odd) for _ in range(AT_ONCE)]
        results = ledgers[0].together([partial(ledgers[0].submit, request) for request in batch])
        assert told(results) == told([result(ledgers[1], request) for request in batch])
        seen |= {type(one) for one in results}
    assert kept(database) == kept(alone)
    assert seen == told_of
    ledgers[1].close()


def result(ledger: SqlLedger, request: ImageRequest) -> Any:
    """Of an order that comes alone."""
    try:
        return ledger.submit(request)
    except (QuotaExceeded, QueueFull, IdempotencyMismatch) as error:
        return error


def test_orders_of_one_tenant_follow_each_other(database: Database) -> None:
    """Their stamps are those of fair_queue.stamp, and each knows what it has left of the day."""
    ledger = database.open(tiers={"free": Tier(images_per_day=9)}, clock=Clock())
    wishes = [wish(n=n, cost_seconds=cost) for n, cost in ((1, 4.0), (2, 0.5), (3, 8.0))]
    results = ledger.together([partial(ledger.submit, request) for request in wishes])
    accepted = [one for one in results if isinstance(one, Submission)]
    assert [one.usage.used for one in accepted] == [1, 3, 6]
    assert [row[1] for row in kept(database)[0]] == [4.0, 4.5, 12.5]
    claimed = [claim_one(ledger).id for _ in wishes]
    assert claimed == [one.job.id for one in accepted]
