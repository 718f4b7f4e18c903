"""The audit log of verdicts, its reviews, and what they count for. Part of SqlLedger."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, Row, text

from jobs.db.compiled import send
from jobs.db.errors import again_if_overtaken
from jobs.db.rows import storable
from jobs.job import Render
from jobs.queues import lane_of
from jobs.sql.events import write_events
from jobs.sql.records import load_job
from jobs.sql.verbs import SqlVerbs
from jobs.verdicts import LoggedVerdict, ReviewDecision, Reviewed, Strikes, VerdictNote
from jobs.webhooks import events_of_blocks

_OWN_COLUMNS = ("lane", "tenant", "job_id", "index", "stage", "action")
# Not asdict, which copies deeply and takes longer than the database.
_SAID = tuple(one.name for one in fields(VerdictNote) if one.name not in _OWN_COLUMNS)
_FORGOTTEN_AT_ONCE = 1000

_LOG = text("""insert into verdicts (at, lane, tenant, job_id, idx, stage, action, said)
    values (:at, :lane, :tenant, :job_id, :index, :stage, :action, :said)""")
_DECISION = "(select decision from reviews r where r.verdict = v.seq order by r.at desc limit 1)"
_COLUMNS = f"""v.seq, v.at, v.lane, v.tenant, v.job_id, v.idx, v.stage, v.action, v.said,
    {_DECISION} as decision"""
_VERDICTS = text(f"""select {_COLUMNS} from verdicts v
    where v.action = :action and v.action <> 'allow'
      and (:all or not exists (select 1 from reviews r where r.verdict = v.seq))
    order by v.seq desc limit :limit""")
_OF_JOB = text(f"select {_COLUMNS} from verdicts v where v.job_id = :job_id order by v.seq")
_ONE = text(f"select {_COLUMNS} from verdicts v where v.seq = :seq")
_REVIEW = text("""insert into reviews (verdict, at, decision) values (:seq, :at, :decision)
    on conflict (verdict, at) do update set decision = excluded.decision""")
_STRIKES = text(f"""select count(distinct v.job_id) as orders, max(v.at) as newest from verdicts v
    where v.tenant = :tenant and v.at > :since and v.action <> 'allow'
      and coalesce({_DECISION}, case when v.action = 'block' then 'uphold' end) = 'uphold'""")
_TAKE_BACK = text("""update renders set blob = null, previews = '[]', checkpoint = null
    where job_id = :job_id and (cast(:index as integer) is null or idx = :index)
      and state in ('succeeded', 'blocked', 'failed', 'cancelled', 'expired')""")
_AGED = "select seq from verdicts where lane = :lane and at <= :before order by at limit :limit"
_DROP = (
    text(f"delete from reviews where verdict in ({_AGED})"),
    text(f"delete from verdicts where seq in ({_AGED})"),
)
_ANY_AGED = text(f"{_AGED.replace(':limit', '1')}")


def log_verdicts(connection: Connection, notes: Sequence[VerdictNote], now: float) -> None:
    """Add them, in this order, and tell webhooks of those that block."""
    if notes:
        send(connection, (_LOG, [_row(note, now) for note in notes]))
    if blocks := [note for note in notes if note.action == "block" and note.user]:
        write_events(connection, events_of_blocks(blocks), now)


class SqlAuditLog(SqlVerbs):
    """See AuditLog."""

    @again_if_overtaken
    def log_verdicts(self, notes: Sequence[VerdictNote]) -> None:
        with self._write(self._database.relaxed) as connection:
            log_verdicts(connection, notes, self._now(connection))

    def verdicts(self, action: str, limit: int, *, reviewed: bool = False) -> list[LoggedVerdict]:
        with self._read() as connection:
            asked = {"action": action, "limit": limit, "all": reviewed}
            return [_logged(row) for row in connection.execute(_VERDICTS, asked)]

    def verdicts_of(self, job_id: str) -> list[LoggedVerdict]:
        with self._read() as connection:
            return [_logged(row) for row in connection.execute(_OF_JOB, {"job_id": job_id})]

    @again_if_overtaken
    def review(self, seq: int, decision: ReviewDecision) -> Reviewed | None:
        with self._write() as connection:
            now = self._now(connection)
            if connection.execute(_ONE, {"seq": seq}).first() is None:
                return None
            connection.execute(_REVIEW, {"seq": seq, "at": now, "decision": decision})
            verdict = _logged(connection.execute(_ONE, {"seq": seq}).one())
            if decision is not ReviewDecision.UPHOLD:
                return Reviewed(verdict)
            return Reviewed(verdict, *_take_back(connection, verdict.note))

    def strikes(self, tenant: str, within_seconds: float) -> Strikes:
        with self._read() as connection:
            now = self._now(connection)
            asked = {"tenant": tenant, "since": now - within_seconds}
            row = connection.execute(_STRIKES, asked).one()
            return Strikes(row.orders, now - row.newest) if row.orders else Strikes()

    @again_if_overtaken
    def forget_verdicts(self, lane: str, kept_seconds: float) -> bool:
        """With nothing to do it takes no write lock."""
        with self._read() as connection:
            asked: dict[str, Any] = {"lane": lane, "before": self._now(connection) - kept_seconds}
            if connection.execute(_ANY_AGED, asked).first() is None:
                return False
        with self._write(self._database.relaxed) as connection:
            for statement in _DROP:
                connection.execute(statement, {**asked, "limit": _FORGOTTEN_AT_ONCE})
        return True


def _take_back(connection: Connection, note: VerdictNote) -> tuple[str, tuple[Render, ...]]:
    """The pictures of that image, or of all of an order's, are to be had no more. Their format, and
    the images as they were."""
    job = load_job(connection, note.job_id, to_move=True)
    if job is None:
        return "", ()
    connection.execute(_TAKE_BACK, {"job_id": job.id, "index": note.index})
    renders = (one for one in job.renders if one.settled and note.index in (None, one.index))
    had = tuple(one for one in renders if one.blob is not None or one.previews)
    return job.request.output_format, had


def _row(note: VerdictNote, now: float) -> dict[str, Any]:
    row = {name: getattr(note, name) for name in _OWN_COLUMNS}
    said = {name: getattr(note, name) for name in _SAID}
    if note.words is not None:
        said["words"] = storable(note.words)
    return {**row, "lane": lane_of(note.lane), "at": now, "said": json.dumps(said)}


def _logged(row: Row[Any]) -> LoggedVerdict:
    said = json.loads(row.said)
    said["categories"] = tuple(said["categories"])
    said["scores"] = tuple((name, score) for name, score in said["scores"])
    note = VerdictNote(
        lane=row.lane,
        tenant=row.tenant,
        job_id=row.job_id,
        index=row.idx,
        stage=row.stage,
        action=row.action,
        **said,
    )
    return LoggedVerdict(row.seq, row.at, note, row.decision)
