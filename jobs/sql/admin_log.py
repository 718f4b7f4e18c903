"""The log of what operators changed. Part of SqlLedger."""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import text

from jobs.admin_calls import AdminCall
from jobs.db.errors import again_if_overtaken
from jobs.sql.verbs import SqlVerbs

_LOG = text("""insert into admin_calls (at, call, operator, action, target, outcome)
    values (:at, :id, :operator, :action, :target, :outcome)""")
_CALLS = text("""select call as id, operator, action, target, outcome, at from admin_calls a
    where (cast(:operator as text) is null or operator = :operator)
      and not exists (select 1 from admin_calls b where b.call = a.call and b.seq > a.seq)
    order by seq desc limit :limit""")


class SqlAdminLog(SqlVerbs):
    """See AdminLog."""

    @again_if_overtaken
    def log_admin_call(self, call: AdminCall) -> None:
        with self._write() as connection:
            connection.execute(_LOG, {**asdict(call), "at": self._now(connection)})

    def admin_calls(self, limit: int, operator: str | None = None) -> list[AdminCall]:
        with self._read() as connection:
            found = connection.execute(_CALLS, {"limit": limit, "operator": operator})
            return [AdminCall(**row) for row in found.mappings()]
