"""`meltproof withdraw`: a model that is gone is forgotten; one that is there is not."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from jobs.announcements import SILENT_SECONDS, Announcement
from jobs.sql.sql_ledger import SqlLedger
from serve_app.__main__ import main
from tests.stages.ledger_kit import wish

SKETCH = Announcement(
    lane="default", name="sketch", queue="default/sketch", family="paced", capabilities={},
    guidance=1.0, size="64x64", qualities={}, pass_seconds=0.1, identity="0123",
)  # fmt: skip


def test_a_model_is_withdrawn_once_its_dispatchers_are_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = yaml.safe_load(Path("configs/separate-models.yaml").read_text())
    url = f"sqlite:///{tmp_path}/ledger.db"
    for application in document["applications"]:
        application["args"]["ledger"]["dsn"] = url
    path = tmp_path / "models.yaml"
    path.write_text(yaml.safe_dump(document))
    with closing(SqlLedger(url)) as ledger:
        ledger.announce(SKETCH, ready=True)
        ledger.submit(wish(lane="default/sketch"))
        assert main(["withdraw", str(path), "sketch"]) == 2
        assert "sketch is announced in lane default: stop" in capsys.readouterr().err
        assert main(["withdraw", str(path), "anime"]) == 2
        assert "no lane has a model 'anime'" in capsys.readouterr().err
        ledger.withdraw_model("default", "sketch")
        with closing(SqlLedger(url, clock=lambda: time.time() - SILENT_SECONDS)) as past:
            past.announce(SKETCH, ready=True)
        assert main(["withdraw", str(path), "sketch", "--lane", "default"]) == 0
        said = capsys.readouterr().out
        assert said == (
            "sketch is withdrawn from lane default; 1 of its jobs wait until they expire\n"
        )
        assert ledger.models("default") == []
