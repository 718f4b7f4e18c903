"""The bench of neighbours compares what it says, and its abuses are what they say."""

from __future__ import annotations

import io
import json
from collections import Counter

import pytest
from PIL import Image

from scripts.load import at_rate
from scripts.neighbour.__main__ import Turn, judge
from scripts.neighbour.abuses import ABUSES, KEYS, SPENT
from scripts.neighbour.payloads import POISON_PROMPTS, form_of_two, many_fields, noise_png
from scripts.neighbour.victim import Latencies

CALM = Latencies(get=[0.01] * 100, order=[0.02] * 100)


@pytest.mark.parametrize(
    ("seen", "ratio"),
    [
        (CALM, 1.0),
        (Latencies(get=[0.01] * 100, order=[0.02] * 98 + [0.2] * 2), 10.0),  # orders alone
        (Latencies(get=[0.01] * 98 + [0.03] * 2, order=[0.02] * 100), 3.0),  # questions alone
        (Latencies(get=[0.01] * 99 + [9.0], order=[0.02] * 100), 1.0),  # one in a hundred
    ],
)
def test_the_slowest_hundredth_of_the_worse_kind_counts(seen: Latencies, ratio: float) -> None:
    assert judge(CALM, [Turn("lists", seen, Counter())]) == {"lists": ratio}


def test_every_abuse_has_a_tenant_of_its_own() -> None:
    assert KEYS.keys() == ABUSES.keys()
    assert len(set(KEYS.values())) == len(ABUSES)
    assert SPENT in ABUSES


async def test_a_rate_is_kept_and_ends() -> None:
    sent: list[int] = []

    async def send(number: int) -> None:
        sent.append(number)

    await at_rate(100, 0.1, send, finish=True)
    assert sent == list(range(10))


async def test_an_answer_that_is_waited_for_may_fail_the_bench() -> None:
    async def send(number: int) -> None:
        raise RuntimeError(str(number))

    with pytest.raises(RuntimeError):
        await at_rate(10, 0.1, send, finish=True)
    await at_rate(10, 0.1, send)


def test_bodies_are_what_they_say() -> None:
    assert len(json.loads(many_fields(1_000))) == 1_001
    assert all(len(prompt) <= 32_000 for prompt in POISON_PROMPTS)
    body, head = form_of_two(100_000)
    assert head.startswith("content-type: multipart/form-data; boundary=")
    assert body.count(noise_png((158, 158), "RGBA")) == 2
    with Image.open(io.BytesIO(noise_png((20, 10), "RGB"))) as image:
        assert (image.size, image.mode) == ((20, 10), "RGB")
