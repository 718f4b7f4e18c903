"""What a run proves. Believes two witnesses: what clients wrote down outside, and what triggers in
the database counted; the ledger's code is not asked whether the ledger is right."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

from jobs.blobs.collector import Collector
from jobs.blobs.store import DirectoryBlobs
from jobs.client.async_ledger import AsyncLedger
from jobs.db.rows import request_from_json
from jobs.job import SETTLED, TERMINAL
from jobs.retention import Retention
from jobs.sql.sql_ledger import SqlLedger
from scripts.chaos.edits import LIFE_SECONDS
from scripts.chaos.poison import is_poison
from scripts.chaos.stages import file_of
from scripts.chaos.webhooks import received
from scripts.chaos.world import HOUR, LANE, POISON, World
from scripts.postgres import side_door

SAMPLE = 60
_ENDS = {
    "succeeded": "completed", "failed": "failed", "blocked": "failed", "expired": "failed",
    "cancelled": "cancelled",
}  # fmt: skip
REFUNDED_BLOCKS = 20
REFUNDED_PASSES = 480  # 8 for each of the 60 images of a day
"""So many images with a refused prompt a tenant gets back in a day."""
_SETTLED = ", ".join(f"'{state}'" for state in sorted(SETTLED))
_TABLE = "create table settled_audit (job_id text, idx integer, state text)"
_SQLITE = f"""create trigger settled_audit after update of state on renders
    when new.state in ({_SETTLED})
    begin insert into settled_audit values (new.job_id, new.idx, new.state); end"""
_POSTGRESQL = (
    """create function note_settled() returns trigger language plpgsql as $$ begin
    insert into settled_audit values (new.job_id, new.idx, new.state); return null; end $$""",
    f"""create trigger settled_audit after update of state on renders for each row
    when (new.state in ({_SETTLED})) execute function note_settled()""",
)


def install(url: str) -> None:
    """Let the database note every settling. The ledger's tables must exist."""
    engine = side_door(url)
    with engine.begin() as connection:
        sqlite = connection.dialect.name == "sqlite"
        for statement in (_TABLE, *((_SQLITE,) if sqlite else _POSTGRESQL)):
            connection.exec_driver_sql(statement)
    engine.dispose()


def watched_world(folder: Path) -> World:
    """A world with an SQLite ledger whose settlings are noted, for a service with Ray."""
    world = World(folder, f"sqlite:///{folder}/ledger.db")
    world.prepare()
    SqlLedger(world.url).close()  # makes the tables
    install(world.url)
    return world


def settled(url: str) -> Counter[tuple[str, int]]:
    """How many times each (job, image) was settled, as the database noted."""
    engine = side_door(url)
    with engine.connect() as connection:
        found = _settled(connection)
    engine.dispose()
    return found


Rows = list[dict[str, Any]]
Renders = dict[str, Rows]


@dataclass(slots=True)
class Findings:
    """complaints: every single thing that is wrong, by kind."""

    jobs: int = 0
    images: int = 0
    accepted: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    complaints: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def say(self, kind: str, what: str) -> None:
        self.complaints[kind].append(what)

    def summary(self) -> dict[str, Any]:
        """Counts for JSON; a few complaints of each kind word for word."""
        kinds = ("lost", "webhooks_lost", "poison_left", "doubled", "miscounted", "orphans",
                 "wrong_pictures", "wrong_answers", "unjust", "crashes")  # fmt: skip
        counts = {kind: len(self.complaints[kind]) for kind in kinds}
        some = {kind: found[:3] for kind, found in self.complaints.items() if found}
        whole = {"accepted": self.accepted, "jobs": self.jobs, "images": self.images}
        return {**counts, **whole, "ended": dict(self.ended), "complaints": some}


def audit(
    world: World,
    away: Iterable[tuple[float, float]] = (),
    *,
    collect: bool = False,
    pictures: bool = True,
) -> Findings:
    """Compare everything with everything; the run must have come to rest. `collect`: forget
    previews and what nothing points to before the blobs are looked at. `pictures`: compare some
    with those that an undisturbed decoder draws."""
    found = Findings()
    engine = side_door(world.url)
    with engine.connect() as connection:
        jobs, renders = _jobs_and_renders(connection)
        settled = _settled(connection)
        quota = _rows(connection, "select tenant, day, used from quota")
        left = len(_rows(connection, "select * from leases"))
        endpoints = _rows(connection, "select tenant, event_types from webhook_endpoints")
    found.jobs, found.images = len(jobs), sum(len(images) for images in renders.values())
    if left:
        found.say("lost", f"{left} leases are left over")
    _everything_ended(found, jobs, renders)
    _settled_once(found, renders, settled)
    _told(found, world, {job["id"]: job for job in jobs}, renders, list(away))
    _webhooks(found, world, jobs, {one["tenant"]: one["event_types"] for one in endpoints})
    _quota(found, jobs, renders, quota)
    if collect:
        asyncio.run(_collect(world))
    with engine.connect() as connection:
        _blobs(found, world, *_jobs_and_renders(connection), pictures=pictures)
        _inputs(found, world, _rows(connection, "select id, blobs, expires_at from files"))
    engine.dispose()
    return found


