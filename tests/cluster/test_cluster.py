"""The real cluster: the official client, kills in the middle of renders, open ports."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from io import BytesIO
from pathlib import Path

import httpx
import psutil
import pytest
import yaml
from openai import AsyncOpenAI, OpenAI
from PIL import Image

from autoscaling.heat_metrics import OF_LANE
from deployments.local import descendants
from tests.cluster.conftest import KEY, Running, wait_until

pytestmark = pytest.mark.cluster

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


async def draw_all(api: str, seeds: range, after: float = 0, then: object = None) -> list[str]:
    """Draw all at once; `then()` is called once they run for `after` seconds."""
    async with AsyncOpenAI(base_url=f"{api}/v1", api_key=KEY, max_retries=0) as client:
        drawing = [asyncio.create_task(draw(client, seed)) for seed in seeds]
        if then is not None:
            await asyncio.sleep(after)
            await asyncio.to_thread(then)  # type: ignore[arg-type]
        return await asyncio.gather(*drawing)


def headers() -> dict[str, str]:
    return {"authorization": f"Bearer {KEY}"}


def test_the_official_client_gets_a_picture(cluster: Running) -> None:
    with OpenAI(base_url=f"{cluster.api}/v1", api_key=KEY) as client:
        answer = client.images.generate(
            model="meltproof-paced", prompt="a red fox", size="512x512", n=2, output_format="webp"
        )
    assert answer.data is not None
    pictures = [Image.open(BytesIO(base64.b64decode(one.b64_json or ""))) for one in answer.data]
    assert [(p.format, p.size) for p in pictures] == [("WEBP", (512, 512))] * 2


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
    undisturbed = asyncio.run(draw_all(cluster.api, range(20)))

    def kill() -> None:
        os.kill(cluster.pids("ServeReplica:meltproof:Decoder")[0], signal.SIGKILL)

    assert asyncio.run(draw_all(cluster.api, range(20), 0.8, kill)) == undisturbed
    wait_until(
        lambda: len(cluster.pids("ServeReplica:meltproof:Decoder")) == 2, 60, "a new decoder joins"
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


def count_jobs(cluster: Running, which: str = "true") -> int:
    dsn = yaml.safe_load(cluster.config.read_text())["applications"][0]["args"]["ledger"]["dsn"]
    with closing(sqlite3.connect(dsn.removeprefix("sqlite:///"))) as ledger:
        return int(ledger.execute(f"select count(*) from jobs where {which}").fetchone()[0])


def test_slots_reserved_by_killed_dispatchers_come_back(cluster: Running) -> None:
    script = Path(__file__).with_name("leak_slot.py")
    for _ in range(20):
        leaker = subprocess.Popen(
            [
                "env",
                "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0",
                sys.executable,
                str(script),
                cluster.ray,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert leaker.stdout is not None
        assert leaker.stdin is not None
        with leaker.stdin, leaker.stdout:
            assert leaker.stdout.readline() == b"reserved\n"
            leaker.kill()
            leaker.wait()
    asyncio.run(draw_all(cluster.api, range(SLOTS)))
    wait_until(lambda: most_running_at_once(cluster) == SLOTS, 60, "every slot is used again")


def most_running_at_once(cluster: Running) -> int:
    """Fill the lane and count how many jobs are ever rendering at the same time."""

    async def look() -> int:
        drawing = asyncio.create_task(draw_all(cluster.api, range(3 * SLOTS)))
        most = 0
        async with httpx.AsyncClient(base_url=cluster.api, headers=headers()) as client:
            while not drawing.done():
                jobs = (await client.get("/v1/jobs", params={"limit": 100})).json()["data"]
                most = max(most, sum(job["state"] == "running" for job in jobs))
                await asyncio.sleep(0.05)
        await drawing
        return most

    return asyncio.run(look())


def test_everything_listens_on_loopback_only(cluster: Running) -> None:
    ours = {cluster.pid, *descendants(cluster.pid)}
    listening = [
        socket.laddr.ip
        for socket in psutil.net_connections(kind="tcp")
        if socket.status == psutil.CONN_LISTEN and socket.pid in ours
    ]
    assert len(listening) > len(ours) / 2  # every replica listens somewhere
    assert {ip.removeprefix("::ffff:") for ip in listening} <= {"127.0.0.1", "::1"}


def test_the_dashboard_shows_readable_deployments(cluster: Running) -> None:
    applications = httpx.get(f"{cluster.dashboard}/api/serve/applications/").json()
    deployments = applications["applications"]["meltproof"]["deployments"]
    assert sorted(deployments) == [
        "Decoder",
        "Dispatcher",
        "Gateway",
        "PromptEncoder",
        "SafetyClassifier",
    ]


def test_heat_is_in_the_metrics(cluster: Running) -> None:
    """Where Prometheus would find them."""

    def shown() -> bool:
        try:
            found = httpx.get(f"{cluster.dashboard}/api/prometheus/sd", timeout=30).json()
            targets = {target for group in found for target in group["targets"]}
            pages = [httpx.get(f"http://{target}/metrics", timeout=30).text for target in targets]
        except httpx.TransportError:  # Ray's agents have less patience than we do
            return False
        return any(f"ray_{name}{{" in page for name in OF_LANE for page in pages)

    wait_until(shown, 120, "heat is exported")


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

    wait_until(refused, 60, "the new limit holds")
    assert sorted(cluster.pids("ServeReplica:meltproof")) == before
    httpx.put(deploy, json=yaml.safe_load(cluster.config.read_text()), timeout=60)
    wait_until(lambda: not refused(), 60, "the old limit is back")
