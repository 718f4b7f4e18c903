"""A model that is an application of its own comes, is upgraded and goes beside a lane that goes on;
its decoders come with the work."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import httpx
import pytest
import yaml

from engine.policy import ScreenStage
from jobs.job import Job, JobState
from jobs.sql.sql_ledger import SqlLedger
from serve_app.__main__ import main
from tests.cluster.conftest import Running, beside, dsn, own_application, wait_until
from tests.cluster.test_cluster import headers, submit
from tests.golden.classifier_checkpoints import save_picture

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("at_rest")]
OF_GATEWAYS = ("gateway", "keys", "signing", "limits")
ON_DEMAND = {
    "min_replicas": 0,
    "max_replicas": 1,
    "upscale_delay_s": 0,
    "downscale_delay_s": 0,
    "policy": {"policy_function": "autoscaling.ray_policy:DecoderPolicy"},
}


def listed(cluster: Running) -> dict[str, bool]:
    """The models that its gateway knows, and whether each is available."""
    found = httpx.get(f"{cluster.api}/v1/models", headers=headers(), timeout=60).json()["data"]
    return {model["id"]: model["available"] for model in found}


def job(cluster: Running, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(
        f"{cluster.api}/v1/jobs/{job_id}", headers=headers(), timeout=60
    ).json()
    return found


def in_ledger(cluster: Running, job_id: str) -> Job:
    with closing(SqlLedger(dsn(cluster))) as ledger:
        found = ledger.get(job_id)
    assert found is not None
    return found


def apply(cluster: Running, second: dict[str, Any]) -> None:
    """As an operator does, from a file."""
    document = yaml.safe_load(cluster.config.read_text())
    document["applications"].append(second)
    file = cluster.config.with_name("separate.yaml")
    file.write_text(yaml.safe_dump(document))
    assert main(["apply", str(file), "--address", cluster.dashboard, "--yes"]) == 0


def upgraded_while_it_draws(cluster: Running, second: dict[str, Any]) -> None:
    """All of its replicas are replaced, and its render goes on from its checkpoint."""
    old = set(cluster.pids("ServeReplica:sketch:"))
    long = submit(cluster.api, model="sketch", quality="high")
    wait_until(lambda: in_ledger(cluster, long).renders[0].saved_passes > 2, "it has a checkpoint")
    old |= set(cluster.pids("ServeReplica:sketch:"))
    second["args"]["decoder"]["slots"] = 3
    before = in_ledger(cluster, long)
    apply(cluster, second)
    passes: list[int] = []

    def ended() -> bool:
        now = in_ledger(cluster, long)
        passes.append(now.renders[0].pass_no)
        return now.ended

    wait_until(ended, "it is drawn")
    after = in_ledger(cluster, long)
    assert after.state is JobState.SUCCEEDED
    assert after.fence > before.fence, "by another dispatcher"
    assert min(passes) >= before.renders[0].saved_passes
    wait_until(lambda: not old & set(cluster.pids("ServeReplica:sketch:")), "all are replaced")


def screened_by(cluster: Running, job_id: str) -> tuple[str, set[str]]:
    """Which classifiers spoke about its picture, and the categories of their scores."""
    with closing(SqlLedger(dsn(cluster))) as ledger:
        (final,) = [
            logged.note
            for logged in ledger.verdicts_of(job_id)
            if logged.note.stage == ScreenStage.FINAL
        ]
    return final.screen, {category for category, _ in final.scores}


@pytest.mark.slow
def test_a_model_comes_draws_on_demand_is_upgraded_and_goes_without_a_restart(
    cluster: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    second = own_application(cluster)
    second.update(name="sketch", route_prefix=None, import_path="serve_app.app:model")
    second["args"] = {k: v for k, v in second["args"].items() if k not in OF_GATEWAYS}
    second["args"]["model"]["name"] = "sketch"
    second["args"]["decoder"] = {"slots": 4, "num_cpus": 0.1, "grace_seconds": 0.5}
    second["args"]["qualities"] = {"low": 2, "high": 100}
    second["args"]["scaling"] = {"scale_down_seconds": 0.0, "smoothing_seconds": 2.0}
    second["deployments"] = [{"name": "Decoder", "autoscaling_config": ON_DEMAND}]
    own = save_picture(cluster.config.with_name("house-screen"))
    labels = {"nsfw": "sexual", "gore": "violence"}
    classifiers = [{"kind": "image", "path": str(own), "labels": labels, "threshold": 0.99}]
    second["args"]["safety"] = {"screens": ["sexual"], "classifiers": classifiers}
    replicas = set(cluster.pids("ServeReplica:"))
    decoders = "ServeReplica:sketch:Decoder"
    with beside(cluster, second):
        wait_until(lambda: listed(cluster).get("sketch"), "its gateway has heard of it")
        assert cluster.pids(decoders) == [], "it is available although none is there"
        drawn = submit(cluster.api, model="sketch", quality="low")
        assert job(cluster, drawn)["eta_seconds"] > 2, "a decoder has to start first"
        available = []

        def succeeded() -> bool:
            available.append(listed(cluster)["sketch"])
            return bool(job(cluster, drawn)["state"] == "succeeded")

        wait_until(succeeded, "one starts, and draws")
        assert all(available)
        assert screened_by(cluster, drawn) == (f"sexual+{own.name}", {"sexual", "violence"})
        del second["args"]["safety"]["classifiers"]
        upgraded_while_it_draws(cluster, second)
        said = capsys.readouterr().out
        assert "restarts every replica of application sketch:" in said
        assert said.count("restarts") == 1
        assert replicas < set(cluster.pids("ServeReplica:")), "nothing else has restarted"
        wait_until(lambda: cluster.pids(decoders) == [], "nothing waits, so it leaves")
        assert listed(cluster)["sketch"]
    wait_until(lambda: set(cluster.pids("ServeReplica:")) == replicas, "only its replicas end")
    wait_until(lambda: listed(cluster).get("sketch") is False, "it is gone, and its jobs wait")
    assert in_ledger(cluster, drawn).request.lane == "default/sketch"
    with closing(SqlLedger(dsn(cluster))) as ledger:
        assert ledger.withdraw_model("default", "sketch")
    wait_until(lambda: "sketch" not in listed(cluster), "it is forgotten")
