"""What a run proves, from witnesses that the service does not write: what clients were told, what a
trigger in the database counted, and every pass that each decoder's process wrote down."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import text

from jobs.db.rows import request_from_json
from jobs.sql.sql_ledger import SqlLedger
from scripts.chaos import auditor
from scripts.chaos.world import World, left
from scripts.postgres import side_door

REST_SECONDS = 120.0
WRONG = ("lost", "doubled", "miscounted", "wrong_slots", "wrong_answers", "unjust")
RECENT_SECONDS = 2.0
"""A render without a pass for longer was not in its decoder any more."""


class Pass(NamedTuple):
    """One line of a decoder's process. at: seconds since the epoch, when the pass ended."""

    at: float
    pid: int
    image: str
    """job/index"""
    stream: str
    """fence.stream"""
    number: int


@dataclass(frozen=True, slots=True)
class Moved:
    """An image that was in a slot of lost processes. seconds: from then until the first pass
    elsewhere; None where there was none. lost: passes that were drawn again."""

    image: str
    seconds: float | None
    lost: int


def passes(world: World) -> list[Pass]:
    """All that were made, in their order."""
    found = []
    for path in (world.folder / "passes").iterdir():
        pid = int(path.name.split("-")[0])
        for line in path.read_text().splitlines():
            at, render_id, number = line.split()
            image, _, stream = render_id.rpartition("/")
            found.append(Pass(float(at), pid, image, stream, int(number)))
    return sorted(found)


def moved(
    made: Iterable[Pass], lost: set[int], at: float, wanted: Mapping[str, int]
) -> list[Moved]:
    """What became of the images that processes `lost` had in their slots at that time. wanted: how
    many passes each image has."""
    by_image: dict[str, list[Pass]] = defaultdict(list)
    for one in made:
        by_image[one.image].append(one)
    found = []
    for image, own in by_image.items():
        before = [one for one in own if one.at <= at]
        if not before or before[-1].pid not in lost or before[-1].at < at - RECENT_SECONDS:
            continue
        if before[-1].number >= wanted.get(image, 0):
            continue  # only its pixels were missing
        after = [one for one in own if one.at > at and one.pid not in lost]
        reached = max(one.number for one in own if one.pid in lost)
        if not after and reached >= wanted[image]:
            continue  # it was done there in time
        found.append(
            Moved(
                image,
                after[0].at - at if after else None,
                max(0, reached - after[0].number + 1) if after else 0,
            )
        )
    return found


def passes_wanted(world: World) -> dict[str, int]:
    """Of each image, by job/index."""
    engine = side_door(world.url)
    with engine.connect() as connection:
        rows = connection.execute(text("select id, request from jobs")).all()
    engine.dispose()
    requests = {row.id: request_from_json(row.request) for row in rows}
    return {
        f"{job_id}/{index}": request.passes
        for job_id, request in requests.items()
        for index in range(request.n)
    }


def rest(world: World) -> bool:
    """Whether all that was accepted has ended before long."""
    until = time.monotonic() + REST_SECONDS
    with closing(SqlLedger(world.url)) as ledger:
        while time.monotonic() < until:
            if not left(ledger):
                return True
            time.sleep(0.2)
    return False


def audit(world: World, slots: int) -> auditor.Findings:
    """Everything so far; the run must have come to rest. slots: of one decoder."""
    found = auditor.audit(world, pictures=False)
    for complaint in wrong_slots(passes(world), slots):
        found.say("wrong_slots", complaint)
    for complaint in ordered_twice(world):
        found.say("doubled", complaint)
    return found


def wrong_slots(made: Iterable[Pass], slots: int) -> Iterator[str]:
    """Batches wider than the slots, and one stream of a render that two processes drew."""
    batches = Counter((one.pid, one.at) for one in made)
    for (pid, at), width in batches.items():
        if width > slots:
            yield f"decoder {pid} had {width} renders in {slots} slots at {at}"
    owners: dict[tuple[str, str], set[int]] = defaultdict(set)
    for one in made:
        owners[one.image, one.stream].add(one.pid)
    for (image, stream), pids in owners.items():
        if len(pids) > 1:
            yield f"{image} was in the slots of {sorted(pids)} as {stream}"


def ordered_twice(world: World) -> Iterator[str]:
    """No two orders of a client have the same seed, so no two jobs may."""
    engine = side_door(world.url)
    with engine.connect() as connection:
        rows = connection.execute(text("select id, tenant, request from jobs")).all()
    engine.dispose()
    jobs: dict[tuple[str, int], list[str]] = defaultdict(list)
    for row in rows:
        jobs[row.tenant, request_from_json(row.request).seed].append(row.id)
    for order, ids in jobs.items():
        if len(ids) > 1:
            yield f"order {order} made jobs {ids}"


def passes_lost(world: World, pids: set[int], since: float) -> int:
    """Passes that were drawn again elsewhere, of all images that these processes drew and did not
    finish since then."""
    wanted, lost = passes_wanted(world), 0
    by_image: dict[str, list[Pass]] = defaultdict(list)
    for one in passes(world):
        by_image[one.image].append(one)
    for image, own in by_image.items():
        there = [one for one in own if one.pid in pids and one.at >= since]
        if not there:
            continue
        reached, last = max(one.number for one in there), there[-1].at
        after = [one for one in own if one.pid not in pids and one.at > last]
        if after and reached < wanted[image]:
            lost += max(0, reached - after[0].number + 1)
    return lost


def last_pass_of(world: World, pids: set[int]) -> float:
    """When these processes made their last one, in seconds since the epoch."""
    return max((one.at for one in passes(world) if one.pid in pids), default=0.0)


def first_writes_after(world: World, at: float) -> tuple[float, float]:
    """Seconds until the next order was accepted, and the next job settled, on the clock of the
    database, which is this machine's."""
    engine = side_door(world.url)
    query = "select min({0}) from jobs where {0} > :at"
    with engine.connect() as connection:
        found = [
            connection.execute(text(query.format(column)), {"at": at}).scalar()
            for column in ("created_at", "finished_at")
        ]
    engine.dispose()
    accepted, settled = (float("inf") if one is None else float(one) - at for one in found)
    return accepted, settled