async def _collect(world: World) -> None:
    """As a dispatcher does now and then, once every job's end is past and what edits went on from
    has expired."""
    world.jump(LIFE_SECONDS + 2 * HOUR)
    front = AsyncLedger(world.ledger())
    kept = Retention(previews_seconds=0.0, idempotency_seconds=1e9)
    collector = Collector(front, DirectoryBlobs(world.blobs), LANE, kept)
    while await collector.turn():
        pass
    await asyncio.to_thread(front.close)


def _jobs_and_renders(connection: Connection) -> tuple[Rows, Renders]:
    renders: Renders = defaultdict(list)
    for row in _rows(connection, "select * from renders order by job_id, idx"):
        renders[row["job_id"]].append(row)
    return _rows(connection, "select * from jobs"), renders


def _settled(connection: Connection) -> Counter[tuple[str, int]]:
    rows = _rows(connection, "select job_id, idx from settled_audit")
    return Counter((row["job_id"], row["idx"]) for row in rows)


def _rows(connection: Connection, query: str) -> list[dict[str, Any]]:
    return [dict(row._mapping) for row in connection.execute(text(query))]


def _everything_ended(found: Findings, jobs: Rows, renders: Renders) -> None:
    """The equation: a job ended as one of five, with all its images; and as its images say."""
    for job in jobs:
        states = [image["state"] for image in renders[job["id"]]]
        found.ended.update([f"{job['state']} jobs", *(f"{state} images" for state in states)])
        if job["state"] not in TERMINAL:
            found.say("lost", f"{job['id']} is still {job['state']}")
        elif not states or any(state not in SETTLED for state in states):
            found.say("lost", f"{job['id']} is {job['state']} with images {states}")
        elif (job["state"] == "succeeded") != ("succeeded" in states):
            found.say("miscounted", f"{job['id']} is {job['state']} with images {states}")
        request = request_from_json(job["request"])
        found.ended.update([f"{job['state']} edits"] if request.source is not None else [])
        if len(states) != request.n:
            found.say("lost", f"{job['id']} has {len(states)} images")
        broken = any(request.image_seed(i) % POISON == 0 for i in range(request.n))
        poisoned = broken or is_poison(request.prompt)
        if is_poison(request.prompt):
            found.ended.update([f"{job['state']} poison"])
            if job["state"] not in TERMINAL or "succeeded" in states:
                found.say("poison_left", f"{request.prompt}: {job['id']} is {job['state']}")
        if job["state"] == "failed" and not poisoned:
            found.say("unjust", f"{job['id']} failed: {job['errors']}")


def _settled_once(found: Findings, renders: Renders, settled: Counter[tuple[str, int]]) -> None:
    for job_id, images in renders.items():
        for image in images:
            times = settled[job_id, image["idx"]]
            if times > 1:
                found.say("doubled", f"{job_id}/{image['idx']} was settled {times} times")
            elif times < (image["state"] in SETTLED):
                found.say("lost", f"{job_id}/{image['idx']} was never settled")


def _told(
    found: Findings, world: World, jobs: dict[str, dict[str, Any]], renders: Renders,
    away: list[tuple[float, float]],
) -> None:  # fmt: skip
    """What clients were told stays true."""
    jobs_of_key: dict[str, set[str]] = defaultdict(set)
    for fact in world.told():
        job = jobs.get(fact.get("job", ""), {})
        states = [image["state"] for image in renders.get(fact.get("job", ""), [])]
        match fact["what"]:
            case "accepted":
                found.accepted += 1
                jobs_of_key[fact["key"]].add(fact["job"])
                if len(states) != fact["n"]:
                    found.say("lost", f"{fact['job']} was accepted and is gone")
            case "ended" if (job.get("state"), states) != (fact["state"], fact["images"]):
                found.say("wrong_answers", f"{fact} is now {job.get('state')} {states}")
            case "unavailable" if not any(a <= fact["at"] <= b for a, b in away):
                found.say("wrong_answers", f"503 while the ledger was well: {fact}")
            case "wrong":
                found.say("wrong_answers", str(fact))
    for key, ids in jobs_of_key.items():
        if len(ids) > 1:
            found.say("doubled", f"key {key} made jobs {ids}")


