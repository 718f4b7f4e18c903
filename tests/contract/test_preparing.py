"""Prompts are encoded and screened once while they are remembered."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from jobs.ports import Screening
from jobs.preparing import REMEMBERED, Preparing
from tests.contract.dispatch_stages import Prompts, Verdicts, until


class CountedPrompts(Prompts):
    """The encoder, and what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()

    async def encode(self, prompt: str) -> object:
        """See Encoder."""
        self.asked[prompt] += 1
        return await super().encode(prompt)


def preparing(encoder: Prompts) -> Preparing:
    return Preparing(encoder, Verdicts(), retry_seconds=0.01)


async def test_the_same_words_are_asked_about_once() -> None:
    encoder = CountedPrompts()
    it = preparing(encoder)
    first, again = await it.prepare("a bomb"), await it.prepare("a bomb")
    assert again is first
    assert first.verdict == Screening(True, ("weapons",))
    assert await it.prepare("a bomb ") is not first
    assert encoder.asked == {"a bomb": 1, "a bomb ": 1}


async def test_the_prompt_used_longest_ago_is_forgotten() -> None:
    encoder = CountedPrompts()
    it = preparing(encoder)
    for prompt in ("old", "used again", *map(str, range(REMEMBERED - 2)), "used again", "new"):
        await it.prepare(prompt)
    for prompt in ("used again", "old"):
        await it.prepare(prompt)
    assert (encoder.asked["used again"], encoder.asked["old"]) == (1, 2)


async def test_what_went_wrong_is_not_remembered() -> None:
    encoder = CountedPrompts()
    encoder.breaks = True
    it = preparing(encoder)
    with pytest.raises(ArithmeticError):
        await it.prepare("a fox")
    encoder.breaks, encoder.away = False, True
    waiting = asyncio.create_task(it.prepare("a fox"))
    await until(lambda: encoder.asked["a fox"] > 2, "it asks again")
    encoder.away = False
    assert not (await waiting).verdict.blocked
