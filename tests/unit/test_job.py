"""The states: every event in every state, and the diagram that is drawn from the tables."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.job import (
    HELD,
    JOB_EVENTS,
    LIVE,
    SETTLED,
    TERMINAL,
    TRANSITIONS,
    IllegalTransition,
    Job,
    JobEvent,
    JobState,
    Render,
    RenderEvent,
    RenderState,
    job_state,
    mermaid,
)
from jobs.policy.settling import LeaseEnd, return_to_queue
from jobs.request import ImageRequest

REQUEST = ImageRequest(
    lane="chat", tenant="ada", tier="free", model="tokens", prompt="a red fox", n=3, width=256,
    height=256, quality="auto", passes=16, guidance=3.0, seed=2**63 - 2,
)  # fmt: skip
UNSETTLED = set(RenderState) - SETTLED
render_states = st.lists(st.sampled_from(RenderState), min_size=1, max_size=10)


def job_of(states: list[RenderState], *, leased: bool) -> Job:
    """A stored job: a queued one has no image in a decoder."""
    if not leased:
        states = [RenderState.WAITING if s is RenderState.RENDERING else s for s in states]
    renders = tuple(Render(i, s, pass_no=3, checkpoint=b"c") for i, s in enumerate(states))
    return Job("id", REQUEST, job_state(states, leased), renders)


@pytest.mark.parametrize(("state", "event"), list(product(RenderState, RenderEvent)))
def test_every_event_in_every_state_of_an_image(state: RenderState, event: RenderEvent) -> None:
    render = Render(1, state, checkpoint=b"c")
    target = TRANSITIONS[state].get(event)
    if target is None:
        with pytest.raises(IllegalTransition, match=rf"image 1: {event.value} in state"):
            render.on(event)
        assert render == Render(1, state, checkpoint=b"c")
    else:
        moved = render.on(event)
        assert moved.state is target
        assert moved.checkpoint == (None if target in SETTLED else b"c")


def test_what_is_settled_stays() -> None:
    assert {s for s in RenderState if not TRANSITIONS[s]} == SETTLED
    assert {s.value for s in SETTLED} == {s.value for s in TERMINAL}
    for state in UNSETTLED:
        assert set(TRANSITIONS[state].values()) & SETTLED, "every live state can end"


def test_a_returned_image_is_never_in_a_decoder() -> None:
    for state in UNSETTLED:
        assert TRANSITIONS[state][RenderEvent.RETURN] is not RenderState.RENDERING


@pytest.mark.parametrize(
    ("states", "leased", "expected"),
    [
        ("waiting waiting", False, "queued"),
        ("finishing succeeded", False, "queued"),
        ("waiting waiting", True, "leased"),
        ("waiting succeeded", True, "leased"),
        ("waiting rendering", True, "running"),
        ("waiting finishing", True, "running"),
        ("rendering finishing", True, "running"),
        ("finishing finishing", True, "finishing"),
        ("finishing blocked", True, "finishing"),
        ("succeeded blocked failed", True, "succeeded"),
        ("succeeded cancelled expired", False, "succeeded"),
        ("blocked blocked", True, "blocked"),
        ("blocked failed", True, "failed"),
        ("blocked cancelled", False, "cancelled"),
        ("blocked expired", False, "expired"),
        ("cancelled cancelled", False, "cancelled"),
    ],
)
def test_job_state(states: str, leased: bool, expected: str) -> None:
    assert job_state([RenderState(s) for s in states.split()], leased).value == expected


@given(render_states, st.booleans())
def test_a_job_has_ended_exactly_when_all_its_images_have(
    states: list[RenderState], leased: bool
) -> None:
    state = job_state(states, leased)
    assert (state in TERMINAL) == (set(states) <= SETTLED)
    assert state in TERMINAL or (state in HELD) == leased
    assert job_state(reversed(states), leased) is state, "the order of images says nothing"


@given(render_states, st.booleans(), st.sampled_from(JobEvent))
def test_every_event_in_every_state_of_a_job(
    states: list[RenderState], leased: bool, event: JobEvent
) -> None:
    job = job_of(states, leased=leased)
    if job.state not in JOB_EVENTS[event][0]:
        with pytest.raises(IllegalTransition):
            job.on(event)
        return
    moved = job.on(event)
    for before, after in zip(job.renders, moved.renders, strict=True):
        assert before == after or not before.settled
    expected = {
        JobEvent.LEASE: HELD,
        JobEvent.RETURN: {JobState.QUEUED},
        JobEvent.CANCEL: {JobState.CANCELLED, JobState.FAILED, JobState.EXPIRED},
        JobEvent.EXPIRE: {JobState.EXPIRED, JobState.FAILED},
        JobEvent.FAIL: {JobState.FAILED},
    }[event]
    assert moved.state in expected or RenderState.SUCCEEDED in states


def test_an_image_moves_only_under_a_lease() -> None:
    queued = job_of([RenderState.WAITING], leased=False)
    drawn = queued.renders[0].on(RenderEvent.SUCCEED)
    with pytest.raises(IllegalTransition):
        queued.with_render(drawn)
    assert job_of([RenderState.WAITING], leased=True).with_render(drawn).ended


def test_seeds_follow_the_image_and_stay_in_range() -> None:
    assert [REQUEST.image_seed(i) for i in range(3)] == [2**63 - 2, 2**63 - 1, 0]


# -- what a try costs


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30), st.integers(1, 5))
def test_only_tries_without_progress_end_a_job(tries: list[tuple[bool, bool]], most: int) -> None:
    """A model of the rule, counted by hand, beside the rule."""
    job = job_of([RenderState.RENDERING], leased=True)
    counted = 0
    for lapsed, progressed in tries:
        counted = 0 if progressed else counted
        counted += 0 if lapsed and progressed else 1
        job = return_to_queue(job, LeaseEnd("reason", lapsed, progressed), most)
        assert (job.state is JobState.FAILED) == (counted >= most)
        if job.ended:
            assert job.renders[0].error == "reason"
            return
        assert job.attempts == counted
        job = job.on(JobEvent.LEASE)


def test_a_hand_over_is_nobodys_fault() -> None:
    job = replace(job_of([RenderState.RENDERING], leased=True), attempts=2)
    back = return_to_queue(job, LeaseEnd(None, lapsed=False, progressed=False), attempts_max=3)
    assert (back.state, back.attempts, back.errors) == (JobState.QUEUED, 2, ())


def test_progress_is_what_need_not_be_done_again() -> None:
    waiting = job_of([RenderState.WAITING, RenderState.WAITING], leased=True)
    bare = replace(waiting.renders[0], pass_no=9, checkpoint=None)
    assert waiting.with_render(bare).progress < waiting.progress, "a pass without a checkpoint"
    finishing = waiting.renders[0].on(RenderEvent.DECODED)
    assert waiting.with_render(finishing).progress > waiting.progress
    settled = waiting.renders[0].on(RenderEvent.BLOCK)
    assert waiting.with_render(settled).progress > waiting.with_render(finishing).progress


# -- the page


def test_the_page_is_drawn_from_the_tables() -> None:
    page = Path(__file__).parents[2] / "docs" / "states.md"
    assert page.read_text() == mermaid(), "write jobs.job.mermaid() to docs/states.md"


def test_the_diagram_shows_every_state() -> None:
    drawn = mermaid()
    for state in [*RenderState, *JobState]:
        assert f" {state.value}: " in drawn or f" {state.value} --> " in drawn
    assert set(JobState) == LIVE | TERMINAL
