"""The command line against a real service: files, words and exit codes."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import httpx
import pytest
from PIL import Image

from engine.capabilities import capabilities
from jobs.announcements import Announcement
from jobs.sql.sql_ledger import SqlLedger
from serve_app.__main__ import main
from serve_app.operate.commands.api import Service, Unreachable, read_events
from tests.page.pipeline import Pipeline
from tests.stages.ledger_kit import wait_until, wish


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Pipeline]:
    pipeline = Pipeline(tmp_path)
    yield pipeline
    pipeline.close()


def generate(service: Pipeline, *arguments: str) -> int:
    return main(["generate", *arguments, "--base-url", service.url])


def test_generate_writes_the_picture_and_says_where(
    service: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "fox.png"
    model = ("--model", "meltproof-paced")
    assert generate(service, "a red fox", "-o", str(file), "--size", "320x256", *model) == 0
    with Image.open(file) as picture:
        assert (picture.format, picture.size) == ("PNG", (320, 256))
    assert capsys.readouterr().out == f"{file}\n"


def test_generate_numbers_several_pictures(service: Pipeline, tmp_path: Path) -> None:
    assert generate(service, "a fox", "-n", "2", "--seed", "3", "-o", f"{tmp_path}/f.webp") == 0
    files = sorted(tmp_path.glob("f-*.webp"))
    assert [file.name for file in files] == ["f-1.webp", "f-2.webp"]
    assert files[0].read_bytes() != files[1].read_bytes()
    assert generate(service, "a fox", "--seed", "4", "-o", f"{tmp_path}/same.webp") == 0
    assert (tmp_path / "same.webp").read_bytes() == files[1].read_bytes()


def test_generate_says_why_a_prompt_was_refused(
    service: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate(service, "a bomb", "-o", f"{tmp_path}/x.png") == 1
    assert "rejected by the safety system" in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "x.png").exists()


def test_generate_names_the_field_that_is_wrong(
    service: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate(service, "a fox", "--size", "7x7", "-o", f"{tmp_path}/x.png") == 1
    assert "'size'" in capsys.readouterr().err
    assert generate(service, "a fox", "--model", "anime", "-o", f"{tmp_path}/x.png") == 1
    assert "draws with 'meltproof-paced'" in capsys.readouterr().err


def test_a_picture_that_cannot_be_written_is_said(
    service: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        (tmp_path / f"fox-{number + 1}.png").mkdir()
    assert generate(service, "a fox", "-n", "2", "-o", f"{tmp_path}/fox.png") == 1
    assert "fox-1.png: cannot be written" in capsys.readouterr().err.replace("\n", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a fox", "-o", "fox.gif"], "cannot save as .gif"),
        (["a fox", "-o", "no/such/folder/fox.png"], "there is no folder"),
        ([], "prompt"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["generate", *arguments])
    assert refused.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("command", [["generate", "a fox"], ["status"]])
def test_an_address_where_nothing_is_gets_named(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--base-url", "http://127.0.0.1:9"]) == 3
    assert "Nothing answers at http://127.0.0.1:9" in capsys.readouterr().err


def test_status_shows_model_and_jobs(
    service: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generate(service, "a red fox", "-o", f"{tmp_path}/x.png")
    capsys.readouterr()
    assert main(["status", "--base-url", f"{service.url}v1/"]) == 0
    said = capsys.readouterr().out
    assert "meltproof-paced" in said
    assert "succeeded" in said
    assert "a red fox" in said
    assert "lane default: nothing to draw" in said
    assert "nothing waits" in said


def test_status_shows_every_model(
    service: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    can = asdict(capabilities("paced", {}))
    asleep = Announcement(
        lane="default", name="anime", queue="default/anime", family="paced", capabilities=can,
        guidance=2.0, size="256x256", qualities={"medium": 7}, pass_seconds=0.1, identity="0",
        start_seconds=40.0,
    )  # fmt: skip
    generate(service, "a red fox", "-o", f"{tmp_path}/x.png")
    with httpx.Client(base_url=service.url, headers={"authorization": "Bearer sk-local"}) as http:

        def known() -> bool:
            service.announce(asleep, ready=True)
            return len(http.get("/v1/models").json()["data"]) == 2

        wait_until(known, "it is known")
    capsys.readouterr()
    assert main(["status", "--base-url", service.url]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "draws with meltproof-paced, anime (starts with its first job, in about 40 s)" in said
    assert "anime lane default/anime: nothing to draw" in said
    assert "job model state" in said


def test_status_shows_who_waits(
    service: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.pace.hold()
    ledger = SqlLedger(f"sqlite:///{tmp_path}/ledger.db")
    for number in range(20):
        ledger.submit(wish(lane="default", tenant=f"t{number}", watched=False))
    ledger.close()
    assert main(["status", "--base-url", service.url]) == 0
    said = capsys.readouterr().out
    assert re.search(r"tier +waiting +at their limit +GPU-seconds +oldest", said)
    (waiting,) = re.findall(r"^free +(\d+) +0 ", said, re.MULTILINE)
    assert 0 < int(waiting) <= 20
    assert "lane default: too little was drawn to say" in said


def test_status_refuses_a_wrong_key(service: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--base-url", service.url, "--key", "sk-no"]) == 1
    assert "Incorrect API key" in capsys.readouterr().err


def test_a_lost_stream_is_taken_up_where_it_broke(service: Pipeline) -> None:
    service.pace.hold()
    passes: list[int] = []

    def follow() -> None:
        with Service(service.url, "sk-local") as client:
            job = client.submit({"prompt": "a fox", "partial_images": 3})
            for event in client.events(job["id"]):
                if event.name == "preview":
                    passes.append(event.data["pass"])
                    seen.set()

    seen = threading.Event()
    follower = threading.Thread(target=follow)
    follower.start()
    service.pace.step(3)
    assert seen.wait(60)
    service.drop_connections()
    service.pace.go()
    follower.join(60)
    # none twice; the picture may come before the last preview of it
    assert passes in ([2, 6, 10], [2, 6], [2])
    assert service.streams_from == ["", "0.2"]


def test_a_service_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_app.operate.commands.api.LONGEST_PAUSE_SECONDS", 0)
    with (
        Service("http://127.0.0.1:9", "sk-local") as nobody,
        pytest.raises(Unreachable, match=r"127\.0\.0\.1:9"),
    ):
        list(nobody.events("any"))


def test_events_are_read_and_comments_skipped() -> None:
    lines = [": keep-alive", "", "event: job", "id: 0.3", 'data: {"a": 1}', "", 'data: {"b": 2}']
    (event,) = read_events(iter(lines))  # the last one is not complete
    assert (event.name, event.id, event.data) == ("job", "0.3", {"a": 1})


def test_client_commands_do_not_import_the_cluster() -> None:
    heavy = "{'ray', 'torch', 'fastapi', 'sqlalchemy', 'numpy'}"
    code = (
        "import sys, serve_app.__main__\n"
        "import serve_app.operate.commands.generate, serve_app.operate.commands.status\n"
        f"print({heavy} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
