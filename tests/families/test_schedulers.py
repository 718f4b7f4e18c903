"""Every kind of scheduler: as many passes as planned, equal to the stock pipeline, resumed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest

from engine.decoders.diffusers.decoder import DiffusersDecoder
from tests.families.kit import (
    Case,
    checkpoint_after,
    draw_alone,
    floats,
    folder,
    loaded_by_user,
    spec,
    stock_picture,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
SDXL = Case("StableDiffusionXLPipeline", "StableDiffusionXLPipeline")
STEPS = 5
PASSES = {"HeunDiscreteScheduler": 9, "PNDMScheduler": 6, "KDPM2DiscreteScheduler": 9}
PASSES["KDPM2AncestralDiscreteScheduler"] = 9
QUICK = {"EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "UniPCMultistepScheduler"}
SCHEDULERS: list[tuple[str, dict[str, Any]]] = [
    ("DDIMScheduler", {"clip_sample": False}),
    ("DDPMScheduler", {"clip_sample": False}),
    ("DEISMultistepScheduler", {}),
    ("DPMSolverMultistepScheduler", {}),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    ("DPMSolverSinglestepScheduler", {}),
    ("EulerAncestralDiscreteScheduler", {}),
    ("EulerDiscreteScheduler", {}),
    ("HeunDiscreteScheduler", {}),
    ("KDPM2AncestralDiscreteScheduler", {}),
    ("KDPM2DiscreteScheduler", {}),
    ("LCMScheduler", {"clip_sample": False}),
    ("LMSDiscreteScheduler", {}),
    ("PNDMScheduler", {"skip_prk_steps": True}),
    ("TCDScheduler", {}),
    ("UniPCMultistepScheduler", {}),
]


def with_scheduler(name: str, config: dict[str, Any], to: Path) -> Path:
    """The SDXL checkpoint with another scheduler."""
    shutil.copytree(folder(SDXL.checkpoint), to)
    shutil.rmtree(to / "scheduler")
    noise = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    getattr(diffusers, name)(**noise, **config).save_pretrained(to / "scheduler")
    index = json.loads((to / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", name]
    (to / "model_index.json").write_text(json.dumps(index))
    return to


@pytest.mark.parametrize(
    ("name", "config"),
    [
        pytest.param(name, config, marks=() if name in QUICK else pytest.mark.slow)
        for name, config in SCHEDULERS
    ],
    ids=lambda value: str(value)[:40],
)
def test_equal_and_resumed(name: str, config: dict[str, Any], tmp_path: Path) -> None:
    where = with_scheduler(name, config, tmp_path / "checkpoint")
    decoder = DiffusersDecoder(where, row_chunk=1)
    wanted = spec(SDXL, 1, STEPS)
    passes = decoder.plan(wanted).passes
    assert passes == PASSES.get(name, STEPS)
    picture = stock_picture(SDXL, wanted, loaded_by_user(where, SDXL.checkpoint))
    np.testing.assert_array_equal(draw_alone(decoder, wanted), picture)
    for done in range(1, passes + 1):
        state = decoder.begin(wanted, checkpoint_after(decoder, wanted, done))
        assert decoder.preview(state).shape == (64, 64, 3)
        for _ in range(passes - done):
            decoder.step([state])
        np.testing.assert_allclose(floats(decoder, state), picture, rtol=0, atol=2e-6)
        decoder.drop(state)
