"""Tenants, keys and limits in the ledger: exact whoever asks at the same time."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from functools import partial
from zoneinfo import ZoneInfo

import pytest

from jobs.client.async_ledger import AsyncLedger
from jobs.job import JobState
from jobs.ledger_errors import LedgerError, LedgerUnavailable, NotYetOpen, QueueFull, QuotaExceeded
from jobs.request import Tenant
from jobs.sql.accounts import UnknownKey, key_hash
from jobs.sql.sql_ledger import SqlLedger
from jobs.tiers import REFUNDED_BLOCKS_PER_DAY, QuotaDays, Tier
from tests.contract.test_ledger_processes import python
from tests.stages.ledger_kit import Clock, Database, claim_one, refusal, wish

ADA = Tenant("ada", "free")


def used(ledger: SqlLedger, tenant: str = "ada") -> int:
    return ledger.standing(Tenant(tenant, "free"), "chat").usage.used


def at_once(calls: list[Callable[[], object]]) -> list[object]:
    """What each returned or raised."""
    results: list[object] = [None] * len(calls)
    start = threading.Barrier(len(calls))

    def run(index: int) -> None:
        start.wait()
        while results[index] is None:
            try:
                results[index] = calls[index]()
            except LedgerUnavailable:
                continue  # a busy SQLite file: nothing was written
            except LedgerError as error:
                results[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


# -- keys


def test_a_key_opens_until_it_is_rotated_or_revoked(database: Database, clock: Clock) -> None:
    accounts = database.open(clock=clock).accounts
    seen = [accounts.revision()]
    first = accounts.create("ada", "free")
    assert accounts.owner(key_hash(first))[0] == ADA
    seen.append(accounts.revision())
    clock.now += 60
    second = accounts.rotate(accounts.keys()[0].prefix)
    assert (accounts.owner(key_hash(first))[0], accounts.owner(key_hash(second))[0]) == (None, ADA)
    seen.append(accounts.revision())
    clock.now += 60
    hashes = [key_hash(first), key_hash(second), key_hash("none")]
    assert accounts.owners(hashes) == ({key_hash(second): ADA}, accounts.revision())
    accounts.revoke(accounts.keys()[0].prefix)
    assert accounts.owner(key_hash(second))[0] is None
    assert accounts.owners(hashes) == ({}, accounts.revision())
    assert accounts.owners([]) == ({}, accounts.revision())
    seen.append(accounts.revision())
    assert seen == sorted(set(seen)), "every change is seen by others"
    (key,) = accounts.keys("ada")
    assert (key.rotated_at, key.revoked_at) == (clock.now - 60, clock.now)
    assert second.startswith(key.prefix)
    assert accounts.keys("bob") == []


@pytest.mark.parametrize("prefix", ["", "sk-mp-nothing", "%"])
def test_a_key_that_is_not_there_is_neither_rotated_nor_revoked(
    database: Database, prefix: str
) -> None:
    accounts = database.open().accounts
    accounts.create("ada", "free")
    before = accounts.revision()
    for act in (accounts.revoke, accounts.rotate):
        with pytest.raises(UnknownKey):
            act(prefix)
    accounts.revoke(accounts.keys()[0].prefix)
    with pytest.raises(UnknownKey):
        accounts.revoke(accounts.keys()[0].prefix)
    assert accounts.revision() == before + 1


def test_only_hashes_of_keys_are_kept(database: Database) -> None:
    accounts = database.open().accounts
    key = accounts.create("ada", "free")
    assert len(key) > 40
    assert key not in repr(accounts.keys())
    assert key_hash(key) not in repr(accounts.keys())
    assert accounts.owner(key)[0] is None


def test_everybody_on_one_database_signs_urls_with_one_secret(database: Database) -> None:
    first, second = database.open().accounts, database.open().accounts
    assert first.url_secret() == second.url_secret()
    assert len(first.url_secret()) == 32


def test_a_forgotten_tenant_has_no_keys(database: Database) -> None:
    ledger = database.open(tiers={"free": Tier(images_per_day=3)})
    ledger.submit(wish())
    ledger.submit(wish(tenant="bob"))
    key, other = ledger.accounts.create("ada", "free"), ledger.accounts.create("bob", "free")
    before = ledger.accounts.revision()
    ledger.forget_tenant("ada")
    assert ledger.accounts.revision() > before, "gateways hear of it"
    assert ledger.accounts.owner(key_hash(key))[0] is None
    assert ledger.accounts.owner(key_hash(other))[0] is not None
    (left,) = ledger.accounts.keys()
    assert left.tenant == "bob"
    assert (used(ledger), used(ledger, "bob")) == (0, 1)


# -- who may come in


def test_a_tier_that_is_shut_writes_nothing(database: Database) -> None:
    ledger = database.open(tiers={"free": Tier(rollout="off"), "paid": Tier()})
    with pytest.raises(NotYetOpen):
        ledger.submit(wish())
    assert ledger.recent("ada", 9) == []
    ledger.submit(wish(tier="paid"))
    ledger.tiers = {"free": Tier(rollout=100)}
    ledger.submit(wish())


# -- queued jobs


def test_a_tenant_has_so_many_jobs_waiting_as_its_tier_allows(database: Database) -> None:
    ledger = database.open(tiers={"free": Tier(queued_jobs=2, images_per_day=9)})
    first = ledger.submit(wish()).job
    ledger.submit(wish())
    with pytest.raises(QueueFull) as full:
        ledger.submit(wish(n=3))
    assert (full.value.limit, full.value.first_job_id) == (2, first.id)
    assert used(ledger) == 2, "what is refused costs nothing"
    ledger.submit(wish(tenant="bob"))
    ledger.submit(wish(lane="api"))
    assert ledger.standing(ADA, "chat").renders == 0
    claim_one(ledger)
    ledger.submit(wish())
    assert ledger.standing(ADA, "chat").queued_jobs == 2
    assert ledger.standing(ADA, "chat").renders == 1


def test_what_waits_is_counted_up_to_a_bound(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tenant may ask often: that shall not cost more the more of its jobs wait."""
    monkeypatch.setattr("jobs.sql.reads._COUNTED", 2)
    ledger = database.open(tiers={"free": Tier(queued_jobs=3)})
    for tier in ("free", "paid"):
        for _ in range(3):
            ledger.submit(wish(tier=tier, tenant=tier))
    counted = [ledger.standing(Tenant(tier, tier), "chat").queued_jobs for tier in ("free", "paid")]
    assert counted == [3, 2]


