"""The real cluster: the official client, kills in the middle of renders, open ports."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
import yaml
from openai import AsyncOpenAI, OpenAI
from PIL import Image

from deployments.metrics.catalogue import PROCESSES, Part
from scripts.dashboards import FOLDER
from scripts.servers.prometheus import prometheus
from serve_app.config.sections import HEADROOM
from serve_app.operate.local_cluster import descendants
from tests.cluster.conftest import AGES, CANARY, KEY, Running, cancel_all, count_jobs, wait_until
from tests.stages.metrics_kit import MONITORING, scraping, unanswered
from tests.stages.tools import programs

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("at_rest")]

SLOTS = 2 * 4  # configs/paced.yaml: two replicas of four slots


async def draw(client: AsyncOpenAI, seed: int) -> str:
    """Digest of the picture."""
    answer = await client.images.generate(
        model="meltproof-paced",
        prompt=f"a red fox number {seed}",
        size="256x256",
        quality="max",
        extra_body={"seed": seed},
    )
    assert answer.data is not None
    return hashlib.sha256(base64.b64decode(answer.data[0].b64_json or "")).hexdigest()


async def draw_while(api: str, key: str, people: int, then: Callable[[], None]) -> list[str]:
    """They draw one picture after another until `then()` is over; each has a seed of its own."""
    async with AsyncOpenAI(base_url=f"{api}/v1", api_key=key, max_retries=0) as client:
        then_is_over = asyncio.create_task(asyncio.to_thread(then))

        async def draw_on(number: int) -> list[str]:
            digests = [await draw(client, number)]
            while not then_is_over.done():
                digests.append(await draw(client, number + len(digests) * people))
            return digests

        drawn = await asyncio.gather(*map(draw_on, range(people)))
        await then_is_over
        return [digest for digests in drawn for digest in digests]


async def draw_all(api: str, seeds: range, after: float = 0, then: object = None) -> list[str]:
    """Draw all at once; `then()` is called once they run for `after` seconds."""
    async with AsyncOpenAI(base_url=f"{api}/v1", api_key=KEY, max_retries=0) as client:
        drawing = [asyncio.create_task(draw(client, seed)) for seed in seeds]
        if then is not None:
            await asyncio.sleep(after)
            await asyncio.to_thread(then)  # type: ignore[arg-type]
        return await asyncio.gather(*drawing)


def headers(key: str = KEY) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def submit(api: str, key: str = KEY, **wishes: Any) -> str:
    """An async job; its id."""
    answer = httpx.post(
        f"{api}/v1/images/generations",
        headers={**headers(key), "prefer": "respond-async"},
        json={"prompt": "a red fox", "size": "256x256", **wishes},
        timeout=60,
    )
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def test_the_official_client_gets_a_picture(cluster: Running) -> None:
    with OpenAI(base_url=f"{cluster.api}/v1", api_key=KEY) as client:
        answer = client.images.generate(
            model="meltproof-paced", prompt="a red fox", size="512x512", n=2, output_format="webp"
        )
    assert answer.data is not None
    pictures = [Image.open(BytesIO(base64.b64decode(one.b64_json or ""))) for one in answer.data]
    assert [(p.format, p.size) for p in pictures] == [("WEBP", (512, 512))] * 2


def test_a_picture_as_large_as_can_be_asked_for_is_edited(cluster: Running) -> None:
    """What an edit makes goes to the classifier's replica at full size."""
    noise = Image.effect_noise((1536, 1024), 50).convert("RGB")
    png = BytesIO()
    noise.save(png, "PNG")
    with OpenAI(base_url=f"{cluster.api}/v1", api_key=KEY, timeout=60, max_retries=0) as client:
        answer = client.images.edit(
            model="meltproof-paced", image=("noise.png", png.getvalue()), prompt="a red fox"
        )
    assert answer.data is not None
    picture = Image.open(BytesIO(base64.b64decode(answer.data[0].b64_json or "")))
    assert picture.size == noise.size


def test_a_picture_carries_the_watermark_of_its_lane(cluster: Running) -> None:
    with OpenAI(base_url=f"{cluster.api}/v1", api_key=KEY) as client:
        answer = client.images.generate(
            model="meltproof-paced", prompt="a red fox", output_format="webp"
        )
        assert answer.data is not None
        file = base64.b64decode(answer.data[0].b64_json or "")
        checked = client.content_provenance_checks.create(file=("fox.webp", file))
    manifest, mark = checked.to_dict(warnings=False)["results"]
    assert (manifest["type"], manifest["validation_state"]) == ("c2pa", "not_present")
    assert (mark["type"], mark["key_id"]) == ("watermark", "canary")


