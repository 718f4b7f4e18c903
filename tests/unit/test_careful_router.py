"""A full lane: the replica that gets room is found at once, however many others are full. Serve's
side of it is tried on a cluster, in tests/cluster."""

from __future__ import annotations

import asyncio
import warnings

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray's own, at import
    from deployments.replica_health import HEALTH
    from scripts.growth.replicas import choosing, full_lane

REPLICAS = 200


async def test_one_that_gets_room_is_found_among_many_that_are_full() -> None:
    routing, replicas = await full_lane(REPLICAS)
    waiting = asyncio.create_task(choosing(routing))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    asked = sum(replica.asked for replica in replicas)
    replicas[77].free(routing)
    assert await waiting is replicas[77]
    # It, and the two by chance; one more round may have been under way.
    assert sum(replica.asked for replica in replicas) - asked <= 6


async def test_one_that_is_full_again_or_silent_or_gone_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    routing, replicas = await full_lane(REPLICAS)
    taken, silent, gone, well = replicas[3:7]
    for replica in (taken, silent, gone, well):
        replica.free(routing)
    taken.ongoing = 1
    routing.on_new_queue_len_info(taken.replica_id, 1)
    monkeypatch.setitem(HEALTH._silent, silent.replica_id, None)
    gone.ongoing = silent.ongoing = 1  # nor is it met by chance
    routing.update_replicas([replica for replica in replicas if replica is not gone])
    assert await choosing(routing) is well
