"""Several pictures, each of its own size, are looked at as the stock pipeline looks at them."""

from __future__ import annotations

import numpy as np
import pytest

from engine.decoder import RenderRejected
from engine.decoders.diffusers.table import Task
from engine.render import RenderSpec
from tests.families.kit import (
    FP32,
    Case,
    checkpoint_after,
    decoder,
    draw_alone,
    draw_staggered,
    floats,
    picture,
    spec,
    stock_picture,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
KLEIN = Case("Flux2KleinPipeline", "Flux2KleinPipeline", Task.REFER)


def looking(number: int, passes: int, pictures: int = 3) -> RenderSpec:
    sizes = [(64, 64), (96, 64), (64, 80)]
    seen = [picture(number + i, *sizes[i % 3]) for i in range(pictures)]
    return spec(KLEIN, number, passes, references=tuple(seen))


def test_alone_and_in_company_and_resumed_it_is_the_stock_picture() -> None:
    shared = decoder(KLEIN.checkpoint)
    specs = [looking(0, 3), looking(4, 4), looking(8, 3, pictures=1)]
    wanted = [stock_picture(KLEIN, each) for each in specs]
    exact = draw_alone(decoder(KLEIN.checkpoint, row_chunk=1), specs[0])
    np.testing.assert_array_equal(exact, wanted[0])
    before = shared.models.forwards
    for found, right in zip(draw_staggered(shared, specs), wanted, strict=True):
        np.testing.assert_allclose(found, right, rtol=0, atol=FP32)
    assert shared.models.forwards - before < 20, "the two of equal sizes share forwards"
    taken = checkpoint_after(shared, specs[1], 2)
    other = decoder(KLEIN.checkpoint, number=1)
    state = other.begin(specs[1], taken)
    for _ in range(2):
        other.step([state])
    np.testing.assert_allclose(floats(other, state), wanted[1], rtol=0, atol=FP32)


def test_sixteen_are_taken_and_no_more() -> None:
    here = decoder(KLEIN.checkpoint)
    assert here.plan(looking(0, 4, pictures=16)).passes == 4
    with pytest.raises(RenderRejected, match="at most 16"):
        here.plan(looking(0, 4, pictures=17))
