"""Hours of usage become days once they are old. Functions inside the caller's transaction."""

from __future__ import annotations

from sqlalchemy import Connection, text

from jobs.db import statements as sql
from jobs.usage import DAY_SECONDS

HOURS_KEPT_SECONDS = 35 * DAY_SECONDS
_TURN = {"lane": "", "step": "usage"}
"""Of the retention table: how far it has come, as the beginning of a day."""
_OLDEST = text("select min(hour) from usage where hour >= :done and hour < :before")
_OF_DAY = "hour >= :day and hour < :day + 86400 and not (hour = :day and part = 0)"
_ADD = text(f"""insert into usage (hour, tenant, model, size, source, part, images, requests,
        gpu_seconds, joules)
    select cast(:day as bigint), tenant, model, size, source, 0, sum(images), sum(requests),
        sum(gpu_seconds), sum(joules)
    from usage where {_OF_DAY} group by tenant, model, size, source
    on conflict (hour, tenant, model, size, source, part) do update set
        images = usage.images + excluded.images, requests = usage.requests + excluded.requests,
        gpu_seconds = usage.gpu_seconds + excluded.gpu_seconds,
        joules = usage.joules + excluded.joules""")
_DROP = text(f"delete from usage where {_OF_DAY}")


def oldest_day(connection: Connection, now: float) -> int | None:
    """The first day that is old and may have hours; None when there is none. Takes no lock."""
    before = int(now - HOURS_KEPT_SECONDS) // DAY_SECONDS * DAY_SECONDS
    row = connection.execute(sql.RETENTION_AT, _TURN).first()
    done = 0 if row is None else int(row.seq)
    if done >= before:
        return None
    hour = connection.execute(_OLDEST, {"done": done, "before": before}).scalar()
    return None if hour is None else int(hour) // DAY_SECONDS * DAY_SECONDS


def into_a_day(connection: Connection, day: int, now: float) -> None:
    """Add the hours of that day up into its first one. Other processes that do so wait, and then
    find nothing to add."""
    turn = {**_TURN, "now": now, "until": now}
    connection.execute(sql.TAKE_RETENTION, turn)
    connection.execute(_ADD, {"day": day})
    connection.execute(_DROP, {"day": day})
    done = {**_TURN, "seq": day + DAY_SECONDS, "turn": now}
    connection.execute(sql.RETENTION_DONE, done)
