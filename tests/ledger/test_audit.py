"""The audit log of verdicts: added with outcomes, reviewed, counted as strikes, forgotten."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jobs.blobs.erasing import erase_tenant
from jobs.blobs.store import DirectoryBlobs
from jobs.job import RenderState
from jobs.ledger_errors import LeaseLost
from jobs.sql.sql_ledger import SqlLedger
from jobs.verdicts import ReviewDecision, StrikeRules, Strikes, VerdictNote
from tests.stages.ledger_kit import LEASE_SECONDS, Clock, beat, claim_one, picture, refusal, wish

ALLOW, UPHOLD = ReviewDecision.ALLOW, ReviewDecision.UPHOLD


def note(job_id: str = "job", action: str = "block", **changes: object) -> VerdictNote:
    said = VerdictNote(
        lane="chat", tenant="ada", job_id=job_id, index=0, stage="final", action=action,
        tier="free", user="reader 7", pass_no=None, sha256="ab" * 32, categories=("weapons",),
        scores=(("sexual", 0.125), ("weapons", 0.75)), policy="house@1", screen="one+two",
    )  # fmt: skip
    return replace(said, **changes)  # type: ignore[arg-type]


def test_a_verdict_is_logged_as_it_was_given(ledger: SqlLedger, clock: Clock) -> None:
    one = note(lane="chat/second", words="a \x00 red fox", index=None, pass_no=3)
    ledger.log_verdicts([one, note(action="allow")])
    ledger.log_verdicts([])
    first, second = ledger.verdicts_of("job")
    assert first.note == replace(one, lane="chat", words=first.note.words)
    assert first.note.words is not None
    assert "red fox" in first.note.words
    assert (first.at, first.decision, second.note) == (clock.now, None, note(action="allow"))


def test_an_outcome_brings_its_verdicts_once(ledger: SqlLedger) -> None:
    ledger.submit(wish())
    job = claim_one(ledger)
    outcome = replace(refusal("output"), verdicts=(note(job.id), note(job.id, stage="preview")))
    ledger.finish_render(job.id, job.fence, 0, outcome)
    with pytest.raises(LeaseLost):
        ledger.finish_render(job.id, job.fence, 0, outcome)
    assert [one.note.stage for one in ledger.verdicts_of(job.id)] == ["final", "preview"]


def test_what_is_to_be_reviewed_is_listed_until_it_is(ledger: SqlLedger, clock: Clock) -> None:
    ledger.log_verdicts([note("a", "flag"), note("b", "flag"), note("c", "allow"), note("d")])
    second, first = ledger.verdicts("flag", 10)
    assert [first.note.job_id, second.note.job_id] == ["a", "b"]
    assert [one.note.job_id for one in ledger.verdicts("flag", 1)] == ["b"]
    assert [one.note.job_id for one in ledger.verdicts("block", 10)] == ["d"]
    reviewed = ledger.review(first.seq, ALLOW)
    assert reviewed is not None
    assert (reviewed.verdict.decision, reviewed.withdrawn) == ("allow", ())
    assert [one.seq for one in ledger.verdicts("flag", 10)] == [second.seq]
    clock.now += 1
    ledger.review(first.seq, UPHOLD)
    both = ledger.verdicts("flag", 10, reviewed=True)
    assert [one.decision for one in both] == [None, "uphold"]
    assert ledger.review(first.seq + 1000, ALLOW) is None


def test_upholding_takes_that_picture_back_and_no_other(ledger: SqlLedger) -> None:
    ledger.submit(wish(n=2))
    job = claim_one(ledger)
    ledger.renew([beat(job, 6, previews=(6,))], LEASE_SECONDS)
    flagged = replace(picture("images/one.png"), verdicts=(note(job.id, "flag"),))
    ledger.finish_render(job.id, job.fence, 0, flagged)
    ledger.finish_render(job.id, job.fence, 1, picture("images/two.png"))
    (verdict,) = ledger.verdicts("flag", 10)
    reviewed = ledger.review(verdict.seq, UPHOLD)
    assert reviewed is not None
    ((was,), suffix) = reviewed.withdrawn, reviewed.output_format
    assert (was.blob, was.previews, suffix) == ("images/one.png", (6,), "png")
    after = ledger.get(job.id)
    assert after is not None
    gone, kept = after.renders
    assert (gone.state, gone.blob, gone.previews, gone.checkpoint) == (
        RenderState.SUCCEEDED, None, (), None,
    )  # fmt: skip
    assert kept.blob == "images/two.png"
    again = ledger.review(verdict.seq, UPHOLD)
    assert again is not None
    assert again.withdrawn == ()


def test_strikes_are_orders_that_were_blocked_or_whose_flag_was_upheld(
    ledger: SqlLedger, clock: Clock
) -> None:
    assert ledger.strikes("ada", 100.0) == Strikes()
    ledger.log_verdicts([note("old")])
    clock.now += 60
    ledger.log_verdicts([note("a"), note("a", stage="preview"), note("b"), note("c", "flag")])
    ledger.log_verdicts([note("d", "allow"), note("e", tenant="bob")])
    clock.now += 30
    assert ledger.strikes("ada", 89.0) == Strikes(2, 30.0)
    assert ledger.strikes("ada", 91.0) == Strikes(3, 30.0)
    (flagged,) = ledger.verdicts("flag", 1)
    ledger.review(flagged.seq, UPHOLD)
    assert ledger.strikes("ada", 89.0).count == 3
    for blocked in ledger.verdicts("block", 10):
        ledger.review(blocked.seq, ALLOW)
    assert ledger.strikes("ada", 89.0) == Strikes(1, 30.0)


def test_a_cool_down_is_over_when_the_newest_strike_is_old_enough() -> None:
    rules = StrikeRules(blocks=3, cooldown_seconds=60.0)
    assert rules.wait_seconds(Strikes(2, 0.0)) == 0.0
    assert rules.wait_seconds(Strikes(3, 20.0)) == 40.0
    assert rules.wait_seconds(Strikes(9, 61.0)) == 0.0
    assert StrikeRules().wait_seconds(Strikes(99, 0.0)) == 0.0


def test_old_verdicts_of_the_lane_are_forgotten(ledger: SqlLedger, clock: Clock) -> None:
    ledger.log_verdicts([note("a", "flag"), note("b", lane="other")])
    (flagged,) = ledger.verdicts("flag", 1)
    ledger.review(flagged.seq, ALLOW)
    clock.now += 10
    ledger.log_verdicts([note("c")])
    assert not ledger.forget_verdicts("chat", 11.0)
    assert ledger.forget_verdicts("chat", 10.0)
    assert not ledger.forget_verdicts("chat", 10.0)
    assert ledger.verdicts_of("a") == []
    assert [one.note.job_id for one in ledger.verdicts("block", 10)] == ["c", "b"]
    assert ledger.review(flagged.seq, ALLOW) is None


def test_an_erased_tenant_is_in_the_log_no_more(ledger: SqlLedger, tmp_path: Path) -> None:
    ledger.log_verdicts([note("a", words="a private wish"), note("b", tenant="bob")])
    erase_tenant(ledger, [DirectoryBlobs(tmp_path / "blobs")], "ada")
    assert [one.note.tenant for one in ledger.verdicts("block", 10)] == ["bob"]