def test_an_offer_to_upgrade_is_answered_as_plain_http(cluster: Running) -> None:
    """What every default JDK client sends; were it read wrongly, the body would be a request."""
    body = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    where = urlsplit(cluster.api)
    lines = (
        "POST /v1/images/generations HTTP/1.1",
        f"Host: {where.netloc}",
        f"Authorization: Bearer {KEY}",
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
        f"Content-Length: {len(body)}",
    )
    last = b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with socket.create_connection((where.hostname, where.port), timeout=60) as client:
        client.sendall("\r\n".join([*lines, "", ""]).encode())
        client.sendall(body + last.replace(b"Host: x", f"Host: {where.netloc}".encode()))
        said = b"".join(iter(lambda: client.recv(65_536), b""))
    assert said.count(b"HTTP/1.1 ") == 2
    assert b"invalid_json" in said
    assert b'"ready"' in said


def test_previews_stream_before_the_picture(cluster: Running) -> None:
    with OpenAI(base_url=f"{cluster.api}/v1", api_key=KEY) as client:
        stream = client.images.generate(
            model="meltproof-paced",
            prompt="a red fox",
            size="256x256",
            quality="high",
            stream=True,
            partial_images=3,
        )
        kinds = [event.type for event in stream]
    assert kinds == ["image_generation.partial_image"] * 3 + ["image_generation.completed"]


def test_a_blocked_prompt_never_reaches_a_decoder(cluster: Running) -> None:
    answer = httpx.post(
        f"{cluster.api}/v1/images/generations",
        headers=headers(),
        json={"prompt": "a pornographic picture of a naked woman"},
        timeout=60,
    )
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "moderation_blocked"
    assert error["moderation_details"]["moderation_stage"] == "input"


def test_a_killed_decoder_costs_no_job_and_no_pixel(cluster: Running) -> None:
    undisturbed = asyncio.run(draw_all(cluster.api, range(12)))

    def kill() -> None:
        os.kill(cluster.pids("ServeReplica:meltproof:Decoder")[0], signal.SIGKILL)

    assert asyncio.run(draw_all(cluster.api, range(12), 0.8, kill)) == undisturbed
    wait_until(
        lambda: len(cluster.pids("ServeReplica:meltproof:Decoder")) == 2, "a new decoder joins"
    )


def test_a_killed_dispatcher_costs_no_job(cluster: Running) -> None:
    def kill() -> None:
        os.kill(cluster.pids("ServeReplica:meltproof:Dispatcher")[0], signal.SIGKILL)

    pictures = asyncio.run(draw_all(cluster.api, range(8), 0.6, kill))
    assert pictures == asyncio.run(draw_all(cluster.api, range(8)))


def test_a_killed_gateway_costs_neither_an_answer_nor_a_second_job(cluster: Running) -> None:
    def kill() -> None:
        os.kill(cluster.pids("ServeReplica:meltproof:Gateway")[0], signal.SIGKILL)

    before = count_jobs(cluster)
    pictures = asyncio.run(draw_all(cluster.api, range(8), 0.6, kill))
    assert count_jobs(cluster) == before + 8
    assert pictures == asyncio.run(draw_all(cluster.api, range(8)))


DRAWN = "state = 'leased' and id in (select job_id from renders where state = 'rendering')"


