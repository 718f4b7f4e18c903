"""A run as a Chrome trace: open it in chrome://tracing or ui.perfetto.dev.

A process is a GPU, its threads are the slots; above them what was asked for, and why.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from autoscaling.simulator.simulation import Outcome, Trip

TRIPS_MAX = 20_000
SAMPLES_MAX = 5_000
LANE = 0
LIFE = 0

Event = dict[str, Any]


def chrome_trace(outcome: Outcome) -> str:
    """JSON. Of the renders at most TRIPS_MAX are told, those around the longest queue."""
    events = [
        {"ph": "M", "name": "process_name", "pid": LANE, "args": {"name": "lane"}},
        *_decisions(outcome),
        *_counters(outcome),
        *_lives(outcome),
        *(_render(trip) for trip in _around_the_peak(outcome)),
    ]
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}, separators=(",", ":"))


def _microseconds(seconds: float) -> int:
    return round(seconds * 1e6)


def _decisions(outcome: Outcome) -> Iterator[Event]:
    told = [(at, f"{d.replicas} replicas", d.reason) for at, d in outcome.decisions]
    told += [(level.since, f"limits {level.level}", level.reason) for level in outcome.levels]
    for at, name, reason in told:
        yield {
            "ph": "i", "s": "p", "pid": LANE, "tid": 0,
            "ts": _microseconds(at), "name": name, "args": {"because": reason},
        }  # fmt: skip


def _counters(outcome: Outcome) -> Iterator[Event]:
    every = max(1, len(outcome.samples) // SAMPLES_MAX)
    for sample in outcome.samples[::every]:
        counted = {
            "replicas": {
                "starting": sample.starting,
                "drawing": sample.drawing,
                "draining": sample.draining,
            },
            "queue": {"GPU-seconds": round(sample.waiting_seconds, 3)},
        }
        for name, values in counted.items():
            at = _microseconds(sample.at)
            yield {"ph": "C", "pid": LANE, "ts": at, "name": name, "args": values}


def _lives(outcome: Outcome) -> Iterator[Event]:
    """Starting and ready times of every GPU."""
    for node in sorted({replica.node for replica in outcome.replicas}):
        yield {"ph": "M", "name": "process_name", "pid": node + 1, "args": {"name": f"GPU {node}"}}
        yield {"ph": "M", "name": "thread_name", "pid": node + 1, "tid": LIFE,
               "args": {"name": "replica"}}  # fmt: skip
    for replica in outcome.replicas:
        gone = outcome.ended_at if replica.gone_at is None else replica.gone_at
        ready = gone if replica.ready_at is None else replica.ready_at
        name = f"replica {replica.number}"
        yield _slice(replica.node, LIFE, f"{name} starts", replica.asked_at, ready)
        yield _slice(replica.node, LIFE, name, ready, gone)


def _around_the_peak(outcome: Outcome) -> Sequence[Trip]:
    trips = sorted(outcome.trips, key=lambda trip: (trip.began, trip.node, trip.seat))
    if len(trips) <= TRIPS_MAX:
        return trips
    peak = max(outcome.samples, key=lambda sample: (sample.waiting_seconds, sample.drawing)).at
    before = sum(trip.began < peak for trip in trips)
    first = min(max(0, before - TRIPS_MAX // 2), len(trips) - TRIPS_MAX)
    return trips[first : first + TRIPS_MAX]


def _render(trip: Trip) -> Event:
    job = trip.job
    told = _slice(trip.node, trip.seat + 1, f"job {job.number}", trip.began, trip.ended)
    waited = None if job.wait_seconds is None else round(job.wait_seconds, 3)
    told["args"] = {
        "tier": job.arrival.tier,
        "tenant": job.arrival.tenant,
        "waited_seconds": waited,
        "cut": not trip.done,
    }
    return told


def _slice(node: int, thread: int, name: str, began: float, ended: float) -> Event:
    return {
        "ph": "X", "pid": node + 1, "tid": thread, "name": name,
        "ts": _microseconds(began), "dur": _microseconds(ended) - _microseconds(began),
    }  # fmt: skip
