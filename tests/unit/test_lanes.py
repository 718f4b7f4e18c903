"""Two lanes in one file: kept apart, and refused with the sum when they do not fit."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from autoscaling.capacity import NodeCapacity, Reservation, shortage
from serve_app.config.errors import ConfigError
from serve_app.config.serve_file import load_serve_config, parse_serve_config
from serve_app.operate.local_cluster import LocalCluster
from serve_app.operate.reserved import reservations

ROOT = Path(__file__).resolve().parents[2]
_FILE = yaml.safe_load((ROOT / "configs/two-lanes.yaml").read_text())
TWO_LANES = json.loads(json.dumps(_FILE))  # what YAML's anchors share is apart from here on
ROOMY = [NodeCapacity(num_cpus=2, num_gpus=0)]


def reserved(change: Callable[[dict[str, Any]], object] = lambda _: None) -> list[Reservation]:
    """Of two-lanes.yaml, its first application changed."""
    document = copy.deepcopy(TWO_LANES)
    change(document["applications"][0])
    return reservations(parse_serve_config(document, "two-lanes.yaml"))


def test_two_lanes_fit_two_cores() -> None:
    found = reserved()
    assert {r.application for r in found} == {"chat", "api"}
    assert len(found) == 10
    assert shortage(found, ROOMY) is None


def test_what_does_not_fit_is_named_with_the_sum() -> None:
    found = reserved(lambda app: app["args"]["decoder"].update(replicas=3, num_cpus=0.5))
    assert shortage(found, ROOMY) == (
        "num_cpus: chat/Gateway 1 x 0.1 + chat/Dispatcher 1 x 0.1 + chat/PromptEncoder 1 x 0.1 + "
        "chat/SafetyClassifier 1 x 0.1 + chat/Decoder 3 x 0.5 + api/Gateway 1 x 0.1 + "
        "api/Dispatcher 1 x 0.1 + api/PromptEncoder 1 x 0.1 + api/SafetyClassifier 1 x 0.1 + "
        "api/Decoder 1 x 0.3 = 2.6, but this machine offers 2; lower replicas or num_cpus by 0.6"
    )


def test_gpus_are_counted_too() -> None:
    found = reserved(lambda app: app["args"]["decoder"].update(num_gpus=0.5, replicas=3))
    assert (shortage(found, [NodeCapacity(8, 1)]) or "").startswith(
        "num_gpus: chat/Decoder 3 x 0.5 = 1.5,"
    )
    assert shortage(found, [NodeCapacity(8, 2)]) is None


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ({}, (1, 0.3)),
        ({"num_replicas": 4}, (4, 0.3)),
        ({"autoscaling_config": {"min_replicas": 2, "max_replicas": 9}}, (2, 0.3)),
        ({"num_replicas": "auto"}, (1, 0.3)),
        ({"ray_actor_options": {"num_cpus": 0.7}}, (1, 0.7)),
        ({"ray_actor_options": {}}, (1, 1.0)),
    ],
)
def test_what_the_deployments_section_says_counts(
    override: dict[str, Any], expected: tuple[int, float]
) -> None:
    found = reserved(lambda app: app.update(deployments=[{"name": "Decoder", **override}]))
    decoder = next(r for r in found if (r.application, r.deployment) == ("chat", "Decoder"))
    assert (decoder.replicas, decoder.num_cpus) == expected


def test_two_applications_never_share_a_queue() -> None:
    document = copy.deepcopy(TWO_LANES)
    chat, api = (app["args"] for app in document["applications"])
    api.update(lane=chat["lane"], ledger={"dsn": "sqlite:///var/two-lanes/api.db"})
    parse_serve_config(document, "two-lanes.yaml")  # each has a ledger of its own
    api.update(ledger=chat["ledger"])
    with pytest.raises(ConfigError, match=r"applications\.1\.args\.lane: 'chat' is the lane of"):
        parse_serve_config(document, "two-lanes.yaml")


@pytest.mark.parametrize(
    ("section", "field", "other"),
    [("blobs", "directory", "var/elsewhere"), ("quota", "time_zone", "Asia/Tokyo")],
)
def test_lanes_of_one_ledger_agree_where_they_must(section: str, field: str, other: str) -> None:
    """Files belong to no lane: whoever finds an expired one deletes its blobs, then its row. And
    with another midnight a tenant would have two days at once."""
    document = copy.deepcopy(TWO_LANES)
    api = document["applications"][1]["args"]
    api.update({section: {field: other}})
    with pytest.raises(ConfigError, match=rf"applications\.1\.args\.{section}\.{field}: must be"):
        parse_serve_config(document, "two-lanes.yaml")
    api.update(ledger={"dsn": "sqlite:///var/two-lanes/api.db"})
    parse_serve_config(document, "two-lanes.yaml")


def test_every_lane_has_its_own_address() -> None:
    cluster = LocalCluster(load_serve_config(ROOT / "configs/two-lanes.yaml"), {})
    assert cluster.application_urls == ["http://127.0.0.1:8000/chat", "http://127.0.0.1:8000/api"]
