"""Renders that last longer than nginx waits: streams stay open, and plain clients come back for
their own jobs, with as many charges as pictures."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import httpx
import pytest

from tests.proxies.clients import KEY, Official, data, event_stream, submitted, until
from tests.proxies.conftest import Site


@pytest.mark.parametrize("read_timeout_seconds", [4, 12])
def test_nobody_loses_what_lasts_longer_than_the_read_timeout(
    site: Site, read_timeout_seconds: int
) -> None:
    url = site.nginx(read_timeout_seconds)
    jobs, charged = len(site.jobs()), site.charged()
    with ThreadPoolExecutor() as pool, ExitStack() as stack, site.held() as pace:
        clients = [stack.enter_context(closing(Official(url))) for _ in range(4)]
        one, two, keyed, edited = clients
        one.generate()
        two.generate(n=2)
        edited.edit()
        keyed.generate(extra_headers={"idempotency-key": f"order-{read_timeout_seconds}"})
        streamed = pool.submit(streamed_events, url)
        followed = pool.submit(followed_events, url)
        await_cut(clients)
        assert httpx.get(f"{url}/v1/models", headers=KEY).is_success, "no gateway is blamed for it"
        pace.go()
        assert [len(client.pictures()) for client in clients] == [1, 2, 1, 1]
        assert len({picture for client in clients for picture in client.pictures()}) == 5
        assert {client.statuses[-1] for client in clients} == {200}
        *comments, completed = streamed.result()
        assert set(map(tuple, comments)) == {("",)}
        assert data(completed)["type"] == "image_generation.completed"
        assert data(followed.result()[-1])["state"] == "succeeded"
    assert len(site.jobs()) == jobs + 6
    assert site.charged() == charged + 7


def await_cut(clients: list[Official]) -> None:
    """Until nginx has cut off every one of them."""
    until(lambda: all(client.statuses for client in clients), "all have an answer")
    assert {status for client in clients for status in client.statuses} == {504}


def streamed_events(url: str) -> list[dict[str, str]]:
    body = {"prompt": "a streamed fox", "stream": True}
    with event_stream(url, "POST", "/v1/images/generations", json=body) as (_, events):
        return list(events)


def followed_events(url: str) -> list[dict[str, str]]:
    with event_stream(url, "GET", f"/v1/jobs/{submitted(url)}/events") as (_, events):
        return list(events)


def test_equal_requests_come_back_for_a_picture_each(site: Site) -> None:
    """Four of the same prompt at once, as one asks for variations: all are cut off together."""
    url = site.nginx(4)
    jobs = len(site.jobs())
    with ExitStack() as stack, site.held() as pace:
        clients = [stack.enter_context(closing(Official(url))) for _ in range(4)]
        for client in clients:
            client.generate()
        until(lambda: len(site.jobs()) == jobs + 4, "all are accepted")
        first = latest_watch(site)
        await_cut(clients)
        until(lambda: min(latest_watch(site)) > max(first), "each job is found again")
        pace.go()
        assert len({client.pictures()[0] for client in clients}) == 4
    assert len(site.jobs()) == jobs + 4


def latest_watch(site: Site) -> list[float]:
    """Until when each of the newest four jobs is watched."""
    return [job.watched_until or 0.0 for job in site.jobs()[:4]]
