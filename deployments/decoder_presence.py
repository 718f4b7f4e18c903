"""Whether decoders of a model are there, as Serve says: so that a config file says once, by its
min_replicas, that there may be none. And what one of them measured at its start."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from ray.serve.handle import DeploymentHandle
from ray.serve.schema import DeploymentStatusOverview

from autoscaling.cold_start import ColdStarts
from autoscaling.ray_policy import GUESS_SECONDS, LATE_SECONDS
from deployments.nodes import applications
from dispatch.announcing import AWAY, DecodersNow
from engine.measuring import StartReport

UP = ("RUNNING", "PENDING_MIGRATION")
COMING = ("STARTING", "UPDATING", "RECOVERING")
ASK_SECONDS = 5.0
SCALING = ("UPSCALING", "DOWNSCALING")
FAILED = "failed to start"
"""What Serve's message says while it tries again; a test asks Ray for it."""


class Presence(StrEnum):
    """Of the decoders of one model."""

    UP = "up"
    ON_DEMAND = "on demand"
    """There is none because nothing waits, or one is starting for what does."""
    AWAY = "away"
    """There is none, and there should be."""


def presence(now: DeploymentStatusOverview, before: Presence) -> Presence:
    """From what Serve says of the deployment. Serve calls one HEALTHY that has all the replicas
    that it wants; it says of one that scales when replicas fail to start, among other things."""
    if _count(now.replica_states, UP):
        return Presence.UP
    if now.status == "HEALTHY":
        return Presence.ON_DEMAND
    scales = now.status in SCALING and FAILED not in now.message
    return Presence.ON_DEMAND if scales and before is not Presence.AWAY else Presence.AWAY


def overview(details: Mapping[str, Any]) -> DeploymentStatusOverview:
    """Of one deployment, as `serve.status` has it."""
    states = Counter(str(replica["state"].value) for replica in details["replicas"])
    said = details["status"], details["status_trigger"], states, details["message"]
    return DeploymentStatusOverview(*said)


class DecoderPresence:
    """Of one model, for its dispatcher."""

    def __init__(self, decoder: DeploymentHandle) -> None:
        self._ask = decoder.options(method_name="start_report")
        self._application = decoder.app_name
        self._deployment = decoder.deployment_name
        self._before = Presence.AWAY
        self._starts = ColdStarts(GUESS_SECONDS, LATE_SECONDS)

    async def look(self) -> DecodersNow:
        """As Serve sees it now. Raises what Ray does while the controller is away."""
        application = (await asyncio.to_thread(applications)).get(self._application)
        details = application and application["deployments"].get(self._deployment)
        if not details:
            return AWAY
        found = overview(details)
        up = _count(found.replica_states, UP)
        coming = _count(found.replica_states, COMING)
        self._starts.look(time.monotonic(), up + coming, up)
        self._before = presence(found, self._before)
        on_demand = self._before is Presence.ON_DEMAND
        start_seconds = round(self._starts.seconds, 1) if on_demand else None
        return DecodersNow(self._before is not Presence.AWAY, start_seconds, up, coming)

    async def start_report(self) -> StartReport | None:
        """Of any of them. Raises what Ray does, and TimeoutError where all are busy."""
        async with asyncio.timeout(ASK_SECONDS):
            found: StartReport | None = await self._ask.remote()
        return found


def _count(replicas: Mapping[str, int], states: tuple[str, ...]) -> int:
    return sum(count for state, count in replicas.items() if state in states)
