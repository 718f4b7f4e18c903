"""The adaptive limit, against simulated services; and the queue before it."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

import pytest

from serve_app.admission.queue import (
    LEAST,
    MOST,
    MOST_BYTES,
    WAITING,
    AdmissionQueue,
    VegasLimit,
)
from serve_app.wire.errors import TooManyWaiting


def flooded(
    vegas: VegasLimit, stay: Callable[[int], float], requests: int, begin: float = 0.0
) -> list[float]:
    """Keep a service full: as many inside as may be. stay(inside): seconds that the next one will
    be inside. The limit after each request."""
    clock, leaving, limits = begin, [], []
    for _ in range(requests):
        while len(leaving) < int(vegas.limit):
            heapq.heappush(leaving, (clock + stay(len(leaving) + 1), clock))
        clock, entered = heapq.heappop(leaving)
        vegas.observe(clock - entered, len(leaving))
        limits.append(vegas.limit)
    return limits


def servers(count: int, seconds: float) -> Callable[[int], float]:
    """So many that each serve one at a time."""
    return lambda inside: seconds * max(1.0, inside / count)


@pytest.mark.parametrize("count", [40, 100, 300])
def test_the_limit_finds_what_the_service_can_do_at_once(count: int) -> None:
    limits = flooded(VegasLimit(), servers(count, 0.02), 300 * count)[150 * count :]
    typical = sorted(limits)[len(limits) // 2]
    assert count * 0.9 <= typical <= count + 2 * WAITING


def test_batches_that_share_a_commit_are_let_in_together() -> None:
    """A commit of 8 ms and 0.1 ms for each that shares it: alone, 16 inside give a third of it."""
    limits = flooded(VegasLimit(), lambda inside: 0.008 + 0.0001 * inside, 20_000)
    assert 20 <= limits[-1] < 150


def test_a_slow_minute_is_forgotten() -> None:
    vegas = VegasLimit()
    flooded(vegas, servers(100, 0.02), 20_000)
    slow = flooded(vegas, lambda inside: 0.2 + 0.02 * inside, 2_000)
    after = flooded(vegas, servers(100, 0.02), 20_000)
    assert slow[-1] < 50
    assert 90 < sorted(after[10_000:])[5_000] < 100 + 2 * WAITING


def test_a_service_that_is_slower_for_good_is_learnt() -> None:
    """Ten times the stay, and no fewer at once: there is no reason to let in fewer."""
    vegas = VegasLimit()
    flooded(vegas, servers(100, 0.02), 20_000)
    after = flooded(vegas, servers(100, 0.2), 40_000)
    assert 90 < sorted(after[20_000:])[10_000] < 100 + 2 * WAITING


def test_the_limit_stays_between_its_bounds() -> None:
    assert min(flooded(VegasLimit(), lambda inside: 0.01 * inside**2, 5_000)) == LEAST
    assert max(flooded(VegasLimit(), lambda inside: 0.01, 40_000)) == MOST


def test_a_service_that_is_not_full_teaches_nothing() -> None:
    vegas = VegasLimit()
    for _ in range(1_000):
        vegas.observe(0.01, 1)
    assert vegas.limit == 32.0


class Service:
    """What the queue guards: a request stays until it is let out."""

    def __init__(self, limit: int, most: int = 100) -> None:
        vegas = VegasLimit()
        vegas.limit = limit
        self.queue = AdmissionQueue(vegas, most)
        self.served: list[str] = []
        self._exits: list[asyncio.Event] = []

    async def visit(self, name: str, weight: float = 1.0) -> None:
        async with self.queue.turn(tenant_of(name), weight, 10):
            self.served.append(name)
            self._exits.append(leave := asyncio.Event())
            await leave.wait()

    async def arrive(self, names: list[str], **weights: float) -> list[asyncio.Task[None]]:
        """`ada0`, `ada1` are ada's; her requests weigh what `weights` says."""
        tasks = [
            asyncio.create_task(self.visit(name, weights.get(tenant_of(name), 1.0)))
            for name in names
        ]
        await settled()
        return tasks

    async def let_out(self, count: int = 1) -> None:
        for _ in range(count):
            self._exits.pop(0).set()
            await settled()


