"""`meltproof review`: what was flagged is listed until a person has said what it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from jobs.blobs.store import BlobMissing, DirectoryBlobs, image_key
from jobs.sql.sql_ledger import SqlLedger
from serve_app.__main__ import main
from tests.ledger.test_audit import note
from tests.stages.ledger_kit import claim_one, picture, wish


@pytest.fixture
def config(tmp_path: Path) -> str:
    document = yaml.safe_load(Path("configs/laptop.yaml").read_text())
    for application in document["applications"]:
        application["args"]["ledger"] = {"dsn": f"sqlite:///{tmp_path}/ledger.db"}
        application["args"]["blobs"] = {"directory": f"{tmp_path}/blobs"}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(document))
    return str(path)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqlLedger]:
    with closing(SqlLedger(f"sqlite:///{tmp_path}/ledger.db")) as opened:
        yield opened


def test_a_flagged_picture_is_listed_and_taken_back(
    config: str, ledger: SqlLedger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.submit(wish())
    job = claim_one(ledger)
    blobs, key = DirectoryBlobs(tmp_path / "blobs"), image_key(job.id, 0, job.fence, "png")
    blobs.put(key, b"picture")
    outcome = replace(picture(key), verdicts=(note(job.id, "flag"),))
    ledger.finish_render(job.id, job.fence, 0, outcome)
    assert main(["review", "list", "--config", config]) == 0
    title, row = capsys.readouterr().out.splitlines()
    assert title.split() == [
        "number", "at", "tenant", "image", "stage", "categories", "policy", "review",
    ]  # fmt: skip
    number = row.split()[0]
    assert [part in row for part in (f"{job.id}/0", "weapons 0.75", "house@1")] == [True] * 3

    assert main(["review", "show", job.id, "--config", config]) == 0
    title, row = capsys.readouterr().out.splitlines()
    assert "sexual 0.12, weapons 0.75" in row
    assert "ab" * 32 in row
    assert main(["review", "show", "none", "--config", config]) == 2
    assert "no verdict is kept" in capsys.readouterr().err

    assert main(["review", "uphold", number, "--config", config]) == 0
    assert "; files taken back: 1" in capsys.readouterr().out
    with pytest.raises(BlobMissing):
        blobs.get(key)
    assert main(["review", "list", "--config", config]) == 0
    assert capsys.readouterr().out == "nothing with action flag is to be reviewed\n"
    assert main(["review", "list", "--reviewed", "--config", config]) == 0
    assert capsys.readouterr().out.rstrip().endswith("uphold")


def test_a_blocked_order_is_allowed_later(
    config: str, ledger: SqlLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.log_verdicts([note("one", index=None, stage="prompt", words="a wish\x1b[2J")])
    (blocked,) = ledger.verdicts("block", 1)
    assert ledger.strikes("ada", 60.0).count == 1
    assert main(["review", "list", "--blocked", "--config", config]) == 0
    shown = capsys.readouterr().out
    assert ["prompt" in shown, "a wish" in shown, "\x1b" in shown] == [True, True, False]
    assert main(["review", "allow", str(blocked.seq), "--config", config]) == 0
    said = f"{blocked.seq}: allow (block of one, tenant ada)\n"
    assert capsys.readouterr().out == said
    assert ledger.strikes("ada", 60.0).count == 0


def test_a_number_that_is_none_is_refused(
    config: str, ledger: SqlLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["review", "allow", "7", "--config", config]) == 2
    assert "7: no such verdict" in capsys.readouterr().err
