"""The cluster behind nginx, by examples/nginx.conf, whose read timeout may be shorter than a
render."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack, closing

import pytest

from tests.cluster.conftest import AGES, Running, cancel_all, count_jobs, paused
from tests.proxies.clients import Official, event_stream, until
from tests.proxies.nginx import nginx

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("at_rest")]


def test_a_gateway_that_dies_behind_nginx_costs_neither_an_answer_nor_a_second_job(
    cluster: Running,
) -> None:
    before = count_jobs(cluster)
    with (
        nginx([cluster.api.removeprefix("http://")], 4) as url,
        closing(Official(url, max_retries=20)) as client,
        ExitStack() as drawing,
    ):
        drawing.enter_context(paused(cluster.pids("ServeReplica:meltproof:Decoder")))
        client.generate()
        until(lambda: count_jobs(cluster) == before + 1, "it is accepted")
        os.kill(cluster.pids("ServeReplica:meltproof:Gateway")[0], signal.SIGKILL)
        until(lambda: bool(client.statuses), "nginx has waited for it as long as it may")
        drawing.close()
        assert len(client.pictures()) == 1
        assert client.statuses[-1] == 200
        assert set(client.statuses[:-1]) == {504}, "Serve's proxies hide the death itself"
    assert count_jobs(cluster) == before + 1


def test_previews_pass_serve_and_nginx_while_the_render_goes_on(cluster: Running) -> None:
    body = {"prompt": "a red fox", "quality": AGES, "stream": True, "partial_images": 3}
    with (
        nginx([cluster.api.removeprefix("http://")], 60) as url,
        event_stream(url, "POST", "/v1/images/generations", json=body) as (_, events),
    ):
        first = next(event for event in events if event.get("event"))
        assert first["event"] == "image_generation.partial_image"
        cancel_all(cluster)  # so the preview came before the picture, or it would come now
        assert list(events)[-1]["event"] == "error"
