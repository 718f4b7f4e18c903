"""What Serve's status of a deployment means for the orders of its model."""

from __future__ import annotations

import inspect

import pytest
from ray.serve._private.deployment_state import DeploymentState
from ray.serve.schema import (
    ApplicationDetails,
    DeploymentDetails,
    DeploymentStatusOverview,
    ReplicaDetails,
    ServeInstanceDetails,
)

from deployments import decoder_presence
from deployments.decoder_presence import Presence, overview, presence

UP, ON_DEMAND, AWAY = Presence.UP, Presence.ON_DEMAND, Presence.AWAY
FAILED = "A replica failed to start with exception. Retrying."
SCALES = "Upscaling from 0 to 1 replicas."


@pytest.mark.parametrize(
    ("status", "replicas", "message", "before", "expected"),
    [
        ("UPDATING", {"STARTING": 1}, "", AWAY, AWAY),
        ("HEALTHY", {"RUNNING": 2}, "", AWAY, UP),
        ("UNHEALTHY", {"RUNNING": 1, "STARTING": 1}, FAILED, UP, UP),
        ("UNHEALTHY", {"STARTING": 1}, "", UP, AWAY),
        ("DOWNSCALING", {"STOPPING": 1}, "Downscaling from 1 to 0 replicas.", UP, ON_DEMAND),
        ("HEALTHY", {}, "", AWAY, ON_DEMAND),
        ("UPSCALING", {"STARTING": 1}, SCALES, ON_DEMAND, ON_DEMAND),
        ("UPSCALING", {"STARTING": 1}, FAILED, ON_DEMAND, AWAY),
        ("UPSCALING", {"STARTING": 1}, SCALES, AWAY, AWAY),
        ("DEPLOY_FAILED", {}, FAILED, ON_DEMAND, AWAY),
    ],
)
def test_presence(
    status: str, replicas: dict[str, int], message: str, before: Presence, expected: Presence
) -> None:
    now = DeploymentStatusOverview(status, "AUTOSCALING", replicas, message)
    assert presence(now, before) is expected


def test_serve_says_in_these_words_that_replicas_fail() -> None:
    said = inspect.getsource(DeploymentState.record_replica_startup_failure)
    assert decoder_presence.FAILED in said


def test_a_deployment_reads_as_in_serves_own_status() -> None:
    replicas = [
        ReplicaDetails(replica_id=str(number), state=state, start_time_s=0.0)
        for number, state in enumerate(("RUNNING", "STARTING", "RUNNING"))
    ]
    deployment = DeploymentDetails(
        name="Decoder",
        status="UPSCALING",
        status_trigger="AUTOSCALING",
        message=SCALES,
        deployment_config={"name": "Decoder"},
        target_num_replicas=3,
        required_resources={},
        replicas=replicas,
    )
    application = ApplicationDetails(
        name="lane",
        route_prefix="/",
        docs_path=None,
        status="RUNNING",
        message="",
        last_deployed_time_s=0.0,
        source="declarative",
        deployments={"Decoder": deployment},
        external_scaler_enabled=False,
    )
    whole = ServeInstanceDetails.model_construct(
        target_capacity=None, proxies={}, applications={"lane": application}
    )
    sent = application.model_dump(exclude_unset=True)["deployments"]["Decoder"]
    assert overview(sent) == whole._get_status().applications["lane"].deployments["Decoder"]
    assert overview(sent).replica_states == {"RUNNING": 2, "STARTING": 1}