def test_slots_reserved_by_a_killed_dispatcher_come_back(cluster: Running) -> None:
    """Of all that Serve lets be reserved."""
    leaker = subprocess.Popen(
        [
            *("env", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0", "RAY_AUTH_MODE=disabled"),
            sys.executable,
            *(Path(__file__).with_name("leak_slot.py"), cluster.ray, str(SLOTS + 2 * HEADROOM)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert leaker.stdout is not None
    assert leaker.stdin is not None
    with leaker.stdin, leaker.stdout:
        for _ in range(SLOTS + 2 * HEADROOM):
            assert leaker.stdout.readline() == b"reserved\n"
        leaker.kill()
        leaker.wait()
    for _ in range(3 * SLOTS):
        submit(cluster.api, quality=AGES)
    wait_until(lambda: count_jobs(cluster, DRAWN) == SLOTS, "all slots are used")
    cancel_all(cluster)


RAYS_OWN_LINE = "Importing application 'meltproof' with arguments"
"""What Serve writes of every application; `check` and `apply` warn of it."""


def test_no_log_holds_a_secret_of_the_config(cluster: Running) -> None:
    bearer = {"authorization": f"Bearer {CANARY}"}
    assert httpx.get(f"{cluster.api}/v1/models", headers=bearer, timeout=60).is_success
    logs = [file for file in cluster.ray_folder.rglob("*") if file.is_file()]
    assert len(logs) > 20
    told = [
        f"{log.name}: {line[:300]}"
        for log in (*logs, cluster.log)
        for line in log.read_text(errors="replace").splitlines()
        if CANARY in line and RAYS_OWN_LINE not in line
    ]
    assert told == []


RAYS_FIXED_PORTS = frozenset({6379, 8265, 10_001, 44_217, 44_227, 52_365})


def test_everything_listens_on_loopback_only(cluster: Running) -> None:
    ours = {cluster.pid, *descendants(cluster.pid)}
    listening = {
        (socket.laddr.ip.removeprefix("::ffff:"), socket.laddr.port)
        for socket in psutil.net_connections(kind="tcp")
        if socket.status == psutil.CONN_LISTEN and socket.pid in ours
    }
    known = (cluster.api, cluster.dashboard, cluster.ray)
    assert {int(url.rpartition(":")[2]) for url in known} <= {port for _, port in listening}
    assert {ip for ip, _ in listening} <= {"127.0.0.1", "::1"}
    assert not RAYS_FIXED_PORTS & {port for _, port in listening}, "two clusters would share these"


def test_the_dashboard_shows_readable_deployments(cluster: Running) -> None:
    applications = httpx.get(f"{cluster.dashboard}/api/serve/applications/", timeout=60).json()
    deployments = applications["applications"]["meltproof"]["deployments"]
    assert sorted(deployments) == [
        "Decoder",
        "Dispatcher",
        "Gateway",
        "PromptEncoder",
        "SafetyClassifier",
    ]


def test_prometheus_finds_every_part_by_our_scrape_config(cluster: Running, tmp_path: Path) -> None:
    """And answers every expression of ours; Grafana finds our dashboards beside Ray's."""
    programs("prometheus")
    port = yaml.safe_load(cluster.config.read_text())["applications"][0]["args"]["metrics"]["port"]
    text = (MONITORING / "prometheus.yml").read_text()
    text = text.replace("http://127.0.0.1:8265", cluster.dashboard).replace(":9464", f":{port}")
    parts = {*Part} - {Part.CONTROLLER}  # no deployment of this one scales
    asked = {"prompt": "a red fox", "size": "256x256", "quality": "medium", "partial_images": 1}
    with (
        prometheus(tmp_path, scraping(yaml.safe_load(text)["scrape_configs"])) as server,
        OpenAI(base_url=f"{cluster.api}/v1", api_key=KEY) as client,
    ):

        def seen() -> bool:
            """After one picture more."""
            for _ in client.images.generate(stream=True, **asked):
                pass
            reporting = server.query(PROCESSES.name)
            return {one["metric"]["part"] for one in reporting} >= parts and not unanswered(server)

        wait_until(seen, "every part is seen, and every expression answered")
        found = [target for target in server.targets() if target["labels"]["job"] == "meltproof"]
        assert [(one["health"], one["scrapeUrl"]) for one in found] == [
            ("up", f"http://127.0.0.1:{port}/metrics")
        ]
        assert {target["labels"]["job"] for target in server.targets()} == {"meltproof", "ray"}
    provisioned = cluster.ray_folder.glob("session_[0-9]*/metrics/grafana/dashboards/*.json")
    assert {file.name for file in provisioned} > {file.name for file in FOLDER.iterdir()}


def test_an_edited_safety_policy_takes_effect_without_a_restart(cluster: Running) -> None:
    before = sorted(cluster.pids("ServeReplica:meltproof"))
    config = yaml.safe_load(cluster.config.read_text())
    everything = {"version": "house", "rules": [{"stages": ["final"], "actions": {"block": 0}}]}
    config["applications"][0]["deployments"] = [
        {"name": "SafetyClassifier", "user_config": {"moderation": everything}}
    ]
    deploy = f"{cluster.dashboard}/api/serve/applications/"
    ask = {"prompt": "a red fox", "quality": "low", "size": "256x256"}

    def code() -> str | None:
        answer = httpx.post(
            f"{cluster.api}/v1/images/generations", headers=headers(), json=ask, timeout=120
        )
        return answer.json()["error"]["code"] if answer.is_error else None

    assert code() is None
    assert httpx.put(deploy, json=config, timeout=60).is_success
    wait_until(lambda: code() == "moderation_blocked", "the new policy holds")
    assert httpx.put(deploy, json=yaml.safe_load(cluster.config.read_text()), timeout=60).is_success
    wait_until(lambda: code() is None, "that of the start holds again")
    assert sorted(cluster.pids("ServeReplica:meltproof")) == before


def test_edited_numbers_take_effect_without_a_restart(cluster: Running) -> None:
    before = sorted(cluster.pids("ServeReplica:meltproof"))
    config = yaml.safe_load(cluster.config.read_text())
    config["applications"][0]["deployments"] = [
        {"name": "Gateway", "user_config": {"limits": {"images": 1}}}
    ]
    deploy = f"{cluster.dashboard}/api/serve/applications/"
    assert httpx.put(deploy, json=config, timeout=60).is_success

    def refused() -> bool:
        answer = httpx.post(
            f"{cluster.api}/v1/images/generations",
            headers={**headers(), "prefer": "respond-async"},
            json={"prompt": "a red fox", "n": 2},
            timeout=60,
        )
        return answer.status_code == 400 and answer.json()["error"]["param"] == "n"

    wait_until(refused, "the new limit holds")
    assert sorted(cluster.pids("ServeReplica:meltproof")) == before
    httpx.put(deploy, json=yaml.safe_load(cluster.config.read_text()), timeout=60)
    wait_until(lambda: not refused(), "the old limit is back")
