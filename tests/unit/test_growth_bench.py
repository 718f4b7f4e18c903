"""The bench of growth: what its exponents say, and that it fills what it says."""

from __future__ import annotations

import random
from math import log
from pathlib import Path

import pytest
from sqlalchemy import text

from scripts.growth import watchers
from scripts.growth.fit import Kind, Row, exponent, worst
from scripts.growth.ledgers import PICTURES, TENANTS_KNOWN, WAITING, Growing, measure
from scripts.postgres import side_door

SIZES = (10, 100, 1_000, 10_000, 100_000)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_a_power_is_found_under_noise(power: float) -> None:
    chance = random.Random(1)
    costs = {n: 3 * n**power * chance.uniform(0.9, 1.1) for n in SIZES}
    assert exponent(costs) == pytest.approx(power, abs=0.05)


def test_n_log_n_is_little_more_than_one_and_only_the_last_two_decades_count() -> None:
    assert exponent({n: n * log(n) for n in SIZES}) == pytest.approx(1.11, abs=0.01)
    assert exponent({10: 1e9, 100: 1e9, 1_000: 5.0, 10_000: 5.0, 100_000: 5.0}) == 0.0
    with pytest.raises(ValueError, match="two sizes"):
        exponent({1: 1.0, 1_000: 1.0})


def test_totals_do_not_count_as_operations() -> None:
    linear = {n: [float(n)] for n in SIZES}
    flat = {n: [1.0, 900.0, 1.0] for n in SIZES}
    rows = [
        Row("jobs", "sqlite", "disk", "MiB", Kind.TOTAL, linear),
        Row("jobs", "sqlite", "claim", "ms", Kind.OPERATION, flat),
    ]
    assert worst(rows) == {"worst_exponent": 1.0, "worst_per_operation_exponent": 0.0}


@pytest.mark.parametrize("growing", [WAITING, TENANTS_KNOWN, PICTURES], ids=lambda one: one.name)
def test_one_database_grows_through_all_sizes(
    growing: Growing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[tuple[int, int, int]] = []
    grow = Growing.grow

    def counted(self: Growing, ledger: object, url: str, first: int, size: int) -> None:
        grow(self, ledger, url, first, size)  # type: ignore[arg-type]
        engine = side_door(url)
        with engine.connect() as connection:
            copied = "from jobs where id like '0000000000%'"
            asked = (f"select count(*) {copied}", f"select count(distinct tenant) {copied}",
                     "select count(*) from jobs where state = 'queued'")  # fmt: skip
            counts.append(tuple(connection.execute(text(one)).scalar_one() for one in asked))  # type: ignore[arg-type]
        engine.dispose()

    monkeypatch.setattr(Growing, "grow", counted)
    rows = measure(growing, "sqlite", (20, 60), 1, tmp_path)
    assert [jobs for jobs, _, _ in counts] == [20, 60]
    assert [waiting for _, _, waiting in counts] == ([20, 60] if growing.waits else [0, 0])
    if growing.own_tenant:
        assert [tenants for _, tenants, _ in counts] == [20, 60]
    assert {tuple(row.medians) for row in rows} == {(20, 60)}
    assert {"claim 8", "accept 8", "finish 9", "disk"} <= {row.what for row in rows}


def test_every_watcher_hears_of_its_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchers, "SECONDS", 0.1)
    rows = watchers.measure((2, 5), 1, tmp_path)
    assert [row.what for row in rows] == ["a change until it is told", "CPU in a second", "memory"]