def _webhooks(found: Findings, world: World, jobs: Rows, chosen: dict[str, str]) -> None:
    """Each job that ended, of a tenant with an endpoint, was told there: by its own id and end, in
    events that the SDK has verified and whose id never stands for another."""
    told: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    meant: dict[str, set[str]] = defaultdict(set)
    for fact in received(world):
        if fact["what"] == "forged":
            found.say("webhooks_lost", f"a delivery that the SDK refuses: {fact}")
            continue
        told[fact["tenant"], fact["type"], fact["job"]].add(fact["id"])
        meant[fact["id"]].add(fact["job"])
    for job in jobs:
        end = _ENDS.get(job["state"])
        kind = f"image.generation.{end}"
        if end is None or f" {kind} " not in chosen.get(job["tenant"], ""):
            continue
        found.ended.update(["webhooks"])
        ids = told[job["tenant"], kind, job["id"]]
        if len(ids) != 1:
            found.say("webhooks_lost", f"{job['id']}, {job['state']}: told by {len(ids)} events")
    for event, ids in meant.items():
        if len(ids) > 1:
            found.say("webhooks_lost", f"{event} stood for {ids}")


def _quota(found: Findings, jobs: Rows, renders: Renders, quota: Rows) -> None:
    """used = charged - refunded, for every tenant and day."""
    expected: Counter[tuple[str, str]] = Counter()
    refused: Counter[tuple[str, str]] = Counter()
    drawn: Counter[tuple[str, str]] = Counter()
    cost: Counter[tuple[str, str]] = Counter()
    for job in jobs:
        passes = request_from_json(job["request"]).passes
        images = renders[job["id"]]
        whose = job["tenant"], job["day"]
        expected[whose] += sum(not _refunded(image, passes) for image in images)
        refused[whose] += sum(image["stage"] == "input" for image in images)
        begun = [i for i in images if _refunded(i, passes)]
        drawn[whose] += len(begun)
        cost[whose] += sum((i["pass_no"] + 1) * max(1, i["attempts"]) for i in begun)
    for whose, blocks in refused.items():
        expected[whose] += max(0, blocks - REFUNDED_BLOCKS)
    stored = {(row["tenant"], row["day"]): row["used"] for row in quota}
    for whose in expected.keys() | stored.keys():
        # beyond some passes a day no more is given back, whichever image comes first
        kept = drawn[whose] if cost[whose] > REFUNDED_PASSES else 0
        if not 0 <= stored.get(whose, 0) - expected[whose] <= kept:
            found.say("miscounted", f"{whose}: {stored.get(whose)} used, not {expected[whose]}")


def _refunded(image: dict[str, Any], passes: int) -> bool:
    """The rule in DESIGN, written a second time on purpose."""
    if image["state"] == "cancelled":
        return image["previews"] == "[]" and image["pass_no"] <= passes / 4
    at_input = image["state"] == "blocked" and image["stage"] == "input"
    return image["state"] in ("failed", "expired") or at_input


def _blobs(found: Findings, world: World, jobs: Rows, renders: Renders, *, pictures: bool) -> None:
    """No row without its blob, no blob without a row, and what is in them is right."""
    named = {
        image["blob"]: (job, image["idx"])
        for job in jobs
        for image in renders[job["id"]]
        if image["blob"] is not None
    }
    stored = {str(path.relative_to(world.blobs)) for path in _files(world.blobs / "images")}
    for key in named.keys() - stored:
        found.say("lost", f"the picture {key} is not there")
    for key in stored - named.keys():
        found.say("orphans", key)
    _handed_out(found, world, jobs, renders)
    here = sorted(named.keys() & stored) if pictures else []
    for key in random.Random(0).sample(here, min(SAMPLE, len(here))):
        job, index = named[key]
        if (world.blobs / key).read_bytes() != file_of(request_from_json(job["request"]), index):
            found.say("wrong_pictures", key)


def _inputs(found: Findings, world: World, files: Rows) -> None:
    """No blob without a row that has time to live. A row whose blobs never came is none of it."""
    named = {key for file in files for key in json.loads(file["blobs"])}
    stored = {str(path.relative_to(world.blobs)) for path in _files(world.blobs / "inputs")}
    for key in stored - named:
        found.say("orphans", key)
    now = world.clock()()
    for file in files:
        if file["expires_at"] <= now:
            found.say("orphans", f"the row of {file['id']}, which has expired")


def _handed_out(found: Findings, world: World, jobs: Rows, renders: Renders) -> None:
    """The pictures that clients were given are those that are stored."""
    of_key = {job["idempotency_key"]: job["id"] for job in jobs}
    for fact in world.told():
        if fact["what"] != "drawn":
            continue
        images = renders.get(fact.get("job") or of_key.get(fact["key"], ""), [])
        paths = [world.blobs / image["blob"] for image in images if image["blob"]]
        stored = [hashlib.sha256(p.read_bytes()).hexdigest() for p in paths if p.exists()]
        if sorted(stored) != sorted(fact["digests"]):
            found.say("wrong_answers", f"{fact['key']} was given another picture")


def _files(folder: Path) -> Iterable[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
