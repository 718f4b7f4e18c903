"""The masked family keeps what every family promises, and agrees with its slow reference.

A small network with random weights shows the properties in seconds; the weights that ship show
them again where they are there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from engine.capabilities import DEFAULT_WEIGHTS
from engine.decoder import Decoder, OtherEncoder, OutOfMemory, RenderRejected
from engine.decoders import reference
from engine.decoders.masked import MaskedDecoder
from engine.decoders.masked_model import MaskedModel
from engine.engine import DecoderEngine
from engine.models.codec import Codec, CodecConfig
from engine.models.scene_transformer import SceneConfig, SceneTransformer, Sketch
from engine.precision import PRECISIONS
from engine.prompt_encoder import PromptText
from engine.remembering import Bank
from engine.render import Checkpoint, Conditioning, LoraUse, Source, UpdateKind
from engine.scene import GRID, SMALL
from engine.scene_encoder import SceneEncoder
from engine.text import WeightsError
from tests.golden.decoder_contract import (
    CONCEPTS,
    PASSES,
    DecoderContract,
    Heard,
    assert_same,
    conditioning,
    draw,
    spec,
)
from tests.golden.edit_contract import EditContract, edit, picture, quarter

HAS_WEIGHTS = (DEFAULT_WEIGHTS / "model.json").exists()
needs_weights = pytest.mark.skipif(not HAS_WEIGHTS, reason="weights/emoji-2 is not there")
SIDE = 128
"""Of the pictures of both, in pixels."""


def tiny_model() -> MaskedModel:
    """Random weights, also where training starts from zeros, so that every path matters."""
    torch.manual_seed(0)
    codec = Codec(CodecConfig(size=SIDE, patch=4, widths=(8, 8, 16), decoder_blocks=1, alpha=True))
    config = SceneConfig(channels=10, width=32, layers=2, heads=2, trunk=32, sketch=16)
    transformer = SceneTransformer(config)
    banks = [torch.randint(5, (CONCEPTS, 3, side, side, 10)).byte() for side in (GRID, SMALL)]
    memory = Bank(banks[0], banks[1], (True, False) * (CONCEPTS // 2))
    modules: tuple[nn.Module, ...] = (transformer, codec)
    for parameter in (p for module in modules for p in module.parameters()):
        nn.init.normal_(parameter, std=0.2)
    return MaskedModel(transformer.eval(), codec.eval(), memory, "tiny")


def tiny(dtype: str = "float32") -> MaskedDecoder:
    """In one precision, whatever this processor is best at."""
    return MaskedDecoder(model=tiny_model(), threads=1, dtype=dtype)


class TestTiny(DecoderContract, EditContract):
    @pytest.fixture(params=PRECISIONS)
    def make_decoder(self, request: pytest.FixtureRequest) -> Callable[[], Decoder]:
        return lambda: tiny(request.param)


@pytest.mark.slow  # the small network proves the same of the decoder in a tenth of the time
@needs_weights
class TestShipped(DecoderContract, EditContract):
    @pytest.fixture
    def make_decoder(self) -> Callable[[], Decoder]:
        return lambda: MaskedDecoder(threads=1, dtype="float32")


def test_torch_without_memory_is_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch says it on a GPU."""
    decoder = tiny()
    render = decoder.begin(spec(), None)

    def no_room(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(decoder, "_logits", no_room)
    with pytest.raises(OutOfMemory, match="fewer pictures"):
        decoder.step([render])
    monkeypatch.undo()
    decoder.step([render])
    assert render.pass_no == 1


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize(("passes", "guidance"), [(1, 1.0), (PASSES, 3.0), (12, 4.5), (64, 2.0)])
def test_fast_equals_reference(passes: int, guidance: float, dtype: str) -> None:
    asked = spec(passes=passes, guidance=guidance)
    decoder = tiny(dtype)
    fast = draw(decoder, asked).pixels("mine")
    np.testing.assert_array_equal(fast, reference.draw(decoder.networks, asked))


@needs_weights
@pytest.mark.parametrize("dtype", PRECISIONS)
def test_a_batch_of_every_width_draws_what_each_draws_alone(dtype: str) -> None:
    """At different passes, guidance and prompts, with the weights that ship."""
    decoder = MaskedDecoder(threads=1, dtype=dtype)
    before, after = [], []
    for n in range(1, 10):
        asked = spec(str(n), n, passes=9 + n, guidance=n / 2, conditioning=conditioning(n, n))
        render = decoder.begin(asked, None)
        for _ in range(n % 3):
            decoder.step([render])
        before.append((asked, decoder.checkpoint(render)))
        decoder.step([render])
        after.append(decoder.checkpoint(render))
    for width in range(2, 10):
        renders = [decoder.begin(asked, checkpoint) for asked, checkpoint in before[-width:]]
        decoder.step(renders)
        assert [decoder.checkpoint(render) for render in renders] == after[-width:]


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_a_checkpoint_of_another_precision_begins_again(dtype: str) -> None:
    """Its passes would have drawn something else."""
    other = tiny("bfloat16" if dtype == "float32" else "float32")
    foreign = draw(other, spec()).checkpoints("mine")[3]
    heard = draw(tiny(dtype), spec(checkpoint=foreign))
    assert heard.updates["mine"][0].pass_no == 0
    assert_same(heard, draw(tiny(dtype), spec()))


def test_a_source_of_another_precision_keeps_its_codes() -> None:
    """A picture that is done is its codes, whatever drew them."""
    before = draw(tiny("float32"), spec(seed=3))
    decoder = tiny("bfloat16")
    source = Source(before.pixels("mine"), quarter(decoder), before.checkpoints("mine")[PASSES])
    codes = decoder.begin(edit(decoder, source=source), None).codes
    stored = np.frombuffer(Checkpoint.from_bytes(source.tokens or b"").state, np.uint8)
    kept = ~source.redraw
    np.testing.assert_array_equal(codes[kept], stored.reshape(codes.shape)[kept])


def test_both_precisions_draw_nearly_the_same() -> None:
    """One pass, in which everything is drawn from the first logits."""
    logits = {}
    for dtype in PRECISIONS:
        decoder = tiny(dtype)
        logits[dtype] = decoder._logits([decoder.begin(spec(), None)])
    full, half = logits["float32"], logits["bfloat16"]
    assert not torch.equal(full, half)
    assert (full - half).abs().mean() < 0.02 * full.abs().mean()


@pytest.mark.parametrize("dtype", ["float16", "bf16", 16])
def test_a_precision_that_there_is_not_is_refused_by_name(dtype: str) -> None:
    with pytest.raises(ValueError, match="dtype must be auto, float32 or bfloat16"):
        tiny(dtype)


@needs_weights
def test_fast_equals_reference_with_the_shipped_weights() -> None:
    decoder = MaskedDecoder(dtype="float32")
    fast = draw(decoder, spec(passes=12)).pixels("mine")
    np.testing.assert_array_equal(fast, reference.draw(decoder.networks, spec(passes=12)))


@pytest.mark.parametrize(("passes", "stored"), [(1, True), (5, False), (16, True)])
def test_fast_equals_reference_on_a_source(passes: int, stored: bool) -> None:
    decoder = tiny()
    before = draw(decoder, spec(seed=3))
    tokens = before.checkpoints("mine")[PASSES] if stored else None
    source = Source(before.pixels("mine"), quarter(decoder), tokens)
    asked = spec(passes=passes, source=source)
    fast = draw(decoder, asked).pixels("mine")
    np.testing.assert_array_equal(fast, reference.draw(decoder.networks, asked))


def test_a_source_drawn_here_keeps_its_codes() -> None:
    """Not those that the encoder sees in its pixels."""
    decoder = tiny()
    before = draw(decoder, spec(seed=3))
    source = Source(before.pixels("mine"), quarter(decoder), before.checkpoints("mine")[PASSES])
    codes = decoder.begin(edit(decoder, source=source), None).codes
    stored = np.frombuffer(Checkpoint.from_bytes(source.tokens or b"").state, np.uint8)
    kept = ~source.redraw
    np.testing.assert_array_equal(codes[kept], stored.reshape(codes.shape)[kept])
    seen = decoder.begin(edit(decoder, source=replace(source, tokens=None)), None).codes
    assert (seen[kept] != codes[kept]).any()


@pytest.mark.parametrize("flaw", ["cut", "no codes", "unfinished", "another model"])
def test_a_source_whose_tokens_cannot_be_read_is_seen(flaw: str) -> None:
    decoder = tiny()
    before = draw(decoder, spec(seed=3)).checkpoints("mine")
    final = Checkpoint.from_bytes(before[PASSES])
    tokens = {
        "cut": before[PASSES][:9],
        "no codes": replace(final, state=b"\x09" * len(final.state)).to_bytes(),
        "unfinished": before[PASSES - 1],
        "another model": replace(final, model="masked:other:confidence-2").to_bytes(),
    }[flaw]
    source = Source(picture(decoder), quarter(decoder), tokens)
    codes = decoder.begin(edit(decoder, source=source), None).codes
    seen = decoder.begin(edit(decoder, source=replace(source, tokens=None)), None).codes
    np.testing.assert_array_equal(codes, seen)


@needs_weights
def test_the_shipped_encoder_sees_what_the_decoder_draws() -> None:
    """Locked cells look like the picture that they were seen in."""
    decoder = MaskedDecoder(threads=1, dtype="float32")
    before = draw(decoder, spec(passes=12)).pixels("mine")
    redraw = np.zeros(64, np.bool_)
    redraw[0] = True
    after = draw(decoder, edit(decoder, passes=1, source=Source(before, redraw))).pixels("mine")
    moved = np.abs(after.astype(float) - before)
    assert moved[:, SIDE // 4 :].mean() < 8


class _WidthMatters(SceneTransformer):
    """As a math library that rounds otherwise when it multiplies more rows."""

    def fill(self, latents: Tensor, masked: Tensor, sketch: Sketch) -> Tensor:
        return super().fill(latents, masked, sketch) * (1 + len(latents) / 2**20)


def test_a_width_that_rounds_otherwise_is_not_used() -> None:
    """Neighbours would change a picture in its last bits."""
    model = tiny_model()
    model.transformer.__class__ = _WidthMatters
    decoder = MaskedDecoder(model=model, dtype="float32")
    together = [decoder.begin(spec(seed=seed), None) for seed in (7, 8, 9)]
    while together[0].pass_no < PASSES:
        decoder.step(together)
    lonely = decoder.begin(spec(seed=8), None)
    while lonely.pass_no < PASSES:
        decoder.step([lonely])
    np.testing.assert_array_equal(decoder.finish(together[1]), decoder.finish(lonely))
    assert decoder.trusted_widths == frozenset({1})


def test_a_restored_preview_is_the_uninterrupted_one_after_its_next_pass() -> None:
    decoder = tiny()
    render = decoder.begin(spec(), None)
    decoder.step([render])
    restored = decoder.begin(spec(), decoder.checkpoint(render))
    assert decoder.preview(restored).shape == (SIDE, SIDE, 3)
    for each in (render, restored):
        decoder.step([each])
    np.testing.assert_array_equal(decoder.preview(render), decoder.preview(restored))


@pytest.mark.parametrize(
    ("field", "value"),
    [("guidance", 0.0), ("guidance", 21.0), ("passes", 65), ("loras", (LoraUse("ink"),))],
)
def test_what_it_has_not_is_rejected_by_name(field: str, value: object) -> None:
    with pytest.raises(RenderRejected, match=field):
        tiny().plan(spec(**{field: value}))


ENCODER = "scene:second:1"


@pytest.mark.parametrize(
    "said",
    [
        replace(conditioning(1), encoder="scene:first:1"),
        Conditioning.from_numpy("", pooled=conditioning(1).numpy("pooled")),
        Conditioning.from_numpy("", things=np.zeros((1, 2), int), scene=np.zeros(6, int)),
        Conditioning.from_numpy("", things=np.zeros((1, 3), int), scene=np.zeros(5, int)),
    ],
    ids=["another identity", "no scene", "other things", "another scene"],
)
def test_what_another_encoder_read_is_to_be_read_again(said: Conditioning) -> None:
    """No other replica is asked in vain, and no attempt fails."""
    decoder = MaskedDecoder(model=replace(tiny_model(), encoder=ENCODER), device="cpu")
    asked = spec(conditioning=said)
    with pytest.raises(OtherEncoder):
        decoder.plan(asked)
    heard = Heard()
    engine = DecoderEngine(decoder, 1, heard)
    assert not engine.add(asked)
    (full,) = heard.updates["mine"]
    assert full.kind is UpdateKind.FULL
    assert full.unread is not None
    assert engine.add(spec(conditioning=replace(conditioning(1), encoder=ENCODER)))


@needs_weights
def test_the_shipped_decoder_reads_what_the_shipped_encoder_made() -> None:
    (told,) = SceneEncoder(threads=1).encode([PromptText("two red apples")])
    assert told.encoder == MaskedModel.load(DEFAULT_WEIGHTS).encoder


def test_alpha_comes_beside_the_same_picture() -> None:
    decoder = tiny()
    asked = spec(transparent=True)
    render = decoder.begin(asked, None)
    decoder.step([render])
    assert decoder.preview(render).shape == (SIDE, SIDE, 4)
    whole, opaque = (draw(decoder, one).pixels("mine") for one in (asked, spec()))
    assert whole.shape == (SIDE, SIDE, 4)
    np.testing.assert_array_equal(whole[..., :3], opaque)


def test_missing_weights_name_the_path(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nowhere/model\.json"):
        MaskedDecoder(tmp_path / "nowhere")


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEFAULT_WEIGHTS, tmp_path / "model"))


@needs_weights
@pytest.mark.parametrize("part", ["transformer", "codec", "bank"])
def test_a_changed_byte_is_found(copied: Path, part: str) -> None:
    path = copied / f"{part}.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=rf"{part}\.safetensors: sha256.*files\.{part}"):
        MaskedDecoder(copied)


@needs_weights
def test_a_missing_file_is_named(copied: Path) -> None:
    (copied / "codec.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"codec\.safetensors: No such file"):
        MaskedDecoder(copied)


@needs_weights
@pytest.mark.parametrize("field", ["layout", "config", "files", "turns"])
def test_a_manifest_without_a_field_is_named(copied: Path, field: str) -> None:
    path = copied / "model.json"
    manifest = json.loads(path.read_text())
    del manifest[field]
    path.write_text(json.dumps(manifest))
    with pytest.raises(WeightsError, match=rf"model\.json: field {field}"):
        MaskedDecoder(copied)
