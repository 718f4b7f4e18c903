"""A replica that Serve stops lets its calls go in time: its node drains, fewer replicas are wanted,
or a new version comes. Decoders hand their renders on; gateways ask clients to come back."""

from __future__ import annotations

import asyncio
import logging
import time

import ray
from ray._private.worker import global_worker

from deployments.own_replica import is_stopping
from engine.streams import RenderStreams

log = logging.getLogger("ray.serve")

GCS_SECONDS = 5.0
ANSWERS_SECONDS = 3.0
"""For answers that are written at the end."""
LOOK_SECONDS = 0.25
"""Of what this process knows itself: it asks no other one."""
OUT_SECONDS = 2.0
"""Before a node is gone its last answers must be out."""


async def hand_on_when_stopping(streams: RenderStreams, grace_seconds: float) -> None:
    """Wait until Serve stops this replica, then see RenderStreams.hand_on. grace_seconds: for
    renders that are done so soon, unless the node is gone before."""
    seconds = await _stopping(grace_seconds)
    leave, stay = streams.hand_on(seconds)
    log.info(
        "stopping: %s renders go on elsewhere, %s are done within %.1f s", leave, stay, seconds
    )


async def almost_gone(grace_seconds: float) -> None:
    """Returns when what still waits in this replica must be answered. grace_seconds: from Serve's
    stop to its kill."""
    await asyncio.sleep(max(0.0, await _stopping(grace_seconds) - ANSWERS_SECONDS))


async def _stopping(grace_seconds: float) -> float:
    """Wait until Serve stops this replica; how long its calls may go on then."""
    while not is_stopping():  # noqa: ASYNC110 - Serve sets a flag, and tells of it no other way
        await asyncio.sleep(LOOK_SECONDS)
    try:
        left = await asyncio.to_thread(seconds_left)
    except Exception as error:  # noqa: BLE001 - Ray raises many while its head is away
        log.warning("it is not known how long this node is there: %r", error)
        left = 0.0
    return time_for_calls(grace_seconds, left)


def seconds_left() -> float | None:
    """Until this node is gone, as was said when it was told to drain; None where nothing was said.
    Blocks for GCS_SECONDS at most, and raises what Ray does when its head does not answer."""
    draining: dict[str, int] = global_worker.gcs_client.get_draining_nodes(timeout=GCS_SECONDS)
    deadline_ms = draining.get(ray.get_runtime_context().get_node_id(), 0)
    return deadline_ms / 1000 - time.time() if deadline_ms else None


def time_for_calls(grace_seconds: float, node_seconds: float | None) -> float:
    """How long calls may go on in a replica that stops. node_seconds: until its node is gone."""
    if node_seconds is None:
        return grace_seconds
    return max(0.0, min(grace_seconds, node_seconds - OUT_SECONDS))
