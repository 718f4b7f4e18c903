"""What a test looks at metrics with."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.samples import Sample

from deployments.metrics.exporter import NodeCollector
from deployments.metrics.shared_values import SharedValues
from scripts.dashboards import asked, queries
from scripts.servers.prometheus import Prometheus, QueryFailed
from tests.stages.ledger_kit import PATIENCE_SECONDS

MONITORING = Path(__file__).resolve().parents[2] / "configs/monitoring"


def all_samples(values: SharedValues) -> list[Sample]:
    """That a page of the node has."""
    return [sample for family in NodeCollector(values).collect() for sample in family.samples]


def samples(values: SharedValues) -> Callable[..., float | None]:
    """Asks for a sample of the page by its name and labels; None when there is none."""
    found = {(s.name, frozenset(s.labels.items())): s.value for s in all_samples(values)}
    return lambda name, /, **labels: found.get((name, frozenset(labels.items())))


def monitoring(name: str) -> Any:
    """A file of ours, read."""
    return yaml.safe_load((MONITORING / name).read_text())


def scraping(jobs: list[dict[str, Any]]) -> dict[str, Any]:
    """A prometheus.yml with these jobs and our rules, in a hurry."""
    hurry = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    return {
        "global": hurry,
        "rule_files": [str(MONITORING / "alerts.yml")],
        "scrape_configs": jobs,
    }


def expressions() -> Iterator[tuple[str, bool]]:
    """Of all dashboards and alerts of ours, and whether there must be something to see. Rules that
    alert find nothing while all is well; what they compare must be there."""
    yield from ((asked(query.expression), not query.rare) for query in queries())
    for rule in monitoring("alerts.yml")["groups"][0]["rules"]:
        yield rule["expr"], "record" in rule
        for compared in re.split(r" (?:[<>] |and )", rule["expr"]) if "alert" in rule else ():
            yield compared, rule["alert"] not in NEEDS_A_FAULT


NEEDS_A_FAULT = ("MeltproofGatewaysAway", "MeltproofScalingHeld", "MeltproofCertificateExpires")
"""No gateway there; a policy that holds; a certificate, which not every service has."""


def unanswered(server: Prometheus) -> dict[str, str]:
    """Expressions that Prometheus refuses or has nothing for, and what it says."""
    wrong = {}
    for expression, must_show in expressions():
        try:
            found = server.query(expression)
        except QueryFailed as error:
            wrong[expression] = str(error)
            continue
        values = [float(one["value"][1]) for one in found]
        if must_show and not any(map(math.isfinite, values)):
            wrong[expression] = f"nothing to see: {values}"
    return wrong


def wait_for_answers(server: Prometheus) -> None:
    """Until every expression of ours is answered; fails with those that are not."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (wrong := unanswered(server)) and time.monotonic() < deadline:
        time.sleep(1.0)
    assert not wrong, wrong
