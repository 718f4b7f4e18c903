"""What families say about themselves is what they do."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.capabilities import Capabilities, capabilities
from engine.registry import FAMILIES, create_decoder
from tests.golden.janus_checkpoint import save_tiny

WITH_WEIGHTS = {"diffusers", "janus"}
"""Families that nothing is known of without an operator's checkpoint."""


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - WITH_WEIGHTS))
def test_a_family_draws_in_the_size_that_it_declares(family: str) -> None:
    assert create_decoder(family).picture_size == capabilities(family, {}).picture_size


def test_weights_whose_manifest_says_nothing_are_named(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(ValueError, match=r"model\.json: field config\.codec"):
        capabilities("masked", {"weights": str(tmp_path)})


def test_a_janus_checkpoint_says_what_it_draws(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path)
    drawn = create_decoder("janus", weights=folder).picture_size
    assert capabilities("janus", {"weights": folder}) == Capabilities(drawn, (4, 4), 0)