def test_a_retry_finds_its_job_though_the_queue_is_full(database: Database) -> None:
    ledger = database.open(tiers={"free": Tier(queued_jobs=1, images_per_day=1)})
    first = ledger.submit(wish(idempotency_key="k"))
    again = ledger.submit(wish(idempotency_key="k"))
    assert (again.job.id, again.reattached, again.usage.used) == (first.job.id, True, 1)


def test_the_waiting_limit_is_exact_under_concurrency(database: Database) -> None:
    ledgers = [database.open(tiers={"free": Tier(queued_jobs=5)}) for _ in range(3)]
    results = at_once([partial(ledgers[i % 3].submit, wish()) for i in range(12)])
    assert sum(isinstance(result, QueueFull) for result in results) == 7
    assert ledgers[0].depth("chat").queued_jobs == 5


# -- idempotency


def test_duplicates_at_the_same_moment_make_one_job(database: Database) -> None:
    ledgers = [database.open() for _ in range(4)]
    same = wish(idempotency_key="order-7", body_hash="aa")
    results = at_once([partial(ledgers[i % 4].submit, same) for i in range(12)])
    assert len({result.job.id for result in results}) == 1  # type: ignore[attr-defined]
    assert [result.reattached for result in results].count(False) == 1  # type: ignore[attr-defined]
    assert used(ledgers[0]) == 1
    assert len(ledgers[0].recent("ada", 9)) == 1


async def test_one_commit_for_many_counts_them_one_by_one(database: Database) -> None:
    """What a batch has accepted and not yet written counts, too."""
    tiers = {"free": Tier(queued_jobs=5, images_per_day=9), "poor": Tier(images_per_day=3)}
    ledger = AsyncLedger(database.open(tiers=tiers))
    same = wish(tenant="bob", idempotency_key="k", body_hash="aa")
    asked = [wish() for _ in range(12)] + [same] * 12
    asked += [wish(tenant="carol", tier="poor") for _ in range(12)]
    calls = [ledger.submit(request) for request in asked]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    queue, duplicates, quota = answers[:12], answers[12:24], answers[24:]
    assert [type(answer) for answer in queue].count(QueueFull) == 7
    assert len({answer.job.id for answer in duplicates}) == 1  # type: ignore[union-attr]
    assert [type(answer) for answer in quota].count(QuotaExceeded) == 9
    for tenant, number in (("ada", 5), ("bob", 1), ("carol", 3)):
        assert len(await ledger.recent(tenant, 99)) == number
        standing = await ledger.standing(Tenant(tenant, "free"), "chat")
        assert (standing.usage.used, standing.queued_jobs) == (number, number)
    ledger.close()


# -- the day


