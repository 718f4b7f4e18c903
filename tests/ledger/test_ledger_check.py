"""A ledger that cannot be used is refused at start, by the field's name and with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.config.errors import ConfigError
from serve_app.config.ledger_check import check_ledger
from tests.stages.ledger_kit import Database


def test_one_that_answers_is_made_ready(database: Database) -> None:
    check_ledger(database.url, nodes=1)
    assert database.open().depth("chat").queued_jobs == 0


def test_a_server_serves_many_nodes_and_a_file_one(database: Database) -> None:
    if database.kind == "postgresql":
        check_ledger(database.url, nodes=3)
        return
    with pytest.raises(ConfigError, match=r"^ledger\.dsn: SQLite is .* 3 nodes: use postgresql://"):
        check_ledger(database.url, nodes=3)


@pytest.mark.parametrize(
    ("dsn", "reason"),
    [
        ("postgresql://ada:s3cret@127.0.0.1:1/ledger", "refused"),
        ("postgresql://ada:s3cret@/ledger?host={tmp_path}", "No such file"),
        ("postgresql://ada:s3cret@127.0.0.1:port/ledger", "cannot be read"),
        ("sqlite:///{tmp_path}/notes.txt", "not a database"),
        ("sqlite:////proc/none/ledger.db", "/proc/none"),
    ],
)
def test_one_that_does_not_answer_is_refused(dsn: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("these are somebody's notes, not a database" * 100)
    with pytest.raises(ConfigError) as refused:
        check_ledger(dsn.replace("{tmp_path}", str(tmp_path)), nodes=1)
    assert str(refused.value).startswith("ledger.dsn: ")
    assert reason in str(refused.value)
    assert "s3cret" not in str(refused.value)
