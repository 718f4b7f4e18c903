"""Winograd's convolutions are those of torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from engine.winograd import convolved, transformed


@pytest.mark.parametrize(
    ("high", "wide", "inputs", "outputs"), [(4, 4, 1, 1), (8, 12, 3, 5), (32, 32, 48, 96)]
)
def test_they_are_those_of_torch(high: int, wide: int, inputs: int, outputs: int) -> None:
    torch.manual_seed(high)
    x = torch.randn(1, inputs, high, wide, dtype=torch.float64)
    weight = torch.randn(outputs, inputs, 3, 3, dtype=torch.float64)
    bias = torch.randn(outputs, dtype=torch.float64)
    wanted = F.conv2d(x, weight, bias, padding=1)[0].permute(1, 2, 0).numpy()
    picture, filters, added = (
        tensor.float().numpy() for tensor in (x[0].permute(1, 2, 0), weight, bias)
    )
    around = np.pad(picture, ((1, 1), (1, 1), (0, 0)))
    found = convolved(around, transformed(filters), added)
    assert found.dtype == np.float32
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()
