"""Clients that do not read what they asked for hold little memory, and not for long."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from jobs.blobs.store import preview_key
from jobs.job import Job
from jobs.request import preview_passes
from serve_app.delivery.pieces import READ_BYTES
from serve_app.delivery.slow_clients import (
    MOST_BYTES,
    PIECE_BYTES,
    ClientStalled,
    SendBudget,
    SlowClientProtection,
)
from tests.stages.http_stage import Stage, config, stage
from tests.stages.ledger_kit import PATIENCE_SECONDS, wait_until

PICTURE_BYTES = 8 * 2**20
"""More than the kernel keeps for a client on this machine."""
READERS = 6
BUDGET_BYTES = 5 * READ_BYTES // 2
SECONDS = PATIENCE_SECONDS


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("slow"), config()) as made:
        yield made


def budget_of(running: Stage, *, most_bytes: int, stall_seconds: float) -> SendBudget:
    budget: SendBudget = running.app.state.send_budget
    budget.most_bytes, budget.stall_seconds = most_bytes, stall_seconds
    return budget


def finished_job(running: Stage, **wish: Any) -> Job:
    with httpx.Client(base_url=running.url, headers=running.headers, timeout=SECONDS) as http:
        answer = http.post("/v1/images/generations", json={"prompt": "fox", **wish})
    job = running.ledger.get(answer.headers["x-job-id"])
    assert job is not None
    return job


def stalled_reader(running: Stage, path: str) -> socket.socket:
    """Asks for it, and never reads."""
    where = urlsplit(running.url)
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.connect((where.hostname, where.port))
    head = "host: x\r\nconnection: close\r\nauthorization: Bearer sk-local\r\n\r\n"
    reader.sendall(f"GET {path} HTTP/1.1\r\n{head}".encode())
    return reader


def cut_off(reader: socket.socket, whole_bytes: int) -> bool:
    """Whether the gateway has closed it before the end. Reads all that was sent."""
    reader.settimeout(SECONDS)
    size = 0
    while chunk := reader.recv(2**20):
        size += len(chunk)
    return 0 < size < whole_bytes


class CutOffs:
    """What the log says of clients that were cut off."""

    def __init__(self, budget: SendBudget, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "serve_app.delivery.slow_clients")
        self._budget = budget
        self._caplog = caplog

    def wait_for(self, times: int) -> int:
        """Until there were so many; the most bytes that were unread until then."""
        most = 0

        def gone() -> bool:
            nonlocal most
            most = max(most, self._budget.bytes)
            return self._caplog.text.count("and is cut off") >= times

        wait_until(gone, "clients that do not read are cut off")
        return most


@pytest.fixture
def cut_offs(running: Stage, caplog: pytest.LogCaptureFixture) -> CutOffs:
    return CutOffs(running.app.state.send_budget, caplog)


def large_picture(running: Stage) -> str:
    """The path of a picture of PICTURE_BYTES."""
    job = finished_job(running)
    assert job.renders[0].blob is not None
    running.blobs.put(job.renders[0].blob, os.urandom(PICTURE_BYTES), durable=False)
    return f"/v1/jobs/{job.id}/images/0"


def test_pictures_that_nobody_reads_are_given_up(running: Stage, cut_offs: CutOffs) -> None:
    budget = budget_of(running, most_bytes=MOST_BYTES, stall_seconds=0.5)
    path = large_picture(running)
    with ExitStack() as stack:
        readers = [stack.enter_context(stalled_reader(running, path)) for _ in range(READERS)]
        assert cut_offs.wait_for(READERS) <= READERS * READ_BYTES, "and a piece of each was held"
        assert [cut_off(reader, PICTURE_BYTES) for reader in readers] == [True] * READERS
    with httpx.Client(base_url=running.url, headers=running.headers, timeout=SECONDS) as http:
        assert len(http.get(path).content) == PICTURE_BYTES
    assert budget.bytes == 0


def test_more_unread_pictures_than_fit_are_cut_off_at_once(
    running: Stage, cut_offs: CutOffs
) -> None:
    budget_of(running, most_bytes=BUDGET_BYTES, stall_seconds=3600)
    path = large_picture(running)
    with ExitStack() as stack:
        readers = [stack.enter_context(stalled_reader(running, path)) for _ in range(READERS)]
        assert cut_offs.wait_for(READERS - 2) <= BUDGET_BYTES
        cut = sorted(cut_off(reader, PICTURE_BYTES) for reader in readers)
    assert cut == [False] * 2 + [True] * (READERS - 2)


def test_a_stream_that_nobody_reads_holds_a_piece_of_one_event(
    running: Stage, cut_offs: CutOffs
) -> None:
    budget_of(running, most_bytes=MOST_BYTES, stall_seconds=0.5)
    job = finished_job(running, stream=True, partial_images=3)
    for pass_no in preview_passes(job.request.passes, 3):
        key = preview_key(job.id, 0, pass_no, job.request.output_format)
        running.blobs.put(key, os.urandom(PICTURE_BYTES), durable=False)
    event_bytes = PICTURE_BYTES * 4 / 3 + 1000
    with stalled_reader(running, f"/v1/jobs/{job.id}/events") as reader:
        assert cut_offs.wait_for(1) <= READ_BYTES * 4 / 3
        assert cut_off(reader, int(3 * event_bytes))
    assert running.ledger.get(job.id) == job  # its job does not care
    with httpx.Client(base_url=running.url, headers=running.headers, timeout=SECONDS) as http:
        events = http.get(f"/v1/jobs/{job.id}/events").text.strip().split("\n\n")
    assert len(events) == 4
    assert json.loads(events[-1].split("data: ")[1])["state"] == "succeeded"


def test_an_answer_larger_than_the_bound_is_read_to_its_end(running: Stage) -> None:
    """By all who read it, and those who were reading before go on."""
    budget_of(running, most_bytes=BUDGET_BYTES, stall_seconds=SECONDS)
    headers = {**running.headers, "idempotency-key": "large"}
    order = {"prompt": "fox", "n": 3}
    with httpx.Client(base_url=running.url, headers=headers, timeout=SECONDS) as http:
        first = http.post("/v1/images/generations", json=order)
        job = running.ledger.get(first.headers["x-job-id"])
        assert job is not None
        pictures = [os.urandom(PICTURE_BYTES + index) for index in range(3)]
        for render, data in zip(job.renders, pictures, strict=True):
            assert render.blob is not None
            running.blobs.put(render.blob, data, durable=False)
        path = f"/v1/jobs/{job.id}/images/0"
        with http.stream("GET", path) as reading:
            chunks = reading.iter_raw()
            begun = next(chunks)
            answer = http.post("/v1/images/generations", json=order)
            assert begun + b"".join(chunks) == pictures[0]
        assert int(answer.headers["content-length"]) == len(answer.content) > BUDGET_BYTES
        data = [base64.b64decode(one["b64_json"]) for one in answer.json()["data"]]
        assert data == pictures


class Client:
    """Takes `reads` pieces at once, then no more."""

    def __init__(self, reads: int = 10**9) -> None:
        self.got: list[Message] = []
        self._reads = reads

    async def send(self, message: Message) -> None:
        if len(self.got) >= self._reads:
            await asyncio.sleep(3600)
        self.got.append(message)


def body(size: int, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": bytes(size), "more_body": more}


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 5 * PIECE_BYTES])
@pytest.mark.parametrize("more", [True, False])
async def test_pieces_are_the_whole(size: int, more: bool) -> None:
    client, budget = Client(), SendBudget()
    await budget.send(client.send, body(size, more=more))
    assert b"".join(message["body"] for message in client.got) == bytes(size)
    assert [message["more_body"] for message in client.got] == [True] * (len(client.got) - 1) + [
        more
    ]
    assert all(len(message["body"]) <= PIECE_BYTES for message in client.got)
    assert budget.bytes == 0


async def test_who_moved_longest_ago_makes_room() -> None:
    budget = SendBudget(most_bytes=10 * PIECE_BYTES)
    clients = [Client(reads=1), Client(reads=2), Client(reads=1)]
    sending = []
    for client in clients:
        sending.append(asyncio.create_task(budget.send(client.send, body(4 * PIECE_BYTES))))
        await asyncio.sleep(0)
    with pytest.raises(ClientStalled):
        await sending[0]
    assert budget.bytes == 8 * PIECE_BYTES
    for task in sending[1:]:
        task.cancel()
    await asyncio.wait(sending[1:])
    assert budget.bytes == 0


async def test_one_that_is_too_large_cuts_off_no_others() -> None:
    budget = SendBudget(most_bytes=32 * PIECE_BYTES)
    slow = asyncio.create_task(budget.send(Client(reads=1).send, body(4 * PIECE_BYTES)))
    await asyncio.sleep(0)
    with pytest.raises(ClientStalled):
        await budget.send(Client(reads=1).send, body(40 * PIECE_BYTES))
    assert budget.bytes == 4 * PIECE_BYTES
    assert not slow.done()
    slow.cancel()
    await asyncio.wait({slow})
    alone = Client()
    await budget.send(alone.send, body(40 * PIECE_BYTES))
    assert sum(len(message["body"]) for message in alone.got) == 40 * PIECE_BYTES


async def test_our_own_cancellation_is_not_a_stalled_client() -> None:
    budget = SendBudget()
    sending = asyncio.create_task(budget.send(Client(reads=0).send, body(10)))
    await asyncio.sleep(0)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending


async def test_an_app_sees_a_stalled_client_as_gone() -> None:
    """As Serve's proxy is written: it listens beside sending, and ends when the client leaves."""
    heard: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        heard.append(await receive())
        leaving = asyncio.ensure_future(receive())
        for _ in range(3):
            await send(body(10, more=True))
        heard.append(await leaving)
        heard.append(await receive())

    requests: asyncio.Queue[Message] = asyncio.Queue()
    requests.put_nowait({"type": "http.request", "body": b"", "more_body": False})
    client = Client(reads=1)
    scope = {"type": "http", "path": "/"}
    await SlowClientProtection(app, SendBudget(stall_seconds=0.01))(
        scope, requests.get, client.send
    )
    assert [message["type"] for message in heard] == [
        "http.request",
        "http.disconnect",
        "http.disconnect",
    ]
    assert len(client.got) == 1
