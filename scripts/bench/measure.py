"""Measuring a running side from outside: rates, latencies, previews, processor time and memory."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from scripts.bench.kinds import TICKS, cpu_ticks, seconds_by_kind, since
from scripts.bench.workload import body
from scripts.cluster import KEY
from scripts.load import LoadReport, run_closed, run_load
from scripts.wire import GENERATIONS
from serve_app.operate.local_cluster import descendants

LIMIT_SECONDS = 240.0


class BadRun(RuntimeError):
    """A side answered something else than pictures: its figures mean nothing."""


@dataclass(frozen=True, slots=True)
class Saturation:
    """Closed loop. *_cpu_seconds_per_image: of all the side's processes, and of the generator.
    cpu_seconds_by_kind: of one picture, by kind of process."""

    images_per_s: float
    cpu_seconds_per_image: float
    generator_cpu_seconds_per_image: float
    cpu_seconds_by_kind: Mapping[str, float] = field(default_factory=dict)


def warm(url: str, clients: int) -> None:
    """A few pictures, so that every process has drawn once."""
    _checked(asyncio.run(run_closed(url, KEY, clients, 2 * clients, body)))


def saturate(url: str, clients: int, count: int) -> Saturation:
    """`clients` requests under way until `count` were sent."""
    before = seconds_by_kind()
    report = asyncio.run(run_closed(url, KEY, clients, count, body, limit_seconds=LIMIT_SECONDS))
    used = {kind: seconds / count for kind, seconds in since(before, seconds_by_kind()).items()}
    _checked(report)
    own = report.cpu_seconds / count
    return Saturation(report.steady_images_per_s, sum(used.values()), own, used)


def latencies(url: str, rate: float, seconds: float, seed: int) -> list[float]:
    """Open loop: Poisson arrivals; seconds from the moment each request was due."""
    count = max(10, round(rate * seconds))
    report = asyncio.run(
        run_load(url, KEY, rate, count, body, seed=seed, limit_seconds=LIMIT_SECONDS)
    )
    return _checked(report).latencies


def _checked(report: LoadReport) -> LoadReport:
    bad = {answer.outcome for answer in report.answers} - {"ok"}
    if bad or report.unfinished:
        raise BadRun(f"outcomes {sorted(bad)}, {report.unfinished} unfinished")
    return report


def first_preview_fraction(url: str, number: int) -> float:
    """Time to the first preview over the time to the picture, one streamed request alone. The
    client is there before: making one takes longer than a pass."""
    wanted = {**body(number), "stream": True, "partial_images": 3}
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(headers=headers, timeout=LIMIT_SECONDS, trust_env=False) as client:
        began, first = time.perf_counter(), 0.0
        with client.stream("POST", f"{url}{GENERATIONS}", json=wanted) as response:
            for event in _events(response.iter_lines()):
                if event.endswith("partial_image") and not first:
                    first = time.perf_counter() - began
                elif event.endswith("completed"):
                    whole = time.perf_counter() - began
                    return (first or whole) / whole
    raise BadRun("the stream ended without a picture")


def _events(lines: Iterable[str]) -> Iterator[str]:
    """The type of each server-sent event."""
    for line in lines:
        if line.startswith("data:") and line != "data: [DONE]":
            yield str(json.loads(line[5:])["type"])


def idle_pss_bytes() -> int:
    """Memory of every process below this one, shared pages shared out."""
    return sum(_pss_bytes(pid) for pid in descendants(os.getpid()))


def _pss_bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:  # it has ended meanwhile
        return 0
    return sum(1024 * int(line.split()[1]) for line in text.splitlines() if line[:4] == "Pss:")


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time that these processes, and their children that have ended, have used."""
    return sum(cpu_ticks(pid) for pid in pids) / TICKS
