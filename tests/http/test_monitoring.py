"""Dashboards and alerts, asked of a real Prometheus that scrapes the service under load."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from deployments.metrics.catalogue import CATALOGUE, Part
from deployments.metrics.exporter import Exporter
from deployments.metrics.recorder import Metrics
from deployments.metrics.reports import count_verdict, started
from deployments.metrics.shared_values import SharedValues
from engine.policy import Look
from engine.verdict import Verdict
from scripts.dashboards import FOLDER, PAGE, dashboards, documented, queries
from scripts.servers.prometheus import QueryFailed, prometheus
from serve_app.operate.local_cluster import free_port
from tests.page.pipeline import CONFIG, Pipeline, WordScreen
from tests.stages.metrics_kit import MONITORING, monitoring, scraping, wait_for_answers
from tests.stages.tools import programs


class CountedScreen(WordScreen):
    """As the classifier's deployment counts."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def screen_image(self, pixels: object, look: Look) -> Verdict:
        verdict = await super().screen_image(pixels, look)
        count_verdict(self._metrics, look.stage, verdict)
        return verdict


@pytest.fixture
def metrics(tmp_path: Path) -> Iterator[tuple[Metrics, int]]:
    """And the port that they are served at."""
    values, port = SharedValues(tmp_path / "values"), free_port()
    serving = Exporter(values, "127.0.0.1", port)
    yield Metrics(values), port
    serving.stop()
    values.close()


def load(url: str, ended: threading.Event) -> None:
    """Pictures, previews, and orders that are refused."""
    headers = {"authorization": "Bearer sk-local"}
    asked = {"prompt": "a red fox", "quality": "low"}
    orders = {**asked, "stream": True, "partial_images": 2}, {**asked, "n": 11}, asked
    with httpx.Client(headers=headers, timeout=60, trust_env=False) as client:
        while not ended.is_set():
            for order in orders:
                client.post(f"{url}v1/images/generations", json=order)
            ended.wait(0.3)


def test_every_expression_of_ours_is_answered_after_a_load(
    tmp_path: Path, metrics: tuple[Metrics, int]
) -> None:
    programs("prometheus")
    counting, port = metrics
    for part in Part:
        started(counting, part, "meltproof-paced", 2.0)
    settings = {**CONFIG, "tiers": {"free": {}}}
    screen = CountedScreen(counting)
    pipeline = Pipeline(tmp_path, settings, screen, metrics=counting)
    ended = threading.Event()
    loading = threading.Thread(target=load, args=(pipeline.url, ended))
    loading.start()
    target = {"static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
    try:
        with prometheus(tmp_path / "prometheus", scraping([{"job_name": "m", **target}])) as server:
            wait_for_answers(server)
            with pytest.raises(QueryFailed, match="parse error"):
                server.query("sum(rate(")
    finally:
        ended.set()
        loading.join()
        pipeline.close()


def test_dashboards_are_those_that_the_code_makes() -> None:
    assert {name: (FOLDER / name).read_text() for name, _ in dashboards()} == dict(dashboards())
    assert {file.name for file in FOLDER.iterdir()} == {name for name, _ in dashboards()}


def test_the_page_of_the_docs_has_the_catalogue() -> None:
    assert PAGE.read_text() == documented(), "python -m scripts.dashboards"


def test_every_metric_is_on_a_dashboard() -> None:
    shown = " ".join(query.expression for query in queries())
    assert [one.name for one in CATALOGUE if one.name not in shown] == []


def test_alerts_fire_with_their_fault_and_without_it_do_not() -> None:
    (promtool,) = programs("promtool")
    for command in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run([promtool, *command], cwd=MONITORING, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    rules = monitoring("alerts.yml")["groups"][0]["rules"]
    alerts = [rule["alert"] for rule in rules if "alert" in rule]
    quiet, loud = (
        [one["alertname"] for one in test["alert_rule_test"]]
        for test in monitoring("alerts_test.yml")["tests"]
    )
    assert quiet == loud == alerts
