"""Requests that wait or stream: so many of a tenant, and always room for another."""

from __future__ import annotations

import pytest

from serve_app.admission.tenants import FEW_OPEN, OpenRequests, ending
from serve_app.wire.errors import TooManyOpen


def enter(requests: OpenRequests, tenant: str, most: int, times: int) -> int:
    """How many of them were let in."""
    entered = 0
    for _ in range(times):
        try:
            requests.enter(tenant, most)
        except TooManyOpen:
            continue
        entered += 1
    return entered


def test_each_tenant_has_its_own_bound() -> None:
    requests = OpenRequests(1000)
    assert enter(requests, "a", 3, 10) == 3
    assert enter(requests, "b", 3, 10) == 3
    requests.leave("a")
    assert enter(requests, "a", 3, 10) == 1


def test_no_tenant_takes_more_than_it_leaves() -> None:
    requests = OpenRequests(100)
    assert enter(requests, "a", 10**6, 1000) == 50
    assert enter(requests, "b", 10**6, 1000) == 25
    assert enter(requests, "c", 10**6, 1) == 1


def test_nothing_is_kept_of_a_tenant_that_left() -> None:
    requests = OpenRequests()
    requests.enter("a", 1)
    requests.leave("a")
    assert len(requests) == 0
    assert not requests._open


def test_a_place_is_given_back_however_the_request_ends() -> None:
    requests, scope = OpenRequests(), dict[str, object]()

    def lose() -> None:
        with ending(scope) as stack:
            requests.enter("a", 1)
            stack.callback(requests.leave, "a")
            raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        lose()
    assert len(requests) == 0


def test_a_tenant_with_many_streams_hears_of_them_less_often() -> None:
    requests = OpenRequests()
    assert requests.keepalive_seconds("a", 3.0) == 3.0
    for _ in range(FEW_OPEN * 4):
        requests.enter("a", 10_000)
    assert requests.keepalive_seconds("a", 3.0) == 12.0
    assert requests.keepalive_seconds("b", 3.0) == 3.0
    for _ in range(FEW_OPEN * 100):
        requests.enter("a", 10_000)
    assert requests.keepalive_seconds("a", 3.0) == 30.0
