"""The configuration refuses what it does not know, and names the place."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from serve_app.config.cluster import ClusterConfig, parse_cluster_config
from serve_app.config.errors import ConfigError
from serve_app.config.serve_file import (
    Application,
    DeploymentOptions,
    HttpOptions,
    ServeFile,
    load_serve_config,
    parse_serve_config,
)

ROOT = Path(__file__).resolve().parents[2]
LAPTOP = yaml.safe_load((ROOT / "configs/laptop.yaml").read_text())
ARGS = "applications.0.args"

THRESHOLDS = f"{ARGS}.temporary_limits"


def thresholds(
    *given: tuple[float, float, dict[str, Any]],
) -> Callable[[Any, dict[str, Any]], object]:
    """A change of the file that adds such thresholds."""
    sections = [
        {"above_seconds": above, "below_seconds": below, "tiers": {"free": {}}, **more}
        for above, below, more in given
    ]
    return lambda file, args: args.update(temporary_limits=sections)


WRONG = [
    (lambda file, args: args["decoder"].update(slotz=4), f"{ARGS}.decoder.slotz", "mean slots?"),
    (
        lambda file, args: args.update(dispatcher={"shelf": 4}),
        f"{ARGS}.dispatcher.shelf",
        "called ready_queue now",
    ),
    (lambda file, args: args["decoder"].update(slots="4"), f"{ARGS}.decoder.slots", "integer"),
    (lambda file, args: args["decoder"].update(slots=True), f"{ARGS}.decoder.slots", "integer"),
    (lambda file, args: args["decoder"].update(slots=0), f"{ARGS}.decoder.slots", "greater"),
    (lambda file, args: args["keys"][0].update(tier="pro"), f"{ARGS}.keys.0.tier", "'pro'"),
    (lambda file, args: args["keys"][0].update(teir="x"), f"{ARGS}.keys.0.teir", "mean tier?"),
    (lambda file, args: args["keys"][0].pop("key"), f"{ARGS}.keys.0.key", "is missing"),
    (lambda file, args: args["keys"].append(args["keys"][0]), f"{ARGS}.keys.1.key", "twice"),
    (lambda file, args: args["tiers"]["free"].update(wieght=1), f"{ARGS}.tiers.free.wieght", "wei"),
    (lambda file, args: args["tiers"]["free"].update(weight=0), f"{ARGS}.tiers.free.weight", "0"),
    (lambda file, args: args["tiers"]["free"].update(weight=-1), f"{ARGS}.tiers.free.weight", "0"),
    (lambda file, args: args.update(least_share=0.0), f"{ARGS}.least_share", "greater"),
    (
        lambda file, args: args.update(least_share=0.4, tiers={"a": {}, "b": {}, "free": {}}),
        f"{ARGS}.least_share",
        "over 100 %",
    ),
    (
        thresholds((60, 60, {})),
        f"{THRESHOLDS}.0.below_seconds",
        r"under above_seconds (60), not 60",
    ),
    (thresholds((60, 30, {}), (60, 30, {})), f"{THRESHOLDS}.1.above_seconds", "60 comes after 60"),
    (
        thresholds((60, 30, {"hold_seconds": -1.0})),
        f"{THRESHOLDS}.0.hold_seconds",
        "not be negative",
    ),
    (thresholds((60, 30, {"hold": 1})), f"{THRESHOLDS}.0.hold", "unknown key"),
    (thresholds((60, 30, {"tiers": {"fre": {}}})), f"{THRESHOLDS}.0.tiers.fre", "known: free"),
    (thresholds((60, 30, {"tiers": {}})), f"{THRESHOLDS}.0.tiers", "at least 1"),
    (
        thresholds((60, 30, {"tiers": {"free": {"image_per_day": 1}}})),
        f"{THRESHOLDS}.0.tiers.free.image_per_day",
        "did you mean images_per_day?",
    ),
    (
        lambda file, args: args["tiers"]["free"].update(rollout=101),
        f"{ARGS}.tiers.free.rollout",
        "0 to 100",
    ),
    (
        lambda file, args: args["tiers"]["free"].update(rollout="soon"),
        f"{ARGS}.tiers.free.rollout",
        "off, on or a percent",
    ),
    (
        lambda file, args: args["tiers"]["free"].update(queued_jobs=0),
        f"{ARGS}.tiers.free.queued_jobs",
        "greater",
    ),
    (
        lambda file, args: args.update(quota={"time_zone": "Berlin"}),
        f"{ARGS}.quota.time_zone",
        "unknown time zone",
    ),
    (
        lambda file, args: args.update(metrics={"port": 70_000}),
        f"{ARGS}.metrics.port",
        "65535",
    ),
    (
        lambda file, args: args.update(metrics={"labels": ["tenant"]}),
        f"{ARGS}.metrics.labels",
        "unknown",
    ),
    (
        lambda file, args: args.update(signing=[{"id": "a", "secret": "short"}]),
        f"{ARGS}.signing.0.secret",
        "32",
    ),
    (lambda file, args: args.update(signing=[{"id": "a"}]), f"{ARGS}.signing.0", "secret or file"),
    (
        lambda file, args: args.update(signing=[{"id": "a", "file": "x"}] * 2),
        f"{ARGS}.signing.1.id",
        "twice",
    ),
    (lambda file, args: args["model"].update(size="17x17"), f"{ARGS}.model.size", "16"),
    (lambda file, args: args["model"].update(family="magic"), f"{ARGS}.model.family", "'paced'"),
    (lambda file, args: args["ledger"].update(dsn="x"), f"{ARGS}.ledger.dsn", "sqlite"),
    (lambda file, args: args["ledger"].update(dsn="mysql://h/d"), f"{ARGS}.ledger.dsn", "postgre"),
    (lambda file, args: args["ledger"].update(dsn="sqlite:///"), f"{ARGS}.ledger.dsn", "sqlite"),
    (lambda file, args: args.update(safety={"screens": ["x"]}), f"{ARGS}.safety.screens.0", "sex"),
    (lambda file, args: args.update(gatway={}), f"{ARGS}.gatway", "mean gateway?"),
    (lambda file, args: file.update(http_opts={}), "http_opts", "mean http_options?"),
    (lambda file, args: file["http_options"].update(prot=1), "http_options.prot", "mean port?"),
    (lambda file, args: file["applications"][0].update(arg={}), "applications.0.arg", "mean args?"),
    (lambda file, args: file.pop("applications"), "applications", "is missing"),
]


@pytest.mark.parametrize("name", ["laptop.yaml", "paced.yaml"])
def test_the_shipped_files_are_right(name: str) -> None:
    document = load_serve_config(ROOT / "configs" / name)
    args = parse_cluster_config(document["applications"][0]["args"])
    assert [key.key for key in args.keys] == ["sk-local"]
    assert document["http_options"]["host"] == "127.0.0.1"


@pytest.mark.parametrize(("spoil", "path", "hint"), WRONG, ids=[path for _, path, _ in WRONG])
def test_a_wrong_field_is_named(
    spoil: Callable[[dict[str, Any], dict[str, Any]], object], path: str, hint: str
) -> None:
    document = copy.deepcopy(LAPTOP)
    spoil(document, document["applications"][0]["args"])
    with pytest.raises(ConfigError) as refused:
        parse_serve_config(document, "configs/laptop.yaml")
    message = str(refused.value)
    assert message.startswith(f"configs/laptop.yaml: {path}: ")
    assert hint in message


def test_an_error_never_repeats_a_value() -> None:
    with pytest.raises(ConfigError) as refused:
        parse_cluster_config({"keys": [{"key": ["sk-secret"], "tenant": "t"}]})
    assert "sk-secret" not in str(refused.value)
    with pytest.raises(ConfigError) as refused:
        parse_cluster_config({"signing": [{"id": "a", "secret": "sk-secret"}]})
    assert "sk-secret" not in str(refused.value)
    signing = {"signing": [{"id": "a", "secret": "s" * 32}]}
    assert "ssss" not in repr(parse_cluster_config(signing))
    assert "ssss" not in repr(parse_cluster_config(signing).signing)
    assert "sk-local" not in repr(parse_cluster_config(LAPTOP["applications"][0]["args"]))


def test_a_signing_secret_can_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    config = parse_cluster_config({"signing": [{"id": "a", "file": str(file)}]})
    with pytest.raises(ConfigError, match=r"signing\.0\.file: .*No such file"):
        config.signing_secrets()
    file.write_text("short\n")
    with pytest.raises(ConfigError, match=r"signing\.0\.file: must hold at least 32 bytes"):
        config.signing_secrets()
    file.write_text("s" * 32 + "\n")
    assert config.signing_secrets() == {"a": b"s" * 32}


@pytest.mark.parametrize("text", ["a: [", "- a", "\x00", ""])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"broken\.yaml"):
        load_serve_config(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_serve_config(tmp_path / "none.yaml")


def test_the_configuration_is_frozen() -> None:
    with pytest.raises(ValidationError):
        ClusterConfig().lane = "other"  # type: ignore[misc]


def test_we_know_exactly_the_keys_that_ray_knows() -> None:
    schema = pytest.importorskip("ray.serve.schema")
    for ours, theirs in [
        (ServeFile, schema.ServeDeploySchema),
        (HttpOptions, schema.HTTPOptionsSchema),
        (Application, schema.ServeApplicationSchema),
        (DeploymentOptions, schema.DeploymentSchema),
    ]:
        assert set(ours.model_fields) == set(theirs.model_fields)


def test_shards_of_an_older_config_are_refused_with_what_to_do_instead() -> None:
    a = "sqlite:///a.db"
    with pytest.raises(ConfigError, match=r"ledger.*shards: .* a lane of its own, or .*dsn"):
        parse_cluster_config({"ledger": {"dsn": a, "shards": [{"dsn": a}]}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": {"x": "gore"}}, r"classifiers\.0\.labels\.x: unknown category 'gore'"),
        ({"threshold": 1.0}, r"classifiers\.0\.threshold: must be above 0 and below 1"),
        ({"kind": "audio"}, r"classifiers\.0\.kind"),
    ],
)
def test_a_classifier_that_makes_no_sense_is_refused_by_its_field(
    change: dict[str, Any], message: str
) -> None:
    entry = {"kind": "text", "path": "/models/m", "labels": {"x": "hate"}} | change
    document = {"safety": {"classifiers": [entry]}}
    with pytest.raises(ConfigError, match=message):
        parse_cluster_config(document)
