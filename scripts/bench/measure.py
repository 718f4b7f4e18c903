"""Measuring a running side from outside: rates, latencies, previews, processor time and memory."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from scripts.bench.workload import body
from scripts.cluster import KEY
from scripts.load import LoadReport, run_closed, run_load
from scripts.wire import GENERATIONS
from serve_app.operate.local_cluster import descendants

TICKS = os.sysconf("SC_CLK_TCK")
LIMIT_SECONDS = 240.0


class BadRun(RuntimeError):
    """A side answered something else than pictures: its figures mean nothing."""


@dataclass(frozen=True, slots=True)
class Saturation:
    """Closed loop. *_cpu_seconds_per_image: of all the side's processes, and of the generator."""

    images_per_s: float
    cpu_seconds_per_image: float
    generator_cpu_seconds_per_image: float


def warm(url: str, clients: int) -> None:
    """A few pictures, so that every process has drawn once."""
    _checked(asyncio.run(run_closed(url, KEY, clients, 2 * clients, body)))


def saturate(url: str, clients: int, count: int) -> Saturation:
    """`clients` requests under way until `count` were sent."""
    before = cpu_seconds(descendants(os.getpid()))
    report = asyncio.run(run_closed(url, KEY, clients, count, body, limit_seconds=LIMIT_SECONDS))
    used = cpu_seconds(descendants(os.getpid())) - before
    _checked(report)
    return Saturation(report.steady_images_per_s, used / count, report.cpu_seconds / count)


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
    """Time to the first preview over the time to the picture, one streamed request alone."""
    wanted = {**body(number), "stream": True, "partial_images": 3}
    began, first = time.perf_counter(), 0.0
    with httpx.stream(
        "POST",
        f"{url}{GENERATIONS}",
        json=wanted,
        headers={"authorization": f"Bearer {KEY}"},
        timeout=LIMIT_SECONDS,
        trust_env=False,
    ) as response:
        for event in _events(response.iter_lines()):
            if event.endswith("partial_image") and not first:
                first = time.perf_counter() - began
            elif event.endswith("completed"):
                return (first or time.perf_counter() - began) / (time.perf_counter() - began)
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
    return sum(_cpu_ticks(pid) for pid in pids) / TICKS


def _cpu_ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(int(field) for field in fields[11:15])
