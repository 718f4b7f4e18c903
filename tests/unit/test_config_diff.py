"""What `meltproof diff` claims about an edit is what Ray's own code does with it."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from ray.serve._private.config import DeploymentConfig
from ray.serve._private.deploy_utils import get_app_code_version
from ray.serve._private.version import DeploymentVersion
from ray.serve.schema import DeploymentSchema, ServeApplicationSchema

from serve_app.operate.config_diff import Change, Effect, changes, inline_secrets

APP: dict[str, Any] = {
    "name": "lane",
    "route_prefix": "/",
    "import_path": "serve_app.app:build",
    "args": {"decoder": {"slots": 4}, "ledger": {"dsn": "postgresql://u:hunter2@h/d"}},
    "deployments": [
        {"name": "Gateway", "user_config": {"limits": {"images": 3}}},
        {"name": "Decoder", "autoscaling_config": {"min_replicas": 1, "max_replicas": 2}},
    ],
}
DEFAULT_POLICY = "ray.serve.autoscaling_policy:default_autoscaling_policy"  # Ray imports it
IN_PLACE = {
    "max_ongoing_requests": 7,
    "max_queued_requests": 7,
    "backpressure_config": {"status_code": 429},
    "user_config": {"limits": {"images": 1}},
    "graceful_shutdown_wait_loop_s": 7.0,
    "graceful_shutdown_timeout_s": 7.0,
    "health_check_period_s": 7.0,
    "health_check_timeout_s": 7.0,
    "logging_config": {"log_level": "DEBUG"},
    "rolling_update_percentage": 0.5,
    "max_surge_percent": 50,
    "num_replicas": 7,
}
OF_THE_DEPLOYMENT = {
    "ray_actor_options": {"num_cpus": 0.7},
    "placement_group_bundles": [{"CPU": 1.0}],
    "placement_group_strategy": "SPREAD",
    "max_replicas_per_node": 3,
    "gang_scheduling_config": {"gang_size": 1},
}
OF_THE_APPLICATION = {
    "request_router_config": {"request_router_kwargs": {"a": 1}},
    "deployment_actors": [{"name": "a", "actor_class": "a:B"}],
    "autoscaling_config": {"max_replicas": 3},
}


def status(app: dict[str, Any], how: str = "RUNNING") -> dict[str, Any]:
    running = {"deployed_app_config": app, "source": "declarative", "status": how}
    return {"proxy_location": "HeadOnly", "applications": {app["name"]: running}}


def edited(app: dict[str, Any]) -> list[Change]:
    return changes(status(APP), {"applications": [app]})


def with_gateway(**options: Any) -> dict[str, Any]:
    app = copy.deepcopy(APP)
    app["deployments"][0].update(options)
    return app


def code_version(app: dict[str, Any]) -> str:
    return str(get_app_code_version(ServeApplicationSchema.model_validate(copy.deepcopy(app))))


def version(option: str, value: Any) -> DeploymentVersion:
    """As Ray sees a deployment whose options are Ray's own but for one."""
    if option in DeploymentConfig.model_fields:
        return DeploymentVersion("code", DeploymentConfig(**{option: value}), {})
    plain = {"ray_actor_options": {}} | {option: value}
    return DeploymentVersion("code", DeploymentConfig(), **plain)


def test_every_option_that_ray_has_is_known_here() -> None:
    tested = IN_PLACE.keys() | OF_THE_DEPLOYMENT.keys() | OF_THE_APPLICATION.keys()
    untested = {"name", "placement_group_bundle_label_selector"}
    assert set(DeploymentSchema.model_fields) == tested | untested


@pytest.mark.parametrize(("option", "value"), IN_PLACE.items(), ids=IN_PLACE)
def test_options_that_restart_nothing(option: str, value: Any) -> None:
    app = with_gateway(**{option: value})
    effects = {change.effect for change in edited(app)}
    assert effects == {Effect.SCALES if option == "num_replicas" else Effect.LIVE}
    assert code_version(app) == code_version(APP)
    default = DeploymentVersion("code", DeploymentConfig(), {})
    assert not default.requires_actor_restart(version(option, value))


