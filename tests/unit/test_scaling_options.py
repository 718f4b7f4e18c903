"""The part of a config file that says how many replicas there are is checked strictly, too."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serve_app.config.errors import ConfigError
from serve_app.config.scaling_options import AutoscalingOptions
from serve_app.config.serve_file import load_serve_config, parse_serve_config
from serve_app.operate.reserved import reservations

FILE = load_serve_config(Path(__file__).resolve().parents[2] / "configs/paced-autoscaling.yaml")
OPTIONS = "deployments.0.autoscaling_config"
Spoil = Callable[[dict[str, Any]], object]


def options(app: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = app["deployments"][0]["autoscaling_config"]
    return found


def scaling(app: dict[str, Any], **numbers: Any) -> None:
    app["args"]["scaling"].update(numbers)


WRONG: list[tuple[Spoil, str, str]] = [
    (lambda app: options(app).update(min_replicas=9), OPTIONS, "min_replicas (9) is above max"),
    (lambda app: options(app).update(min_replicas=-1), f"{OPTIONS}.min_replicas", "0"),
    (lambda app: options(app).update(mx_replicas=1), f"{OPTIONS}.mx_replicas", "max_replicas?"),
    (lambda app: options(app).update(downscale_delay_s=-1), f"{OPTIONS}.downscale_delay_s", "0"),
    (lambda app: options(app).pop("upscale_delay_s"), OPTIONS, "upscale_delay_s must be 0"),
    (lambda app: options(app).update(downscaling_factor=0.5), OPTIONS, "leave it out"),
    (lambda app: options(app).update(initial_replicas=2), OPTIONS, "initial_replicas: leave it"),
    (
        lambda app: options(app)["policy"].update(policy_function="autoscaling.ray_policy:Decoder"),
        f"{OPTIONS}.policy",
        "unknown policy 'autoscaling.ray_policy:Decoder', known: ",
    ),
    (
        lambda app: options(app)["policy"].update(policy_kwargs={"lane": "x"}),
        f"{OPTIONS}.policy",
        "reads args.scaling",
    ),
    (lambda app: app["deployments"][0].update(num_replicas=2), "deployments.0", "num_replicas: "),
    (
        lambda app: app["deployments"][0].update(name="Gateway"),
        "deployments.0",
        "is for Decoder only",
    ),
    (
        lambda app: options(app)["policy"].update(
            policy_function="autoscaling.ray_policy:RequestsPolicy"
        ),
        "deployments.0",
        "is for Gateway, PromptEncoder, SafetyClassifier only",
    ),
    (lambda app: scaling(app, wait_seconds=-2), "args.scaling", "wait_seconds must not be neg"),
    (lambda app: scaling(app, wait_second=2), "args.scaling.wait_second", "mean wait_seconds?"),
    (lambda app: scaling(app, panic_factor=0.5), "args.scaling", "panic_factor must be at least 1"),
    (lambda app: scaling(app, policy="drian"), "args.scaling.policy", "'drain'"),
    (
        lambda app: scaling(app, tier_wait_seconds={"gold": 1}),
        "args.scaling.tier_wait_seconds.gold",
        "unknown tier 'gold', known: free, plus",
    ),
    (
        lambda app: app["deployments"][0].update(user_config={"scaling": {"step_up": 0}}),
        "deployments.0.user_config.scaling",
        "step_up must be at least 1",
    ),
]


@pytest.mark.parametrize(("spoil", "path", "hint"), WRONG, ids=[hint for _, _, hint in WRONG])
def test_a_wrong_number_is_named(spoil: Spoil, path: str, hint: str) -> None:
    document = copy.deepcopy(FILE)
    spoil(document["applications"][0])
    with pytest.raises(ConfigError) as refused:
        parse_serve_config(document, "a.yaml")
    assert str(refused.value).startswith(
        (f"a.yaml: applications.0.{path}: ", f"a.yaml: applications.0.{path}.")
    )
    assert hint in str(refused.value)


def test_serves_own_policy_and_those_of_others_keep_their_delays() -> None:
    document = copy.deepcopy(FILE)
    deployments = document["applications"][0]["deployments"]
    own = {"min_replicas": 2, "max_replicas": 3, "target_ongoing_requests": 8}
    others = {"max_replicas": 2, "policy": {"policy_function": "theirs.scaling:Policy"}}
    deployments[1:] = [
        {"name": "PromptEncoder", "autoscaling_config": own},
        {"name": "SafetyClassifier", "autoscaling_config": others},
    ]
    least = {r.deployment: r.replicas for r in reservations(parse_serve_config(document, "a.yaml"))}
    assert least["PromptEncoder"] == 2
    assert least["SafetyClassifier"] == least["Decoder"] == 1


def test_we_know_exactly_the_options_that_ray_knows() -> None:
    theirs = pytest.importorskip("ray.serve.config").AutoscalingConfig
    deprecated = {"smoothing_factor", "upscale_smoothing_factor", "downscale_smoothing_factor"}
    assert set(AutoscalingOptions.model_fields) == set(theirs.model_fields) - deprecated
    shipped = theirs(**options(FILE["applications"][0]))
    assert shipped.policy.policy_function == "autoscaling.ray_policy:DecoderPolicy"