def tenant_of(name: str) -> str:
    return name.rstrip("0123456789")


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_tenants_take_turns_and_heavier_tiers_come_more_often() -> None:
    service = Service(limit=1)
    many = [f"free{i}" for i in range(20)]
    others = [f"paid{i}" for i in range(4)] + ["other0", "other1"]
    tasks = await service.arrive([*many, *others], paid=4.0)
    await service.let_out(26)
    await asyncio.gather(*tasks)
    assert service.served[0] == "free0"  # nobody waited then
    assert set(service.served[1:7]) == {"paid0", "paid1", "paid2", "paid3", "free1", "other0"}
    for name in ("free", "paid", "other"):  # each in order of arrival
        own = [n for n in service.served if tenant_of(n) == name]
        assert own == sorted(own, key=lambda n: int(n.removeprefix(name)))


async def test_no_more_inside_than_the_limit() -> None:
    service = Service(limit=3)
    tasks = await service.arrive([f"free{i}" for i in range(10)])
    assert len(service.served) == 3
    await service.let_out()
    assert len(service.served) == 4
    await service.let_out(9)
    await asyncio.gather(*tasks)


async def test_a_cancelled_entry_is_passed_over() -> None:
    service = Service(limit=1)
    tasks = await service.arrive(["free0", "free1", "free2"])
    tasks[1].cancel()
    await settled()
    await service.let_out(2)
    assert service.served == ["free0", "free2"]
    assert len(service.queue) == 0


async def test_a_request_that_is_cancelled_in_flight_makes_room() -> None:
    service = Service(limit=1)
    tasks = await service.arrive(["free0", "free1"])
    tasks[0].cancel()
    await settled()
    assert service.served == ["free0", "free1"]


async def test_leaving_at_the_moment_of_ones_turn_passes_it_on() -> None:
    service = Service(limit=1)
    tasks = await service.arrive(["free0", "free1", "free2"])
    tasks[0].cancel()
    await asyncio.sleep(0)  # free0 leaves and lets free1 in, which has not run yet
    tasks[1].cancel()
    await settled()
    assert service.served == ["free0", "free2"]


async def test_a_full_queue_says_so() -> None:
    service = Service(limit=1, most=2)
    await service.arrive(["free0", "free1", "other0"])
    with pytest.raises(TooManyWaiting):
        await service.visit("third0")
    await service.let_out()
    await service.arrive(["third1"])
    assert len(service.queue) == 2


async def test_a_load_of_one_tenant_leaves_room_for_others() -> None:
    service = Service(limit=1, most=8)
    await service.arrive([f"free{i}" for i in range(5)])
    with pytest.raises(TooManyWaiting):
        await service.visit("free5")
    await service.arrive(["other0", "other1"])
    with pytest.raises(TooManyWaiting):
        await service.visit("other2")
    await service.arrive(["third0"])
    assert len(service.queue) == 7
    await service.let_out(5)
    await service.arrive(["free6", "free7"])  # what was admitted is not counted any more
    assert len(service.queue) == 4


async def test_large_requests_of_one_leave_room_for_others() -> None:
    queue = Service(limit=0).queue

    async def wait(tenant: str) -> None:
        async with queue.turn(tenant, 1.0, MOST_BYTES // 4):
            pass

    waiting = [asyncio.create_task(wait("free")) for _ in range(2)]
    await settled()
    with pytest.raises(TooManyWaiting):
        await wait("free")
    waiting.append(asyncio.create_task(wait("other")))
    await settled()
    assert len(queue) == 3
    for task in waiting:
        task.cancel()


async def test_what_waits_is_bounded_in_bytes_too() -> None:
    queue = Service(limit=0).queue
    with pytest.raises(TooManyWaiting):
        async with queue.turn("free", 1.0, MOST_BYTES + 1):
            pass


async def test_an_error_inside_frees_the_place() -> None:
    service = Service(limit=1)
    with pytest.raises(ValueError, match="inside"):
        async with service.queue.turn("free", 1.0, 10):
            raise ValueError("inside")
    await service.arrive(["other0"])
    assert service.served == ["other0"]
