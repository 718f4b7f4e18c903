"""When deliveries of webhooks are tried again, and which endpoints come first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobs.policy.redelivery import DueEndpoint, is_over, next_try, shares, wait_seconds

IDS = st.sampled_from([f"we_{number}" for number in range(12)])


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_waits_grow_to_hours_and_stay_within_a_quarter(attempts: int, jitter: float) -> None:
    plain = wait_seconds(attempts, 0.5)
    assert plain * 0.75 <= wait_seconds(attempts, jitter) <= plain * 1.25
    assert plain <= wait_seconds(attempts + 1, 0.5) <= 2 * plain
    assert 5.0 <= plain <= 14_400.0


@given(st.integers(1, 100), st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1))
def test_the_last_try_is_at_the_end(attempts: int, now: float, until: float, jitter: float) -> None:
    again = next_try(attempts, now, until, jitter)
    assert (again is None) == (now >= until)
    assert again is None or now <= again <= until


def test_an_endpoint_is_given_up_after_it_has_failed_for_long() -> None:
    assert not is_over(None, 1e9, 10.0)
    assert not is_over(95.0, 100.0, 10.0)
    assert is_over(90.0, 100.0, 10.0)


@given(
    st.lists(st.builds(DueEndpoint, IDS, st.booleans()), unique_by=lambda one: one.id),
    st.integers(0, 64),
    st.dictionaries(IDS, st.integers(0, 4)),
    st.integers(1, 8),
)
def test_no_endpoint_takes_what_others_need(
    due: list[DueEndpoint], room: int, in_hand: dict[str, int], most: int
) -> None:
    failing = {one.id for one in due if one.failing}
    taken = shares(due, room, in_hand, failing, most)
    assert all(count > 0 for count in taken.values())
    assert sum(taken.values()) <= room
    for one in due:
        bound = 1 if one.failing else most
        count = taken.get(one.id, 0)
        assert count == 0 or count + in_hand.get(one.id, 0) <= bound
    fails = sum(count for one, count in taken.items() if one in failing)
    held = sum(count for one, count in in_hand.items() if one in failing)
    assert fails == 0 or fails + held <= (room + sum(in_hand.values())) // 2
    well = [one for one in due if not one.failing and in_hand.get(one.id, 0) < most]
    assert not well or room < 2 or sum(taken.values()) > 0
