"""On the real cluster: a paid job takes a slot from a free render, which goes on where it was."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import Any

import httpx
import pytest
import yaml

from tests.cluster.conftest import KEY, PAID_KEY, Running, wait_until
from tests.cluster.test_cluster import SLOTS

pytestmark = pytest.mark.cluster


@pytest.fixture
def ledger(cluster: Running) -> Iterator[sqlite3.Connection]:
    dsn = yaml.safe_load(cluster.config.read_text())["applications"][0]["args"]["ledger"]["dsn"]
    with closing(sqlite3.connect(dsn.removeprefix("sqlite:///"), isolation_level=None)) as it:
        yield it


def submitted(cluster: Running, key: str, quality: str, seed: int) -> str:
    answer = httpx.post(
        f"{cluster.api}/v1/images/generations",
        headers={"authorization": f"Bearer {key}", "prefer": "respond-async"},
        json={"prompt": "a red fox", "quality": quality, "size": "256x256", "seed": seed},
        timeout=60,
    )
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def test_a_free_render_makes_way_and_goes_on(cluster: Running, ledger: sqlite3.Connection) -> None:
    def rows(ids: list[str]) -> list[tuple[Any, ...]]:
        marks = ",".join("?" * len(ids))
        return ledger.execute(
            f"""select j.state, j.preemptions, j.attempts, j.errors, r.attempts, j.fence, r.pass_no
                from jobs j join renders r on r.job_id = j.id
                where j.id in ({marks}) order by j.seq""",
            ids,
        ).fetchall()

    with ThreadPoolExecutor(SLOTS) as people:
        free = list(people.map(partial(submitted, cluster, KEY, "xhigh"), range(SLOTS)))
    wait_until(
        lambda: sum(row[0] == "running" for row in rows(free)) == SLOTS, 20, "free fills all slots"
    )
    paid = submitted(cluster, PAID_KEY, "low", 100)
    wait_until(lambda: rows([paid])[0][0] == "succeeded", 20, "the paid job is done")
    (asked,) = (row for row in rows(free) if row[1])
    assert asked[0] != "succeeded", "the paid one got the slot, also of another replica"
    assert asked[5] > 1, "it was given back"
    assert asked[6] > 0, "with its checkpoint"
    wait_until(lambda: all(row[0] == "succeeded" for row in rows(free)), 30, "and then these end")
    assert {row[2:5] for row in rows(free)} == {(0, "[]", 0)}, "with no attempt more"
