"""The concept screen: its file checks on a network with random weights, its judgement on ours."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from engine.concept_screen import ConceptScreen
from engine.models.screen import ScreenNet
from engine.picture import resize
from engine.safety import SafetyScreens
from engine.text import WeightsError
from engine.weights import LAYOUT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A weights folder with an untrained network."""
    torch.manual_seed(0)
    store(tmp_path, {n: t.half() for n, t in ScreenNet().state_dict().items()})
    return tmp_path


def store(folder: Path, tensors: dict[str, torch.Tensor], threshold: object = 0.6) -> None:
    path = folder / "screen.safetensors"
    save_file(tensors, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    files = {"screen": {"sha256": digest}}
    manifest = {"layout": LAYOUT, "files": files, "screen": {"threshold": threshold}}
    (folder / "model.json").write_text(json.dumps(manifest))


def noise(count: int, side: int = 96) -> list[np.ndarray]:
    numbers = np.random.default_rng(1).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return list(numbers)


def test_a_batch_scores_like_single_pictures(folder: Path) -> None:
    screen = ConceptScreen(folder)
    pictures = noise(18)  # over one chunk
    scores = screen.scores(pictures)
    assert scores.shape == (18,)
    assert len(set(scores.tolist())) > 9
    alone = [screen.scores([picture])[0] for picture in pictures]
    np.testing.assert_allclose(scores, alone, atol=1e-5)
    assert screen.scores([]).shape == (0,)


def test_the_manifest_or_the_settings_draw_the_line(folder: Path) -> None:
    assert ConceptScreen(folder).threshold == 0.6
    score = float(ConceptScreen(folder).scores(noise(1))[0])
    screens = SafetyScreens(["weapons"], False, folder, thresholds={"weapons": score * 0.99})
    assert screens.screen_image(noise(1)[0]).categories == ("weapons",)
    assert not screens.screen_image(noise(1)[0], "low").blocked


def test_a_missing_manifest_refuses_to_load(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"model\.json: No such file"):
        SafetyScreens(["weapons"], False, tmp_path)


def test_a_manifest_without_a_screen_refuses_to_load(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(json.dumps({"layout": LAYOUT}))
    with pytest.raises(WeightsError, match=r"model\.json: field screen is missing"):
        SafetyScreens(["weapons"], False, tmp_path)


@pytest.mark.parametrize("threshold", [None, 2.0, 0.0, "0.5", True])
def test_a_threshold_that_is_none_refuses_to_load(folder: Path, threshold: object) -> None:
    store(folder, ScreenNet().state_dict(), threshold)
    with pytest.raises(WeightsError, match=r"model\.json: field screen\.threshold"):
        ConceptScreen(folder)


def test_missing_weights_refuse_to_load(folder: Path) -> None:
    (folder / "screen.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"screen\.safetensors: No such file"):
        ConceptScreen(folder)


def test_changed_weights_refuse_to_load(folder: Path) -> None:
    path = folder / "screen.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"screen\.safetensors: sha256"):
        ConceptScreen(folder)


def test_weights_of_another_network_refuse_to_load(folder: Path) -> None:
    tensors = ScreenNet().state_dict()
    del tensors["out.bias"]
    store(folder, tensors)
    with pytest.raises(WeightsError, match=r"screen\.safetensors: .*(\n.*)*out\.bias"):
        ConceptScreen(folder)


def test_a_picture_is_judged_by_what_it_shows_not_by_its_size(folder: Path) -> None:
    smooth = resize(np.asarray(noise(1, side=12)[0]), 96, 96)
    score, larger = ConceptScreen(folder).scores([smooth, resize(smooth, 256, 256)])
    assert larger == pytest.approx(score, abs=2e-3)
