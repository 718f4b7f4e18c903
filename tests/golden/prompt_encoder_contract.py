"""What the text encoders of every family promise, as one suite. A family runs it by subclassing
`PromptEncoderContract` in its own test module and giving it an `encoder` fixture."""

from __future__ import annotations

import pickle

import pytest
import torch

from engine.prompt_encoder import PromptEncoder, PromptText
from engine.render import Conditioning
from engine.tensors import to_torch

FOX, SHIPS = PromptText("a red fox"), PromptText("two blue ships on a calm sea, seen from above")
NEGATIVE = PromptText(FOX.prompt, "snow")
WORDS = (FOX, SHIPS, PromptText(""), PromptText("fox " * 400), FOX)


def close(one: Conditioning, other: Conditioning) -> bool:
    """Equal but for what neighbours in a batch change by rounding."""
    if one.tensors.keys() != other.tensors.keys():
        return False
    return all(
        mine.shape == other.tensors[name].shape
        and torch.allclose(
            to_torch(mine).float(), to_torch(other.tensors[name]).float(), rtol=0.02, atol=0.02
        )
        for name, mine in one.tensors.items()
    )


class PromptEncoderContract:
    negative = True
    """Whether the family reads negative prompts."""

    @pytest.fixture
    def encoder(self) -> PromptEncoder:
        raise NotImplementedError("a family gives its own")

    def test_speaks_the_protocol(self, encoder: PromptEncoder) -> None:
        assert isinstance(encoder, PromptEncoder)

    def test_the_digest_is_of_the_words_and_the_encoder(self, encoder: PromptEncoder) -> None:
        digests = [one.digest for one in encoder.encode(WORDS)]
        assert digests == [words.digest(encoder.model) for words in WORDS]
        assert len({*digests}) == len(WORDS) - 1

    def test_a_batch_keeps_the_order(self, encoder: PromptEncoder) -> None:
        together = encoder.encode(WORDS)
        alone = [encoder.encode([words])[0] for words in WORDS]
        assert [[close(a, b) for b in together] for a in alone] == [
            [words == others for others in WORDS] for words in WORDS
        ]

    def test_the_same_words_give_the_same_bits(self, encoder: PromptEncoder) -> None:
        assert encoder.encode([FOX]) == encoder.encode([FOX])

    def test_it_crosses_processes(self, encoder: PromptEncoder) -> None:
        (told,) = encoder.encode([SHIPS])
        assert pickle.loads(pickle.dumps(told)) == told

    def test_a_negative_prompt_is_read_or_refused(self, encoder: PromptEncoder) -> None:
        if not self.negative:
            with pytest.raises(ValueError, match="negative"):
                encoder.encode([FOX, NEGATIVE])
            return
        plain, other = encoder.encode([FOX, NEGATIVE])
        assert plain.digest != other.digest
        assert not close(plain, other)
