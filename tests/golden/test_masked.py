"""The masked family keeps what every family promises, and agrees with its slow reference.

A small network with random weights shows the properties in seconds; the weights that ship show
them again where they are there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from engine.decoder import Decoder, RenderRejected
from engine.decoders import reference
from engine.decoders.masked import DEFAULT_WEIGHTS, MaskedDecoder, MaskedModel
from engine.models.codec import CodecConfig, CodecDecoder
from engine.models.transformer import MaskedTransformer, Prompts, TransformerConfig
from engine.text import WeightsError
from tests.golden.decoder_contract import PASSES, DecoderContract, draw, spec

HAS_WEIGHTS = (DEFAULT_WEIGHTS / "model.json").exists()
needs_weights = pytest.mark.skipif(not HAS_WEIGHTS, reason="weights/emoji-cpu is not there")


def tiny_model() -> MaskedModel:
    """Random weights, also where training starts from zeros, so that every path matters."""
    torch.manual_seed(0)
    codec_config = CodecConfig(size=96, widths=(8, 8, 16), decoder_blocks=1)
    transformer = MaskedTransformer(TransformerConfig(width=32, layers=2, heads=2, trunk=32))
    codec = CodecDecoder(codec_config)
    modules: tuple[nn.Module, ...] = (transformer, codec)
    for parameter in (p for module in modules for p in module.parameters()):
        nn.init.normal_(parameter, std=0.2)
    return MaskedModel(transformer.eval(), codec.eval(), codec_config, "tiny")


class TestTiny(DecoderContract):
    @pytest.fixture
    def make_decoder(self) -> Callable[[], Decoder]:
        return lambda: MaskedDecoder(model=tiny_model(), threads=1)


@needs_weights
class TestShipped(DecoderContract):
    @pytest.fixture
    def make_decoder(self) -> Callable[[], Decoder]:
        return lambda: MaskedDecoder(threads=1)


@pytest.mark.parametrize(("passes", "guidance"), [(1, 1.0), (PASSES, 3.0), (12, 4.5), (64, 2.0)])
def test_fast_equals_reference(passes: int, guidance: float) -> None:
    model = tiny_model()
    asked = spec(passes=passes, guidance=guidance)
    fast = draw(MaskedDecoder(model=model), asked).pixels("mine")
    np.testing.assert_array_equal(fast, reference.draw(model, asked))


@needs_weights
def test_fast_equals_reference_with_the_shipped_weights() -> None:
    decoder = MaskedDecoder()
    fast = draw(decoder, spec(passes=12)).pixels("mine")
    np.testing.assert_array_equal(fast, reference.draw(decoder.networks, spec(passes=12)))


class _WidthMatters(MaskedTransformer):
    """As a math library that rounds otherwise when it multiplies more rows."""

    def fill(self, latents: Tensor, masked: Tensor, prompts: Prompts) -> Tensor:
        return super().fill(latents, masked, prompts) * (1 + len(latents) / 2**20)


def test_a_width_that_rounds_otherwise_is_not_used() -> None:
    """Neighbours would change a picture in its last bits."""
    model = tiny_model()
    model.transformer.__class__ = _WidthMatters
    decoder = MaskedDecoder(model=model)
    together = [decoder.begin(spec(seed=seed), None) for seed in (7, 8, 9)]
    while together[0].pass_no < PASSES:
        decoder.step(together)
    lonely = decoder.begin(spec(seed=8), None)
    while lonely.pass_no < PASSES:
        decoder.step([lonely])
    np.testing.assert_array_equal(decoder.finish(together[1]), decoder.finish(lonely))
    assert decoder.trusted_widths == frozenset({1})


def test_a_restored_preview_is_the_uninterrupted_one_after_its_next_pass() -> None:
    decoder = MaskedDecoder(model=tiny_model(), threads=1)
    render = decoder.begin(spec(), None)
    decoder.step([render])
    restored = decoder.begin(spec(), decoder.checkpoint(render))
    assert decoder.preview(restored).shape == (96, 96, 3)
    for each in (render, restored):
        decoder.step([each])
    np.testing.assert_array_equal(decoder.preview(render), decoder.preview(restored))


@pytest.mark.parametrize(
    ("field", "value"), [("guidance", 0.0), ("guidance", 21.0), ("passes", 65)]
)
def test_out_of_range_is_rejected_by_name(field: str, value: float) -> None:
    with pytest.raises(RenderRejected, match=field):
        MaskedDecoder(model=tiny_model(), threads=1).plan(spec(**{field: value}))


def test_missing_weights_name_the_path(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nowhere/model\.json"):
        MaskedDecoder(tmp_path / "nowhere")


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEFAULT_WEIGHTS, tmp_path / "model"))


@needs_weights
@pytest.mark.parametrize("part", ["transformer", "codec"])
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
@pytest.mark.parametrize("field", ["layout", "config", "files"])
def test_a_manifest_without_a_field_is_named(copied: Path, field: str) -> None:
    path = copied / "model.json"
    manifest = json.loads(path.read_text())
    del manifest[field]
    path.write_text(json.dumps(manifest))
    with pytest.raises(WeightsError, match=rf"model\.json: field {field}"):
        MaskedDecoder(copied)
