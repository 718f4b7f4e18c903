"""The bench: every side gets the same work, and the figures mean what their names say."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.decoder import DecodeState
from engine.decoders.paced import PacedDecoder
from engine.engine import DecoderEngine
from engine.render import Conditioning, RenderSpec
from jobs.sql.sql_ledger import SqlLedger
from scripts.bench.company import Company
from scripts.bench.drawing import run_static
from scripts.bench.figures import (
    GOALS,
    SideFigures,
    poisson_rate,
    ratios,
    rotated,
    steady_rate,
)
from scripts.bench.kinds import DECODER, OTHER, kind_of, seconds_by_kind, since
from scripts.bench.measure import Saturation
from scripts.bench.processes import EngineSide
from scripts.bench.sides import Layout
from scripts.bench.workload import QUALITIES, Recipe, asks, body
from scripts.chaos import auditor
from scripts.children import await_ready, children
from scripts.cluster import own_config
from scripts.report import missed
from tests.stages.ledger_kit import wish

PASSES = {"low": 8, "medium": 12, "high": 16, "xhigh": 24, "max": 32}
RECIPE = Recipe("paced", {}, PASSES, 3.0, ("sexual",))


class Counting(PacedDecoder):
    """Counts the rows that went through, without taking their time."""

    def __init__(self) -> None:
        super().__init__(sleep=lambda _: None)
        self.rows: list[int] = []

    def step(self, batch: list[DecodeState]) -> None:  # type: ignore[override]
        self.rows.append(len(batch))
        super().step(batch)


def specs(*passes: int) -> list[RenderSpec]:
    words = Conditioning.from_numpy("", pooled=np.ones(384, np.float16))
    return [RenderSpec(str(i), words, seed=i, passes=p) for i, p in enumerate(passes)]


def test_every_side_is_asked_the_same_and_a_long_run_has_every_pass_count() -> None:
    assert [body(number) for number in range(50)] == [body(number) for number in range(50)]
    assert {body(number)["quality"] for number in range(50)} == set(QUALITIES)
    assert [ask.passes for ask in asks(7, 9, PASSES)] == [
        PASSES[body(number)["quality"]] for number in range(7, 16)
    ]


def test_rows_that_stay_cost_a_full_batch_until_the_longest_is_done() -> None:
    decoder = Counting()
    run_static(decoder, specs(2, 5, 3), rows_leave=False)
    assert decoder.rows == [3, 3, 3, 3, 3]


def test_rows_that_leave_cost_only_their_own_passes() -> None:
    decoder = Counting()
    run_static(decoder, specs(2, 5, 3), rows_leave=True)
    assert decoder.rows == [3, 3, 2, 1, 1]


def test_a_static_batch_draws_the_same_pictures_either_way() -> None:
    leaving = run_static(Counting(), specs(2, 5, 3), rows_leave=True)
    staying = run_static(Counting(), specs(2, 5, 3), rows_leave=False)
    assert all(np.array_equal(a, b) for a, b in zip(leaving, staying, strict=True))


def test_a_recipe_survives_its_trip_through_json() -> None:
    assert Recipe.from_json(RECIPE.to_json()) == RECIPE
    assert Layout(workers=2, threads=1, batch=4).recipe(RECIPE).batch == 4


def test_the_steady_rate_leaves_filling_and_emptying_out() -> None:
    finished = [0.0, 5.0, *[5.0 + 0.5 * i for i in range(1, 18)], 30.0]
    assert steady_rate(finished) == pytest.approx(2.0)


def side(rate: float, latency: float) -> SideFigures:
    return SideFigures([Saturation(rate, 0.1, 0.01)], [latency] * 100, rate)


def test_ours_is_compared_with_the_better_rival_in_each_figure() -> None:
    found = ratios(
        {
            "ours": side(4.0, 2.0),
            "litserve": side(2.0, 5.0),
            "serve_batch": side(3.2, 8.0),
            "fastapi_lock": side(5.0, 1.0),
        },
        engine_images_per_s=5.0,
    )
    assert found == pytest.approx(
        {
            "stack_over_engine": 0.8,
            "images_per_s_over_batching_rivals": 1.25,
            "p99_over_batching_rivals": 0.4,
            "images_per_s_over_fastapi_lock": 0.8,
            "p99_over_fastapi_lock": 2.0,
        }
    )
    assert missed(GOALS, found) == [
        "stack_over_engine",
        "images_per_s_over_fastapi_lock",
        "p99_over_fastapi_lock",
    ]


def test_a_process_is_counted_by_what_it_is_for() -> None:
    commands = {
        "ray::ServeReplica:meltproof:Gateway.handle_request": "gateway",
        "ray::ServeReplica:emoji:Decoder": DECODER,
        "ray::ServeReplica:meltproof:SafetyClassifier": "classifier",
        "ray::ProxyActor": "Serve's proxy",
        "ray::RuntimeEnvAgent": "Ray's agents",
        "ray::IDLE": "Ray's other processes",
        "/x/ray/core/src/ray/raylet/raylet --raylet_socket_name=/tmp/gcs/gcs_server": "raylet",
        "/x/ray/core/src/ray/gcs/gcs_server --log_dir=/tmp": "GCS",
        "/x/python /x/ray/dashboard/dashboard.py --host=127.0.0.1": "Ray's dashboard",
        "ray-dashboard-NodeHead-0 (/x/python -c dashboard/agent.py)": "Ray's dashboard",
        "/x/python -c work": OTHER,
    }
    assert {command: kind_of(command) for command in commands} == commands


def test_processor_time_is_of_the_processes_below_and_theirs_of_no_kind() -> None:
    spin = "import time\nwhile time.process_time() < 0.3: pass\nprint('ready')\ninput()"
    below = f"import subprocess as s, sys; s.run([sys.executable, '-c', {spin!r}])"
    before = seconds_by_kind()
    with children([["-c", below, "/log_monitor.py"], ["-c", spin]]) as running:
        await_ready(running)
        used = since(before, seconds_by_kind())
        assert min(used["Ray's log monitor"], used[OTHER]) >= 0.25


def test_company_is_what_is_used_beside_the_passes() -> None:
    used = {DECODER: 0.4, "gateway": 0.02, "raylet": 0.03}
    saturated = Saturation(4.0, sum(used.values()), 0.01, used)
    company = Company(saturated, passes=0.35, idle={"raylet": 0.04, DECODER: 0.08})
    assert company.by_kind == pytest.approx({DECODER: 0.05, "gateway": 0.02, "raylet": 0.03})
    assert list(company.by_kind) == [DECODER, "raylet", "gateway"]
    assert company.seconds == pytest.approx(0.1)
    assert company.idle_seconds == pytest.approx(0.03), "a quarter of a second each"
    cores = len(os.sched_getaffinity(0))
    assert company.unused_seconds == pytest.approx(cores / 4 - 0.45 - 0.01)


@pytest.mark.parametrize("engines", [1, 2])
def test_bare_engines_draw_every_picture_once(
    engines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = []

    def add(engine: DecoderEngine, spec: RenderSpec, plain: Any = DecoderEngine.add) -> bool:
        accepted: bool = plain(engine, spec)
        refused.append(not accepted)
        return accepted

    monkeypatch.setattr(DecoderEngine, "add", add)
    taken: list[np.ndarray] = []
    side = EngineSide([Counting() for _ in range(engines)], 3, taken.append)
    assert len(side.run(specs(*[2, 5, 3, 4] * 5))) == len(taken) == 20
    assert sum(refused) <= 20 * (engines - 1), "a feeder that asks again and again takes a core"


def test_a_slower_rival_is_not_given_more_than_it_can_do() -> None:
    assert poisson_rate(own=2.0, ours=4.0) == pytest.approx(1.6)
    assert poisson_rate(own=9.0, ours=4.0) == pytest.approx(3.2)


def test_every_side_goes_first_once() -> None:
    assert [rotated("abc", repeat)[0] for repeat in range(3)] == ["a", "b", "c"]


def test_our_side_has_a_ledger_and_a_port_of_its_own(tmp_path: Path) -> None:
    shared = {"http_options": {"port": 8000}, "applications": [{"args": {"lane": "default"}}]}
    config = own_config(shared, tmp_path)
    assert config["http_options"]["port"] != 8000
    assert str(tmp_path) in config["applications"][0]["args"]["ledger"]["dsn"]
    assert shared["applications"][0]["args"] == {"lane": "default"}


def test_the_audit_sees_a_picture_that_is_settled_twice(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    url = f"sqlite:///{path}"
    ledger = SqlLedger(url)
    auditor.install(url)
    job = ledger.submit(wish()).job
    ledger.cancel(job.id)
    ledger.close()
    assert auditor.settled(url) == {(job.id, 0): 1}
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("update renders set state = 'succeeded'")
    assert auditor.settled(url) == {(job.id, 0): 2}
