"""Token buckets, and whose address a request comes from."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.access.addresses import UNKNOWN, client_address
from serve_app.admission.tenants import BURST_SECONDS, Buckets

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


def test_a_full_bucket_lets_a_burst_through_and_then_its_rate() -> None:
    buckets = Buckets()
    burst = int(5 * BURST_SECONDS)
    assert [buckets.take("ada", 5, 0.0) for _ in range(burst)] == [0.0] * burst
    assert buckets.take("ada", 5, 0.0) == pytest.approx(0.2)
    assert buckets.take("bob", 5, 0.0) == 0.0
    assert buckets.take("ada", 5, 0.1) == pytest.approx(0.1)  # being refused costs nothing
    assert buckets.take("ada", 5, 0.2) == 0.0


def test_what_is_charged_afterwards_is_waited_off() -> None:
    buckets = Buckets()
    buckets.charge("ada", 1, 0.0, BURST_SECONDS + 10)
    assert buckets.wait("ada", 1, 0.0) == pytest.approx(11)
    assert buckets.take("ada", 1, 10.0) == pytest.approx(1)
    assert buckets.take("ada", 1, 11.0) == 0.0
    assert buckets.wait("bob", 1, 0.0) == 0.0


def test_asking_how_long_to_wait_takes_nothing() -> None:
    buckets = Buckets()
    assert [buckets.wait("ada", 1, 0.0) for _ in range(100)] == [0.0] * 100


@given(st.lists(st.floats(0, 100), max_size=60), st.floats(0.1, 20))
def test_never_more_than_the_burst_and_the_rate(times: list[float], per_second: float) -> None:
    buckets = Buckets()
    let = sum(buckets.take("ada", per_second, now) == 0 for now in sorted(times))
    span = max(times, default=0) - min(times, default=0)
    assert let <= max(1, per_second * BURST_SECONDS) + per_second * span + 1e-6


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    buckets = Buckets()
    while not buckets.take("ada", 1, 10.0):
        pass
    assert buckets.take("ada", 1, 5.0) > 0


def test_a_rate_that_was_edited_counts_at_once() -> None:
    buckets = Buckets()
    while not buckets.take("ada", 1, 0.0):
        pass
    assert buckets.take("ada", 100, 0.01) == 0.0


def test_a_million_addresses_hold_no_memory() -> None:
    buckets = Buckets(most=100)
    for number in range(1_000):
        buckets.take(f"address {number}", 1, 0.0)
    assert len(buckets) == 100


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),  # anybody can write a header
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1", "198.51.100.1"], "198.51.100.1"),  # two lines are one chain
        ("10.0.0.1", ["198.51.100.1, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1:443"], "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("fd00::1", ["2001:db8:1:2:3:4:5:6"], "2001:db8:1:2::/64"),
        (None, ["198.51.100.1"], UNKNOWN),
    ],
)
def test_only_our_own_proxies_are_believed(
    peer: str | None, forwarded: list[str], address: str
) -> None:
    assert client_address(peer, forwarded, TRUSTED) == address
