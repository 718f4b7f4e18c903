"""Which jobs are preempted for which, decided on plain records."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.policy.preemption import (
    PREEMPTIONS_MAX,
    SPARED_FROM,
    HeldJob,
    Preemptor,
    preempt,
    to_recall,
)
from jobs.request import BATCH_TIER

SHARES = {"pro": 0.6, "plus": 0.3, "free": 0.1}
FREE = HeldJob("f", "free", 1, 0.0, True, False, 0.5, False, 0)
READY = replace(FREE, job_id="s", ready=True, progress=None)
PAID = Preemptor("p", "pro", 1, 1.0)


def several(job: HeldJob, number: int) -> list[HeldJob]:
    return [replace(job, job_id=f"{job.job_id}{i}") for i in range(number)]


def test_the_job_with_least_progress_is_preempted() -> None:
    held = [
        replace(FREE, job_id=str(i), progress=progress)
        for i, progress in enumerate((0.5, 0.1, 0.7))
    ]
    decided = preempt(SHARES, [PAID], held)
    assert decided.rendering == {"1": "pro"}
    assert decided.preemptors == {"p"}


def test_a_slot_for_each_image_and_every_ready_job() -> None:
    held = [*several(FREE, 6), *several(READY, 2)]
    decided = preempt(SHARES, [replace(PAID, images=3)], held)
    assert (len(decided.rendering), set(decided.ready)) == (3, {"s0", "s1"})


@pytest.mark.parametrize(
    "why",
    [
        {"tier": "pro"},
        {"progress": SPARED_FROM},
        {"preemptions": PREEMPTIONS_MAX},
        {"preempted": True},
        {"claimed_at": 2.0},
        {"progress": None},
    ],
    ids=str,
)
def test_which_jobs_are_spared(why: dict[str, object]) -> None:
    held = several(replace(FREE, **why), 6)  # type: ignore[arg-type]
    decided = preempt(SHARES, [PAID], held)
    assert not decided.preempted
    assert not decided.preemptors, "a job without cleared slots may ask again"


def test_no_job_is_preempted_for_a_smaller_share() -> None:
    held = several(replace(FREE, tier="plus"), 6)
    assert preempt(SHARES, [replace(PAID, tier="free")], held).rendering == {}
    assert len(preempt(SHARES, [PAID], held).rendering) == 1


held_jobs = st.lists(
    st.builds(
        HeldJob,
        job_id=st.uuids().map(str),
        tier=st.sampled_from(sorted(SHARES)),
        images=st.integers(1, 4),
        claimed_at=st.floats(0, 2),
        mine=st.booleans(),
        ready=st.booleans(),
        progress=st.none() | st.floats(0, 1),
        preempted=st.booleans(),
        preemptions=st.integers(0, 3),
    ),
    max_size=12,
)
all_preemptors = st.lists(
    st.builds(
        Preemptor,
        job_id=st.uuids().map(str),
        tier=st.sampled_from(sorted(SHARES)),
        images=st.integers(1, 4),
        came_at=st.floats(0, 2),
    ),
    max_size=6,
)


@given(all_preemptors, held_jobs)
def test_no_tier_is_pushed_below_its_share(
    preemptors: list[Preemptor], held: list[HeldJob]
) -> None:
    decided = preempt(SHARES, preemptors, held)
    total = sum(job.images for job in held)
    before: Counter[str] = Counter()
    after: Counter[str] = Counter()
    for job in held:
        if not job.preempted:
            before[job.tier] += job.images
            after[job.tier] += 0 if job.job_id in decided.preempted else job.images
    for tier, share in SHARES.items():
        assert after[tier] == before[tier] or after[tier] >= share * total
    largest = max(job.images for job in held) if held else 0
    leave = sum(job.images for job in held if job.job_id in decided.rendering)
    wanted = sum(job.images for job in preemptors)
    assert leave < wanted + largest * len(preemptors) + 1
    for job in held:
        if job.job_id in decided.preempted:
            assert SHARES[decided.preempted[job.job_id]] > SHARES[job.tier]


@pytest.mark.parametrize(
    ("waiting", "cleared", "called"),
    [
        ({"a": ("one", 2.0), "b": ("one", 1.0)}, ["two"], ["b"]),
        ({"a": ("one", 1.0), "b": ("two", 2.0)}, ["two"], []),
        ({"a": ("one", 1.0), "b": ("two", 2.0)}, ["two", "two"], ["a"]),
        ({"a": ("one", 1.0), "b": ("two", 2.0)}, ["two", "three"], ["a"]),
        ({"a": ("one", 1.0)}, ["two", "two"], ["a"]),
        ({}, ["two"], []),
        ({"a": ("one", 1.0)}, [], []),
    ],
)
def test_an_image_that_waits_elsewhere_comes_to_a_slot_that_no_other_takes(
    waiting: dict[str, tuple[str, float]], cleared: list[str], called: list[str]
) -> None:
    assert to_recall(waiting, cleared) == called


def test_a_batch_leaves_before_all_others_however_far_it_is_and_whenever_it_came() -> None:
    shares = SHARES | {BATCH_TIER: 0.0}
    late = replace(
        FREE, job_id="b", tier=BATCH_TIER, claimed_at=9.0, progress=0.9, preemptions=50, mine=False
    )
    decided = preempt(shares, [PAID], [FREE, late])
    assert decided.rendering == {"b": "pro"}
    for_free = replace(PAID, tier="free")
    assert preempt(shares, [for_free], [FREE, late]).rendering == {"b": "free"}
    both = preempt(shares, [replace(PAID, images=2)], [*several(FREE, 9), late])
    assert both.rendering == {"b": "pro", "f0": "pro"}
