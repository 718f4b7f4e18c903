"""A gateway and models that are applications of their own, in one config file."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_app.config.errors import ConfigError
from serve_app.config.serve_file import parse_serve_config
from serve_app.operate.checking import advice, check_file
from serve_app.operate.config_diff import Effect, changes
from serve_app.operate.local_cluster import LocalCluster
from serve_app.operate.reserved import reservations
from serve_app.operate.simulated import Assumptions, simulated

FILE = Path(__file__).resolve().parents[2] / "configs/separate-models.yaml"
DOCUMENT: dict[str, Any] = yaml.safe_load(FILE.read_text())

Apps = list[dict[str, Any]]


def changed(change: Callable[[Apps], object]) -> dict[str, Any]:
    """The shipped file, its applications changed; what YAML's anchors share is apart."""
    document: dict[str, Any] = yaml.safe_load(yaml.dump(DOCUMENT, Dumper=yaml.SafeDumper))
    document["applications"] = [copy.deepcopy(app) for app in document["applications"]]
    for app in document["applications"]:
        app["args"] = {name: copy.deepcopy(section) for name, section in app["args"].items()}
    change(document["applications"])
    return document


def test_the_example_is_a_gateway_and_two_models_in_one_lane() -> None:
    _, file = check_file(str(FILE))
    gateway, photo, sketch = file.applications
    assert (gateway.models(), gateway.has_gateway) == ((), True)
    assert [one.queue for one in photo.models()] == ["default"]
    assert [one.queue for one in sketch.models()] == ["default/sketch"]
    assert (photo.has_gateway, sketch.has_gateway) == (False, False)
    assert advice(file) == []
    found = {(r.application, r.deployment) for r in reservations(file)}
    of_a_model = ("Dispatcher", "PromptEncoder", "SafetyClassifier", "Decoder")
    theirs = {(app, name) for app in ("photo", "sketch") for name in of_a_model}
    assert found == {("gateway", "Gateway"), *theirs}
    assert simulated(FILE, file, "default/sketch", Assumptions()).lane.slots == 4
    assert LocalCluster(DOCUMENT, {}).application_urls == ["http://127.0.0.1:8000"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            lambda apps: apps[0]["args"].update(model={"name": "photo"}),
            "applications.0.args.model: leave it out",
        ),
        (
            lambda apps: apps[0]["args"].update(decoder={"slots": 8}),
            "applications.0.args.decoder: leave it out",
        ),
        (
            lambda apps: apps[1]["args"].update(keys=apps[0]["args"]["keys"]),
            "applications.1.args.keys: leave it out",
        ),
        (
            lambda apps: apps[1]["args"].update(models=[{"name": "photo"}], model={}),
            "applications.1.args.models: leave it out",
        ),
        (lambda apps: apps[1].update(route_prefix="/photo"), "route_prefix: must be null"),
        (
            lambda apps: apps[2]["args"]["model"].update(name="photo", queue="default"),
            "applications.2.args.lane: 'default' is the lane of application 'photo' already",
        ),
        (
            lambda apps: apps[1]["args"]["model"].update(queue="default/sketch"),
            "applications.2.args.model: 'default/sketch' is the queue of application 'photo'",
        ),
        (
            lambda apps: apps[2]["args"].update(tiers={"free": {"weight": 2}}),
            "applications.2.args.tiers: must be as in application 'gateway' of the same lane",
        ),
        (
            lambda apps: apps[2]["args"]["model"].update(aliases=["photo"]),
            "applications.2.args.model: 'photo' is a name of the model of application 'photo'",
        ),
    ],
)
def test_what_would_be_ignored_or_confused_is_refused(
    change: Callable[[Apps], object], problem: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_serve_config(changed(change), "models.yaml")
    assert problem in str(refused.value)


def test_a_model_comes_and_goes_without_a_restart_of_the_others() -> None:
    running = {
        app["name"]: {"deployed_app_config": app, "status": "RUNNING", "source": "declarative"}
        for app in DOCUMENT["applications"]
    }

    def edit(apps: Apps) -> None:
        apps[1]["args"]["decoder"] = {"num_cpus": 0.1}
        apps[2]["name"] = "anime"
        apps[2]["args"]["model"]["name"] = "anime"

    found = changes({"applications": running}, changed(edit))
    assert [(one.effect, one.where) for one in found] == [
        (Effect.RESTARTS_APPLICATION, "photo"),
        (Effect.ADDS, "anime"),
        (Effect.REMOVES, "sketch"),
    ]


def test_what_is_live_for_a_lane_is_the_same_in_all_its_applications(tmp_path: Path) -> None:
    live = {"tiers": {"free": {"weight": 2}}}

    def edit(apps: Apps) -> None:
        apps[0]["deployments"] = [{"name": "Gateway", "user_config": live}]
        apps[1]["deployments"] = [{"name": "Dispatcher", "user_config": live}]

    path = tmp_path / "models.yaml"
    path.write_text(yaml.safe_dump(changed(edit)))
    with pytest.raises(ConfigError) as refused:
        check_file(str(path))
    assert [problem.partition(": ")[2] for problem in refused.value.problems] == [
        "applications.2.deployments: Dispatcher has other tiers than the Gateway of application "
        "'gateway'; give both the same user_config, best through a YAML anchor"
    ]
