"""Cancel in every state a job can be in, and a holder that slept through its lease."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from jobs.job import HELD, Job, JobState, RenderState
from jobs.lease import Outcome
from jobs.sql.sql_ledger import SqlLedger
from tests.contract.test_ledger_processes import python
from tests.stages.ledger_kit import (
    LEASE_SECONDS,
    Clock,
    Database,
    beat,
    claim_one,
    final_beat,
    picture,
    refusal,
    wish,
)


def leased(ledger: SqlLedger, clock: Clock) -> None:
    claim_one(ledger)


def running(ledger: SqlLedger, clock: Clock) -> None:
    ledger.renew([beat(claim_one(ledger), 3)], LEASE_SECONDS)


def finishing(ledger: SqlLedger, clock: Clock) -> None:
    ledger.renew([final_beat(claim_one(ledger))], LEASE_SECONDS)


def settled(outcome: Outcome) -> Callable[[SqlLedger, Clock], None]:
    def settle(ledger: SqlLedger, clock: Clock) -> None:
        job = claim_one(ledger)
        ledger.finish_render(job.id, job.fence, 0, outcome)

    return settle


def cancelled(ledger: SqlLedger, clock: Clock) -> None:
    ledger.cancel(ledger.recent("ada", 1)[0].id)


def expired(ledger: SqlLedger, clock: Clock) -> None:
    clock.now += 100
    ledger.expire()


BECOMES: dict[JobState, Callable[[SqlLedger, Clock], None]] = {
    JobState.QUEUED: lambda ledger, clock: None,
    JobState.LEASED: leased,
    JobState.RUNNING: running,
    JobState.FINISHING: finishing,
    JobState.SUCCEEDED: settled(picture()),
    JobState.FAILED: settled(Outcome(RenderState.FAILED, error="no")),
    JobState.BLOCKED: settled(refusal("output")),
    JobState.CANCELLED: cancelled,
    JobState.EXPIRED: expired,
}


@pytest.mark.parametrize("state", JobState)
def test_cancel_in_every_state(database: Database, clock: Clock, state: JobState) -> None:
    ledger = database.open(clock=clock)
    job = ledger.submit(wish(watched=False, deadline_seconds=100.0)).job
    BECOMES[state](ledger, clock)

    def found() -> Job:
        job_now = ledger.get(job.id)
        assert job_now is not None
        return job_now

    before = found()
    assert before.state is state
    answer = ledger.cancel(job.id)
    if state in HELD:
        assert answer is not None
        assert (answer.state, answer.cancel_requested) == (state, True)
        (renewal,) = ledger.renew([beat(before, 4)], LEASE_SECONDS)
        assert (renewal.held, renewal.cancelled) == (False, True)
    elif state is not JobState.QUEUED:
        assert answer == before == found(), "an end is an end"
        return
    assert found().state is JobState.CANCELLED
    assert ledger.cancel(job.id) == found()
    assert ledger.claim("chat", "w", 1, LEASE_SECONDS) == []


SLEEPER = """
import sys, time
from jobs.ledger_errors import LeaseLost
from jobs.sql.sql_ledger import SqlLedger
from tests.stages.ledger_kit import beat, picture
ledger = SqlLedger(sys.argv[1])
(job,) = ledger.claim("chat", "sleeper", 1, 0.5)
print(ledger.renew([beat(job, 3)], 0.5)[0].held, flush=True)
sys.stdin.readline()
print(ledger.renew([beat(job, 9)], 0.5)[0].held, flush=True)
try:
    ledger.finish_render(job.id, job.fence, 0, picture("images/late.png"))
except LeaseLost:
    print("lost", flush=True)
ledger.release(job.id, job.fence, error="late")
print("ignored", flush=True)
"""


def test_a_worker_that_slept_through_its_lease_writes_nothing(database: Database) -> None:
    """A process is stopped while it holds a job, and wakes after another one has finished it."""
    ledger = database.open()
    job = ledger.submit(wish(watched=False)).job
    with python(SLEEPER, database.url) as sleeper:
        assert sleeper.stdout is not None
        assert sleeper.stdout.readline() == "True\n"
        sleeper.send_signal(signal.SIGSTOP)
        try:
            while not (taken := ledger.claim("chat", "heir", 1, 60.0)):
                ledger.expire()
            (mine,) = taken
            assert (mine.id, mine.renders[0].pass_no, mine.attempts) == (job.id, 3, 0)
            done = ledger.finish_render(mine.id, mine.fence, 0, picture("images/heir.png"))
        finally:
            sleeper.send_signal(signal.SIGCONT)
        output, _ = sleeper.communicate("wake up\n")
    assert output == "False\nlost\nignored\n"
    assert ledger.get(job.id) == done
