"""The Ledger's contract: what queues looked like over time. Run on every database."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from jobs.history import (
    DECISIONS_KEPT,
    FINEST_SECONDS,
    KEPT_SECONDS,
    LoadSample,
    ScalingChange,
)
from jobs.limit_levels import LimitLevel
from jobs.sql.sql_ledger import SqlLedger
from tests.stages.ledger_kit import Clock

HOUR = 3600.0


def sample(clock: Clock, waiting_seconds: float = 0.0, **changes: Any) -> LoadSample:
    fields: dict[str, Any] = {
        "at": clock.now, "waiting_jobs": {"free": 2}, "waiting_seconds": waiting_seconds,
        "running_seconds": 1.0, "arrival_rate": 0.5, "render_rate": None, "drain_seconds": None,
        "running": 2, "starting": 1,
    }  # fmt: skip
    return LoadSample(**(fields | changes))


def rows(ledger: SqlLedger, table: str = "load_samples") -> int:
    with ledger._read() as connection:
        return int(connection.execute(text(f"select count(*) from {table}")).scalar_one())


def test_a_reading_is_read_as_it_was_kept(ledger: SqlLedger, clock: Clock) -> None:
    kept = sample(clock, 3.0)
    ledger.keep_sample("chat", kept)
    found = ledger.history("chat", HOUR, 100)
    assert (found.read_at, found.samples) == (clock.now, [kept])
    assert ledger.history("api", HOUR, 100).samples == []


def test_the_first_process_takes_the_reading_of_a_step(ledger: SqlLedger, clock: Clock) -> None:
    clock.now = 1_000_000.0
    first = sample(clock)
    ledger.keep_sample("chat", first)
    clock.now += FINEST_SECONDS - 1
    ledger.keep_sample("chat", sample(clock, 9.0))
    assert ledger.history("chat", HOUR, 1000).samples == [first]
    clock.now += 1
    ledger.keep_sample("chat", sample(clock, 5.0))
    assert [one.waiting_seconds for one in ledger.history("chat", HOUR, 1000).samples] == [0.0, 5.0]


def test_a_short_rush_is_seen_in_a_long_window(ledger: SqlLedger, clock: Clock) -> None:
    clock.now = 3_000_000.0
    for step in range(90):  # three coarse steps, the rush in the second one
        ledger.keep_sample("chat", sample(clock, 50.0 if step == 40 else 1.0))
        clock.now += FINEST_SECONDS
    week = ledger.history("chat", max(KEPT_SECONDS.values()), 2000).samples
    assert [one.waiting_seconds for one in week] == [1.0, 50.0, 1.0]
    few = ledger.history("chat", HOUR, 4).samples
    assert max(one.waiting_seconds for one in few) == 50.0
    assert len(few) < 6


def test_old_readings_are_deleted_also_those_of_models_that_are_gone(
    ledger: SqlLedger, clock: Clock
) -> None:
    ledger.keep_sample("gone", sample(clock))
    clock.now += KEPT_SECONDS[FINEST_SECONDS] + 2 * FINEST_SECONDS
    ledger.keep_sample("chat", sample(clock))
    assert rows(ledger) == 3, "one of the finest step, two of the other one"
    clock.now += max(KEPT_SECONDS.values()) + 600
    ledger.keep_sample("chat", sample(clock))
    assert rows(ledger) == 2
    assert ledger.history("gone", max(KEPT_SECONDS.values()), 10).samples == []


def test_decisions_have_their_time_and_are_bounded(ledger: SqlLedger, clock: Clock) -> None:
    clock.now = 1_000_000.0
    ledger.log_scaling(
        "chat",
        [(3.0, ScalingChange(7.0, 1, 4, "12 s of work")), (1.0, ScalingChange(9.0, 4, 4, "late"))],
    )
    found = ledger.history("chat", HOUR, 10).scaling
    assert found == [
        ScalingChange(clock.now - 3.0, 1, 4, "12 s of work"),
        ScalingChange(clock.now - 1.0, 4, 4, "late"),
    ]
    many = [(-1.0 - n, ScalingChange(0.0, n, n + 1, "more")) for n in range(DECISIONS_KEPT + 5)]
    ledger.log_scaling("chat", many)
    assert rows(ledger, "scaling_changes") == DECISIONS_KEPT
    assert ledger.history("chat", HOUR, 3).scaling[-1].to_replicas == DECISIONS_KEPT + 5
    assert ledger.history("api", HOUR, 3).scaling == []


def test_limits_begin_with_what_held_before(ledger: SqlLedger, clock: Clock) -> None:
    level = LimitLevel()
    for number in (1, 2, 1):
        clock.now += HOUR
        after = LimitLevel(number, clock.now, f"level {number}", 9.0, clock.now, clock.now)
        assert ledger.move_limits("chat", level, after)
        level = after
    clock.now += HOUR / 2
    for window, levels in (
        (HOUR, [2, 1]),
        (2 * HOUR, [1, 2, 1]),
        (60.0, [1]),
        (9 * HOUR, [1, 2, 1]),
    ):
        found = ledger.history("chat", window, 100).limits
        assert [one.to_level for one in found] == levels, window


@pytest.mark.parametrize("said", ['{"at": 1.0, "of_a_newer_version": 3}'])
def test_a_row_of_another_version_is_left_out(ledger: SqlLedger, clock: Clock, said: str) -> None:
    ledger.keep_sample("chat", sample(clock))
    with ledger._write() as connection:
        connection.execute(text("update load_samples set said = :said"), {"said": said})
    assert ledger.history("chat", HOUR, 100).samples == []
