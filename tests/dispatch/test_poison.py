"""One job must never stop others: poison at every stage, and a quiet tenant's orders beside it.

Longer: `pytest tests/dispatch/test_poison.py --hypothesis-profile=long`.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from jobs.job import Job, JobState
from scripts.chaos.poison import KINDS
from tests.dispatch.dispatch_stages import until
from tests.dispatch.poison import STAGES, Poison, PoisonedWorld

pytestmark = pytest.mark.slow

QUICK: dict[str, Any] = {
    "attempts": 3, "call_timeout_seconds": 0.5, "slow_seconds": 0.03, "patience_seconds": 0.5,
    "waiting": 4, "retry_seconds": 0.01,
}  # fmt: skip
LONG = settings.default is not None and settings.default.max_examples > 100


@asynccontextmanager
async def poisoned(directory: Path, **sizes: int) -> AsyncIterator[PoisonedWorld]:
    made = PoisonedWorld(directory, **sizes)
    try:
        yield made
    finally:
        await made.close()


async def nothing_left(it: PoisonedWorld) -> None:
    await until(lambda: not any(r.dispatcher.held_jobs for r in it.dispatchers), "all is let go")
    engine = create_engine(f"sqlite:///{it.path}")
    with engine.connect() as connection:
        assert connection.execute(text("select count(*) from leases")).scalar_one() == 0
        unended = "select count(*) from jobs where finished_at is null"
        assert connection.execute(text(unended)).scalar_one() == 0
    engine.dispose()


async def fails(it: PoisonedWorld, poison: Poison, job: Job) -> Job:
    """It has ended as it should, and says which stage it was. One of its tries may have been lost
    with a process that another dispatcher's poison ended."""
    ended = await it.ended(job, JobState.FAILED)
    errors = (ended.renders[0].error or "", *ended.errors)
    named = any(STAGES[poison.stage] in error for error in errors)
    assert named or len(it.dispatchers) > 1, (poison, errors)
    return ended


@pytest.mark.parametrize("kind", KINDS)
async def test_poison_fails_after_its_attempts_and_others_do_not_notice(
    tmp_path: Path, kind: str
) -> None:
    """At every stage at once, on the smallest ready queue there is."""
    async with poisoned(tmp_path) as it:
        stages = ("encoder", "before", "decoder", "file") if kind == "hangs" else tuple(STAGES)
        poison = [Poison(stage, kind) for stage in stages]
        bad = [it.order(each, f"eve {each.stage}") for each in poison]
        good = [it.order(None, "ada") for _ in range(6)]
        attempts = 2 if kind == "hangs" else 3
        it.start(ready=1, **QUICK | {"attempts": attempts})
        for job in good:
            assert (await it.ended(job)).renders[0].error is None
        for each, job in zip(poison, bad, strict=True):
            await fails(it, each, job)
            assert it.tries(each, job) >= attempts, each
        await nothing_left(it)


@pytest.mark.parametrize("stage", STAGES)
async def test_alone_in_the_lane_it_counts_no_more_than_its_attempts(
    tmp_path: Path, stage: str
) -> None:
    async with poisoned(tmp_path) as it:
        poison = Poison(stage, "dies")
        job = it.order(poison, "eve")
        it.start(screen_at=(), **QUICK)
        await fails(it, poison, job)
        assert it.tries(poison, job) == 3 + 1, "that of a suspect alone counts"
        await nothing_left(it)


async def test_renders_that_kill_decoders_before_they_are_accepted_fail(tmp_path: Path) -> None:
    async with poisoned(tmp_path) as it:
        poison = Poison("decoder", "dies unheard")
        job = it.order(poison, "eve")
        it.start(**QUICK | {"attempts": 1})

        async def ended() -> bool:
            await it.ended(it.order(None, "ada"))
            found = it.sql.get(job.id)
            return found is not None and found.ended

        await until(ended, "it ends while others are drawn")
        await fails(it, poison, job)


