"""Events reach the client as they happen, through nginx as it comes; and a stream that was cut goes
on where it was."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import Any

import httpx
import pytest

from jobs.request import preview_passes
from serve_app.config.cluster import QualitiesSection
from tests.proxies.clients import FOX, Official, data, event_stream, submitted, until
from tests.proxies.conftest import Site
from tests.proxies.nginx import BARE

PREVIEWS = preview_passes(QualitiesSection().medium, 3)


GENERATION = {"json": {"prompt": "a red fox", "stream": True, "partial_images": 3}}
EDIT = {
    "data": {"prompt": "a blue fox", "stream": "true", "partial_images": "3", "strength": "1"},
    "files": {"image": FOX},
}


@pytest.mark.parametrize("config", [None, BARE], ids=["example", "bare"])
@pytest.mark.parametrize(
    ("path", "wish", "kind"),
    [
        ("generations", GENERATION, "image_generation"),
        ("edits", EDIT, "image_edit"),
    ],
)
def test_a_preview_arrives_while_the_rest_is_still_drawn(
    site: Site, config: str | None, path: str, wish: dict[str, Any], kind: str
) -> None:
    """The client has each one before the next pass is allowed."""
    url = site.nginx(60, config)
    with site.held() as pace, ExitStack() as stack:
        made = event_stream(url, "POST", f"/v1/images/{path}", **wish)
        answer, events = stack.enter_context(made)
        path = f"/v1/jobs/{answer.headers['x-job-id']}/events"
        _, job_events = stack.enter_context(event_stream(url, "GET", path))
        passes = 0
        for number, pass_no in enumerate(PREVIEWS):
            pace.step(pass_no - passes)
            passes = pass_no
            partial = data(next(event for event in events if event.get("event")))
            assert partial["type"] == f"{kind}.partial_image"
            assert partial["partial_image_index"] == number
            preview = data(next(event for event in job_events if event.get("event") == "preview"))
            assert (preview["pass"], preview["b64_json"]) == (pass_no, partial["b64_json"])
            assert not site.jobs()[0].ended
        pace.go()
        last = [event["event"] for event in events if event.get("event")]
        assert last == [f"{kind}.completed"]


def test_a_reconnect_brings_the_state_and_every_preview_after_the_last_one(site: Site) -> None:
    url = site.nginx(60)
    with site.held() as pace:
        path = f"/v1/jobs/{submitted(url, partial_images=3)}/events"
        with event_stream(url, "GET", path) as (answer, events):
            serving = next(g for g in site.gateways if g.address == answer.headers["x-gateway"])
            pace.step(PREVIEWS[0])
            seen = next(event for event in events if event.get("event") == "preview")
            assert seen["id"] == f"0.{PREVIEWS[0]}"
            serving.kill()
            with pytest.raises(httpx.RemoteProtocolError):  # nginx does not call that the end
                list(events)
        pace.step(PREVIEWS[-1] - PREVIEWS[0])
        until(lambda: len(site.jobs()[0].renders[0].previews) == len(PREVIEWS), "all are stored")
        with event_stream(url, "GET", path, {"last-event-id": seen["id"]}) as (_, events):
            told = (event for event in events if event.get("event"))
            *missed, state = [next(told) for _ in PREVIEWS]
            assert [event["id"] for event in missed] == [f"0.{pass_no}" for pass_no in PREVIEWS[1:]]
            assert data(state)["state"] == "running"
            pace.go()
            assert data(list(told)[-1])["state"] == "succeeded"
    serving.start()
    serving.await_up()


def test_who_waits_in_a_killed_gateway_asks_the_other_one(site: Site) -> None:
    url = site.nginx(60)
    jobs, charged = len(site.jobs()), site.charged()
    lost, _ = site.gateways
    with site.held() as pace, ExitStack() as stack:
        clients = [stack.enter_context(closing(Official(url))) for _ in range(4)]
        for seed, client in enumerate(clients):
            client.generate(n=2, extra_body={"seed": 10 * seed})
        until(lambda: len(site.jobs()) == jobs + 4, "all are accepted")
        lost.kill()
        until(lambda: [502] in [client.statuses for client in clients], "somebody is cut off")
        pace.go()
        assert len({picture for client in clients for picture in client.pictures()}) == 8
        answered = sorted(client.statuses for client in clients)
        assert answered == [[200]] * 2 + [[502, 200]] * 2, "nginx takes turns"
    assert len(site.jobs()) == jobs + 4
    lost.start()
    lost.await_up()
    assert site.charged() == charged + 8
