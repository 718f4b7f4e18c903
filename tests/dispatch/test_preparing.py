"""Prompts are encoded and screened once while they are remembered."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dispatch.ports import CallFailed, StageUnavailable
from dispatch.prepare import REMEMBERED, REMEMBERED_BYTES, Preparing, RecentPrompts
from dispatch.settings import Stages
from dispatch.verdict_notes import VerdictNotes
from engine.capabilities import Capabilities
from engine.picture import encode
from engine.prompt_encoder import EncodedPrompt, PromptText
from engine.render import Conditioning, LoraUse, TensorBytes
from engine.verdict import Verdict
from jobs.blobs.store import DirectoryBlobs
from jobs.request import ImageRequest, SourceImage, WeightedLora
from tests.dispatch.dispatch_stages import Files, Lane, Prompts, Verdicts
from tests.stages.ledger_kit import wish


class CountedPrompts(Prompts):
    """The encoder, and what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[PromptText] = Counter()

    async def encode(self, words: PromptText) -> EncodedPrompt:
        """See Encoder."""
        self.asked[words] += 1
        return await super().encode(words)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(DirectoryBlobs(tmp_path))


def preparing(encoder: Prompts, files: Files) -> Preparing:
    return Preparing(Stages(encoder, Verdicts(), Lane(), files), 60.0, VerdictNotes())


async def test_the_same_words_are_asked_about_once(files: Files) -> None:
    encoder = CountedPrompts()
    it = preparing(encoder, files)
    first, again = await it.prepare(wish(prompt="a bomb")), await it.prepare(wish(prompt="a bomb"))
    assert again.inputs.conditioning is first.inputs.conditioning
    assert first.verdict == Verdict(True, ("weapons",))
    other = await it.prepare(wish(prompt="a bomb "))
    assert other.inputs.conditioning is not first.inputs.conditioning
    assert encoder.asked == {PromptText("a bomb"): 1, PromptText("a bomb "): 1}


async def test_the_prompt_used_longest_ago_is_forgotten(files: Files) -> None:
    encoder = CountedPrompts()
    it = preparing(encoder, files)
    for prompt in ("old", "used again", *map(str, range(REMEMBERED - 2)), "used again", "new"):
        await it.prepare(wish(prompt=prompt))
    for prompt in ("used again", "old"):
        await it.prepare(wish(prompt=prompt))
    assert [encoder.asked[PromptText(prompt)] for prompt in ("used again", "old")] == [1, 2]


async def test_a_negative_prompt_is_screened_and_remembered_with_the_prompt(files: Files) -> None:
    encoder = CountedPrompts()
    it = preparing(encoder, files)
    for negative, blocked in ((None, False), ("snow", False), ("a bomb", True), ("snow", False)):
        found = await it.prepare(wish(prompt="a fox", negative_prompt=negative))
        assert found.verdict.blocked == blocked
    assert encoder.asked == {PromptText("a fox"): 1, PromptText("a fox", "snow"): 1,
                             PromptText("a fox", "a bomb"): 1}  # fmt: skip


def encoded(size: int) -> EncodedPrompt:
    """Of a prompt whose conditioning takes so many bytes."""
    tensor = TensorBytes("U8", (size,), bytes(size))
    embeddings = np.zeros((1, 384), np.float16)
    return EncodedPrompt(Conditioning({"tokens": tensor}, "digest"), embeddings)


async def test_words_are_read_with_their_loras(files: Files) -> None:
    encoder = CountedPrompts()
    it = preparing(encoder, files)
    mixes = [(), (WeightedLora("ink", 0.5), WeightedLora("oil")), (WeightedLora("ink"),)]
    for loras in (*mixes, *mixes):
        await it.prepare(wish(prompt="a fox", loras=loras))
    uses = [tuple(LoraUse(one.name, one.weight) for one in loras) for loras in mixes]
    assert encoder.asked == {PromptText("a fox", loras=one): 1 for one in uses}


def test_large_prompts_are_forgotten_sooner() -> None:
    recent = RecentPrompts(most_bytes=10)
    for name, size in (("a", 4), ("b", 3), ("c", 3), ("c", 3)):
        recent.put(name, encoded(size))
    assert recent.get("a") is not None
    recent.put("d", encoded(4))  # in place of b and c, as a was used last
    assert [recent.get(name) is None for name in "abcd"] == [False, True, True, False]
    recent.put("e", encoded(11))
    assert [recent.get(name) is None for name in "ade"] == [True, True, True]
    recent.put("f", encoded(10))
    assert recent.get("f") is not None


def test_four_of_the_largest_prompts_are_remembered() -> None:
    assert REMEMBERED_BYTES >= 4 * 512 * 15360 * 2


async def test_what_went_wrong_is_not_remembered(files: Files) -> None:
    encoder = CountedPrompts()
    encoder.breaks = True
    it = preparing(encoder, files)
    with pytest.raises(CallFailed, match=r"prompt encoder: .*the encoder broke"):
        await it.prepare(wish(prompt="a fox"))
    encoder.breaks, encoder.away = False, True
    with pytest.raises(StageUnavailable, match="prompt encoder: no encoder"):
        await it.prepare(wish(prompt="a fox"))
    encoder.away = False
    assert not (await it.prepare(wish(prompt="a fox"))).verdict.blocked
    assert encoder.asked[PromptText("a fox")] == 3


LOOKING = Capabilities((64, 64), (4, 4), input_images=4, encoder_looks=True, draws=False)


async def test_an_encoder_that_looks_gets_pictures_once_they_are_screened(
    files: Files, tmp_path: Path
) -> None:
    encoder, verdicts = CountedPrompts(), Verdicts()
    stages = Stages(encoder, verdicts, Lane(), files)
    it = Preparing(stages, 60.0, VerdictNotes(), LOOKING)
    red, blue = (np.full((64, 80, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 0, 255)))
    for name, pixels in (("red", red), ("blue", blue)):
        DirectoryBlobs(tmp_path).put(f"in/{name}", encode(pixels, "png"))

    def looking(*names: str) -> ImageRequest:
        keys = tuple(f"in/{name}" for name in names)
        return wish(source=SourceImage(redraw="ff", images=len(keys), references=keys))

    words = PromptText("a red fox")
    both = replace(words, pictures=(TensorBytes.from_numpy(red), TensorBytes.from_numpy(blue)))
    turned = replace(words, pictures=both.pictures[::-1])
    for names in (("red", "blue"), ("red", "blue"), ("blue", "red")):
        assert not (await it.prepare(looking(*names))).verdict.blocked
    assert encoder.asked == {words: 1, both: 1, turned: 1}
    verdicts.bad.append(blue)
    encoder.asked.clear()
    assert (await it.prepare(looking("red", "blue"))).verdict.blocked
    assert not encoder.asked


async def test_an_encoder_that_reads_words_alone_gets_no_pictures(
    files: Files, tmp_path: Path
) -> None:
    encoder = CountedPrompts()
    DirectoryBlobs(tmp_path).put("in/red", encode(np.full((64, 80, 3), 9, np.uint8), "png"))
    source = SourceImage(redraw="ff", references=("in/red",))
    await preparing(encoder, files).prepare(wish(source=source))
    assert encoder.asked == {PromptText("a red fox"): 1}
