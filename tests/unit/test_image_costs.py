"""What the next image will cost, by what others of its kind did."""

from __future__ import annotations

import pytest

from jobs.costs import BELIEVED, CostNotes, ImageCost, predicted_seconds
from tests.stages.ledger_kit import wish

SMALL, LARGE = 256 * 256, 1024 * 1024


def predict(*learned: ImageCost, passes: int = 16, prior: float = 1.6) -> float:
    known = {cost.kind: cost for cost in learned}
    return predicted_seconds(wish(passes=passes), known, prior)


def test_nothing_learned_is_the_prior() -> None:
    assert predict() == 1.6
    assert predict(ImageCost("another", SMALL, 16, 9.0, 5)) == 1.6


def test_its_own_kind_counts_before_all_others() -> None:
    others = [ImageCost("tokens", LARGE, 16, 9.0, 500), ImageCost("tokens", SMALL, 15, 8.0, 500)]
    assert predict(*others, ImageCost("tokens", SMALL, 16, 2.5, 1)) == 2.5


def test_an_unmeasured_kind_is_the_nearest_one_pass_by_pass() -> None:
    far, near = ImageCost("tokens", LARGE, 16, 9.0, 5), ImageCost("tokens", SMALL, 8, 2.0, 5)
    assert predict(far, near) == 4.0
    assert predict(far) == 9.0


@pytest.mark.parametrize(("learned", "believed"), [(1e9, 1.6 * BELIEVED), (1e-9, 1.6 / BELIEVED)])
def test_a_freak_is_believed_only_so_far(learned: float, believed: float) -> None:
    assert predict(ImageCost("tokens", SMALL, 16, learned, 1)) == pytest.approx(believed)


def test_notes_are_means_by_kind_and_are_taken_once() -> None:
    notes = CostNotes()
    for seconds in (1.0, 3.0, 0.0):
        notes.note(wish(), seconds)
    notes.note(wish(passes=8), 0.5)
    assert notes.take() == [
        ImageCost("tokens", SMALL, 16, 2.0, 2), ImageCost("tokens", SMALL, 8, 0.5, 1)
    ]  # fmt: skip
    assert notes.take() == []
