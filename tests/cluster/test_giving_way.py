"""On the real cluster: a paid job takes a slot from a free render, which goes on where it was."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.cluster.conftest import AGES, PAID_KEY, Running, cancel_all, dsn, wait_until
from tests.cluster.test_cluster import SLOTS, submit

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("at_rest")]


@pytest.fixture
def ledger(cluster: Running) -> Iterator[sqlite3.Connection]:
    with closing(
        sqlite3.connect(dsn(cluster).removeprefix("sqlite:///"), isolation_level=None)
    ) as it:
        yield it


def test_a_free_render_makes_way_and_goes_on(cluster: Running, ledger: sqlite3.Connection) -> None:
    def rows(ids: list[str]) -> list[tuple[Any, ...]]:
        marks = ",".join("?" * len(ids))
        return ledger.execute(
            f"""select r.state, j.preemptions, j.attempts, j.errors, r.attempts, j.fence, r.pass_no
                from jobs j join renders r on r.job_id = j.id
                where j.id in ({marks}) order by j.seq""",
            ids,
        ).fetchall()

    free = [submit(cluster.api, quality=AGES, seed=seed) for seed in range(SLOTS)]
    wait_until(
        lambda: sum(row[0] == "rendering" for row in rows(free)) == SLOTS, "free fills all slots"
    )
    paid = submit(cluster.api, PAID_KEY, quality="low", seed=100)
    wait_until(lambda: rows([paid])[0][0] == "succeeded", "the paid job is done")

    def asked() -> tuple[Any, ...]:
        (found,) = (row for row in rows(free) if row[1])
        return found

    assert asked()[0] != "succeeded", "the paid one got the slot, also of another replica"
    left_at = asked()[6]
    assert left_at > 0, "with its checkpoint"
    wait_until(lambda: asked()[5] > 1 and asked()[6] > left_at, "it was given back, and goes on")
    cancel_all(
        cluster, but={job_id for job_id, row in zip(free, rows(free), strict=True) if row[1]}
    )
    wait_until(lambda: asked()[0] == "succeeded", "and then it ends")
    assert {row[2:5] for row in rows(free)} == {(0, "[]", 0)}, "with no attempt more"
