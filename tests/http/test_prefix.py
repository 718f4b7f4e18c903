"""The gateway away from the root of a host: below a route prefix, and behind a load balancer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from serve_app.gateway import create_app
from serve_app.routes.ops import STUDIO
from tests.stages.http_stage import Stage, config, stage


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("prefix"), config()) as running:
        yield running


def behind(shared: Stage, host: str, **gateway: Any) -> httpx.AsyncClient:
    """The gateway as Serve mounts it for `route_prefix: /api`."""
    app = create_app(shared.gateway_ledger, shared.blobs, config(gateway=gateway))
    transport = httpx.ASGITransport(app, root_path="/api")
    return httpx.AsyncClient(transport=transport, base_url=host, headers=shared.headers)


async def picture_url(http: httpx.AsyncClient, path: str) -> str:
    body = {"prompt": "a red fox", "response_format": "url"}
    answer = await http.post(f"{path}/v1/images/generations", json=body, timeout=60)
    return str(answer.json()["data"][0]["url"])


async def test_everything_works_below_a_prefix(shared: Stage) -> None:
    async with behind(shared, "http://lanes") as http:
        client = openai.AsyncOpenAI(
            base_url="http://lanes/api/v1", api_key="sk-local", http_client=http, max_retries=0
        )
        assert [model.id async for model in client.models.list()] == ["test-model"]
        stream = await client.images.generate(prompt="a red fox", stream=True)
        assert [event.type async for event in stream] == ["image_generation.completed"]

        url = await picture_url(http, "/api")
        assert url.startswith("http://lanes/api/v1/jobs/")
        assert (await http.get(url, headers={"authorization": ""})).status_code == 200
        forged = url.replace("/images/0?", "/images/1?")
        assert (await http.get(forged)).status_code == 403


async def test_a_job_is_found_where_location_says(shared: Stage) -> None:
    async with behind(shared, "http://lanes") as http:
        answer = await http.post(
            "/api/v1/images/generations",
            json={"prompt": "a red fox"},
            headers={"prefer": "respond-async"},
        )
        location = answer.headers["location"]
        assert location == f"/api/v1/jobs/{answer.json()['id']}"
        assert (await http.get(location)).json()["id"] == answer.json()["id"]
        events = (await http.get(f"{location}/events")).text
        assert f'"url":"http://lanes{location}/images/0?' in events


async def test_the_page_loads_from_its_own_prefix(shared: Stage) -> None:
    async with behind(shared, "http://lanes") as http:
        bare = await http.get("/api")
        assert (bare.status_code, bare.headers["location"]) == (307, "/api/")
        assert (await http.get("/api/studio/studio.js")).status_code == 200
        page = (await http.get("/api/")).text
        names = [path.name for path in STUDIO.glob("*.js")]
        scripts = [(await http.get(f"/api/studio/{name}")).text for name in names]
    assert 'src="studio/studio.js"' in page
    assert any("v1/jobs" in script for script in scripts)
    assert not [script for script in scripts if re.search("[\"'`]/(v1|readyz)", script)]


async def test_links_begin_with_the_public_url_when_there_is_one(shared: Stage) -> None:
    public = "https://api.example.com/"
    async with behind(shared, "http://lanes", public_url=public) as http:
        url = await picture_url(http, "/api")
        assert url.startswith("https://api.example.com/v1/jobs/")
        opened = url.replace("https://api.example.com", "http://lanes/api")  # what nginx does
        assert (await http.get(opened, headers={"authorization": ""})).status_code == 200
        answer = await http.post(
            "/api/v1/images/generations",
            json={"prompt": "a red fox"},
            headers={"prefer": "respond-async"},
        )
        assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
        assert (await http.get("/api")).headers["location"] == "/"


async def test_no_header_moves_the_links(shared: Stage) -> None:
    forged = {"x-forwarded-prefix": "/evil", "x-forwarded-host": "evil", "forwarded": "host=evil"}
    async with behind(shared, "http://lanes") as http:
        http.headers.update(forged)
        assert (await picture_url(http, "/api")).startswith("http://lanes/api/v1/jobs/")
