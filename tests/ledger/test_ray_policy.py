"""The policy that Ray's controller calls: it reads a real ledger, and never raises or waits."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autoscaling import ray_policy
from autoscaling.policies import PolicyNumbers
from autoscaling.ray_policy import DecoderPolicy, RequestsPolicy, Scaling, publish, published
from jobs.db.sqlite import SqliteDatabase
from jobs.history import ScalingChange
from jobs.sql.sql_ledger import SqlLedger
from tests.stages.databases import PostgresServer
from tests.stages.ledger_kit import wait_until, wish

SCALING = Scaling(
    lane="chat",
    dsn="sqlite:///nowhere",
    weights={"free": 1.0, "plus": 4.0},
    least_share=0.1,
    late_seconds=60.0,
    numbers=PolicyNumbers(wait_seconds=10.0, tier_wait_seconds={"plus": 2.0}),
)


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """In place of the cluster's key-value store."""
    kept: dict[str, bytes] = {}
    monkeypatch.setattr(
        ray_policy,
        "_internal_kv_put",
        lambda key, value, namespace: kept.update({f"{namespace}/{key}": value.encode()}),
    )
    monkeypatch.setattr(
        ray_policy, "_internal_kv_get", lambda key, namespace: kept.get(f"{namespace}/{key}")
    )
    monkeypatch.setattr(ray_policy, "POLL_SECONDS", 0.01)
    return kept


@pytest.fixture
def ledger(tmp_path: Path) -> SqlLedger:
    url = f"sqlite:///{tmp_path}/ledger.db"
    ledger = SqlLedger(url)
    publish("app", "Decoder", replace(SCALING, dsn=url))
    return ledger


def context(target: int = 1, running: int | None = None, **others: Any) -> Any:
    """What Serve gives a policy, as far as ours looks at it."""
    return SimpleNamespace(
        app_name="app",
        deployment_name="Decoder",
        target_num_replicas=target,
        running_replicas=[f"r{n}" for n in range(target if running is None else running)],
        capacity_adjusted_min_replicas=1,
        capacity_adjusted_max_replicas=8,
        **others,
    )


def settled(policy: DecoderPolicy, ctx: Any, met: Callable[[float], bool]) -> float:
    """What it says once `met`; Serve asks again and again."""
    wanted: list[float] = []

    def asked() -> bool:
        wanted.append(policy(ctx)[0])
        return met(wanted[-1])

    wait_until(asked, "it says so")
    return wanted[-1]


def fill(ledger: SqlLedger, jobs: int, seconds: float) -> None:
    for seed in range(jobs):
        ledger.submit(wish(cost_seconds=seconds, seed=seed))


def test_what_gateways_publish_is_what_policies_read() -> None:
    publish("app", "Decoder", replace(SCALING, dsn="postgresql://one/ledger"))
    assert published("app", "Decoder") == replace(SCALING, dsn="postgresql://one/ledger")


def test_waiting_work_asks_for_replicas_within_the_bounds(ledger: SqlLedger) -> None:
    policy = DecoderPolicy()
    fill(ledger, 20, seconds=4.0)
    some = settled(policy, context(), lambda wanted: wanted > 1)
    assert some <= 8
    fill(ledger, 100, seconds=4.0)
    settled(policy, context(), lambda wanted: wanted == 8)


