"""The sampling rule: schedule, randomness, drawing and choosing."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from engine import sampling


@pytest.mark.parametrize("passes", [1, 2, 8, 12, 32, 64])
def test_the_schedule_fills_something_every_pass_and_ends_with_nothing_masked(passes: int) -> None:
    masked = [sampling.cells_masked_after(p, passes, 64) for p in range(passes + 1)]
    assert masked[0] == 64
    assert masked[-1] == 0
    assert all(later < earlier for earlier, later in pairwise(masked))


def test_early_passes_fill_fewer_cells_than_late_ones() -> None:
    masked = [sampling.cells_masked_after(p, 12, 64) for p in range(13)]
    assert masked[0] - masked[1] < masked[11] - masked[12]


def test_noise_depends_on_seed_and_pass_alone() -> None:
    codes, order = sampling.pass_noise(2**63 - 1, 3, 64, 10)
    again, _ = sampling.pass_noise(2**63 - 1, 3, 64, 10)
    np.testing.assert_array_equal(codes, again)
    for seed, pass_no in ((2**63 - 1, 4), (2**63 - 2, 3), (3, 2**31)):
        other, _ = sampling.pass_noise(seed, pass_no, 64, 10)
        assert (codes != other).mean() > 0.99
    assert order.shape == (64,)
    assert 0 <= order.min() < order.max() < 1


def test_noise_is_the_same_as_ever() -> None:
    """Other numbers need another SAMPLER name, or restored renders go wrong."""
    codes, order = sampling.pass_noise(7, 1, 64, 10)
    assert sampling.SAMPLER == "confidence-2"
    np.testing.assert_allclose((codes[0, 0], order[0]), (0.74803823, 0.57482570), rtol=1e-6)


def test_codes_follow_their_probabilities() -> None:
    probabilities = torch.tensor([0.1, 0.2, 0.4, 0.2, 0.1])
    logits = (probabilities.log() * sampling.TEMPERATURE).expand(200, 100, 5)
    uniform = torch.from_numpy(sampling.pass_noise(1, 1, 200, 100)[0])
    codes, confidence = sampling.draw_codes(logits, uniform)
    counts = torch.bincount(codes.flatten(), minlength=5) / codes.numel()
    torch.testing.assert_close(counts, probabilities, atol=0.01, rtol=0)
    torch.testing.assert_close(confidence, probabilities[codes].log().sum(dim=1))


def test_a_uniform_at_the_very_end_still_is_a_level() -> None:
    codes, _ = sampling.draw_codes(torch.zeros(1, 1, 5), torch.full((1, 1), 1 - 2**-24))
    assert codes.item() == 4


def test_the_surest_masked_cells_are_chosen_at_the_last_pass() -> None:
    confidence = torch.tensor([-1.0, 0.0, -3.0, -2.0])
    masked = torch.tensor([True, False, True, True])
    chosen = sampling.most_confident(confidence, masked, torch.rand(4), 1, progress=1.0)
    assert chosen.tolist() == [True, False, False, True]


def test_chance_decides_more_early_than_late() -> None:
    confidence = torch.linspace(0, -3, 64)
    masked = torch.ones(64, dtype=torch.bool)
    surest = set(range(8))
    overlap = []
    for progress in (0.0, 0.9):
        uniform = torch.from_numpy(sampling.pass_noise(5, 1, 64, 1)[1])
        chosen = sampling.most_confident(confidence, masked, uniform, 56, progress)
        overlap.append(len(surest & set(chosen.nonzero().flatten().tolist())))
    assert overlap[0] < overlap[1]


def test_expected_codes_are_the_mean() -> None:
    sure = torch.full((1, 1, 5), -math.inf)
    sure[0, 0, 3] = 0
    assert sampling.expected_codes(sure, 1.0).item() == 3
    assert sampling.expected_codes(torch.zeros(1, 1, 5), 0.0).item() == pytest.approx(2)


def test_the_more_is_masked_the_nearer_to_the_middle_is_the_expectation() -> None:
    logits = torch.tensor([[[0.0, 0.0, 0.0, 0.0, 4.0]]])
    clear, half, blurry = (sampling.expected_codes(logits, share).item() for share in (0, 0.5, 1))
    assert clear > half > blurry > 2
