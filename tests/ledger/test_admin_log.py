"""What operators change is in the ledger before it is changed, and says what came of it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
import yaml

from jobs.admin_calls import audited, new_call
from jobs.ledger_errors import LedgerUnavailable
from jobs.sql.sql_ledger import SqlLedger
from serve_app.__main__ import main
from serve_app.operate.commands.operating import this_user
from tests.stages.ledger_kit import Clock, Database, sqlite


def told(ledger: SqlLedger, operator: str | None = None) -> list[tuple[str, str, str, str]]:
    calls = ledger.admin_calls(100, operator)
    return [(call.operator, call.action, call.target, call.outcome) for call in calls]


def test_a_change_is_logged_before_it_is_made(database: Database, clock: Clock) -> None:
    ledger = database.open(clock=clock)
    with audited(ledger, "ada", "jobs cancel", "job-1"):
        assert told(ledger) == [("ada", "jobs cancel", "job-1", "begun")]
        clock.now += 5
    with (
        pytest.raises(ValueError, match="no"),
        audited(ledger, "grace", "jobs cancel", "j" * 300),
    ):
        raise ValueError("no")
    assert told(ledger) == [
        ("grace", "jobs cancel", "j" * 200, "ValueError"),
        ("ada", "jobs cancel", "job-1", "done"),
    ]
    assert told(ledger, "ada") == [("ada", "jobs cancel", "job-1", "done")]
    assert ledger.admin_calls(1, "ada")[0].at == clock.now
    assert len(ledger.admin_calls(1)) == 1
    interrupted = new_call("ada", "erase", "bob")
    ledger.log_admin_call(interrupted)
    assert told(ledger)[0] == ("ada", "erase", "bob", "begun")


def test_without_the_log_nothing_is_changed() -> None:
    class Away:
        def log_admin_call(self, call: object) -> None:
            raise LedgerUnavailable("disk full")

    with pytest.raises(LedgerUnavailable), audited(Away(), "ada", "erase", "bob"):  # type: ignore[arg-type]
        pytest.fail("it was changed")


def test_commands_that_write_are_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = yaml.safe_load(Path("configs/laptop.yaml").read_text())
    args = document["applications"][0]["args"]
    args["ledger"], args["blobs"] = {"dsn": sqlite(tmp_path).url}, {"directory": f"{tmp_path}/b"}
    config = ["--config", str(tmp_path / "c.yaml")]
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(document))

    assert main(["keys", "create", "ada", *config]) == 0
    key = capsys.readouterr().out.strip()
    assert main(["keys", "create", "root", "--role", "operator", *config]) == 0
    assert main(["keys", "revoke", key, *config]) == 1, "a whole key is no prefix"
    assert main(["keys", "revoke", key[:14], *config]) == 0
    assert main(["keys", "list", *config]) == 0
    assert main(["review", "allow", "7", *config]) == 2
    assert main(["erase", "ada", *config]) == 0
    with closing(sqlite(tmp_path).open()) as ledger:
        assert [call[1:] for call in reversed(told(ledger, this_user()))] == [
            ("keys create", "ada", "done"),
            ("keys create --role operator", "root", "done"),
            ("keys revoke", key[:14], "UnknownKey"),
            ("keys revoke", key[:14], "done"),
            ("review allow", "7", "ConfigError"),
            ("erase", "ada", "done"),
        ]
    capsys.readouterr()
    assert main(["audit", "--last", "2", *config]) == 0
    title, newest, second = capsys.readouterr().out.splitlines()
    assert title.split() == ["at", "operator", "action", "target", "outcome"]
    assert newest.split()[2:] == [this_user(), "erase", "ada", "done"]
    assert "ConfigError" in second
    assert key not in str(newest)
