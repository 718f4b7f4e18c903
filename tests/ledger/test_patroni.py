"""The real ledger on a PostgreSQL that fails over: Patroni with a synchronous standby, whose leader
is killed while orders come in."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import pytest

from jobs.job import JobState
from jobs.ledger_errors import LedgerUnavailable
from jobs.sql.sql_ledger import SqlLedger
from scripts.servers.patroni import PatroniCluster
from tests.stages.ledger_kit import final_beat, moved_on, picture, wish
from tests.stages.tools import programs

T = TypeVar("T")
WRITERS = 4
BEFORE, AFTER = 20, 20
"""Orders of each writer."""
PATIENCE_SECONDS = 60.0
LEASE_SECONDS = 120.0


@dataclass(slots=True)
class Writer:
    """A gateway: each order has a key, and is sent again until it is acknowledged."""

    name: str
    jobs: dict[str, str] = field(default_factory=dict)
    """Acknowledged: job ids by key."""
    done: threading.Event = field(default_factory=threading.Event)
    longest_gap_seconds: float = 0.0

    def run(self, url: str) -> None:
        ledger = SqlLedger(url)
        while not self.done.is_set():
            key, began = f"{self.name}-{len(self.jobs)}", time.monotonic()
            order = wish(tenant=self.name, idempotency_key=key)
            self.jobs[key] = retried(lambda: ledger.submit(order).job.id)  # noqa: B023
            self.longest_gap_seconds = max(self.longest_gap_seconds, time.monotonic() - began)
        ledger.close()


def retried(call: Callable[[], T]) -> T:
    """As every client of the ledger does while it is away."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return call()
        except LedgerUnavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def await_orders(writers: list[Writer], more: int) -> None:
    wanted = [len(writer.jobs) + more for writer in writers]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(len(w.jobs) < least for w, least in zip(writers, wanted, strict=True)):
        assert time.monotonic() < deadline, [len(writer.jobs) for writer in writers]
        time.sleep(0.05)


@pytest.mark.slow
def test_what_was_acknowledged_is_found_under_the_next_leader(
    record_property: Callable[[str, object], None],
) -> None:
    programs("patroni", "etcd")
    with PatroniCluster() as cluster:
        cluster.execute("create database ledger")
        url = cluster.url("ledger")
        ledger, other = SqlLedger(url), SqlLedger(url)
        held_id = ledger.submit(wish(tenant="held")).job.id
        (held,) = ledger.claim("chat", "w1", 1, LEASE_SECONDS)
        ledger.version()
        writers = [Writer(f"writer-{number}") for number in range(WRITERS)]
        threads = [threading.Thread(target=writer.run, args=(url,)) for writer in writers]
        for thread in threads:
            thread.start()
        await_orders(writers, BEFORE)
        killed = cluster.kill_leader()
        assert cluster.await_leader() != killed
        await_orders(writers, AFTER)
        for writer, thread in zip(writers, threads, strict=True):
            writer.done.set()
            thread.join()

        for writer in writers:
            stored = ledger.job_ids(writer.name, 100_000)
            assert sorted(stored) == sorted(writer.jobs.values()), "each order is there, once"
        seen = ledger.version()
        other.submit(wish(tenant="other"))
        moved_on(ledger, seen)  # wake-ups come from the new leader
        (renewed,) = ledger.renew([final_beat(held)], LEASE_SECONDS)
        assert renewed.held, "a lease outlives its leader"
        finished = ledger.finish_render(held.id, held.fence, 0, picture())
        assert (finished.id, finished.state) == (held_id, JobState.SUCCEEDED)
        record_property("gap_seconds", max(writer.longest_gap_seconds for writer in writers))
        ledger.close()
        other.close()
