"""A long queue in seconds: rows exactly as `submit` would write them, by the database itself.

One job is really submitted; its row is copied for every other one, with ids, tenants and stamps
of their own. A test compares the result with as many real submits.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection, text

from jobs.client.async_ledger import AsyncLedger
from jobs.db.schema import jobs, renders
from jobs.job import Job, RenderState
from jobs.lease import Beat, Outcome, RenderBeat
from jobs.request import ImageRequest
from jobs.sql.sql_ledger import SqlLedger
from scripts.postgres import side_door

CHECKPOINT = os.urandom(1024)
LANE, TIER, WHALE = "bench", "free", "whale"
IN_A_TURN, OF_WHALE = 10, 3  # three of ten jobs are the whale's
_NUMBERS = """with recursive n(i) as (
    select cast(:first as bigint) union all select i + 1 from n where i < :last)"""
# A permutation of 0..2^32, so that ids scatter over their index as random ones do.
_ID = """'00' || '000000000000000' ||
    substr(cast(1000000000000000 + (i * 2654435761) % 4294967296 as text), 2)"""
_WHALES = f"i % {IN_A_TURN} < {OF_WHALE}"
_TH_OF_WHALE = f"((i / {IN_A_TURN}) * {OF_WHALE} + i % {IN_A_TURN})"
_TH_OF_OTHERS = f"((i / {IN_A_TURN}) * {IN_A_TURN - OF_WHALE} + i % {IN_A_TURN} - {OF_WHALE})"


@dataclass(frozen=True, slots=True)
class Backlog:
    """queued jobs of one image over `tenants` tenants, of whom one holds three in ten."""

    queued: int
    tenants: int

    def tenant_of(self, i: int) -> str:
        """Who sends job i."""
        turn, place = divmod(i, IN_A_TURN)
        if place < OF_WHALE:
            return WHALE
        others = turn * (IN_A_TURN - OF_WHALE) + place - OF_WHALE
        return f"tenant-{others % (self.tenants - 1)}"


def wish(tenant: str, **changes: object) -> ImageRequest:
    """A request for one image, as every measure here uses it."""
    fields: dict[str, object] = {
        "lane": LANE, "tenant": tenant, "tier": TIER, "model": "tokens", "prompt": "a red fox",
        "n": 1, "width": 256, "height": 256, "quality": "auto", "passes": 4, "guidance": 3.0,
        "seed": 7, "watched": False,
    }  # fmt: skip
    return ImageRequest(**(fields | changes))  # type: ignore[arg-type]


def beat(job: Job, pass_no: int, passes: int) -> Beat:
    """A heartbeat with a checkpoint; the last pass is before postprocessing."""
    state = RenderState.FINISHING if pass_no == passes else RenderState.RENDERING
    return Beat(job.id, job.fence, (RenderBeat(0, state, pass_no, CHECKPOINT),))


def finish(ledger: SqlLedger, job: Job) -> partial[Job]:
    """Its one image succeeded."""
    blob = f"images/{job.id[:6]}/{job.id}/0-{job.fence}.png"
    outcome = Outcome(RenderState.SUCCEEDED, blob=blob, checkpoint=CHECKPOINT)
    return partial(ledger.finish_render, job.id, job.fence, 0, outcome)


async def submit_all(
    front: AsyncLedger, jobs: int, callers: int, order: Callable[[int], ImageRequest]
) -> None:
    """By that many callers of one process, each one after the other. order: of a number."""

    async def caller(first: int) -> None:
        for number in range(first, jobs, callers):
            await front.submit(order(number))

    async with asyncio.TaskGroup() as group:
        for first in range(callers):
            group.create_task(caller(first))


def fill(ledger: SqlLedger, url: str, backlog: Backlog) -> None:
    """Queue all of it in one transaction. The ledger must be empty."""
    template = ledger.submit(wish(backlog.tenant_of(0))).job.id
    copy(url, template, 0, backlog, {})
    recount(url, template)


def copy(url: str, template: str, first: int, backlog: Backlog, own: Mapping[str, str]) -> None:
    """Add copies of that job from number `first` on, in one transaction; those before are there
    already. own: SQL for further columns of each copy, of its number i."""
    engine = side_door(url)
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("pragma cache_size = -1000000")  # KiB
        numbers = {"first": first, "last": backlog.queued - 1, "template": template}
        newest = connection.execute(text("select max(seq) from jobs")).scalar_one()
        _copy_jobs(connection, numbers, backlog, own)
        _copy_renders(connection, template, newest)
    engine.dispose()


def recount(url: str, template: str) -> None:
    """Delete the template, and bring in order what its copies have in other tables, and what the
    database knows of them."""
    engine = side_door(url)
    with engine.begin() as connection:
        connection.execute(text("delete from jobs where id = :id"), {"id": template})
        connection.execute(text("delete from renders where job_id = :id"), {"id": template})
        _count(connection, "flows (lane, tier, tenant, vft)", "lane, tier, tenant, max(vft)",
               "lane, tier, tenant")  # fmt: skip
        _count(connection, "quota (tenant, day, used)", "tenant, day, count(*)", "tenant, day")
        _count(connection, "tenants (id, tier, created_at)", "tenant, tier, min(created_at)",
               "tenant, tier")  # fmt: skip
    with engine.connect() as connection:
        at_once = connection.execution_options(isolation_level="AUTOCOMMIT")
        at_once.execute(text("analyze"))
        if engine.dialect.name == "postgresql":  # what filling left to write is no part of a claim
            at_once.execute(text("checkpoint"))
    engine.dispose()


def _copy_jobs(
    connection: Connection, numbers: dict[str, object], backlog: Backlog, further: Mapping[str, str]
) -> None:
    others = f"{_TH_OF_OTHERS} % {backlog.tenants - 1}"
    rank = (
        f"case when {_WHALES} then {_TH_OF_WHALE} else {_TH_OF_OTHERS} / {backlog.tenants - 1} end"
    )
    tenant = f"case when {_WHALES} then '{WHALE}' else 'tenant-' || ({others}) end"
    own = {
        "id": _ID,
        "tenant": tenant,
        "vft": f"cost_seconds * ({rank} + 1)",
        "request": f"""replace(request, '"{WHALE}"', '"' || {tenant} || '"')""",
    } | further
    names = [column.name for column in jobs.columns if column.name != "seq"]
    values = [own.get(name, name) for name in names]
    connection.execute(
        text(
            f"insert into jobs ({', '.join(names)}) {_NUMBERS} select {', '.join(values)} "
            "from n cross join jobs where jobs.id = :template order by i"
        ),
        numbers,
    )


def _copy_renders(connection: Connection, template: str, newest: int) -> None:
    names = [column.name for column in renders.columns]
    own = {"job_id": "jobs.id", "blob": "replace(renders.blob, renders.job_id, jobs.id)"}
    values = [own.get(name, f"renders.{name}") for name in names]
    connection.execute(
        text(
            f"insert into renders ({', '.join(names)}) select {', '.join(values)} "
            "from jobs cross join renders "
            "where renders.job_id = :template and jobs.seq > :newest order by jobs.id"
        ),
        {"template": template, "newest": newest},
    )


def _count(connection: Connection, into: str, what: str, per: str) -> None:
    table = into.split()[0]
    connection.execute(text(f"delete from {table}"))
    connection.execute(text(f"insert into {into} select {what} from jobs group by {per}"))
