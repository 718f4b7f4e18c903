"""The models that are announced in the ledger. Part of SqlLedger."""

from __future__ import annotations

from jobs.announcements import SILENT_SECONDS, AnnouncedModel, Announcement
from jobs.db import statements as sql
from jobs.db.errors import again_if_overtaken
from jobs.sql.verbs import SqlVerbs

RENEW_SECONDS = 2.0
"""What was announced more recently, by any dispatcher, is not written again."""


class SqlModelTable(SqlVerbs):
    """See ModelTable."""

    @again_if_overtaken
    def announce(self, model: Announcement, *, ready: bool) -> None:
        row = {
            "queue": model.queue, "lane": model.lane, "name": model.name, "said": model.to_json(),
        }  # fmt: skip
        with self._read() as connection:
            known = {**row, "ready": ready, "since": self._now(connection) - RENEW_SECONDS}
            if connection.execute(sql.STILL_ANNOUNCED, known).first() is not None:
                return
        with self._write(self._database.relaxed) as connection:
            now = self._now(connection)
            connection.execute(sql.MOVED_MODEL, row)
            times = {"now": now, "ready_at": now if ready else None, "since": now - SILENT_SECONDS}
            connection.execute(sql.ANNOUNCE, {**row, **times})

    @again_if_overtaken
    def withdraw_model(self, lane: str, name: str) -> bool:
        with self._write() as connection:
            gone = connection.execute(sql.WITHDRAW_MODEL, {"lane": lane, "name": name})
            return gone.rowcount > 0

    def models(self, lane: str) -> list[AnnouncedModel]:
        with self._read() as connection:
            now = self._now(connection)
            return [
                AnnouncedModel(
                    Announcement.of_row(lane, row.name, row.queue, row.said),
                    row.announced_at,
                    row.ready_at,
                    row.seen_at,
                    now,
                )
                for row in connection.execute(sql.MODELS, {"lane": lane})
            ]
