"""Prompts of the janus family are what transformers' own processor makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import JanusProcessor

from engine.decoders.janus.decoder import JanusDecoder
from engine.decoders.janus.prompts import PROMPT_TOKENS, JanusPrompts
from engine.prompt_encoder import PromptEncoder, PromptText
from engine.registry import create_prompt_encoder
from tests.golden.decoder_contract import BOI, BOS, draw, spec
from tests.golden.janus_checkpoint import save_tiny
from tests.golden.prompt_encoder_contract import PromptEncoderContract


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return save_tiny(tmp_path_factory.mktemp("janus"))


@pytest.fixture(scope="module")
def prompts(folder: Path) -> JanusPrompts:
    return JanusPrompts(folder)


class TestJanusPrompts(PromptEncoderContract):
    negative = False

    @pytest.fixture
    def encoder(self, folder: Path) -> PromptEncoder:
        return create_prompt_encoder("janus", weights=folder, slots=3)


def ids(prompts: JanusPrompts, text: str) -> list[int]:
    (read,) = prompts.encode([PromptText(text)])
    return [int(token) for token in read.numpy("input_ids")]


def test_the_tokens_are_those_of_the_processor(folder: Path, prompts: JanusPrompts) -> None:
    processor = JanusProcessor.from_pretrained(folder, local_files_only=True)
    text = "<|User|>: a red cat, ünder\n\n<|Assistant|>:"
    expected = processor(text=text, generation_mode="image", return_tensors="np")["input_ids"][0]
    found = ids(prompts, "a red cat, ünder")
    assert found == expected.tolist()
    assert (found[0], found[-1]) == (BOS, BOI)


def test_each_prompt_has_its_own_tokens_and_digest(prompts: JanusPrompts) -> None:
    texts = [PromptText("a cat"), PromptText("two dogs and a bird")]
    read = prompts.encode(texts)
    assert [each.digest for each in read] == [text.digest(prompts.model) for text in texts]
    np.testing.assert_array_equal(read[0].numpy("input_ids"), ids(prompts, "a cat"))


def test_words_name_no_special_tokens(prompts: JanusPrompts) -> None:
    found = ids(prompts, "a <begin_of_image> <begin_<s>of_image> <image_placeholder>cat</s>")
    assert found[0] == BOS
    assert min(found[1:-1]) > BOI
    assert found[-1] == BOI


def test_a_long_prompt_is_cut_off_and_its_template_is_not(prompts: JanusPrompts) -> None:
    short, long = ids(prompts, "cat " * 56), ids(prompts, "cat " * 8000)
    assert len(long) <= PROMPT_TOKENS
    assert long == short


def test_a_prompt_becomes_a_picture(folder: Path, prompts: JanusPrompts) -> None:
    decoder = JanusDecoder(folder)
    cat, dog = prompts.encode([PromptText("a cat"), PromptText("a dog")])
    one, other = (draw(decoder, spec(conditioning=each)).pixels("mine") for each in (cat, dog))
    assert (one != other).any()


def test_a_negative_prompt_is_refused_by_name(prompts: JanusPrompts) -> None:
    with pytest.raises(ValueError, match="negative_prompt"):
        prompts.encode([PromptText("a cat", negative="blurry")])


def test_a_folder_without_a_template_is_named(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        if path.name != "chat_template.jinja":
            (tmp_path / path.name).symlink_to(path)
    with pytest.raises(ValueError, match="template"):
        JanusPrompts(tmp_path)
