"""An operator edits the config file under load: `meltproof apply` changes what it says it changes,
and every render that was accepted arrives."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from serve_app.__main__ import main
from tests.cluster.conftest import PAID_KEY, Running, count_jobs, wait_until
from tests.cluster.test_cluster import SLOTS, draw_while, headers, submit

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("at_rest")]

FREE = {"weight": 1, "images_per_day": None}
PRO = {"weight": 9}
Edit = dict[str, Any]


@pytest.fixture
def config(cluster: Running) -> Iterator[Callable[[list[Edit]], str]]:
    """Writes the cluster's own file with a deployments section; afterwards its own file holds."""
    file = cluster.config.with_name("edited.yaml")

    def write(deployments: list[Edit]) -> str:
        document = copy.deepcopy(yaml.safe_load(cluster.config.read_text()))
        document["applications"][0]["deployments"] = deployments
        file.write_text(yaml.safe_dump(document))
        return str(file)

    yield write
    assert apply(cluster, str(cluster.config)) == 0


def apply(cluster: Running, file: str) -> int:
    return main(["apply", file, "--address", cluster.dashboard, "--yes"])


def apply_under_load(cluster: Running, file: str) -> None:
    """Others draw while the file is applied; every picture arrives."""

    def rendering() -> bool:
        jobs = httpx.get(f"{cluster.api}/v1/jobs", headers=headers(PAID_KEY), timeout=60).json()
        return "running" in {job["state"] for job in jobs["data"]}

    def edit() -> None:
        wait_until(rendering, "renders run")
        assert apply(cluster, file) == 0

    accepted = submit(cluster.api)
    pictures = asyncio.run(draw_while(cluster.api, PAID_KEY, 2 * SLOTS, edit))
    assert len(set(pictures)) == len(pictures) >= 2 * SLOTS
    wait_until(lambda: count_jobs(cluster, succeeded(accepted)) == 1, "the free one arrives, too")


def succeeded(job_id: str) -> str:
    return f"id = '{job_id}' and state = 'succeeded'"


def live(**sections: Any) -> list[Edit]:
    """The same sections for both deployments that read any."""
    return [{"name": name, "user_config": sections} for name in ("Gateway", "Dispatcher")]


def answered(cluster: Running, **wishes: Any) -> int:
    """The status that an async job gets."""
    return httpx.post(
        f"{cluster.api}/v1/images/generations",
        headers={**headers(), "prefer": "respond-async"},
        json={"prompt": "a red fox", "quality": "low", **wishes},
        timeout=60,
    ).status_code


def limits(cluster: Running) -> dict[str, Any]:
    body: dict[str, Any] = httpx.get(
        f"{cluster.api}/v1/limits", headers=headers(), timeout=60
    ).json()
    return body


def images_a_day(cluster: Running) -> object:
    return limits(cluster)["images_per_day"]["limit"]


def temporary_under_load(cluster: Running) -> bool:
    return answered(cluster) == 202 and bool(limits(cluster)["temporary"])


ANY_WORK = {"above_seconds": 0.001, "below_seconds": 0.0005, "hold_seconds": 0.0}


EDITS: dict[str, tuple[list[Edit], Callable[[Running], bool]]] = {
    "tiers": (
        live(tiers={"free": {**FREE, "weight": 2, "images_per_day": 777}, "pro": PRO, "plus": {}}),
        lambda cluster: images_a_day(cluster) == 777,
    ),
    "limits": (
        live(limits={"images": 1}),
        lambda cluster: answered(cluster, n=2) == 400,
    ),
    "rollout": (
        live(tiers={"free": {**FREE, "rollout": "off"}, "pro": PRO}),
        lambda cluster: answered(cluster) == 403,
    ),
    "temporary_limits": (
        live(temporary_limits=[{**ANY_WORK, "tiers": {"free": {"images_per_day": 10_000}}}]),
        temporary_under_load,
    ),
}


@pytest.mark.parametrize(("edit", "holds"), EDITS.values(), ids=EDITS)
def test_an_edit_under_load_restarts_nothing_and_loses_nothing(
    cluster: Running,
    config: Callable[[list[Edit]], str],
    edit: list[Edit],
    holds: Callable[[Running], bool],
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = sorted(cluster.pids("ServeReplica:meltproof"))
    assert not holds(cluster)
    apply_under_load(cluster, config(edit))
    said = capsys.readouterr().out
    assert "live, nothing restarts:" in said
    assert "restarts every" not in said
    wait_until(lambda: holds(cluster), "the edit holds")
    assert sorted(cluster.pids("ServeReplica:meltproof")) == before


def test_an_edit_that_restarts_says_so_and_loses_nothing(
    cluster: Running, config: Callable[[list[Edit]], str], capsys: pytest.CaptureFixture[str]
) -> None:
    others = sorted(cluster.pids("ServeReplica:meltproof:Gateway"))
    decoders = cluster.pids("ServeReplica:meltproof:Decoder")
    file = config([{"name": "Decoder", "ray_actor_options": {"num_cpus": 0.2}}])
    assert main(["diff", file, "--address", cluster.dashboard]) == 1
    assert "restarts every replica of meltproof/Decoder:" in capsys.readouterr().out
    apply_under_load(cluster, file)
    wait_until(
        lambda: not set(decoders) & set(cluster.pids("ServeReplica:meltproof:Decoder")),
        "the old decoders leave",
    )
    assert sorted(cluster.pids("ServeReplica:meltproof:Gateway")) == others


def test_what_runs_is_compared_with_the_file(
    cluster: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    diff = ["diff", str(cluster.config), "--address", cluster.dashboard]
    assert main(diff) == 0
    document = yaml.safe_load(cluster.config.read_text())
    document["applications"][0]["args"]["decoder"]["slots"] = 3
    document["applications"][0]["args"]["keys"][0]["key"] = "sk-sesame"
    document["applications"].append({**document["applications"][0], "name": "b"})
    document["applications"][1].update(route_prefix="/b", args={"lane": "b"})
    file = tmp_path / "edited.yaml"
    file.write_text(yaml.safe_dump(document))
    assert main(["diff", str(file), "--address", cluster.dashboard]) == 1
    said = capsys.readouterr().out
    assert "restarts every replica of application meltproof:" in said
    assert "  meltproof.args.decoder.slots: 4 -> 3" in said
    assert "adds application b:" in said
    assert "sesame" not in said
    assert main(["check", str(cluster.config), "--address", cluster.dashboard]) == 0
    assert main(["apply", str(file), "--address", "http://127.0.0.1:1", "--yes"]) == 3
