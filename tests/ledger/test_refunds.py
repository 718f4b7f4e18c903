"""What a tenant makes a lane draw in a day is bounded, whatever it does to get its images back."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.job import Job, RenderState
from jobs.lease import Beat as JobBeat
from jobs.lease import Outcome, RenderBeat
from jobs.ledger_errors import QuotaExceeded
from jobs.request import Tenant
from jobs.sql.sql_ledger import SqlLedger
from jobs.tiers import REFUNDED_PASSES_AT_LEAST, Tier, refunded_passes_per_day
from tests.stages.ledger_kit import Clock, Database, refusal, wish

A_DAY, PASSES, LEASE_SECONDS = 3, 32, 600.0
ENDS = ["cancel", "fail"] * 12 + ["block", "break"]  # those that may give back most often
ROUNDS = st.tuples(
    st.tuples(st.just("submit"), st.integers(1, A_DAY), st.booleans()),
    st.tuples(st.just("draw"), st.sampled_from([0, 3, 6, 7, 8, 8, 8, 9]), st.just(False)),
    st.tuples(st.sampled_from(ENDS), st.just(0), st.just(False)),
)
NAMES = (f"t{number}" for number in itertools.count())


class Farm:
    """One tenant and a holder of its jobs, which counts what it draws."""

    def __init__(self, ledger: SqlLedger, name: str) -> None:
        self._ledger, self.name = ledger, name
        self._held: Job | None = None
        self._passes: Counter[int] = Counter()
        self.drawn = 0

    def step(self, what: str, number: int, flag: bool) -> None:
        if what == "submit":
            self._submit(number, flag)
            return
        if self._held is None:
            jobs = self._ledger.claim(self.name, "w", 1, LEASE_SECONDS)
            self._held = jobs[0] if jobs else None
            self._passes = Counter({r.index: r.pass_no for r in jobs[0].renders} if jobs else {})
        if self._held is not None:
            getattr(self, f"_{what}")(self._held, number)

    def _submit(self, n: int, watched: bool) -> None:
        asked = wish(lane=self.name, tenant=self.name, n=n, passes=PASSES, watched=watched)
        with suppress(QuotaExceeded):
            self._ledger.submit(asked)

    def _draw(self, job: Job, number: int) -> None:
        open_ones = [r.index for r in self._stored(job).renders if not r.settled]
        beats = []
        for index in open_ones:
            before = self._passes[index]
            self._passes[index] = min(PASSES, before + number)
            self.drawn += self._passes[index] - before
            last = self._passes[index] == PASSES
            state = RenderState.FINISHING if last else RenderState.RENDERING
            beats.append(RenderBeat(index, state, self._passes[index], b"x"))
        self._ledger.renew([JobBeat(job.id, job.fence, tuple(beats))], LEASE_SECONDS)

    def _cancel(self, job: Job, _: int) -> None:
        self._ledger.cancel(job.id)
        self._draw(job, 0)
        self._held = None

    def _block(self, job: Job, _: int) -> None:
        self._settle(job, refusal("input" if not any(self._passes.values()) else "output"))

    def _fail(self, job: Job, _: int) -> None:
        self._settle(job, Outcome(RenderState.FAILED, error="poison"))

    def _break(self, job: Job, _: int) -> None:
        self._ledger.release(job.id, job.fence, error="the decoder died")
        self._held = None

    def _settle(self, job: Job, outcome: Outcome) -> None:
        for render in self._stored(job).renders:
            if not render.settled:
                self._ledger.finish_render(job.id, job.fence, render.index, outcome)
        self._held = None

    def _stored(self, job: Job) -> Job:
        found = self._ledger.get(job.id)
        assert found is not None
        return found


@pytest.fixture
def limited(database: Database, clock: Clock) -> SqlLedger:
    return database.open(clock=clock, tiers={"free": Tier(images_per_day=A_DAY)})


@settings(max_examples=8, suppress_health_check=list(HealthCheck))
@given(rounds=st.lists(ROUNDS, min_size=20, max_size=40))
def test_what_is_drawn_in_a_day_is_bounded(
    limited: SqlLedger, rounds: list[tuple[tuple[str, int, bool], ...]]
) -> None:
    farm = Farm(limited, next(NAMES))
    for step in itertools.chain.from_iterable(rounds):
        farm.step(*step)
    bound = A_DAY * PASSES + (refunded_passes_per_day(A_DAY) or 0)
    assert farm.drawn <= bound


@pytest.mark.parametrize("end", ["cancel", "fail"])
def test_who_only_wants_them_back_draws_the_day_and_a_share(limited: SqlLedger, end: str) -> None:
    farm = Farm(limited, next(NAMES))
    for _ in range(40):
        for step in (("submit", 1, True), ("draw", 8, False), (end, 0, False)):
            farm.step(*step)
    most = A_DAY * PASSES + REFUNDED_PASSES_AT_LEAST
    assert most / 3 < farm.drawn <= most
    usage = limited.standing(Tenant(farm.name, "free"), farm.name).usage
    assert usage.used == A_DAY


def test_two_clients_give_back_no_more_than_one(database: Database) -> None:
    tiers = {"free": Tier(images_per_day=60)}
    ledgers = [database.open(tiers=tiers, attempts_max=1) for _ in range(2)]
    for _ in range(60):
        ledgers[0].submit(wish(passes=PASSES))
    held = ledgers[0].claim("chat", "w", 60, LEASE_SECONDS)
    beats = [
        JobBeat(j.id, j.fence, (RenderBeat(0, RenderState.RENDERING, 19, b"x"),)) for j in held
    ]
    ledgers[0].renew(beats, LEASE_SECONDS)

    def fail(ledger: SqlLedger, jobs: list[Job]) -> None:
        for job in jobs:
            ledger.finish_render(job.id, job.fence, 0, Outcome(RenderState.FAILED, error="poison"))

    threads = [threading.Thread(target=fail, args=(ledgers[i], held[i::2])) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    used = ledgers[0].standing(Tenant("ada", "free"), "chat").usage.used
    assert used == 60 - 480 // 20
