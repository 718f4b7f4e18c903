"""Every pipeline class gives the stock pipeline's picture: alone, in company and resumed."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.families.kit import (
    CASES,
    Case,
    checkpoint_after,
    company,
    decoder,
    draw_alone,
    draw_staggered,
    floats,
    spec,
    stock_picture,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
QUICK = {"StableDiffusionXLPipeline", "FluxInpaintPipeline", "QwenImagePipeline", "ZImagePipeline"}
"""Of each way to merge, one; the others take minutes."""
every_class = pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=str(case), marks=() if case.name in QUICK else pytest.mark.slow)
        for case in CASES
    ],
)


@functools.cache
def stock_company(case: Case) -> list[NDArray[np.float32]]:
    """The stock pictures of its company."""
    return [stock_picture(case, each) for each in company(case)]


@every_class
def test_alone_it_is_the_stock_picture_to_the_last_bit(case: Case) -> None:
    for each, wanted in list(zip(company(case), stock_company(case), strict=True))[:2]:
        found = draw_alone(decoder(case.checkpoint, row_chunk=1), each)
        np.testing.assert_array_equal(found, wanted)


@every_class
def test_in_company_it_is_the_stock_picture(case: Case) -> None:
    """Renders join one after the other; they share forwards while they overlap."""
    shared = decoder(case.checkpoint)
    before = shared.models.forwards
    specs = company(case)
    found = draw_staggered(shared, specs)
    together = shared.models.forwards - before
    apart = 0
    for each, picture, wanted in zip(specs, found, stock_company(case), strict=True):
        before = shared.models.forwards
        draw_alone(shared, each)
        apart += shared.models.forwards - before
        np.testing.assert_allclose(picture, wanted, rtol=0, atol=case.tolerance)
    assert together < apart


@every_class
def test_resumed_anywhere_it_is_the_stock_picture(case: Case) -> None:
    """In another process, which has drawn nothing of that size before."""
    wanted = spec(case, 3, 5)
    passes = decoder(case.checkpoint).plan(wanted).passes
    stock = stock_picture(case, wanted)
    for done in (1, passes - 1, passes):
        taken = checkpoint_after(decoder(case.checkpoint), wanted, done)
        other = decoder(case.checkpoint, number=1)
        state = other.begin(wanted, taken)
        assert state.pass_no == done
        for _ in range(passes - done):
            other.step([state])
        np.testing.assert_allclose(floats(other, state), stock, rtol=0, atol=case.tolerance)


@every_class
def test_another_seed_prompt_or_count_is_another_picture(case: Case) -> None:
    """So that equality means something."""
    here = decoder(case.checkpoint)
    wanted = spec(case, 4, 4)
    pictures = [
        draw_alone(here, each)
        for each in (
            wanted,
            replace(wanted, seed=99),
            replace(wanted, conditioning=spec(case, 5).conditioning),
            replace(wanted, passes=6),
        )
    ]
    for other in pictures[1:]:
        assert np.abs(other - pictures[0]).max() > 5 * case.tolerance
