"""Whose turn it is between tiers, and what a tier promises."""

from __future__ import annotations

import heapq
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.db.errors import Outage
from jobs.job import Render, RenderState
from jobs.policy.fair_queue import AGEING, FairQueue, Head, Served, aged, stamp
from jobs.request import BATCH_TIER
from jobs.tiers import Refunds, Tier, drawn_passes, refunded, refunded_passes_per_day

PAID_FIRST = FairQueue({"pro": Tier(weight=6), "plus": Tier(weight=3), "free": Tier(weight=1)})
weights = st.dictionaries(st.text("abcdef", min_size=1), st.floats(0.01, 1000), min_size=1)


def serve(queue: FairQueue, costs: dict[str, float], turns: int) -> Counter[str]:
    """Seconds served per tier while every tier always has work."""
    heads = {tier: Head(tier, 0.0, cost) for tier, cost in costs.items()}
    served: dict[str, Served] = {}
    seconds: Counter[str] = Counter()
    for _ in range(turns):
        tier = queue.pick(heads, served)
        served[tier] = queue.after(tier, heads, served)
        seconds[tier] += costs[tier]  # type: ignore[assignment]
    return seconds


def test_seconds_are_shared_by_weight_whatever_the_jobs_cost() -> None:
    served = serve(PAID_FIRST, {"pro": 1.0, "plus": 5.0, "free": 2.0}, 2000)
    total = served.total()
    assert served["pro"] / total == pytest.approx(0.6, abs=0.01)
    assert served["plus"] / total == pytest.approx(0.3, abs=0.01)
    assert served["free"] / total == pytest.approx(0.1, abs=0.01)


def test_the_smallest_weight_still_moves() -> None:
    queue = FairQueue({"pro": Tier(weight=1000), "free": Tier(weight=0.001)}, least_share=0.1)
    served = serve(queue, {"pro": 1.0, "free": 1.0}, 1000)
    assert served["free"] == pytest.approx(100, abs=2)


def test_an_absent_tier_leaves_its_share_to_the_others() -> None:
    assert PAID_FIRST.shares(("free",)) == {"free": pytest.approx(1.0)}
    assert PAID_FIRST.pick({"free": Head("j", 1.0, 1.0)}, {"free": Served(1e9, 2e9)}) == "free"


def test_an_unknown_tier_weighs_one() -> None:
    shares = PAID_FIRST.shares(("plus", "unheard-of"))
    assert shares["plus"] == pytest.approx(0.75)


@given(weights, st.floats(0, 0.5))
def test_shares_sum_to_one_and_none_is_starved(tiers: dict[str, float], least: float) -> None:
    queue = FairQueue({name: Tier(weight=w) for name, w in tiers.items()}, least_share=least)
    shares = queue.shares(tuple(tiers))
    assert sum(shares.values()) == pytest.approx(1.0)
    assert all(share >= min(least, 1 / len(tiers)) - 1e-9 for share in shares.values())
    by_weight = sorted(tiers, key=tiers.__getitem__)
    ordered = [shares[name] for name in by_weight]
    assert all(a <= b + 1e-9 for a, b in pairwise(ordered))


def test_a_tie_goes_to_the_larger_share() -> None:
    heads = {tier: Head(tier, 0.0, 1.0) for tier in ("free", "plus", "pro")}
    assert PAID_FIRST.pick(heads, {}) == "pro"


def test_nobody_waits() -> None:
    with pytest.raises(ValueError, match="no tier has work"):
        PAID_FIRST.pick({}, {})


@pytest.mark.parametrize("wrong", [{"weight": 0}, {"weight": -1}, {"images_per_day": -1}])
def test_a_tier_that_promises_nonsense_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Tier(**wrong)


@pytest.mark.parametrize(
    ("pass_no", "previews", "given_back"),
    [(0, (), True), (4, (), True), (5, (), False), (1, (1,), False)],
)
def test_a_cancelled_image_is_refunded_while_it_was_worth_nothing(
    pass_no: int, previews: tuple[int, ...], given_back: bool
) -> None:
    render = Render(0, RenderState.CANCELLED, pass_no=pass_no, previews=previews)
    assert refunded(render, passes=16) == given_back


def test_only_some_ends_are_refunded() -> None:
    ends = {
        state.value: refunded(Render(0, state, pass_no=9, stage="output"), passes=16)
        for state in RenderState
    }
    assert {state for state, given_back in ends.items() if given_back} == {"failed", "expired"}


def test_what_is_given_back_is_bounded_by_what_was_drawn() -> None:
    drawing, waiting = (
        Render(0, s, pass_no=3) for s in (RenderState.RENDERING, RenderState.WAITING)
    )
    cancelled = Render(0, RenderState.CANCELLED, pass_no=3)
    failed = Render(0, RenderState.FAILED, pass_no=3, attempts=3)
    assert drawn_passes(drawing, cancelled) == 4, "the pass in flight"
    assert drawn_passes(waiting, cancelled) == 3
    assert drawn_passes(waiting, failed) == 9
    given = Refunds()
    for _ in range(50):
        given = given.with_image(drawing, cancelled, passes=32, most=96)
    assert (given.images, given.passes) == (24, 96)
    unbegun = Render(0, RenderState.WAITING), Render(0, RenderState.CANCELLED)
    assert given.with_image(*unbegun, passes=32, most=96).images == 25, "of these, always"
    assert Refunds(passes=10**6).with_image(drawing, cancelled, 32, None).images == 1


@pytest.mark.parametrize(("a_day", "most"), [(None, None), (0, 96), (12, 96), (13, 104)])
def test_passes_given_back_are_a_share_of_the_day(a_day: int | None, most: int | None) -> None:
    assert refunded_passes_per_day(a_day) == most