async def test_a_flood_of_one_tenants_poison_leaves_room_for_others(tmp_path: Path) -> None:
    async with poisoned(tmp_path) as it:
        bad = [it.order(Poison("prompt", "hangs"), "eve") for _ in range(30)]
        it.start(ready=2, **QUICK | {"call_timeout_seconds": 3600.0})
        good = [it.order(None, "ada") for _ in range(20)]
        for job in good:
            await it.ended(job)
        held = [job for job in map(it.sql.get, [job.id for job in bad]) if job and job.worker]
        assert 0 < len(held) < 12, "a bound of its own"
        for job in bad:
            it.sql.cancel(job.id)
        await until(lambda: not it.dispatchers[0].dispatcher.held_jobs, "all is let go")


@pytest.mark.parametrize("stage", ["classifier", "files"])
async def test_a_stage_that_is_away_for_all_costs_nothing_and_deadlines_hold(
    tmp_path: Path, stage: str
) -> None:
    async with poisoned(tmp_path) as it:
        it.processes[stage].away = True
        jobs = [it.order(None, f"tenant {i}") for i in range(30)]
        late = it.order(None, "late", deadline_seconds=5.0)
        it.start(**QUICK | {"waiting": 3, "patience_seconds": 0.05})
        it.clock.now += 6.0
        await it.ended(late, JobState.EXPIRED)
        held = it.dispatchers[0].dispatcher.held_jobs
        assert held < 20, "those that wait, and what was in slots or ready when they were full"
        it.processes[stage].away = False
        for job in jobs:
            ended = await it.ended(job)
            assert (ended.attempts, ended.errors) == (0, ())
        await nothing_left(it)


@dataclass(frozen=True)
class Order:
    """One order: poisonous or not, after so long; `away`: a stage leaves then, for a moment."""

    poison: Poison | None
    tenant: str
    after_seconds: float
    away: str | None


def orders() -> st.SearchStrategy[list[Order]]:
    kinds = st.sampled_from(("raises", "fails", "dies", "dies", "hangs"))
    poison = st.builds(Poison, st.sampled_from(sorted(STAGES)), kinds)
    order = st.builds(
        Order,
        st.one_of(st.none(), poison),
        st.sampled_from(("eve", "mallory", "trudy")),
        st.sampled_from((0.0, 0.0, 0.02, 0.1)),
        st.sampled_from((None, None, None, "encoder", "classifier", "files")),
    )
    return st.lists(order, min_size=4, max_size=14)


@settings(max_examples=200 if LONG else 6, derandomize=not LONG, deadline=None)
@given(orders(), st.integers(1, 2))
def test_whatever_is_thrown_at_a_lane_a_quiet_tenant_is_served(
    thrown: list[Order], dispatchers: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(_throw(Path(directory), thrown, dispatchers))


async def _throw(directory: Path, thrown: Sequence[Order], dispatchers: int) -> None:
    async with poisoned(directory) as it:
        for _ in range(dispatchers):
            it.start(ready=1, **QUICK | {"attempts": 1 + dispatchers, "retry_seconds": 0.05})
        sent: list[tuple[Poison | None, Job]] = []
        quiet: list[Job] = []
        for order in thrown:
            if order.away is not None:
                process = it.processes[order.away]
                process.away = True
                asyncio.get_running_loop().call_later(0.1, setattr, process, "away", False)
            sent.append((order.poison, it.order(order.poison, order.tenant)))
            quiet.append(it.order(None, "ada"))
            await asyncio.sleep(order.after_seconds)
        for job in quiet:
            await it.ended(job)
        for poison, job in sent:
            if poison is None:
                await it.ended(job)
            else:
                await fails(it, poison, job)
                assert it.tries(poison, job) >= (2 if dispatchers == 1 else 1)
        await nothing_left(it)


async def test_renders_beside_one_that_kills_decoders_lose_no_attempt(tmp_path: Path) -> None:
    """One attempt is all they have; the poison is tried while they are in the same decoder."""
    async with poisoned(tmp_path, replicas=1, slots=6) as it:
        poison = Poison("decoder", "dies")
        good = [it.order(None, f"tenant {i}", passes=8) for i in range(5)]
        bad = it.order(poison, "eve")
        it.start(ready=6, **QUICK | {"attempts": 1})
        await fails(it, poison, bad)
        for job in good:
            assert (await it.ended(job)).errors == ()
        await nothing_left(it)
