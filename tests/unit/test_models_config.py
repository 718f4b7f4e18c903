"""Several models in one lane's config: each with its queue and its own sections."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_app.config.cluster import ClusterConfig, ending, parse_cluster_config, with_live
from serve_app.config.errors import ConfigError
from serve_app.config.serve_file import parse_serve_config
from serve_app.operate.checking import check_file
from serve_app.operate.reserved import reservations
from serve_app.operate.simulated import Assumptions, simulated

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "configs/two-models.yaml"
ARGS: dict[str, Any] = {
    "lane": "chat",
    "decoder": {"slots": 2},
    "qualities": {"medium": 9},
    "models": [
        {"name": "photo", "family": "paced", "aliases": ["dall-e-3"]},
        {"name": "sketch", "family": "paced", "decoder": {"slots": 8}, "qualities": {"medium": 3}},
    ],
}


def parsed(change: Callable[[dict[str, Any]], object] = lambda _: None) -> ClusterConfig:
    args = copy.deepcopy(ARGS)
    change(args)
    return parse_cluster_config(args)


def test_each_model_is_the_config_of_a_lane_with_only_it() -> None:
    photo, sketch = parsed().each()
    assert (photo.model.name, photo.queue) == ("photo", "chat"), "the first has the lane's own"
    assert (sketch.model.name, sketch.queue) == ("sketch", "chat/sketch")
    assert (photo.decoder.slots, sketch.decoder.slots) == (2, 8)
    assert (photo.qualities.medium, sketch.qualities.medium) == (9, 3)
    assert photo.models == sketch.models == ()
    assert [ending(parsed(), one) for one in parsed().each()] == ["-photo", "-sketch"]


def test_one_model_is_spelled_as_before() -> None:
    config = parse_cluster_config({"lane": "chat", "model": {"name": "photo"}})
    assert config.each() == (config,)
    assert (config.queue, ending(config, config)) == ("chat", "")


def test_a_queue_can_be_named() -> None:
    """So that a model keeps its jobs when another one becomes the lane's first."""
    moved = parsed(lambda args: args["models"][0].update(queue="chat/photo"))
    assert [one.queue for one in moved.each()] == ["chat/photo", "chat/sketch"]


def test_live_sections_hold_for_models_that_have_none_of_their_own() -> None:
    live = with_live(parsed(), {"qualities": {"medium": 20}})
    assert [one.qualities.medium for one in live.each()] == [20, 3]


def test_a_models_own_sections_change_live_by_its_name() -> None:
    live = {"models": {"sketch": {"qualities": {"medium": 5}, "scaling": {"wait_seconds": 7.0}}}}
    photo, sketch = with_live(parsed(), live).each()
    assert (photo.qualities.medium, sketch.qualities.medium) == (9, 5)
    assert (photo.scaling.wait_seconds, sketch.scaling.wait_seconds) == (None, 7.0)
    assert sketch.decoder.slots == 8
    with pytest.raises(ConfigError, match=r"user_config: models\.sketsh: .*did you mean sketch\?"):
        with_live(parsed(), {"models": {"sketsh": {}}})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda args: args.update(model={"name": "x"}), "model: leave it out"),
        (lambda args: args["models"][1].update(name="photo"), "models.1: 'photo' is a name of mod"),
        (lambda args: args["models"][1].update(aliases=["dall-e-3"]), "models.1: 'dall-e-3' is a"),
        (
            lambda args: args["models"][1].update(queue="chat"),
            "models.1.queue: 'chat' is the queue",
        ),
        (lambda args: args["models"][1].update(queue="api/x"), "models.1.queue: must be 'chat' or"),
        (lambda args: args["models"][1].update(name="a/b"), "models.1.name"),
        (lambda args: args["models"][1].pop("name"), "models.1.name"),
        (lambda args: args.update(lane="chat/x"), "lane: 'chat/x' is no lane"),
        (
            lambda args: args["models"][1].update(scaling={"tier_wait_seconds": {"gold": 1.0}}),
            "models.1.scaling.tier_wait_seconds.gold: unknown tier",
        ),
    ],
)
def test_models_that_cannot_be_told_apart_are_refused(
    change: Callable[[dict[str, Any]], object], problem: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        parsed(change)
    assert problem in str(refused.value)


def test_the_example_is_checked_whole() -> None:
    _, file = check_file(str(FILE))
    found = {r.deployment: r for r in reservations(file)}
    assert found.keys() == {
        "Gateway",
        *(
            f"{kind}-{name}"
            for kind in ("Dispatcher", "PromptEncoder", "SafetyClassifier", "Decoder")
            for name in ("photo", "sketch")
        ),
    }
    assert sum(r.replicas * r.num_cpus for r in found.values()) <= 2, "it fits two cores"


def test_the_deployments_of_a_file_are_its_models(tmp_path: Path) -> None:
    document = yaml.safe_load(FILE.read_text())
    policy = {"policy_function": "autoscaling.ray_policy:DecoderPolicy"}
    scaling = {"max_replicas": 2, "upscale_delay_s": 0, "downscale_delay_s": 0, "policy": policy}
    scaled = {"autoscaling_config": scaling}
    application = document["applications"][0]
    application["deployments"] = [{"name": "Decoder-sketch", **scaled}]
    path = tmp_path / "scaled.yaml"
    path.write_text(yaml.safe_dump(document))
    _, file = check_file(str(path))
    lane = simulated(path, file, "default/sketch", Assumptions()).lane
    assert (lane.min_replicas, lane.max_replicas) == (1, 2)
    assert simulated(path, file, "sketch", Assumptions()).lane == lane
    known = r"default \(photo\), default/sketch \(sketch\)"
    with pytest.raises(ConfigError, match=f"has the queues {known}; say which"):
        simulated(path, file, None, Assumptions())
    with pytest.raises(ConfigError, match=f"has no queue and no model 'anime', it has: {known}"):
        simulated(path, file, "anime", Assumptions())
    for wrong in ("Decoder", "Decoder-anime", "PromptEncoder-sketch"):
        application["deployments"] = [{"name": wrong, **scaled}]
        path.write_text(yaml.safe_dump(document))
        with pytest.raises(ConfigError, match=r"unknown deployment|is for Decoder only"):
            check_file(str(path))


def test_two_applications_never_share_a_queue_of_a_lane() -> None:
    document = yaml.safe_load(FILE.read_text())
    (first,) = document["applications"]
    other = {**first, "name": "other", "route_prefix": "/other"}
    with pytest.raises(ConfigError, match=r"applications\.1\.args\.lane"):
        parse_serve_config({**document, "applications": [first, other]}, "two.yaml")


def test_loras_are_kept_for_tenants_by_names_that_there_are() -> None:
    def keep(args: dict[str, Any]) -> None:
        args["models"][1] |= {
            "options": {"loras": {"ink": "/loras/ink"}},
            "lora_tenants": {"ink": ["acme"]},
        }

    photo, sketch = parsed(keep).each()
    assert (photo.lora_tenants, sketch.lora_tenants) == ({}, {"ink": ("acme",)})
    live = {"models": {"sketch": {"lora_tenants": {"ink": ["acme", "beta"]}}}}
    assert with_live(parsed(keep), live).each()[1].lora_tenants == {"ink": ("acme", "beta")}
    wrong = {"lora_tenants": {"imk": []}}
    for kept in (wrong, {"models": {"sketch": wrong}}):
        with pytest.raises(ConfigError, match=r"lora_tenants\.imk: unknown LoRA, did you mean ink"):
            with_live(parsed(keep), kept)