def test_a_lapse_counts_a_whole_term_after_an_outage() -> None:
    outage = Outage()
    assert outage.lapsed(until=10, term_seconds=5, now=10), "a fresh client suspects nothing"
    outage.succeeded(10)
    outage.look(now=16, patience_seconds=5)
    assert not outage.lapsed(until=10, term_seconds=5, now=20)
    assert outage.lapsed(until=10, term_seconds=5, now=21)
    outage.failed()
    outage.look(now=30, patience_seconds=100)
    assert not outage.lapsed(until=10, term_seconds=5, now=34)
    outage.succeeded(30)
    outage.look(now=35, patience_seconds=5)
    assert outage.lapsed(until=10, term_seconds=5, now=35)


@st.composite
def loads(draw: st.DrawFn) -> tuple[dict[str, Tier], list[dict[str, float]]]:
    """Tiers, and for each turn whoever else has work, with its job's cost."""
    names = draw(st.lists(st.sampled_from("abcde"), min_size=1, max_size=4, unique=True))
    tiers = {name: Tier(weight=draw(st.floats(0.01, 100))) for name in [*names, "mine"]}
    costs = st.floats(0.1, 10)
    turns = draw(st.lists(st.dictionaries(st.sampled_from(names), costs), max_size=60))
    return tiers, turns


@given(loads(), st.floats(0.1, 10), st.integers(0, 59))
def test_whoever_waits_is_served_after_so_much_work_whatever_the_others_do(
    load: tuple[dict[str, Tier], list[dict[str, float]]], cost: float, since: int
) -> None:
    tiers, turns = load
    queue = FairQueue(tiers)
    share = queue.shares(tiers)["mine"]
    served: dict[str, Served] = {}
    others = 0.0
    for turn, waiting in enumerate(turns):
        heads = {tier: Head(tier, 0.0, theirs) for tier, theirs in waiting.items()}
        if turn >= since:
            heads["mine"] = Head("mine", 0.0, cost)
        if not heads:
            continue
        tier = queue.pick(heads, served)
        assert tier in heads, "never idle while somebody waits"
        served[tier] = queue.after(tier, heads, served)
        others = 0.0 if tier == "mine" else others + heads[tier].cost_seconds * (turn >= since)
        assert others <= (1 - share) / share * cost + 10 * len(tiers) + 1e-6


@given(st.dictionaries(st.sampled_from("abcd"), st.floats(0.1, 20), min_size=2), st.data())
def test_shares_converge_whatever_the_jobs_cost(
    weights: dict[str, float], data: st.DataObject
) -> None:
    queue = FairQueue({name: Tier(weight=weight) for name, weight in weights.items()})
    costs = {
        name: data.draw(st.lists(st.floats(0.5, 2), min_size=1, max_size=5)) for name in weights
    }
    served: dict[str, Served] = {}
    seconds = dict.fromkeys(weights, 0.0)
    turns = dict.fromkeys(weights, 0)
    for _ in range(600):
        heads = {
            name: Head(name, 0.0, each[turns[name] % len(each)]) for name, each in costs.items()
        }
        tier = queue.pick(heads, served)
        served[tier] = queue.after(tier, heads, served)
        seconds[tier] += heads[tier].cost_seconds
        turns[tier] += 1
    shares = queue.shares(weights)
    for name, share in shares.items():
        assert seconds[name] / sum(seconds.values()) == pytest.approx(share, abs=0.02)


def turns_until_served(late: float, newcomers_per_turn: int, ageing: bool) -> int | None:
    """A tenant's job whose stamp is `late` virtual seconds off, while each turn one job of a second
    is done and new tenants come; None: not within 5,000 turns."""
    vtime = 0.0
    queue: list[tuple[float, int]] = [(late, -1)]
    for turn in range(5000):
        vtime = aged(vtime, 1.0 if ageing else 0.0)
        for number in range(newcomers_per_turn):
            heapq.heappush(queue, (stamp(vtime, None, 1.0), newcomers_per_turn * turn + number))
        vft, who = heapq.heappop(queue)
        vtime = max(vtime, vft)
        if who == -1:
            return turn
    return None


def test_nobody_waits_for_ever_behind_newcomers() -> None:
    """Tenants that come faster than they are served would keep virtual time from moving."""
    assert turns_until_served(12.0, 3, ageing=False) is None
    waited = turns_until_served(12.0, 3, ageing=True)
    assert waited is not None
    came_before_it = 3 * 12.0 / AGEING
    assert waited <= came_before_it


def test_a_load_of_one_tenant_waits_behind_newcomers() -> None:
    """The other way round: age does not carry a long queue of one tenant."""
    assert (turns_until_served(12.0, 1, ageing=True) or 0) > 10


def test_batches_have_what_no_tier_wants_and_take_nothing_of_their_shares() -> None:
    heads = {"free": Head("f", 9.0, 4.0), BATCH_TIER: Head("b", 0.0, 1.0)}
    shares = PAID_FIRST.shares(heads)
    assert (shares["free"], shares[BATCH_TIER]) == (1.0, 0.0)
    assert PAID_FIRST.shares([BATCH_TIER]) == {BATCH_TIER: 1.0}
    served = {"free": Served(5.0, 50.0), BATCH_TIER: Served(0.0, 0.0)}
    assert PAID_FIRST.pick(heads, served) == "free"
    only = {BATCH_TIER: heads[BATCH_TIER]}
    assert PAID_FIRST.pick(only, served) == BATCH_TIER
    for _ in range(5):
        served[BATCH_TIER] = PAID_FIRST.after(BATCH_TIER, only, served)
    assert served[BATCH_TIER] == Served(5.0, 5.0)
