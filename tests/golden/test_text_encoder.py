"""The embedded text encoder keeps what every family's promise, and gives the prompt screen what it
reads, whatever the family is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from engine.capabilities import DEFAULT_WEIGHTS
from engine.prompt_encoder import PromptEncoder, PromptText
from engine.prompt_encoders import PromptEncoders
from engine.registry import PROMPT_ENCODERS, TextEncoders, UnknownFamily, create_prompt_encoder
from engine.render import Conditioning
from engine.scene import COLOURS, LOOKS, SceneCodes
from engine.scene_encoder import SceneEncoder
from engine.text import TextEncoder
from engine.weights import WeightsFolder
from tests.golden.prompt_encoder_contract import FOX, NEGATIVE, SHIPS, PromptEncoderContract


class LetterEncoder:
    """A family's own: it counts letters. weights: a letter that it does not see."""

    def __init__(self, weights: str) -> None:
        self._blind = ord(weights)
        self.model = f"letters:{weights}:1"

    def encode(self, prompts: Sequence[PromptText]) -> list[Conditioning]:
        """See PromptEncoder."""
        return [
            Conditioning.from_numpy(
                words.digest(self.model),
                **{name: self._read(text) for name, text in zip("pn", words.texts, strict=False)},
            )
            for words in prompts
        ]

    def _read(self, text: str) -> np.ndarray:
        seen = [ord(letter) for letter in text if ord(letter) != self._blind]
        return np.array([len(seen), sum(seen)], np.int64)


@pytest.fixture(scope="module")
def embedded() -> TextEncoder:
    return TextEncoder(threads=1)


@pytest.fixture(scope="module")
def scenes() -> SceneEncoder:
    return SceneEncoder(threads=1)


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch) -> PromptEncoders:
    own = TextEncoders("tests.golden.test_text_encoder:LetterEncoder", ("weights",))
    monkeypatch.setitem(PROMPT_ENCODERS, "letters", own)
    return PromptEncoders("letters", {"weights": "x", "row_chunk": 3}, threads=1)


class TestEmbedded(PromptEncoderContract):
    negative = False

    @pytest.fixture
    def encoder(self, embedded: TextEncoder) -> PromptEncoder:
        return embedded


class TestScenes(PromptEncoderContract):
    negative = False

    @pytest.fixture
    def encoder(self, scenes: SceneEncoder) -> PromptEncoder:
        return scenes


class TestLetters(PromptEncoderContract):
    @pytest.fixture
    def encoder(self) -> PromptEncoder:
        return LetterEncoder("x")


def test_the_embedded_encoder_gives_the_mean_of_all_hidden_states(embedded: TextEncoder) -> None:
    """As torch has it for one text alone, which is not padded."""
    (fox,) = embedded.encode([FOX])
    assert {name: (t.dtype, t.shape) for name, t in fox.tensors.items()} == {
        "pooled": ("F16", (384,))
    }
    ids = torch.tensor([embedded._tokenizer.encode(FOX.prompt).ids])
    with torch.inference_mode():
        states = embedded._model(input_ids=ids).last_hidden_state[0]
    assert states.shape == (5, 384)  # with those that begin and end a text
    np.testing.assert_allclose(fox.numpy("pooled"), states.mean(dim=0).numpy(), atol=2e-3)


@pytest.mark.parametrize(
    ("prompt", "thing", "colour"),
    [
        ("a huge green fruit with sweet red flesh and black seeds", "watermelon", None),
        ("a purple carrot that wears glasses", "carrot", "purple"),
        ("a red choo choo", "train", "red"),
    ],
)
def test_a_colour_is_what_is_asked_for_or_a_part_of_a_description(
    prompt: str, thing: str, colour: str | None, scenes: SceneEncoder
) -> None:
    (found,) = scenes.encode([PromptText(prompt)])
    names = WeightsFolder.open(DEFAULT_WEIGHTS).field("concepts")
    row = -1 if colour is None else COLOURS.index(colour)
    assert found.numpy("things").tolist()[0] == [names.index(thing), row, 1]


def test_the_scene_encoder_gives_what_is_asked_for(scenes: SceneEncoder) -> None:
    """And the vector of the words that were sent, for the prompt screen."""
    prompts = [
        PromptText("two purple foxes on a blue background, 3D"),
        PromptText("small p.i.z.z.a"),
    ]
    foxes, pizza = scenes.encode(prompts)
    names = WeightsFolder.open(DEFAULT_WEIGHTS).field("concepts")
    purple, blue = COLOURS.index("purple"), COLOURS.index("blue")
    asked = [
        SceneCodes.of({n: one.numpy(n) for n in ("things", "scene")}) for one in (foxes, pizza)
    ]
    assert asked == [
        SceneCodes(((names.index("fox"), purple, 2),), blue, LOOKS.index("3D")),
        SceneCodes(((names.index("pizza"), -1, 1),), small=True),
    ]
    assert foxes.tensors.keys() == {"things", "scene", "pooled"}
    np.testing.assert_allclose(
        foxes.numpy("pooled"), scenes.embed([prompts[0].prompt])[0], atol=2e-3
    )


@pytest.mark.parametrize("family", ["masked", "paced"])
def test_one_pass_serves_decoders_and_screen(
    family: str, embedded: TextEncoder, scenes: SceneEncoder
) -> None:
    options = {"paced": {"weights": "elsewhere", "pass_ms": 20}, "masked": {"dtype": "float32"}}
    own = {"paced": embedded, "masked": scenes}[family]
    encoders = PromptEncoders(family, options[family], threads=1)
    found = encoders.encode([FOX, SHIPS])
    assert [one.conditioning for one in found] == own.encode([FOX, SHIPS])
    for one in found:
        np.testing.assert_array_equal(one.embeddings, one.conditioning.numpy("pooled")[None])


def test_the_screen_reads_its_own_vectors_whatever_the_family_is(
    letters: PromptEncoders, embedded: TextEncoder
) -> None:
    one, both = letters.encode([SHIPS, NEGATIVE])
    assert one.conditioning == LetterEncoder("x").encode([SHIPS])[0]
    assert both.conditioning.numpy("n").tolist() == [4, sum(map(ord, "snow"))]
    vectors = embedded.embed([SHIPS.prompt, NEGATIVE.prompt, "snow"])
    np.testing.assert_array_equal(one.embeddings, vectors[:1])
    np.testing.assert_array_equal(both.embeddings, vectors[1:])


def test_families_are_created_by_name() -> None:
    with pytest.raises(UnknownFamily, match=r"'dalle'.*masked, paced"):
        create_prompt_encoder("dalle")
