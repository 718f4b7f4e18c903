"""Decoders of the diffusers family draw a made-up picture before their first render."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.cost import PassCost
from engine.decoders.device_memory import ProcessMemory, device_memory
from engine.decoders.diffusers.decoder import DiffusersDecoder
from engine.decoders.diffusers.table import ARCHITECTURES, CLASSES
from engine.decoders.diffusers.trial import TEXT, text_shapes, trial_spec
from engine.footprint import DoesNotFit
from engine.measuring import Measurable, measured, start_report
from engine.model_directory.capacity import GIB
from tests.families import kit
from tests.families.checkpoints import TINY

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
XL = kit.Case("StableDiffusionXLPipeline", "StableDiffusionXLPipeline")


def test_every_architecture_says_the_shape_of_its_prompts() -> None:
    assert {*TEXT} == {*ARCHITECTURES}
    for name, architecture in ARCHITECTURES.items():
        assert set(TEXT[name]) == set(architecture.text), name


@pytest.mark.parametrize("checkpoint", TINY)
def test_every_class_draws_a_made_up_prompt_of_the_shape_of_real_ones(checkpoint: str) -> None:
    """In the size of the other tests, to be quick."""
    decoder = kit.decoder(checkpoint)
    found = text_shapes(decoder.pipe, CLASSES[checkpoint].architecture)
    for name, shape in TINY[checkpoint].text.items():
        assert len(found[name]) == len(shape)
        assert found[name][1:] == shape[1:] or "mask" in name, name
    asked = trial_spec(decoder.pipe, checkpoint, kit.EDGE, 0, 2)
    assert kit.draw_alone(decoder, asked).shape == (kit.EDGE, kit.EDGE, 3)


@pytest.mark.parametrize(
    "checkpoint", ["StableDiffusionInpaintPipeline", "SanaPipeline", "AmusedPipeline"]
)
def test_it_is_measured_by_drawing(checkpoint: str) -> None:
    decoder = DiffusersDecoder(kit.folder(checkpoint))
    assert isinstance(decoder, Measurable)
    report = measured(decoder, 2)
    assert report.seconds.keys() == {1, 2}
    assert decoder.models.row_chunk == report.width
    assert report.footprint.usable > report.footprint.weights > 0
    assert report.load.size_bytes > 100_000
    assert report.load.seconds > 0


def test_what_it_is_measured_with_changes_no_picture() -> None:
    asked = kit.spec(XL)
    fresh = DiffusersDecoder(kit.folder(XL.checkpoint), row_chunk=1)
    measured(fresh, 4)
    assert fresh.models.row_chunk == 1
    np.testing.assert_array_equal(
        kit.draw_alone(fresh, asked), kit.draw_alone(kit.decoder(XL.checkpoint, 1), asked)
    )


def test_plans_are_of_the_measured_cost() -> None:
    decoder = DiffusersDecoder(kit.folder(XL.checkpoint))
    decoder.adopt(2, PassCost(0.01, 0.03))
    own = kit.spec(XL, guidance=4.0)
    assert decoder.plan(own).pass_seconds == pytest.approx(0.04)
    assert decoder.plan(replace(own, guidance=1.0)).pass_seconds == pytest.approx(0.02)
    wide = replace(own, width=2 * kit.EDGE)
    assert decoder.plan(wide).pass_seconds == pytest.approx(0.08)


def test_a_limit_that_the_process_is_beyond_is_refused() -> None:
    decoder = DiffusersDecoder(kit.folder(XL.checkpoint), memory_gib=0.01)
    with pytest.raises(DoesNotFit, match=r"slots: 4 do not fit: weights .* may hold 10\.2 MiB"):
        start_report(decoder, 4)
    unlimited = DiffusersDecoder(kit.folder(XL.checkpoint), memory_gib=0.01, measure=False)
    assert start_report(unlimited, 4) is None


def test_the_peak_of_a_process_is_of_what_ran_inside() -> None:
    memory = device_memory(torch.device("cpu"))
    assert isinstance(memory, ProcessMemory)
    gc.collect()
    before = memory.held()
    with memory.peak() as large:
        torch.ones(2**25)  # 128 MiB, touched
    with memory.peak() as small:
        torch.ones(2**10)
    assert large.held - before > 100 * 2**20
    assert small.held - before < 50 * 2**20
    assert before < memory.usable()
    assert device_memory(torch.device("cpu"), 0.5).usable() <= GIB // 2
    with pytest.raises(ValueError, match="memory_gib"):
        device_memory(torch.device("cpu"), -1.0)


def test_a_process_is_bounded_by_its_control_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit, used = tmp_path / "limit", tmp_path / "used"
    used.write_text(str(3 * 2**20))
    monkeypatch.setattr(
        "engine.decoders.device_memory.GROUP_LIMITS", (("/nowhere", "/nowhere"), (limit, used))
    )
    memory = device_memory(torch.device("cpu"))
    limit.write_text(str(5 * 2**20))
    assert 0 <= memory.usable() - memory.held() <= 2**21 + 2**20
    limit.write_text("max")
    assert memory.usable() - memory.held() > 2**24
