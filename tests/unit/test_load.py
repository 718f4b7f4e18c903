from __future__ import annotations

import asyncio
import itertools
import json
import math

import pytest

from scripts.load import (
    Answer,
    Body,
    LoadReport,
    mixed_bodies,
    percentile,
    poisson_arrivals,
    run_closed,
    run_load,
)


def report(*answers: Answer, wall: float = 10.0, unfinished: int = 0) -> LoadReport:
    return LoadReport(answers, wall, cpu_seconds=0.5, unfinished=unfinished)


def answer(finished: float, due: float = 0.0, outcome: str = "ok", images: int = 1) -> Answer:
    return Answer(due, due + 0.1, finished, 200, images, outcome)


@pytest.mark.parametrize(
    ("q", "expected"), [(0, 1), (1, 1), (50, 50), (50.5, 51), (90, 90), (99, 99), (100, 100)]
)
def test_a_percentile_is_the_nearest_rank(q: float, expected: float) -> None:
    assert percentile([float(v) for v in range(100, 0, -1)], q) == expected


def test_the_percentile_of_few_values_is_one_of_them() -> None:
    assert percentile([3.0], 99) == 3.0
    assert percentile([1.0, 2.0], 50) == 1.0
    assert percentile([1.0, 2.0], 51) == 2.0
    assert percentile([1.0, 2.0, 3.0, 4.0], 75) == 3.0


@pytest.mark.parametrize(("values", "q"), [([], 50), ([1.0], -1), ([1.0], 101)])
def test_a_percentile_of_nothing_or_out_of_range_is_refused(values: list[float], q: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        percentile(values, q)


def test_poisson_arrivals_come_in_order_at_their_rate_and_repeat_for_a_seed() -> None:
    times = list(itertools.islice(poisson_arrivals(4.0, seed=1), 20_000))
    assert times == sorted(times)
    assert times == list(itertools.islice(poisson_arrivals(4.0, seed=1), 20_000))
    assert times != list(itertools.islice(poisson_arrivals(4.0, seed=2), 20_000))
    gaps = [after - before for before, after in itertools.pairwise([0.0, *times])]
    mean = sum(gaps) / len(gaps)
    spread = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert mean == pytest.approx(0.25, rel=0.05)
    assert spread == pytest.approx(mean, rel=0.05)  # an exponential's mark


def test_latency_counts_from_when_a_request_was_due_and_only_of_successes() -> None:
    found = report(answer(3.0, due=1.0), answer(5.0, due=4.0), answer(9.0, outcome="full"))
    assert found.latencies == [2.0, 1.0]


def test_the_summary_is_json_with_every_outcome() -> None:
    answers = (answer(1.0, images=2), answer(2.0), answer(3.0, outcome="full", images=0))
    summary = report(*answers, unfinished=2).summary()
    assert summary["outcomes"] == {"ok": 2, "full": 1}
    assert summary["requests"] == 5
    assert summary["images"] == 3
    assert summary["images_per_s"] == 0.3
    assert summary["p50_seconds"] == 1.0
    assert summary["p99_seconds"] == 2.0
    assert summary["largest_send_lag_seconds"] == 0.1
    assert json.loads(json.dumps(summary)) == summary


def test_a_run_without_success_has_no_percentiles() -> None:
    assert report(answer(1.0, outcome="full")).summary()["p99_seconds"] is None
    assert report(unfinished=3).summary()["requests"] == 3


def test_the_steady_rate_leaves_out_filling_and_emptying() -> None:
    slow_edges = [5.0, *(5.0 + i / 2 for i in range(1, 19)), 30.0]
    found = report(*(answer(t) for t in slow_edges), wall=30.0)
    assert found.images_per_s == pytest.approx(20 / 30)
    assert found.steady_images_per_s == pytest.approx(2.0, rel=0.35)


def test_bodies_mix_prompts_and_pass_counts_with_a_seed_each() -> None:
    bodies = [mixed_bodies(["a", "b"], ["low", "medium", "high"], "256x256")(i) for i in range(6)]
    assert len({(body["prompt"], body["quality"]) for body in bodies}) == 6
    assert [body["seed"] for body in bodies] == list(range(6))


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1:8000", "https://example.com", "http://", "http://127.0.0.1.evil.org"]
)
async def test_a_server_elsewhere_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="loopback"):
        await run_load(url, "k", 1.0, 1, lambda i: {})