def test_usage_says_what_is_left_and_when_it_comes_back(database: Database, clock: Clock) -> None:
    days = QuotaDays(ZoneInfo("Asia/Kathmandu"))
    ledger = database.open(clock=clock, days=days, tiers={"free": Tier(images_per_day=3)})
    usage = ledger.submit(wish(n=2)).usage
    assert (usage.used, usage.limit, usage.remaining) == (2, 3, 1)
    assert usage.resets_at == days.end_of(clock.now)
    clock.now = usage.resets_at - 1
    with pytest.raises(QuotaExceeded) as refused:
        ledger.submit(wish(n=2))
    assert (refused.value.asked, refused.value.usage.resets_in_seconds) == (2, 1)
    clock.now = usage.resets_at
    assert ledger.submit(wish(n=3)).usage.remaining == 0


def test_a_refund_goes_to_the_day_that_was_charged(database: Database, clock: Clock) -> None:
    ledger = database.open(clock=clock, tiers={"free": Tier(images_per_day=3)})
    yesterday = clock.now
    job = ledger.submit(wish(n=2)).job
    clock.now += 86_400
    ledger.submit(wish(n=3))
    ledger.cancel(job.id)
    assert used(ledger) == 3
    clock.now = yesterday
    assert used(ledger) == 0


def test_refused_prompts_are_given_back_only_so_often(database: Database, clock: Clock) -> None:
    ledger = database.open(clock=clock, tiers={"free": Tier(images_per_day=100)})

    def ask(n: int) -> None:
        ledger.submit(wish(n=n))
        job = claim_one(ledger)
        for index in range(n):
            job = ledger.finish_render(job.id, job.fence, index, refusal("input"))
        assert job.state is JobState.BLOCKED

    for _ in range(REFUNDED_BLOCKS_PER_DAY // 3 + 1):
        ask(3)
    over = 3 - REFUNDED_BLOCKS_PER_DAY % 3
    assert used(ledger) == over
    ask(2)
    assert used(ledger) == over + 2
    ledger.cancel(ledger.submit(wish(n=4)).job.id)
    assert used(ledger) == over + 2, "other refunds go on"
    clock.now += 86_400
    ask(2)
    assert used(ledger) == 0


RACE = """
import json, sys, threading
from jobs.ledger_errors import LedgerUnavailable, QuotaExceeded
from jobs.sql.sql_ledger import SqlLedger
from jobs.tiers import Tier
from tests.stages.ledger_kit import wish
ledgers = [SqlLedger(sys.argv[1], tiers={"free": Tier(images_per_day=3)}) for _ in range(2)]
accepted, refused, first = [], [], []
def submit(ledger, **changes):
    while True:
        try:
            return ledger.submit(wish(**changes))
        except LedgerUnavailable:
            pass  # a busy SQLite file: nothing was written
def race(ledger):
    same = submit(ledger, tenant="same", n=3, idempotency_key="k", body_hash="a")
    first.append((same.job.id, same.reattached))
    for turn in range(2):
        for tenant in range(20):
            try:
                accepted.append(submit(ledger, tenant=f"t{tenant}").job.id)
            except QuotaExceeded:
                refused.append(tenant)
print("ready", flush=True)
sys.stdin.readline()
threads = [threading.Thread(target=race, args=(ledger,)) for ledger in ledgers]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(json.dumps([accepted, refused, first]), flush=True)
"""


def test_processes_racing_for_the_last_images_take_exactly_the_limit(database: Database) -> None:
    """A repeated request among it is one. Then all of it fails, and all of it is given back."""
    ledger = database.open(tiers={"free": Tier(images_per_day=3)}, attempts_max=1)
    processes = [python(RACE, database.url) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [json.loads(process.communicate()[0]) for process in processes]
    accepted = [job_id for taken, _, _ in outputs for job_id in taken]
    assert len(accepted) == len(set(accepted)) == 60
    assert sum(len(refused) for _, refused, _ in outputs) == 100
    same = [tuple(answer) for *_, answers in outputs for answer in answers]
    assert len({job_id for job_id, _ in same}) == 1, "one key, one job, whoever asks"
    assert [reattached for _, reattached in same].count(False) == 1
    assert [used(ledger, f"t{tenant}") for tenant in range(20)] == [3] * 20
    accepted.append(same[0][0])
    while jobs := ledger.claim("chat", "w", 16, 60.0):
        for job in jobs:
            ledger.release(job.id, job.fence, error="the decoder broke")
    assert {job.state for job in ledger.get_many(accepted)} == {JobState.FAILED}
    assert [used(ledger, tenant) for tenant in ("same", *(f"t{i}" for i in range(20)))] == [0] * 21
