"""What families say about themselves is what they do."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from engine.capabilities import Capabilities, capabilities
from engine.decoders.masked import MaskedDecoder
from engine.registry import FAMILIES, create_decoder
from tests.golden.janus_checkpoint import save_tiny
from tests.stages.checkpoint_folders import FLUX, SDXL, pipeline_folder

WITH_WEIGHTS = {"diffusers", "janus"}
"""Families that nothing is known of without an operator's checkpoint."""


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - WITH_WEIGHTS))
def test_a_family_draws_in_the_size_that_it_declares(family: str) -> None:
    assert create_decoder(family).picture_size == capabilities(family, {}).picture_size


@pytest.mark.parametrize("options", [{}, {"dtype": "float32"}, {"dtype": "bfloat16"}])
def test_the_embedded_model_says_its_precision(options: dict[str, object]) -> None:
    decoder = create_decoder("masked", device="cpu", **options)
    assert isinstance(decoder, MaskedDecoder)
    assert capabilities("masked", options).precision == decoder.precision


def test_the_embedded_model_draws_alpha() -> None:
    assert capabilities("masked", {}).transparent
    assert not capabilities("paced", {}).transparent


def test_a_precision_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="dtype must be"):
        capabilities("masked", {"dtype": "int4"})


def test_weights_whose_manifest_says_nothing_are_named(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(ValueError, match=r"model\.json: field config\.codec"):
        capabilities("masked", {"weights": str(tmp_path)})


@pytest.mark.parametrize("takes", [True, False])
def test_a_distilled_checkpoint_takes_no_guidance(tmp_path: Path, takes: bool) -> None:
    folder = pipeline_folder(tmp_path / "flux", "FluxPipeline", FLUX)
    config = folder / "transformer/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"guidance_embeds": takes}))
    assert capabilities("diffusers", {"weights": str(folder)}).guidance is takes


def test_a_janus_checkpoint_says_what_it_draws(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path)
    drawn = create_decoder("janus", weights=folder).picture_size
    assert capabilities("janus", {"weights": folder}) == Capabilities(drawn, (4, 4), 0)


@pytest.mark.parametrize(("options", "most"), [({}, 3), ({"loras_loaded": 2}, 2)])
def test_a_diffusers_model_says_which_loras_it_has(
    tmp_path: Path, options: dict[str, object], most: int
) -> None:
    folder = pipeline_folder(tmp_path / "sdxl", "StableDiffusionXLPipeline", SDXL)
    files = {name: f"/loras/{name}.safetensors" for name in ("ink", "oil", "wax")}
    plain = capabilities("diffusers", {"weights": str(folder)})
    assert (plain.loras, plain.loras_max) == ((), 0)
    can = capabilities("diffusers", {"weights": str(folder), "loras": files, **options})
    assert can == replace(plain, loras=("ink", "oil", "wax"), loras_max=most)
    assert Capabilities.from_json(json.loads(json.dumps(asdict(can)))) == can


@pytest.mark.parametrize(
    "option", [{"loras": ["ink"]}, {"loras": {1: "ink"}}, {"loras_loaded": "two"}]
)
def test_options_that_say_no_loras_are_refused(tmp_path: Path, option: dict[str, object]) -> None:
    folder = pipeline_folder(tmp_path / "sdxl", "StableDiffusionXLPipeline", SDXL)
    with pytest.raises(ValueError, match=f"^{next(iter(option))} must be"):
        capabilities("diffusers", {"weights": str(folder), **option})


@pytest.mark.parametrize(
    ("asked", "drawn"),
    [
        ((1024, 1024), (1024, 1024)),
        ((512, 768), (512, 768)),  # as asked
        ((520, 776), (512, 768)),  # on the grid
        ((1536, 1024), (1248, 832)),  # of its shape, with no more pixels than 1024 x 1024
        ((3840, 1280), (1760, 576)),
        ((16, 48), (32, 32)),  # never nothing
    ],
)
def test_a_family_of_any_shape_draws_near_the_size_that_is_asked_for(
    asked: tuple[int, int], drawn: tuple[int, int]
) -> None:
    assert Capabilities((1024, 1024), (32, 32), 0, size_multiple=32).drawn_size(*asked) == drawn


def test_a_family_of_one_size_draws_that_size() -> None:
    assert Capabilities((96, 96), (12, 12), 1).drawn_size(1536, 1024) == (96, 96)
