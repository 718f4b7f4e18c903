"""Stage after stage under load, each with its proof; then the table and the figures."""

from __future__ import annotations

import json
import math
import re
import shutil
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.chaos_cluster import proof
from scripts.chaos_cluster.clients import ClientLoad
from scripts.chaos_cluster.pictures import copy_pictures
from scripts.chaos_cluster.site import WORKERS, Site, site
from scripts.chaos_cluster.stages import STAGES, Numbers
from scripts.cluster import args_of
from scripts.report import Goals, missed, rich_table, say

WARM_SECONDS = 8.0
USERS = {"sdk": 3, "later": 3, "stream": 2}
GOALS: Goals = {
    "lost": ("<=", 0), "doubled": ("<=", 0), "client_errors": ("<=", 0),
    "node_kill_recovery_s": ("<=", 20), "head_restart_failed_requests": ("<=", 0),
    "rolling_update_failed_requests": ("<=", 0), "spot_passes_lost": ("<=", 0),
    "partition_recovery_s": ("<=", 15), "db_failover_s": ("<=", 15),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """nodes: workers beside the head. keep: where logs and records are left."""

    stages: tuple[str, ...]
    rounds: int
    nodes: int
    patroni: bool
    keep: Path | None


@dataclass(slots=True)
class Outcome:
    """One stage. wrong: complaints of the proof that no earlier stage had, by kind."""

    stage: str
    numbers: Numbers
    wrong: dict[str, list[str]]
    errors: list[tuple[float, str, str]]
    failed: list[tuple[float, str]]
    answered: int
    seconds: float


def run(folder: Path, plan: Plan) -> dict[str, Any]:
    """All of it; the figures, which are also the last line that is printed."""
    folder.chmod(0o711)  # PostgreSQL, which is not root, has its own below
    began = time.monotonic()
    stages = [one for one in plan.stages if plan.patroni or one != "kill-database"]
    outcomes: list[Outcome] = []
    try:
        with site(folder, WORKERS[: plan.nodes], patroni=plan.patroni) as where:
            say(f"up after {time.monotonic() - began:.0f} s")
            load, known = ClientLoad(where.world, where.balancer.url), set[str]()
            for name in stages * plan.rounds:
                outcomes.append(_stage(name, where, load, known))
                say(_line(outcomes[-1]))
            found = {**figures(outcomes), "reconnected": load.reconnected}
    finally:
        if plan.keep is not None:
            _keep(folder, plan.keep)
    found["seconds"] = round(time.monotonic() - began, 1)
    _print(outcomes, found)
    return found


def _stage(name: str, where: Site, load: ClientLoad, known: set[str]) -> Outcome:
    """Load, the fault, the end of the load, rest, proof. A stage that could not be played to its
    end is a complaint, too."""
    began, errors = time.monotonic(), len(load.errors)
    failed, answered = len(load.attempts.failed), load.answered.total()
    load.start(**USERS)
    start = time.time() + WARM_SECONDS
    numbers, broken = {}, None
    time.sleep(WARM_SECONDS)
    try:
        numbers = STAGES[name](where, load)
    except Exception as error:  # noqa: BLE001 - what was done so far is still worth its proof
        broken = f"{name}: {error!r}"
    load.stop()
    rested = proof.rest(where.world)
    copy_pictures(where.pictures, where.world.blobs)
    found = proof.audit(where.world, int(args_of(where.config)["decoder"]["slots"]))
    if not rested:
        found.say("lost", f"after {name} jobs did not come to rest")
    if broken is not None:
        found.say("broken", broken)
    wrong = {
        kind: [one for one in said if one not in known] for kind, said in found.complaints.items()
    }
    known.update(one for said in found.complaints.values() for one in said)
    return Outcome(
        name, numbers, {kind: said for kind, said in wrong.items() if said},
        [(at - start, *what) for at, *what in load.errors[errors:]],
        [(at - start, what) for at, what in load.attempts.failed[failed:]],
        load.answered.total() - answered, round(time.monotonic() - began, 1),
    )  # fmt: skip


def figures(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """Of all stages: counts are summed, and of times the longest counts. A key whose stage did not
    run is null."""
    found: dict[str, Any] = dict.fromkeys(GOALS)
    found |= dict.fromkeys(("client_errors", "broken", *proof.WRONG), 0)
    for outcome in outcomes:
        for kind, said in outcome.wrong.items():
            found[kind] = found.get(kind, 0) + len(said)
        found["client_errors"] += len(outcome.errors)
        for key, value in outcome.numbers.items():
            before = found.get(key)
            if before is None or math.isnan(before):
                found[key] = value
            elif not math.isnan(value):
                summed = key.endswith(("_requests", "_images"))
                found[key] = before + value if summed else max(before, value)
    return {key: None if _is_nan(value) else value for key, value in found.items()}


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _line(outcome: Outcome) -> str:
    lines = [
        f"{outcome.stage}: {outcome.seconds} s, {outcome.answered} answered, {len(outcome.failed)} "
        f"attempts failed, {len(outcome.errors)} client errors, {json.dumps(outcome.numbers)}"
    ]
    errors = ((at, f"{program}: {what}") for at, program, what in outcome.errors)
    lines += [f"    error {one}" for one in _counted(errors)]
    lines += [f"    attempt {one}" for one in _counted(outcome.failed)]
    lines += [f"    {kind}: {said[:3]}" for kind, said in outcome.wrong.items()]
    return "\n".join(lines)


def _counted(events: Iterable[tuple[float, str]]) -> Iterator[str]:
    """Those that differ in a job's id alone together, with when they were, in seconds after the
    stage began to break something."""
    found: dict[str, list[float]] = defaultdict(list)
    for at, what in events:
        found[re.sub(r"[0-9a-f]{32}", "ID", what)].append(at)
    for what, times in sorted(found.items(), key=lambda one: -len(one[1]))[:8]:
        yield f"{len(times)} x {what} (from {min(times):.0f} s to {max(times):.0f} s)"


def _print(outcomes: list[Outcome], found: Mapping[str, Any]) -> None:
    columns = ("stage", "seconds", "answered", "attempts failed", "client errors", "wrong")
    counts = ((o, len(o.failed), len(o.errors), sum(map(len, o.wrong.values()))) for o in outcomes)
    rows = [(o.stage, o.seconds, o.answered, *counted) for o, *counted in counts]
    rich_table("chaos-cluster", columns, rows)
    measured = {key: value for key, value in found.items() if value is not None}
    if short := missed(GOALS, measured):
        say(f"short of the goal: {', '.join(short)}")
    say(json.dumps(found))


def _keep(folder: Path, kept: Path) -> None:
    shutil.rmtree(kept, ignore_errors=True)
    for name in ("passes", "told", "haproxy"):
        shutil.copytree(folder / name, kept / name, ignore=shutil.ignore_patterns("*.sock"))
    for logs in (folder / "ray").glob("*/session_[0-9]*/logs"):
        shutil.copytree(logs, kept / "ray" / logs.parts[-3], dirs_exist_ok=True)
    for log in (folder / "ray").glob("*.log"):
        shutil.copy(log, kept / "ray" / log.name)
