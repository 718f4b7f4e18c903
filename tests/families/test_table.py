"""The table of classes fits diffusers, and what is not in it is refused by name."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from pathlib import Path

import diffusers
import pytest

from engine.capabilities import capabilities
from engine.decoders.diffusers.decoder import DiffusersDecoder
from engine.decoders.diffusers.table import (
    ARCHITECTURES,
    CLASSES,
    Task,
    UnknownPipeline,
    classes_by_task,
)
from engine.model_directory.json_file import ModelRefused
from engine.model_directory.known import KNOWN
from engine.region import changed_passes
from tests.families.checkpoints import TINY
from tests.families.kit import CASES, Case, conditioning, decoder, folder, spec

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.mark.parametrize("name", CLASSES)
def test_every_row_names_what_its_class_takes(name: str) -> None:
    row = CLASSES[name]
    architecture = ARCHITECTURES[row.architecture]
    takes = inspect.signature(getattr(diffusers, name).__call__).parameters
    named = {*architecture.text, *architecture.negative, architecture.guidance_argument}
    assert named | row.arguments.keys() <= takes.keys()
    if Task.CONTROL in row.tasks:
        assert row.control_argument in takes
        assert (row.control_argument == "image") == ("control_image" not in takes)
    if row.tasks & {Task.CHANGE, Task.REDRAW}:
        assert {"image", "strength"} <= takes.keys()
    assert ("mask_image" in takes) == (Task.REDRAW in row.tasks)
    assert (row.references_max > 0) == bool(row.tasks & {Task.REFER, Task.CONTROL})


def test_every_class_is_drawn_by_the_tests() -> None:
    drawn = {name for checkpoint in TINY for name in classes_by_task(checkpoint).values()}
    assert CLASSES.keys() == drawn


def test_siblings_share_a_checkpoint() -> None:
    assert classes_by_task("FluxPipeline") == {
        Task.DRAW: "FluxPipeline",
        Task.CHANGE: "FluxImg2ImgPipeline",
        Task.REDRAW: "FluxInpaintPipeline",
    }
    assert classes_by_task("StableDiffusionInpaintPipeline") == {
        Task.REDRAW: "StableDiffusionInpaintPipeline"
    }, "its denoiser may have channels for a mask"
    assert classes_by_task("FluxKontextPipeline") == {
        Task.DRAW: "FluxKontextPipeline",
        Task.REFER: "FluxKontextPipeline",
    }


@pytest.mark.parametrize("name", TINY)
def test_a_checkpoint_says_what_it_draws_without_being_loaded(name: str) -> None:
    said = capabilities("diffusers", {"weights": str(folder(name))})
    assert said.picture_size == decoder(name).picture_size
    assert said.negative_prompt == any("negative" in n for n in conditioning(name, 0).tensors)
    can = classes_by_task(name)
    assert (said.draws, said.mask, said.strength) == tuple(
        task in can for task in (Task.DRAW, Task.REDRAW, Task.CHANGE)
    )


CHANGING = [case for case in CASES if case.task in (Task.CHANGE, Task.REDRAW)]


@pytest.mark.parametrize("case", CHANGING, ids=str)
def test_a_gateway_counts_the_passes_of_a_change_as_the_pipeline_does(case: Case) -> None:
    here, rounds_up = (
        decoder(case.checkpoint),
        capabilities("diffusers", {"weights": str(folder(case.checkpoint))}).strength_rounds_up,
    )
    for passes, strength in ((4, 0.5), (12, 0.8), (12, 0.29), (100, 0.29), (30, 1.0)):
        wanted = spec(case, passes=passes)
        assert wanted.source is not None
        source = replace(wanted.source, strength=strength)
        planned = here.plan(replace(wanted, source=source)).passes
        assert planned == changed_passes(passes, strength, rounds_up)


def _checkpoint(folder: Path, class_name: str) -> Path:
    (folder / "model_index.json").write_text(json.dumps({"_class_name": class_name}))
    return folder


def test_a_class_that_is_not_listed_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UnknownPipeline, match=r"model_index\.json.*'WanPipeline'.*FluxPipeline"):
        DiffusersDecoder(_checkpoint(tmp_path, "WanPipeline"))


@pytest.mark.parametrize("name", ["unet/model.bin", "model.ckpt", "vae/x.pt", "pipeline.py"])
def test_pickles_and_code_are_refused(name: str, tmp_path: Path) -> None:
    _checkpoint(tmp_path, "FluxPipeline")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ModelRefused, match=Path(name).name):
        DiffusersDecoder(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match=r"nothing.*model_index\.json"):
        DiffusersDecoder(tmp_path / "nothing")


@pytest.mark.parametrize("name", CLASSES)
def test_loras_are_taken_where_diffusers_takes_them(name: str) -> None:
    there = hasattr(getattr(diffusers, name), "save_lora_weights")
    takes = there and name != "PRXPipeline"  # which inherits a mixin for U-Nets
    assert KNOWN[name].abilities.lora == takes
