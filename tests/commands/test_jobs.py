"""`meltproof jobs`, `meltproof usage` and `meltproof status --watch`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from jobs.job import JobState, RenderState
from jobs.lease import Outcome
from jobs.sql.sql_ledger import SqlLedger
from serve_app.__main__ import main
from serve_app.operate.commands.api import Service, ServiceError
from serve_app.operate.commands.status import watch
from serve_app.operate.status_view import view
from tests.http.test_operator_jobs import KEYS
from tests.stages.http_stage import config as http_config
from tests.stages.http_stage import stage
from tests.stages.ledger_kit import Clock, claim_one, picture, wish

FAILED = Outcome(RenderState.FAILED, error="the decoder\x1b[2J gave up", gpu_seconds=1.5)


@pytest.fixture
def file(tmp_path: Path) -> str:
    document = yaml.safe_load(Path("configs/laptop.yaml").read_text())
    for application in document["applications"]:
        application["args"]["ledger"] = {"dsn": f"sqlite:///{tmp_path}/ledger.db"}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(document))
    return str(path)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqlLedger]:
    with closing(SqlLedger(f"sqlite:///{tmp_path}/ledger.db")) as opened:
        yield opened


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert main(arguments) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


def failed(ledger: SqlLedger, **changes: Any) -> str:
    ledger.submit(wish(watched=False, **changes))
    job = claim_one(ledger)
    ledger.finish_render(job.id, job.fence, 0, FAILED)
    return job.id


def test_jobs_are_listed_and_shown(
    file: str, ledger: SqlLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = failed(ledger, prompt="a secret wish")
    waiting = ledger.submit(wish(watched=False, tenant="bob")).job.id
    config = ("--config", file)
    title, *rows = said(capsys, "jobs", "list", *config).splitlines()
    assert title.split()[:5] == ["job", "tenant", "tier", "model", "state"]
    assert [row.split()[0] for row in rows] == [waiting, bad]
    assert "the decoder[2J gave up" in rows[1]
    assert said(capsys, "jobs", "list", "--tenant", "carol", *config) == "no such jobs\n"
    old = said(capsys, "jobs", "list", "--failed-since", "2h", "--json", *config)
    assert [job["id"] for job in json.loads(old)["jobs"]] == [bad]
    slow = said(capsys, "jobs", "list", "--slow", "waiting", "--json", *config)
    assert [job["id"] for job in json.loads(slow)["jobs"]] == [waiting]
    shown = said(capsys, "jobs", "show", bad, *config)
    assert "GPU-s      1.500 (predicted 1.000)" in shown
    assert [word in shown for word in ("accepted", "claimed", "ended", "failed")] == [True] * 4
    assert "secret" not in shown
    body = json.loads(said(capsys, "jobs", "show", bad, "--json", *config))
    assert [event["event"] for event in body["timeline"]] == ["accepted", "claimed", "ended"]


def test_many_pages_are_one_list(
    file: str,
    ledger: SqlLedger,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("jobs.sql.operating.SCANNED", 2)
    for number in range(7):
        ledger.submit(wish(watched=False, tenant=f"tenant {number % 2}"))
    arguments = ("jobs", "list", "--json", "--config", file, "--queue", "chat")
    listed = json.loads(said(capsys, *arguments))["jobs"]
    assert len(listed) == 7
    assert len(json.loads(said(capsys, *arguments, "--limit", "5"))["jobs"]) == 5


def test_a_job_is_requeued_and_cancelled(
    file: str, ledger: SqlLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, config = failed(ledger), ("--config", file)
    assert said(capsys, "jobs", "requeue", bad, *config) == f"{bad}: queued\n"
    refused = said(capsys, "jobs", "requeue", bad, *config, code=2)
    assert refused == f"{bad}: is queued; requeue needs one of expired, failed\n"
    held = claim_one(ledger)
    assert "with its next heartbeat" in said(capsys, "jobs", "cancel", bad, *config)
    found = ledger.get(held.id)
    assert found is not None
    assert (found.state, found.cancel_requested) == (JobState.LEASED, True)
    assert "no ledger of the file" in said(capsys, "jobs", "cancel", "none", *config, code=2)
    calls = [(call.action, call.target, call.outcome) for call in ledger.admin_calls(9)]
    assert calls == [
        ("jobs cancel", bad, "done"),
        ("jobs requeue", bad, "IllegalTransition"),
        ("jobs requeue", bad, "done"),
    ]


@pytest.mark.parametrize(
    ("option", "value", "what"),
    [("--state", "gone", "these are: queued"), ("--model", "none", "has no model 'none'")],
)
def test_what_is_not_understood_is_refused(
    file: str, capsys: pytest.CaptureFixture[str], option: str, value: str, what: str
) -> None:
    assert what in said(capsys, "jobs", "list", option, value, "--config", file, code=2)


@pytest.mark.parametrize(
    "arguments",
    [
        ("jobs", "list", "--failed-since", "yesterday"),
        ("usage", "--from", "yesterday"),
        ("usage", "--from", "2025-03-26T14:30"),
        ("usage", "--by", "tenant,mood"),
        ("usage", "--by", "day,hour"),
        ("usage", "--by", "day,day"),
        ("status", "--every", "0"),
    ],
)
def test_arguments_that_say_nothing(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code == 2
    assert arguments[-2] in capsys.readouterr().err


def test_usage_is_added_up(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock(datetime(2025, 3, 26, 23, 30, tzinfo=UTC).timestamp())
    with closing(SqlLedger(f"sqlite:///{tmp_path}/ledger.db", clock=clock)) as ledger:
        for tenant, gpu_seconds in (("=ada", 2.0), ("bob", 4.0), ("=ada", 1.0)):
            ledger.submit(wish(watched=False, tenant=tenant))
            job = claim_one(ledger)
            used = replace(picture(), gpu_seconds=gpu_seconds, joules=gpu_seconds * 250)
            ledger.finish_render(job.id, job.fence, 0, used)
            clock.now += 1_200
    asked = ("usage", "--config", file, "--from", "2025-03-26", "--to", "2025-03-28")
    title, *rows = said(capsys, *asked).splitlines()
    assert title.split() == [
        "tenant",
        "model",
        "day",
        "images",
        "requests",
        "GPU-seconds",
        "joules",
    ]
    assert [row.split() for row in rows] == [
        ["bob", "tokens", "2025-03-26", "1", "1", "4.0", "1,000"],
        ["=ada", "tokens", "2025-03-26", "1", "1", "2.0", "500"],
        ["=ada", "tokens", "2025-03-27", "1", "1", "1.0", "250"],
    ]
    written = said(capsys, *asked, "--by", "tenant", "--format", "csv")
    assert list(csv.DictReader(io.StringIO(written))) == [
        {"tenant": "bob", "images": "1", "requests": "1", "gpu_seconds": "4.0", "joules": "1000.0"},
        {
            "tenant": "'=ada",
            "images": "2",
            "requests": "2",
            "gpu_seconds": "3.0",
            "joules": "750.0",
        },
    ]
    in_json = json.loads(said(capsys, *asked, "--by", "hour", "--format", "json"))["usage"]
    assert [(row["hour"], row["images"]) for row in in_json] == [
        ("2025-03-26T23:00Z", 2), ("2025-03-27T00:00Z", 1),
    ]  # fmt: skip
    ours = ("usage", "--config", file)
    assert said(capsys, *ours) == "nothing was used\n", "in the last days"
    assert "--to: must be after" in said(capsys, *ours, "--from", "2030-01-01", code=2)


def test_a_watch_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator sees all of it, a tenant what `status` says; an outage is shown and passes."""
    looks = iter(range(3))

    def sleep(seconds: float) -> None:
        if next(looks) == 1:
            raise KeyboardInterrupt

    with stage(tmp_path, http_config(keys=KEYS)) as it:
        it.worker.pause()
        it.ledger.submit(wish(lane="default", tenant="t" * 10, watched=False))
        for key, words in (("sk-ops", "lane default"), ("sk-local", "ready at")):
            out = io.StringIO()
            with Service(it.url, key) as service:
                watch(service, Console(file=out, width=200), 2.0, sleep)
            assert words in out.getvalue()
            assert ("t" * 10 in out.getvalue()) == (key == "sk-ops")
            looks = iter(range(1, 3))
        with Service(it.url, "sk-wrong") as service, pytest.raises(ServiceError):
            watch(service, Console(file=io.StringIO()), 2.0, sleep)
        with Service(it.url, "sk-ops") as service:
            out = io.StringIO()
            asked = Service.get

            def away(service: Service, path: str) -> Any:
                if out.getvalue():
                    raise ServiceError("Nothing answers")
                return asked(service, path)

            monkeypatch.setattr(Service, "get", away)
            looks = iter(range(3))
            watch(service, Console(file=out, width=200), 2.0, sleep)
            assert "Nothing answers\nasked again in 2 s" in out.getvalue()