def test_it_holds_while_no_gateway_runs(
    ledger: SqlLedger, store: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    fill(ledger, 200, seconds=4.0)
    kept = dict(store)
    store.clear()
    policy = DecoderPolicy()
    caplog.set_level("INFO", "ray.serve")
    settled(policy, context(target=3), lambda _: "no gateway" in caplog.text)
    assert policy(context(target=3))[0] == 3
    store.update(kept)
    settled(policy, context(target=3), lambda wanted: wanted == 8)


def test_it_holds_when_the_ledger_is_away_and_says_so_once(
    ledger: SqlLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    fill(ledger, 200, seconds=4.0)
    monkeypatch.setattr(ray_policy, "FRESH_SECONDS", 0.2)
    policy = DecoderPolicy()
    settled(policy, context(), lambda wanted: wanted == 8)
    (tmp_path / "file").touch()
    publish("app", "Decoder", replace(SCALING, dsn=f"sqlite:///{tmp_path}/file/ledger.db"))
    caplog.set_level("INFO", "ray.serve")
    settled(policy, context(target=5), lambda wanted: wanted == 5)
    for _ in range(100):
        policy(context(target=5))
    said = [r.getMessage() for r in caplog.records if "holds 5" in r.getMessage()]
    assert len(said) == 1
    publish("app", "Decoder", replace(SCALING, dsn=f"sqlite:///{tmp_path}/ledger.db"))
    settled(policy, context(target=5), lambda wanted: wanted == 8)


def test_it_holds_when_the_database_is_gone(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ray_policy, "FRESH_SECONDS", 0.5)
    policy = DecoderPolicy()
    with postgres.database() as url:
        publish("app", "Decoder", replace(SCALING, dsn=url))
        with closing(SqlLedger(url)) as ledger:
            fill(ledger, 50, seconds=40.0)
            settled(policy, context(), lambda wanted: wanted == 8)
    caplog.set_level("INFO", "ray.serve")
    settled(policy, context(target=5), lambda wanted: wanted == 5)
    assert "holds 5" in caplog.text


def test_edited_numbers_count_at_once(ledger: SqlLedger) -> None:
    patient = replace(published("app", "Decoder"), numbers=PolicyNumbers(wait_seconds=1000.0))
    publish("app", "Decoder", patient)
    fill(ledger, 20, seconds=4.0)
    policy = DecoderPolicy()
    settled(policy, context(), lambda _: policy._decision is not None)
    assert policy(context())[0] == 1
    publish("app", "Decoder", replace(patient, numbers=PolicyNumbers(wait_seconds=5.0)))
    settled(policy, context(), lambda wanted: wanted > 4)


def test_replicas_are_given_back_though_the_clock_was_set_back(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = [3_600.0]
    monkeypatch.setattr(SqliteDatabase, "now", lambda *_: time.time() + ahead[0])
    quick = PolicyNumbers(
        wait_seconds=5.0, smoothing_seconds=0.1, idle_cold_starts=0.0, scale_down_seconds=0.1
    )
    publish("app", "Decoder", replace(published("app", "Decoder"), numbers=quick))
    fill(ledger, 200, seconds=4.0)
    policy = DecoderPolicy()
    settled(policy, context(), lambda wanted: wanted == 8)
    for job in ledger.recent("ada", 200):
        ledger.cancel(job.id)
    ahead[0] = 0.0
    settled(policy, context(target=8), lambda wanted: wanted == 1)


def test_what_it_decides_is_kept_with_its_reasons(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = DecoderPolicy()
    fill(ledger, 20, seconds=4.0)  # before it reads: half of them ask for another number
    policy(context())  # holds: nothing was read yet
    wanted = settled(policy, context(), lambda wanted: wanted > 1)

    def kept() -> Sequence[ScalingChange]:
        policy(context())
        return ledger.history("chat", 60.0, 10).scaling

    wait_until(lambda: len(kept()) == 2, "both are kept")
    held, scaled = kept()
    assert (held.from_replicas, held.to_replicas, held.reason) == (1, 1, "nothing was read yet")
    assert (scaled.from_replicas, scaled.to_replicas) == (1, wanted)
    assert "for tier free within 10 s" in scaled.reason
    assert time.time() - 60 < held.at < scaled.at < time.time()


def test_it_decides_though_nothing_can_be_kept(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr(SqlLedger, "log_scaling", broken)
    policy = DecoderPolicy()
    policy(context())
    fill(ledger, 20, seconds=4.0)
    settled(policy, context(), lambda wanted: wanted > 1)


def test_it_asks_for_no_more_while_what_it_asked_for_does_not_come(
    ledger: SqlLedger, caplog: pytest.LogCaptureFixture
) -> None:
    publish("app", "Decoder", replace(published("app", "Decoder"), late_seconds=0.1))
    fill(ledger, 20, seconds=4.0)
    policy = DecoderPolicy()
    policy._cold_starts.seconds = 0.0
    settled(policy, context(), lambda wanted: wanted > 1)
    caplog.set_level("INFO", "ray.serve")
    settled(policy, context(target=3, running=1), lambda _: "do not come" in caplog.text)
    fill(ledger, 200, seconds=4.0)
    assert policy(context(target=3, running=1))[0] == 3
    assert policy(context(target=3, running=3))[0] > 3  # they came


def test_whatever_is_wrong_it_answers_the_target(ledger: SqlLedger) -> None:
    policy = DecoderPolicy()
    broken = context(target=2)
    del broken.running_replicas
    assert policy(broken) == (2, {})


def test_the_controller_needs_no_tensors_for_it() -> None:
    code = """
import pickle, sys
import autoscaling.ray_policy
from deployments.metrics.settings import OFF
from deployments.node_metrics import ScalingMetrics
pickle.loads(pickle.dumps(ScalingMetrics(OFF))).held("application", "Decoder")  # as it is published
assert not {'torch', 'PIL'} & set(sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_stages_without_a_backlog_follow_their_requests() -> None:
    policy = RequestsPolicy()
    aim = SimpleNamespace(get_target_ongoing_requests=lambda: 8.0)
    assert policy(context(total_num_requests=30.0, config=aim))[0] == 4
    assert policy(context(4, total_num_requests=27.0, config=aim))[0] == 4  # not worth a change
    assert policy(context(4, total_num_requests=400.0, config=aim))[0] == 8
    del aim.get_target_ongoing_requests
    assert policy(context(5, total_num_requests=1.0, config=aim))[0] == 5
