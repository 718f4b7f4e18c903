"""The Ledger's contract, third part: other processes, sudden death, and disks that say no."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from jobs.job import JobState
from jobs.ledger_errors import LedgerUnavailable
from jobs.sql.sql_ledger import SqlLedger
from tests.stages.ledger_kit import (
    LEASE_SECONDS,
    Database,
    beat,
    claim_one,
    full_disk,
    moved_on,
    picture,
    sqlite,
    wait_until,
    wish,
)

ROOT = Path(__file__).parents[2]

ACCEPT_FOR_EVER = """
import sys
from jobs.sql.sql_ledger import SqlLedger
from tests.stages.ledger_kit import wish
ledger = SqlLedger(sys.argv[1])
while True:
    print(ledger.submit(wish(n=2)).job.id, flush=True)
"""

CLAIM_ALL = """
import json, sys
from jobs.sql.sql_ledger import SqlLedger
ledger = SqlLedger(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
ids = []
while jobs := ledger.claim("chat", sys.argv[2], 3, 600.0):
    ids += [job.id for job in jobs]
print(json.dumps(ids), flush=True)
"""


def python(script: str, *arguments: str) -> subprocess.Popen[str]:
    """Another process with the repository on its path."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_what_was_accepted_survives_a_kill(database: Database) -> None:
    with python(ACCEPT_FOR_EVER, database.url) as process:
        assert process.stdout is not None
        told = [process.stdout.readline().strip() for _ in range(25)]
        process.send_signal(signal.SIGKILL)
        told += process.stdout.read().split()[:-1]
    ledger = database.open()
    jobs = ledger.get_many(told)
    assert {job.id for job in jobs} == set(told)
    assert all(job.state is JobState.QUEUED and len(job.renders) == 2 for job in jobs)
    depth = ledger.depth("chat")
    assert len(told) <= depth.queued_jobs <= len(told) + 2, "no half-written job is in the queue"


def test_no_job_is_claimed_twice(database: Database) -> None:
    """Three processes and five threads race for every job."""
    ledger = database.open()
    ids = {ledger.submit(wish(tenant=f"t{i % 7}")).job.id for i in range(150)}
    taken: list[str] = []

    def drain(worker: str) -> None:
        mine = database.open()
        while jobs := mine.claim("chat", worker, 3, 600.0):
            taken.extend(job.id for job in jobs)

    processes = [python(CLAIM_ALL, database.url, f"process {i}") for i in range(3)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    threads = [threading.Thread(target=drain, args=(f"thread {i}",)) for i in range(5)]
    for thread in threads:
        thread.start()
    for process in processes:
        output, _ = process.communicate("go\n")
        taken.extend(json.loads(output))
    for thread in threads:
        thread.join()
    assert len(taken) == 150
    assert set(taken) == ids


def test_version_sees_everybodys_writes(database: Database) -> None:
    ours, theirs = database.open(), database.open()
    before = ours.version()
    job = ours.submit(wish()).job
    after_our_own = ours.version()
    assert after_our_own != before, "our own are seen at once"
    theirs.cancel(job.id)
    after_theirs = moved_on(ours, after_our_own)
    theirs.submit(wish())
    before_beat = moved_on(ours, after_theirs)
    theirs.renew([beat(claim_one(theirs), 1)], LEASE_SECONDS)
    moved_on(ours, before_beat)


def test_a_wait_for_writes_ends_with_one_of_another_client(database: Database) -> None:
    ours, theirs = database.open(), database.open()
    seen = ours.version()
    found: list[int] = []
    waiting = threading.Thread(target=lambda: found.append(ours.changed(seen, 3600.0)), daemon=True)
    waiting.start()
    theirs.submit(wish())
    wait_until(lambda: not waiting.is_alive(), "the write is heard of")
    assert found != [seen]
    interrupted = threading.Thread(target=ours.changed, args=(ours.version(), 3600.0), daemon=True)
    interrupted.start()
    ours.interrupt()
    wait_until(lambda: not interrupted.is_alive(), "the wait is interrupted")


def test_looking_is_no_write(tmp_path: Path) -> None:
    """So idle watchers stay asleep. On SQLite, whose version has no other reason to move."""
    ledger = sqlite(tmp_path).open()
    before = ledger.version()
    assert ledger.claim("chat", "w", 1, LEASE_SECONDS) == []
    assert ledger.expire() == 0
    assert ledger.version() == before
    ledger.close()


def test_a_disk_without_room(tmp_path: Path) -> None:
    ledger = sqlite(tmp_path).open()
    ledger.submit(wish())
    held = claim_one(ledger)
    before = ledger.get(held.id)
    with full_disk(tmp_path):
        with pytest.raises(LedgerUnavailable):
            ledger.submit(wish(prompt="x" * 2_000_000))
        with pytest.raises(LedgerUnavailable):
            ledger.finish_render(held.id, held.fence, 0, picture("x" * 2_000_000))
        assert ledger.get(held.id) == before, "reading goes on, and nothing is half done"
    ledger.submit(wish())
    done = ledger.finish_render(held.id, held.fence, 0, picture())
    assert done.state is JobState.SUCCEEDED, "it goes on by itself when there is room again"
    ledger.close()


def test_after_an_outage_holders_get_one_lease(tmp_path: Path) -> None:
    """The outage is seen by a call that failed, however short it was."""
    now = [1000.0]
    ledger = SqlLedger(f"sqlite:///{tmp_path}/ledger.db?timeout=0.1", clock=lambda: now[0])
    ledger.submit(wish())
    held = claim_one(ledger)
    now[0] += LEASE_SECONDS
    blocker = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerUnavailable, match="locked"):
        ledger.expire()
    blocker.execute("ROLLBACK")
    blocker.close()
    assert ledger.expire() == 0
    assert ledger.renew([beat(held, 1)], LEASE_SECONDS)[0].held
    ledger.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody without rights")
def test_a_ledger_that_may_not_be_written() -> None:
    directory = Path(tempfile.mkdtemp(prefix="meltproof-readonly-"))
    url = f"sqlite:///{directory}/ledger.db"
    SqlLedger(url).close()
    directory.chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(LedgerUnavailable):
            SqlLedger(url).submit(wish())
    finally:
        os.seteuid(0)
        shutil.rmtree(directory)


def test_a_ledger_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("these are somebody's notes, not a database" * 100)
    with pytest.raises(LedgerUnavailable, match="not a database"):
        SqlLedger(f"sqlite:///{tmp_path}/ledger.db")
    (tmp_path / "file").touch()
    with pytest.raises(LedgerUnavailable, match="file"):
        SqlLedger(f"sqlite:///{tmp_path}/file/ledger.db")


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "mysql://u:secret@localhost/x",
        "postgresql://u:secret@h:x",
    ],
)
def test_a_url_we_cannot_serve_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="ledger") as refused:
        SqlLedger(url)
    assert "secret" not in str(refused.value)
