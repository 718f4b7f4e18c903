"""A rolling update under load: the previous release works on a ledger, this one joins it, both are
killed and stopped beside each other, the previous one leaves. Then rest, and the audit."""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from scripts.chaos import auditor
from scripts.chaos.crew import Crew, Member
from scripts.chaos.previous import Previous, code_of, previous_release
from scripts.chaos.storm import note_crew, rest, scene
from scripts.chaos.world import World

DISPATCHERS, CLIENTS, WISHES = 2, 2, 8
"""Of each version."""
ROLES = ("dispatcher", "dispatcher", "dispatcher", "client", "decoder")
PAUSE_SECONDS = 0.7
"""Between faults, on average."""
ASLEEP_LEASES = 1.5
MEET_SECONDS = 60.0
"""Then both go on undisturbed until each has drawn jobs of the other, and at most so long."""
UNREADABLE = ("passed over", "TypeError", "SchemaTooNew", "SchemaMismatch", "Unreadable")
"""What a log says when one version does not understand the other."""


def rolling_update(name: str, seconds: float, seed: int, keep: Path | None) -> dict[str, Any]:
    """A sixth of the time the previous release alone, four sixths both, a sixth this one alone.
    Raises HistoryMissing."""
    with code_of(previous_release()) as code, scene(name, keep, "rolling") as (world, _):
        return _run(world, Previous(code, world), seconds, random.Random(seed))


def _run(world: World, previous: Previous, seconds: float, draw: random.Random) -> dict[str, Any]:
    previous.prepare()
    auditor.install(world.url)
    crew, faults, pids = Crew(world), Counter[str](), set[int]()
    try:
        old = _start_previous(crew, previous, pids)
        crew.pass_time(seconds / 6)
        world.ledger().close()  # this version opens what the previous one made
        crew.muster(DISPATCHERS, CLIENTS, WISHES)
        for role in ("dispatcher", "client"):  # starts again beside it
            crew.kill(next(member for member in old if member.role == role))
            faults[f"kill {role}"] += 1
        now = time.monotonic()
        while time.monotonic() < now + seconds * 4 / 6:
            faults[_one_fault(crew, draw)] += 1
            crew.pass_time(draw.uniform(0, 2 * PAUSE_SECONDS))
        while not all(_crossed(world, pids).values()) and time.monotonic() < now + MEET_SECONDS:
            crew.pass_time(PAUSE_SECONDS)
        crew.dismiss(old)
        crew.pass_time(seconds / 6)
        rested = rest(world, crew)
    finally:
        crew.dismiss()
    found = auditor.audit(world, collect=True, pictures=False)
    # the previous release knows nothing of poison and may draw it; what has not ended is "lost"
    found.complaints.pop("poison_left", None)
    note_crew(found, crew, rested=rested)
    return {
        "faults": faults.total(),
        **found.summary(),
        "unreadable": _unreadable(world, previous),
        "crossed": _crossed(world, pids),
        "kinds": dict(faults),
    }


def _start_previous(crew: Crew, previous: Previous, pids: set[int]) -> list[Member]:
    """pids: grows with every process that is started."""

    def start(role: str, name: str) -> Any:
        process = previous.start(role, name)
        pids.add(process.pid)
        return process

    wanted = [("decoder", str(number)) for number in range(previous.world.decoders)]
    wanted += [("dispatcher", f"old-dispatcher-{number}") for number in range(DISPATCHERS)]
    wanted += [("client", f"old-client-{number}") for number in range(CLIENTS)]
    return [crew.join(role, partial(start, role, name)) for role, name in wanted]


def _one_fault(crew: Crew, draw: random.Random) -> str:
    """Of any version: what is killed starts again beside the others, what is stopped for longer
    than its lease finds its jobs in other hands."""
    while not (well := crew.well(role := draw.choice(ROLES))):
        crew.pass_time(PAUSE_SECONDS)
    member = draw.choice(well)
    if role != "decoder" and draw.random() < 0.4:
        crew.stop(member, ASLEEP_LEASES * crew.world.lease_seconds)
        return f"stop {role}"
    crew.kill(member)
    return f"kill {role}"


def _unreadable(world: World, previous: Previous) -> int:
    """Lines in the logs of both by which one did not understand the other."""
    logs = [world.folder / "log", previous.folder / "log", previous.folder / "stderr"]
    lines = [line for log in logs if log.exists() for line in log.read_text().splitlines()]
    return sum(any(word in line for word in UNREADABLE) for line in lines)


def _crossed(world: World, pids: set[int]) -> dict[str, int]:
    """Jobs that one version accepted and a decoder of the other one has drawn, in part or whole."""
    accepted = _jobs(world, "told", pids, r'"what": "accepted".*"job": "(\w+)"')
    drawn = _jobs(world, "passes", pids, r"^\S+ (\w+)/")
    return {
        "previous to this": len(accepted[True] & drawn[False]),
        "this to previous": len(accepted[False] & drawn[True]),
    }


def _jobs(world: World, kind: str, pids: set[int], told: str) -> dict[bool, set[str]]:
    """Those that the logs of a kind tell of, by whether the previous release wrote the log."""
    found: dict[bool, set[str]] = {True: set(), False: set()}
    for path in (world.folder / kind).iterdir():
        by_previous = int(path.name.split("-")[0]) in pids
        found[by_previous].update(re.findall(told, path.read_text(), re.MULTILINE))
    return found
