"""Which replicas are left out: those that do not answer, until they do. Serve's side of it is tried
on a cluster, in tests/cluster/test_scaling.py."""

from __future__ import annotations

import asyncio

import pytest

from deployments import replica_health
from deployments.replica_health import ReplicaHealth
from tests.dispatch.dispatch_stages import until


class Replica:
    """As Serve's routers hold them."""

    def __init__(self, replica_id: str, node_id: str) -> None:
        self.replica_id, self.node_id = replica_id, node_id
        self.answers = asyncio.Event()
        self.answers.set()

    async def get_queue_len(self, *, deadline_s: float) -> int:
        await self.answers.wait()
        return 0


class Router:
    """One that knows some."""

    def __init__(self, health: ReplicaHealth, *replicas: Replica) -> None:
        health.know(self, replicas)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_health, "ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(replica_health, "ASK_SECONDS", 0.01)


def give_up(health: ReplicaHealth, replica: Replica) -> None:
    argument = object()
    with health.sent(argument) as sent:
        health.chosen([argument], replica)
        health.is_silent(sent)


async def test_a_silent_replica_is_left_out_with_those_beside_it_until_they_answer() -> None:
    health = ReplicaHealth()
    lost, beside = Replica("lost", "cut"), Replica("beside", "cut")
    well, elsewhere = Replica("well", "cut"), Replica("elsewhere", "other")
    lost.answers.clear()
    beside.answers.clear()
    routers = Router(health, lost, elsewhere), Router(health, beside, well)
    all_four = {"lost", "beside", "well", "elsewhere"}
    give_up(health, lost)
    assert health.answering(all_four) == all_four - {"lost"}
    await until(lambda: "beside" not in health.answering(all_four), "it was asked, too")
    assert health.answering(all_four) == {"well", "elsewhere"}
    assert health.answering({"lost", "beside"}) == {"lost", "beside"}, "better than none"
    lost.answers.set()
    beside.answers.set()
    await until(lambda: health.answering(all_four) == all_four, "both answer again")
    assert len(routers) == 2


async def test_one_question_without_an_answer_has_those_beside_it_asked() -> None:
    health = ReplicaHealth()
    asked, beside, well = Replica("asked", "cut"), Replica("beside", "cut"), Replica("well", "cut")
    asked.answers.clear()
    beside.answers.clear()
    router = Router(health, asked, beside, well)
    argument = object()
    with health.sent(argument) as sent:
        health.chosen([argument], asked)
        assert not await health.lives(sent)
    names = {"asked", "beside", "well"}
    await until(lambda: "beside" not in health.answering(names), "it was asked, too")
    assert health.answering(names) == {"asked", "well"}, "one more question decides about its own"
    health.know(router, [])
    await until(lambda: not health._silent, "all are forgotten")


async def test_one_that_serve_has_no_more_is_forgotten() -> None:
    health, lost = ReplicaHealth(), Replica("lost", "cut")
    lost.answers.clear()
    router = Router(health, lost)
    give_up(health, lost)
    health.know(router, [])
    await until(lambda: not health._silent, "it is forgotten")


async def test_a_call_asks_the_replica_that_has_it() -> None:
    health, replica = ReplicaHealth(), Replica("a", "node")
    argument = object()
    with health.sent(argument) as sent:
        assert await health.lives(sent), "none was chosen yet"
        health.chosen([object(), argument], replica)
        assert await health.lives(sent)
        replica.answers.clear()
        assert not await health.lives(sent)
    health.chosen([argument], Replica("b", "node"))
    assert sent.replica is replica, "the call is over"
