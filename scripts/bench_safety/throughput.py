"""What screening in flight costs: two services take turns at the same harmless orders, one screens
two previews of each render and the final picture, the other the final one alone. Everything, the
classifier's process and the clients included, runs on one core, so that no look is free."""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from scripts.bench.measure import cpu_seconds
from scripts.bench_safety.service import AT_END, CLIENTS, IN_FLIGHT, Service, service, stages
from scripts.report import say
from scripts.weapons.prompts import Drawing, drawings
from serve_app.operate.local_cluster import descendants

TURNS = 7
IMAGES = 16
"""Of one side in one turn."""


def measure_throughput() -> dict[str, float]:
    """throughput_with_screening: images/s in flight over those at the end, the median of all turns'
    ratios; ..._cpu: the same of images per second of processor time, which other work on the
    machine does not change."""
    calm = [drawing for drawing in drawings("measured") if not drawing.weapon]
    with (
        one_core(),
        stages() as shared,
        service(shared, IN_FLIGHT) as often,
        service(shared, AT_END) as once,
    ):
        for side in (often, once):
            _rates(side, calm[-CLIENTS:])  # each has drawn before it is measured
        turns = []
        for turn in range(TURNS):
            some = calm[turn * IMAGES : (turn + 1) * IMAGES]
            order = (often, once) if turn % 2 else (once, often)
            rates = {side: _rates(side, some) for side in order}
            turns.append([a / b for a, b in zip(rates[often], rates[once], strict=True)])
            say(f"turn {turn + 1}: {rates[often]} in flight, {rates[once]} at the end "
                "(images/s, images per second of processor time)")  # fmt: skip
    wall, processor = (statistics.median(ratios) for ratios in zip(*turns, strict=True))
    return {
        "throughput_with_screening": round(wall, 4),
        "throughput_with_screening_cpu": round(processor, 4),
    }


def _rates(side: Service, some: Sequence[Drawing]) -> tuple[float, float]:
    """Images a second, and a second of processor time, of this process and its children. A harmless
    picture that is blocked wrongly counts as one: its order is done."""
    began, used = time.perf_counter(), _used()
    codes = side.order(some)
    took, used = time.perf_counter() - began, _used() - used
    if set(codes.values()) != {"ok"}:
        say(f"  {dict(Counter(codes.values()))}")
    return round(len(some) / took, 4), round(len(some) / used, 4)


def _used() -> float:
    return cpu_seconds([os.getpid(), *descendants(os.getpid())])


@contextmanager
def one_core() -> Iterator[None]:
    """This thread, and all threads and processes that start from now on, share one of its cores."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
