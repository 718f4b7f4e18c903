"""Who asks, seen through nginx: its clients' addresses, and not what they claim."""

from __future__ import annotations

import httpx

from tests.proxies.conftest import Site

BURST = 4
"""More than what two gateways let pass without a key."""


def asked(url: str, address: str, times: int) -> set[int]:
    """What a client is answered that claims, each time, to be a proxy for another address."""
    transport = httpx.HTTPTransport(local_address=address)
    with httpx.Client(base_url=url, transport=transport, timeout=60) as http:
        return {
            http.get(
                "/v1/models",
                headers={"authorization": "Bearer wrong", "x-forwarded-for": f"192.0.2.{number}"},
            ).status_code
            for number in range(times)
        }


def test_an_unknown_client_is_limited_by_its_own_address(site: Site) -> None:
    url = site.nginx(60)
    assert asked(url, "127.0.0.2", BURST) == {401, 429}
    assert asked(url, "127.0.0.3", 1) == {401}, "its neighbour is not"
