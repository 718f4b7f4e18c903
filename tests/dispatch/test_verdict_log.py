"""What a dispatcher writes into the audit log: every verdict, by the digest of the exact pixels."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import numpy as np
import pytest

from dispatch.verdict_notes import VerdictNotes, screened_words
from engine.policy import Look, ScreenStage
from engine.prompt_encoder import PromptText
from engine.render import Pixels
from engine.verdict import Verdict
from jobs.client.async_ledger import AsyncLedger
from jobs.job import JobState
from jobs.ledger_errors import LedgerUnavailable
from jobs.verdicts import LoggedVerdict
from tests.dispatch.dispatch_kit import World, world
from tests.dispatch.dispatch_stages import drawn, until


def digest(pixels: Pixels) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


async def logged(it: World, job_id: str, count: int) -> list[LoggedVerdict]:
    """The job's verdicts, once there are so many."""

    async def found() -> list[LoggedVerdict] | None:
        verdicts = await asyncio.to_thread(it.sql.verdicts_of, job_id)
        return verdicts if len(verdicts) >= count else None

    rows: list[LoggedVerdict] = await until(found, f"{count} verdicts are in the log")
    assert len(rows) == count
    return rows


async def test_prompt_previews_and_final_are_logged_by_what_was_looked_at(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        job = it.submit(user="reader 7", tier="plus", moderation="low")
        final = drawn(job.request, 0)
        it.verdicts.flagged.append(final)
        it.start()
        await it.ended(job)
        notes = {row.note.stage: row.note for row in await logged(it, job.id, 3)}
        prompt, preview, last = (notes[stage] for stage in ("prompt", "preview", "final"))
        assert (prompt.stage, prompt.index, prompt.action) == ("prompt", None, "allow")
        assert prompt.sha256 == hashlib.sha256(b"a red fox").hexdigest()
        assert prompt.words is None
        assert (preview.stage, preview.pass_no, preview.action) == ("preview", 4, "allow")
        assert preview.sha256 == digest(drawn(job.request, 0, passes=4))
        assert (last.stage, last.index, last.sha256) == ("final", 0, digest(final))
        assert (last.action, last.categories) == ("flag", ("sexual",))
        assert (last.user, last.tier, last.lane) == ("reader 7", "plus", "chat")
        assert set(it.verdicts.looks) == {
            Look(ScreenStage.PREVIEW, "plus", "low", 0.5),
            Look(ScreenStage.FINAL, "plus", "low"),
        }


async def test_a_blocked_order_is_logged_with_its_words_where_that_is_configured(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as it:
        job = it.submit(prompt="a bomb", n=2)
        it.start(log_prompts=True)
        await it.ended(job, JobState.BLOCKED)
        (row,) = await logged(it, job.id, 1)
        assert (row.note.action, row.note.words) == ("block", "a bomb")
        assert row.note.categories == ("weapons",)


async def test_a_bad_preview_whose_verdict_is_late_is_logged_and_changes_nothing(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as it:
        job = it.submit(partial_images=1)
        bad = drawn(job.request, 0, passes=4)
        it.verdicts.bad.append(bad)
        it.verdicts.late.append(bad)
        it.verdicts.answers.clear()
        leases = it.start().dispatcher._leases
        await until(
            lambda: any(render.judged for lease in leases for render in lease.renders),
            "the final picture is judged and stored",
        )
        it.verdicts.answers.set()
        (render,) = (await it.ended(job)).renders
        assert render.previews == ()
        notes = {row.note.stage: row.note for row in await logged(it, job.id, 3)}
        assert (notes["preview"].action, notes["preview"].sha256) == ("block", digest(bad))
        assert notes["final"].action == "allow"


async def test_verdicts_of_a_job_that_goes_elsewhere_are_logged(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        job = it.submit()
        it.lane.replicas[0].close_after.add((job.request.image_seed(0), 4))
        first = it.start(heartbeat_seconds=3600.0)
        await until(lambda: it.verdicts.asked == 1, "the preview is screened")
        await until(lambda: first.dispatcher._notes._pending[1:], "and noted")
        it.lane.replicas[0].gate.open()
        await first.stop()
        stages = {row.note.stage for row in await asyncio.to_thread(it.sql.verdicts_of, job.id)}
        assert {"prompt", "preview"} <= stages


async def test_what_the_ledger_could_not_take_is_logged_later(tmp_path: Path) -> None:
    async with world(tmp_path, busy_seconds=0.05) as it:
        job = it.submit()
        ledger = AsyncLedger(it._open(0.05))
        notes = VerdictNotes()
        notes.add(job, None, screened_words(Verdict(blocked=False), PromptText("a fox", "snow")))
        with it.ledger_away(), pytest.raises(LedgerUnavailable):
            await notes.flush(ledger)
        await notes.flush(ledger)
        await notes.flush(ledger)
        (row,) = await logged(it, job.id, 1)
        assert row.note.sha256 == hashlib.sha256(b"a fox\0snow").hexdigest()
        await asyncio.to_thread(ledger.close)


async def test_every_stored_picture_has_its_verdict_whoever_was_killed(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        jobs = [it.submit(n=2, seed=100 * i, passes=4) for i in range(4)]
        for pictures in (1, 5):  # a third lapse without progress would be poison
            killed = it.start()
            await until(lambda seen=pictures: it.verdicts.asked >= seen, "pictures are screened")
            await killed.kill()
            it.lapse()
        it.start()
        for job in jobs:
            assert len(it.pictures(await it.ended(job))) == 2
            rows = await asyncio.to_thread(it.sql.verdicts_of, job.id)
            finals = {
                (row.note.index, row.note.sha256) for row in rows if row.note.stage == "final"
            }
            assert finals == {(i, digest(drawn(job.request, i))) for i in range(2)}
