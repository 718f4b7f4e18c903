"""Chaos in small: the storm at short form, and the auditor, which must notice what it is for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from jobs.job import RenderState
from jobs.lease import Outcome
from scripts.chaos import auditor
from scripts.chaos.stages import file_of
from scripts.chaos.storm import redone, weather
from scripts.chaos.world import LANE, World, wish

KINDS = ("lost", "webhooks_lost", "poison_left", "doubled", "miscounted", "orphans",
         "wrong_pictures", "wrong_answers", "unjust", "crashes")  # fmt: skip


@pytest.mark.slow
def test_a_storm_on_sqlite_loses_nothing() -> None:
    found = weather("sqlite", seconds=12.0, seed=1, keep=None, least_faults=12)
    assert {kind: found[kind] for kind in KINDS} == dict.fromkeys(KINDS, 0), found
    assert found["faults"] > 8
    assert found["accepted"] > 20
    assert found["ended"]["succeeded edits"] > 0
    assert found["ended"]["failed poison"] > 0
    assert found["ended"]["webhooks"] > 5


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A run that came to rest: one picture drawn, one job cancelled, both written down outside."""
    made = World(tmp_path, f"sqlite:///{tmp_path}/ledger.db")
    made.prepare()
    with closing(made.ledger()) as ledger:
        auditor.install(made.url)
        told = made.log("told")
        drawn, stopped = (
            ledger.submit(wish("ada", "free", passes=4, seed=seed, idempotency_key=f"k{seed}")).job
            for seed in (1, 2)
        )
        for job in (drawn, stopped):
            told.note("accepted", job=job.id, n=1, key=job.request.idempotency_key)
        ledger.cancel(stopped.id)
        (held,) = ledger.claim(LANE, "w", 1, 60.0)
        path = made.blobs / "images" / "a.png"
        path.parent.mkdir()
        path.write_bytes(file_of(held.request, 0))
        ledger.finish_render(
            held.id, held.fence, 0, Outcome(RenderState.SUCCEEDED, blob="images/a.png")
        )
        told.note("ended", job=drawn.id, state="succeeded", images=["succeeded"])
    return made


def test_a_sound_run_has_nothing_to_complain_about(world: World) -> None:
    found = auditor.audit(world)
    assert not found.complaints
    assert (found.accepted, found.jobs, found.images) == (2, 2, 2)
    assert found.ended["succeeded images"] == found.ended["cancelled images"] == 1


def sql(*statements: str) -> Callable[[World], None]:
    def damage(world: World) -> None:
        engine = create_engine(world.url)
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))
        engine.dispose()

    return damage


DAMAGE: dict[str, tuple[Callable[[World], None], str]] = {
    "a job vanishes": (sql("delete from jobs", "delete from renders"), "lost"),
    "a job stays": (sql("update jobs set state = 'queued' where state = 'succeeded'"), "lost"),
    "an image stays": (sql("update renders set state = 'waiting' where blob is null"), "lost"),
    "nobody settled": (sql("delete from settled_audit"), "lost"),
    "settled twice": (sql("insert into settled_audit select * from settled_audit"), "doubled"),
    "a job without its picture": (sql("update jobs set state = 'failed'"), "miscounted"),
    "a refund too many": (sql("update quota set used = used - 1"), "miscounted"),
    "no refund": (sql("update quota set used = used + 1"), "miscounted"),
    "a lost picture": (lambda w: (w.blobs / "images/a.png").unlink(), "lost"),
    "another picture": (lambda w: (w.blobs / "images/a.png").write_bytes(b"x"), "wrong_pictures"),
    "poison stays": (
        sql(
            "update jobs set state = 'queued'",
            "update jobs set request = replace(request, 'a red fox', 'poison file dies')",
        ),
        "poison_left",
    ),
    "poison becomes a picture": (
        sql("update jobs set request = replace(request, 'a red fox', 'poison file dies')"),
        "poison_left",
    ),
    "an orphan": (lambda w: (w.blobs / "images/b.png").write_bytes(b"x") and None, "orphans"),
    "an orphan of an edit": (
        lambda w: w.blobs.joinpath("inputs").mkdir()
        or (w.blobs.joinpath("inputs/x.png").write_bytes(b"x") and None),
        "orphans",
    ),
    "a file for ever": (
        sql("insert into files values ('file-1', 'ada', 'input', '', 0, 1, 1, '[]', 1.0, 2.0)"),
        "orphans",
    ),
    "an end that is not told": (
        sql(
            "insert into webhook_endpoints (id, tenant, name, url, event_types, created_at,"
            " updated_at, secret, old_secret_until) values ('we_1', 'ada', '', '',"
            " ' image.generation.completed ', 0, 0, '', 0)"
        ),
        "webhooks_lost",
    ),
    "a forged delivery": (lambda w: w.log("received").note("forged"), "webhooks_lost"),
    "a broken word": (
        lambda w: w.log("told").note("ended", job="0", state="failed", images=[]), "wrong_answers",
    ),
    "a 503 on a good day": (
        lambda w: w.log("told").note("unavailable", error="locked"), "wrong_answers",
    ),
    "two jobs for one key": (
        lambda w: w.log("told").note("accepted", job="1", n=0, key="k1"), "doubled",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_auditor_sees(world: World, damage: str) -> None:
    do, kind = DAMAGE[damage]
    do(world)
    assert auditor.audit(world).complaints[kind], f"{damage} went unnoticed"


def test_passes_drawn_twice_are_counted_per_trip() -> None:
    first = [(float(i), "job/0/1.1", i) for i in range(1, 6)]
    again = [(10.0 + i, "job/0/2.1", i) for i in range(4, 9)]
    other = [(20.0 + i, "job/1/1.1", i) for i in range(1, 9)]
    assert redone([*first, *again, *other]) == [2]
    assert redone([*first, (9.0, "job/0/1.2", 6)]) == [0]
