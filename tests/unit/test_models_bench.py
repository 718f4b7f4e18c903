"""The bench of models counts what it says."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from jobs.job import RenderState
from jobs.lease import Outcome
from jobs.sql.sql_ledger import SqlLedger
from scripts.chaos import auditor
from scripts.models import lane
from scripts.models.clients import Clients
from scripts.models.witnesses import Interrupted, Replica, Seen, audited
from serve_app.config.serve_file import parse_serve_config
from serve_app.operate.config_diff import changes
from tests.stages.ledger_kit import LEASE_SECONDS, beat, claim_one, picture, wish

GATEWAY = Replica("gateway", "Gateway", "a", 1)
OLD, NEW = (Replica("sketch", "Decoder", name, pid) for name, pid in (("b", 2), ("c", 3)))
BRIEF = Replica("gateway", "Gateway", "d", 4)


@pytest.mark.parametrize(
    ("seen", "last", "elsewhere"),
    [
        ({OLD, GATEWAY}, {OLD, GATEWAY}, set()),
        ({NEW, GATEWAY}, {NEW, GATEWAY}, set()),
        ({OLD, GATEWAY, BRIEF}, {OLD, GATEWAY}, {BRIEF}),
        ({OLD, GATEWAY}, {OLD}, {GATEWAY}),
        ({OLD, GATEWAY._replace(pid=9)}, {OLD, GATEWAY}, {GATEWAY._replace(pid=9)}),
    ],
)
def test_replicas_of_others_that_come_or_leave_are_counted(
    seen: set[Replica], last: set[Replica], elsewhere: set[Replica]
) -> None:
    assert Seen({OLD, GATEWAY}, seen, last).restarted(but="sketch") == elsewhere


@pytest.fixture
def dsn(tmp_path: Path) -> str:
    """Of a ledger whose settlings are noted."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    SqlLedger(url).close()
    auditor.install(url)
    return url


def submitted(ledger: SqlLedger, seed: int) -> None:
    ledger.submit(wish(tenant="local", model="sketch", seed=seed, watched=False))


async def test_jobs_and_requests_without_a_picture_are_lost(dsn: str) -> None:
    with closing(SqlLedger(dsn)) as ledger:
        for seed, end in ((1, picture()), (2, Outcome(RenderState.FAILED, error="e")), (3, None)):
            submitted(ledger, seed)
            job = claim_one(ledger)
            if end is not None:
                ledger.finish_render(job.id, job.fence, 0, end)
    clients = Clients(AsyncOpenAI(base_url="http://127.0.0.1:9", api_key="none"))
    clients.pictures = {("sketch", 1): "a", ("sketch", 4): "b"}
    clients.failed = {("sketch", 3): "no answer", ("sketch", 5): "no answer"}
    assert audited(dsn, clients) == {"jobs": 3, "jobs_lost": 4, "jobs_doubled": 0}
    with closing(SqlLedger(dsn)) as ledger:
        submitted(ledger, 1)
    assert audited(dsn, clients)["jobs_doubled"] == 1, "one request was accepted twice"


@pytest.mark.parametrize(("again_from", "resumed"), [(6, 1), (5, 0)])
def test_a_render_that_does_saved_passes_again_is_not_resumed(
    dsn: str, again_from: int, resumed: int
) -> None:
    found = Interrupted(dsn, "chat")
    with closing(SqlLedger(dsn)) as ledger:
        submitted(ledger, 1)
        job = claim_one(ledger)
        assert not found.begin(at_least=1), "it has no checkpoint"
        ledger.renew([beat(job, 6)], LEASE_SECONDS)
        assert found.begin(at_least=1)
        ledger.release(job.id, job.fence)
        job = claim_one(ledger, "w2")
        ledger.renew([beat(job, again_from)], LEASE_SECONDS)
        assert not found.look()
        ledger.finish_render(job.id, job.fence, 0, picture())
    assert found.look()
    assert found.verdict() == {"interrupted": 1, "resumed": resumed}


def test_each_edit_does_what_its_phase_is_about(tmp_path: Path) -> None:
    first = lane.lane(tmp_path)
    files = [first, lane.with_added(first), lane.with_other_passes(first)]
    files.append(lane.with_other_options(first))
    for document in files:
        parse_serve_config(document, "lane.yaml")
    running: dict[str, Any] = {
        app["name"]: {"deployed_app_config": app, "status": "RUNNING", "source": "declarative"}
        for app in first["applications"]
    }
    said = [
        {change.said() for change in changes({"applications": running}, edited)} for edited in files
    ]
    assert said == [
        set(),
        {"adds application anime"},
        {"live, nothing restarts"},
        {"restarts every replica of application sketch"},
    ]