def test_what_a_hot_lane_looks_like() -> None:
    promise = {"images_per_day": 3, "queued_jobs": None, "newcomers_percent": 100.0}
    tier = {"weight": 1.0, "usual": promise, "now": {**promise, "images_per_day": 1}}
    heat = {
        "drain_seconds": 400.0, "trend": 0.5, "arrival_rate": 9.0, "render_rate": 4.0,
        "running_gpu_seconds": 2.0,
        "waiting": {"free": {"jobs": 1200, "parked_jobs": 3, "gpu_seconds": 1600.0,
                             "oldest_seconds": 300.0}},
    }  # fmt: skip
    model = {
        "name": "photos", "available": True, "heat": heat,
        "decoders": {"running": 2, "starting": 1, "slots": 4},
        "limits": {"level": 1, "reason": "drain 400 s", "tiers": {"free": tier}},
    }  # fmt: skip
    node = {"id": "ab" * 20, "address": "10.0.0.1", "alive": True, "head": True, "num_cpus": 8.0,
            "num_gpus": 1.0, "replicas": {"photos/Decoder": 2}}  # fmt: skip
    overview = {"lane": "chat", "models": [model], "nodes": [node]}
    none: dict[str, Any] = {"data": []}
    out = io.StringIO()
    Console(file=out, width=120).print(view(overview, none, none, none, 0.0))
    shown = out.getvalue()
    for words in ("7 min ↑", "1,200", "2 x 4 +1", "level 1: drain 400 s", "images per day 1",
                  "abababab (head)", "photos/Decoder 2", "no jobs run"):  # fmt: skip
        assert words in shown, words
