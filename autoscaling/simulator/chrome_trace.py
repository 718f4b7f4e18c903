"""A run as a Chrome trace: open it in chrome://tracing or ui.perfetto.dev.

A process is a GPU, its threads are the slots; above them what was asked for, and why.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from autoscaling.simulator.simulation import SimulationResult, SlotUse

SLOT_USES_MAX = 20_000
SAMPLES_MAX = 5_000
LANE = 0
STATE_THREAD = 0

Event = dict[str, Any]


def chrome_trace(outcome: SimulationResult) -> str:
    """JSON. Of the renders at most SLOT_USES_MAX are told, those around the longest queue."""
    events = [
        {"ph": "M", "name": "process_name", "pid": LANE, "args": {"name": "lane"}},
        *_decisions(outcome),
        *_counters(outcome),
        *_replicas(outcome),
        *(_render(use) for use in _around_the_peak(outcome)),
    ]
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}, separators=(",", ":"))


def _microseconds(seconds: float) -> int:
    return round(seconds * 1e6)


def _decisions(outcome: SimulationResult) -> Iterator[Event]:
    told = [(at, f"{d.replicas} replicas", d.reason) for at, d in outcome.decisions]
    told += [(level.since, f"limits {level.level}", level.reason) for level in outcome.levels]
    for at, name, reason in told:
        yield {
            "ph": "i", "s": "p", "pid": LANE, "tid": 0,
            "ts": _microseconds(at), "name": name, "args": {"because": reason},
        }  # fmt: skip


def _counters(outcome: SimulationResult) -> Iterator[Event]:
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


def _replicas(outcome: SimulationResult) -> Iterator[Event]:
    """Starting and ready times of every GPU."""
    for node in sorted({replica.node for replica in outcome.replicas}):
        yield {"ph": "M", "name": "process_name", "pid": node + 1, "args": {"name": f"GPU {node}"}}
        yield {"ph": "M", "name": "thread_name", "pid": node + 1, "tid": STATE_THREAD,
               "args": {"name": "replica"}}  # fmt: skip
    for replica in outcome.replicas:
        gone = outcome.ended_at if replica.gone_at is None else replica.gone_at
        ready = gone if replica.ready_at is None else replica.ready_at
        name = f"replica {replica.number}"
        yield _slice(replica.node, STATE_THREAD, f"{name} starts", replica.asked_at, ready)
        yield _slice(replica.node, STATE_THREAD, name, ready, gone)


def _around_the_peak(outcome: SimulationResult) -> Sequence[SlotUse]:
    slot_uses = sorted(outcome.slot_uses, key=lambda use: (use.began, use.node, use.slot))
    if len(slot_uses) <= SLOT_USES_MAX:
        return slot_uses
    peak = max(outcome.samples, key=lambda sample: (sample.waiting_seconds, sample.drawing)).at
    before = sum(use.began < peak for use in slot_uses)
    first = min(max(0, before - SLOT_USES_MAX // 2), len(slot_uses) - SLOT_USES_MAX)
    return slot_uses[first : first + SLOT_USES_MAX]


def _render(use: SlotUse) -> Event:
    job = use.job
    told = _slice(use.node, use.slot + 1, f"job {job.number}", use.began, use.ended)
    waited = None if job.wait_seconds is None else round(job.wait_seconds, 3)
    told["args"] = {
        "tier": job.arrival.tier,
        "tenant": job.arrival.tenant,
        "waited_seconds": waited,
        "cut": not use.done,
    }
    return told


def _slice(node: int, thread: int, name: str, began: float, ended: float) -> Event:
    return {
        "ph": "X", "pid": node + 1, "tid": thread, "name": name,
        "ts": _microseconds(began), "dur": _microseconds(ended) - _microseconds(began),
    }  # fmt: skip
