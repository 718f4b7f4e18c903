"""Who gives way to whom, decided on plain records."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.policy.preemption import (
    PREEMPTIONS_MAX,
    SPARED_FROM,
    Holding,
    Wanting,
    called_back,
    give_way,
)

SHARES = {"pro": 0.6, "plus": 0.3, "free": 0.1}
FREE = Holding("f", "free", 1, 0.0, True, False, 0.5, False, 0)
SHELVED = replace(FREE, job_id="s", shelved=True, drawn=None)
PAID = Wanting("p", "pro", 1, 1.0)


def several(job: Holding, number: int) -> list[Holding]:
    return [replace(job, job_id=f"{job.job_id}{i}") for i in range(number)]


def test_the_one_who_has_got_least_far_leaves() -> None:
    held = [replace(FREE, job_id=str(i), drawn=drawn) for i, drawn in enumerate((0.5, 0.1, 0.7))]
    decided = give_way(SHARES, [PAID], held)
    assert decided.drawn == {"1": "pro"}
    assert decided.served == {"p"}


def test_a_slot_for_each_image_and_the_whole_shelf() -> None:
    held = [*several(FREE, 6), *several(SHELVED, 2)]
    decided = give_way(SHARES, [replace(PAID, images=3)], held)
    assert (len(decided.drawn), set(decided.shelved)) == (3, {"s0", "s1"})


@pytest.mark.parametrize(
    "why",
    [
        {"tier": "pro"},
        {"drawn": SPARED_FROM},
        {"preemptions": PREEMPTIONS_MAX},
        {"leaving": True},
        {"claimed_at": 2.0},
        {"drawn": None},
    ],
    ids=str,
)
def test_who_stays(why: dict[str, object]) -> None:
    held = several(replace(FREE, **why), 6)  # type: ignore[arg-type]
    decided = give_way(SHARES, [PAID], held)
    assert not decided.leaving
    assert not decided.served, "whoever was not helped may ask again"


def test_nobody_yields_to_a_smaller_share() -> None:
    held = several(replace(FREE, tier="plus"), 6)
    assert give_way(SHARES, [replace(PAID, tier="free")], held).drawn == {}
    assert len(give_way(SHARES, [PAID], held).drawn) == 1


holdings = st.lists(
    st.builds(
        Holding,
        job_id=st.uuids().map(str),
        tier=st.sampled_from(sorted(SHARES)),
        images=st.integers(1, 4),
        claimed_at=st.floats(0, 2),
        mine=st.booleans(),
        shelved=st.booleans(),
        drawn=st.none() | st.floats(0, 1),
        leaving=st.booleans(),
        preemptions=st.integers(0, 3),
    ),
    max_size=12,
)
wantings = st.lists(
    st.builds(
        Wanting,
        job_id=st.uuids().map(str),
        tier=st.sampled_from(sorted(SHARES)),
        images=st.integers(1, 4),
        came_at=st.floats(0, 2),
    ),
    max_size=6,
)


@given(wantings, holdings)
def test_no_tier_is_pushed_below_its_share(wanting: list[Wanting], held: list[Holding]) -> None:
    decided = give_way(SHARES, wanting, held)
    total = sum(job.images for job in held)
    before: Counter[str] = Counter()
    after: Counter[str] = Counter()
    for job in held:
        if not job.leaving:
            before[job.tier] += job.images
            after[job.tier] += 0 if job.job_id in decided.leaving else job.images
    for tier, share in SHARES.items():
        assert after[tier] == before[tier] or after[tier] >= share * total
    largest = max(job.images for job in held) if held else 0
    leave = sum(job.images for job in held if job.job_id in decided.drawn)
    wanted = sum(job.images for job in wanting)
    assert leave < wanted + largest * len(wanting) + 1
    for job in held:
        if job.job_id in decided.leaving:
            assert SHARES[decided.leaving[job.job_id]] > SHARES[job.tier]


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
def test_who_waits_in_vain_comes_to_a_slot_that_nobody_takes(
    waiting: dict[str, tuple[str, float]], cleared: list[str], called: list[str]
) -> None:
    assert called_back(waiting, cleared) == called