@pytest.mark.parametrize(("rate", "count"), [(0.0, 1), (1e6, 1), (1.0, 0), (1.0, 10**9)])
async def test_a_load_without_bounds_is_refused(rate: float, count: int) -> None:
    with pytest.raises(ValueError, match="must be between"):
        await run_load("http://127.0.0.1:1", "k", rate, count, lambda i: {})


class Server:
    """A few lines of HTTP on a free port: answers after `together` requests have come."""

    def __init__(self, together: int, reply: bytes, status: str = "200 OK") -> None:
        self._barrier = asyncio.Barrier(together)
        self._reply = f"HTTP/1.1 {status}\r\ncontent-length: {len(reply)}\r\n\r\n".encode() + reply
        self.bodies: list[Body] = []
        self.keys: set[str] = set()
        self._talks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._talks.add(asyncio.current_task())  # type: ignore[arg-type]
        try:
            await self._answer(reader, writer)
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.read(65536):
            headers, _, body = head.partition(b"\r\n\r\n")
            fields = dict(line.split(b": ", 1) for line in headers.lower().split(b"\r\n")[1:])
            while len(body) < int(fields[b"content-length"]):
                body += await reader.read(65536)
            self.bodies.append(json.loads(body))
            self.keys.add(fields[b"authorization"].decode())
            await self._barrier.wait()
            writer.write(self._reply)
            await writer.drain()


IMAGE = b'{"data": [{"b64_json": "aaaa"}, {"b64_json": "bbbb"}]}'


async def test_the_open_loop_sends_on_while_no_answer_has_come() -> None:
    """The server answers only when all ten are there; a generator that waits would hang."""
    async with Server(10, IMAGE) as server:
        found = await run_load(server.url, "k1", 1000.0, 10, lambda i: {"seed": i})
    assert [a.outcome for a in found.answers] == ["ok"] * 10
    assert sum(a.images for a in found.answers) == 20
    assert sorted(body["seed"] for body in server.bodies) == list(range(10))
    assert server.keys == {"bearer k1"}
    assert all(a.due <= a.sent <= a.finished for a in found.answers)


async def test_the_closed_loop_keeps_so_many_under_way() -> None:
    async with Server(3, IMAGE) as server:
        found = await run_closed(server.url, "k", 3, 9, lambda i: {"seed": i})
    assert len(found.latencies) == 9
    assert found.unfinished == 0


async def test_the_time_limit_cuts_off_what_never_answers() -> None:
    async with Server(5, IMAGE) as server:
        found = await run_closed(server.url, "k", 4, 4, lambda i: {}, limit_seconds=0.2)
    assert (len(found.answers), found.unfinished) == (0, 4)


async def test_refusals_are_counted_by_their_code() -> None:
    reply = b'{"error": {"code": "rate_limit_exceeded", "message": "slow down"}}'
    async with Server(1, reply, "429 Too Many Requests") as server:
        found = await run_closed(server.url, "k", 1, 2, lambda i: {})
    assert found.summary()["outcomes"] == {"rate_limit_exceeded": 2}
    async with Server(1, b"<html>", "502 Bad Gateway") as server:
        found = await run_closed(server.url, "k", 1, 1, lambda i: {})
    assert found.summary()["outcomes"] == {"http_502": 1}


async def test_no_server_is_counted_too() -> None:
    found = await run_closed("http://127.0.0.1:9", "k", 1, 1, lambda i: {})
    assert found.summary()["outcomes"] == {"no answer": 1}
