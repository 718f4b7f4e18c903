"""In bfloat16, as a GPU runs them, pictures are the stock pipeline's too."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.decoders.diffusers.decoder import DiffusersDecoder
from tests.families.kit import (
    CASES,
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
    pytest.mark.filterwarnings("ignore:Mismatch dtype:UserWarning"),
]
QUICK = {"StableDiffusionXLPipeline", "FluxPipeline", "QwenImagePipeline", "ZImagePipeline"}
OWN = [
    pytest.param(case, id=str(case), marks=() if case.name in QUICK else pytest.mark.slow)
    for case in CASES
    if case.name == case.checkpoint
]


@pytest.mark.parametrize("case", OWN)
def test_equal_and_resumed(case: Case) -> None:
    where = folder(case.checkpoint)
    decoder = DiffusersDecoder(where, row_chunk=1, dtype="bfloat16", previews="vae")
    wanted = spec(case, 1, 4)
    pipe = loaded_by_user(where, case.checkpoint, torch.bfloat16)
    picture = stock_picture(case, wanted, pipe)
    np.testing.assert_array_equal(draw_alone(decoder, wanted), picture)
    state = decoder.begin(wanted, checkpoint_after(decoder, wanted, 1))
    for _ in range(decoder.plan(wanted).passes - 1):
        decoder.step([state])
        assert decoder.preview(state).shape == (64, 64, 3)
    np.testing.assert_array_equal(floats(decoder, state), picture)
    decoder.drop(state)
