"""How far a lane's limits are tightened, and the audit log of it. Decided in autoscaling/limits.py.

Of SqlLedger: functions inside the caller's transaction.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import Connection, text

_LEVEL = text("""select level, since, reason, drain_seconds, read_at, held_since
    from limit_levels where lane = :lane""")
# Unless another dispatcher has stored a reading since the one that was decided on.
_KEEP = text("""insert into limit_levels
        (lane, level, since, reason, drain_seconds, read_at, held_since)
    values (:lane, :level, :since, :reason, :drain_seconds, :read_at, :held_since)
    on conflict (lane) do update set level = excluded.level, since = excluded.since,
        reason = excluded.reason, drain_seconds = excluded.drain_seconds,
        read_at = excluded.read_at, held_since = excluded.held_since
    where limit_levels.read_at = :was_read_at
    returning lane""")
_CHANGED = text("""insert into limit_changes
        (lane, at, from_level, to_level, reason, drain_seconds)
    values (:lane, :since, :from_level, :level, :reason, :drain_seconds)""")
_CHANGES = text("""select at, from_level, to_level, reason, drain_seconds from limit_changes
    where lane = :lane order by at desc limit :limit""")
# With the one before, which says what held at the beginning.
_CHANGES_SINCE = text("""select at, from_level, to_level, reason, drain_seconds from limit_changes
    where lane = :lane and at >= coalesce(
        (select max(at) from limit_changes where lane = :lane and at < :since), 0.0)
    order by at desc limit :limit""")


@dataclass(frozen=True, slots=True)
class LimitLevel:
    """A lane's level. Times are the ledger's."""

    level: int = 0
    """0 for the usual limits, n for the first n thresholds."""
    since: float = 0.0
    """When the level was entered."""
    reason: str = ""
    """Of the last change."""
    drain_seconds: float = 0.0
    """Of the last reading."""
    read_at: float = 0.0
    held_since: float = 0.0
    """Since when readings have called for the same change, or for none."""


@dataclass(frozen=True, slots=True)
class LimitChange:
    """A line of the audit log. at: seconds since the epoch."""

    at: float
    from_level: int
    to_level: int
    reason: str
    drain_seconds: float


def load_level(connection: Connection, lane: str) -> LimitLevel:
    """The usual limits for a lane that never was hot."""
    row = connection.execute(_LEVEL, {"lane": lane}).first()
    return LimitLevel() if row is None else LimitLevel(*row)


def store_level(connection: Connection, lane: str, before: LimitLevel, after: LimitLevel) -> bool:
    """See Ledger.move_limits."""
    row = {"lane": lane, **asdict(after), "was_read_at": before.read_at}
    if connection.execute(_KEEP, row).first() is None:
        return False
    if after.level != before.level:
        connection.execute(_CHANGED, {**row, "from_level": before.level})
    return True


def load_changes(connection: Connection, lane: str, limit: int) -> list[LimitChange]:
    """The newest first."""
    rows = connection.execute(_CHANGES, {"lane": lane, "limit": limit})
    return [LimitChange(*row) for row in rows]


def load_changes_since(
    connection: Connection, lane: str, since: float, limit: int
) -> list[LimitChange]:
    """The newest of that time and the last one before it, oldest first."""
    rows = connection.execute(_CHANGES_SINCE, {"lane": lane, "since": since, "limit": limit})
    return [LimitChange(*row) for row in rows][::-1]