@pytest.mark.parametrize(("option", "value"), OF_THE_DEPLOYMENT.items(), ids=OF_THE_DEPLOYMENT)
def test_options_that_restart_their_deployment(option: str, value: Any) -> None:
    app = with_gateway(**{option: value})
    found = edited(app)
    assert {change.said() for change in found} == {"restarts every replica of lane/Gateway"}
    assert code_version(app) == code_version(APP)
    default = DeploymentVersion("code", DeploymentConfig(), {})
    assert default.requires_actor_restart(version(option, value))


def policy(kwargs: dict[str, Any]) -> dict[str, Any]:
    app = copy.deepcopy(APP)
    scaling = app["deployments"][1]["autoscaling_config"]
    scaling["policy"] = {"policy_function": DEFAULT_POLICY, "policy_kwargs": kwargs}
    return app


RESTARTING = [
    *(with_gateway(**{option: value}) for option, value in OF_THE_APPLICATION.items()),
    {**APP, "args": {}},
    {**APP, "import_path": "a:b"},
    {**APP, "runtime_env": {"env_vars": {"A": "1"}}},
    {**APP, "autoscaling_policy": {"policy_function": "a:b"}},
    policy({"wait_seconds": 3}),
]


@pytest.mark.parametrize("app", RESTARTING)
def test_edits_that_restart_the_application(app: dict[str, Any]) -> None:
    effects = {change.effect for change in edited(app)}
    assert effects == {Effect.RESTARTS_APPLICATION}
    assert code_version(app) != code_version(APP)


def test_an_order_that_restarts_is_told() -> None:
    both = with_gateway(autoscaling_config={"policy": {"policy_function": DEFAULT_POLICY}})
    turned = {**both, "deployments": both["deployments"][::-1]}
    [change] = changes(status(both), {"applications": [turned]})
    assert change.effect is Effect.RESTARTS_APPLICATION
    assert code_version(both) != code_version(turned)


def test_autoscaling_numbers_are_live() -> None:
    app = copy.deepcopy(APP)
    app["deployments"][1]["autoscaling_config"].update(max_replicas=9, upscale_delay_s=1)
    assert [(c.path, c.before, c.after, c.effect) for c in edited(app)] == [
        ("lane.Decoder.autoscaling_config.max_replicas", "2", "9", Effect.LIVE),
        ("lane.Decoder.autoscaling_config.upscale_delay_s", "unset", "1", Effect.LIVE),
    ]
    assert code_version(app) == code_version(APP)


def test_nothing_changed_is_nothing() -> None:
    assert edited(copy.deepcopy(APP)) == []
    assert edited({**APP, "deployments": APP["deployments"][::-1]}) == []


def test_what_was_told_and_did_not_start_is_told_again() -> None:
    [change] = changes(status(APP, "DEPLOY_FAILED"), {"applications": [APP]})
    assert (change.before, change.said()) == (
        "DEPLOY_FAILED",
        "tries again to start application lane",
    )
    assert changes(status(APP, "DEPLOYING"), {"applications": [APP]}) == []


def test_applications_come_and_go() -> None:
    found = changes(status(APP), {"applications": [{**APP, "name": "api"}]})
    assert {c.said() for c in found} == {"adds application api", "removes application lane"}


def test_what_serve_would_ignore_is_told() -> None:
    [change] = changes(status(APP), {"proxy_location": "EveryNode", "applications": [APP]})
    assert change.effect is Effect.IGNORED
    fresh = {"proxy_location": None, "applications": {}}
    [change] = changes(fresh, {"proxy_location": "EveryNode", "applications": [APP]})
    assert change.effect is Effect.ADDS


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("ledger", {"dsn": "postgresql://u:sesame@h/d"}),
        ("ledger", {"dsn": "postgresql://h/d?password=sesame"}),
        ("keys", [{"key": "sk-sesame", "tenant": "t"}]),
        ("signing", [{"id": "a", "secret": "sesame" * 8}]),
    ],
)
def test_secrets_are_never_shown(section: str, value: Any) -> None:
    app = {**APP, "args": {**APP["args"], section: value}}
    found = edited(app)
    assert found
    told = json.dumps([[c.before, c.after] for c in found])
    assert "sesame" not in told
    assert "hunter2" not in told
    assert f"applications.0.args.{section}" in " ".join(inline_secrets({"applications": [app]}))
