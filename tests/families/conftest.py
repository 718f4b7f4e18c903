"""One set of tiny checkpoints for the whole session, and small references."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit as edit
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus as edit_plus

from tests.families import kit

WHOLE = {module: module.calculate_dimensions for module in (edit, edit_plus)}
"""By which Qwen-Image's edits scale each reference to 1024 x 1024 pixels, whatever is drawn."""
SMALLER = 16


@pytest.fixture(scope="session", autouse=True)
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> None:
    kit.SCRATCH[:] = [tmp_path_factory.mktemp("checkpoints")]


@pytest.fixture(scope="session", autouse=True)
def small_references() -> Iterator[None]:
    """A 16th on each side, for stock pipelines and ours: whole ones take a tiny VAE seconds."""
    with pytest.MonkeyPatch.context() as patch:
        for module, whole in WHOLE.items():

            def small(area: int, ratio: float, whole: Any = whole) -> Any:
                return whole(area / SMALLER**2, ratio)

            patch.setattr(module, "calculate_dimensions", small)
        yield


@pytest.fixture
def whole_references(monkeypatch: pytest.MonkeyPatch) -> None:
    """As diffusers has them."""
    for module, whole in WHOLE.items():
        monkeypatch.setattr(module, "calculate_dimensions", whole)
