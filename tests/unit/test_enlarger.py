"""The enlarger draws in numpy what its network draws in torch, and Pillow does the rest."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import nn

from engine.capabilities import NO_ENLARGER, OWN, enlarger_folder
from engine.enlarger import Enlarger, EnlargerUnusable
from engine.models.enlarger import EnlargerConfig, EnlargerNet
from engine.picture import encode, resize
from engine.postprocessing import Postprocessing
from engine.provenance.manifest import Made
from scripts.training.export import write_manifest, write_part

CONFIG = EnlargerConfig(side=16, factor=4, width=8, blocks=2)
SHIPPED = Path(__file__).resolve().parents[2] / "weights" / "emoji-2"
MADE = Made("m", datetime(2026, 1, 1, tzinfo=UTC))


def store(folder: Path, net: EnlargerNet) -> Path:
    files = {"enlarger": write_part(folder, "enlarger", net)}
    manifest = {"layout": 1, "config": {"enlarger": asdict(net.config)}, "files": files}
    write_manifest(folder, manifest)
    return folder


@pytest.fixture
def net() -> EnlargerNet:
    torch.manual_seed(0)
    made = EnlargerNet(CONFIG)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.1)
    return made.half().float()


@pytest.fixture
def folder(tmp_path: Path, net: EnlargerNet) -> Path:
    return store(tmp_path, net)


def noise(side: int = 16, planes: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (side, side, planes), dtype=np.uint8)


def test_numpy_draws_what_torch_does(folder: Path, net: EnlargerNet) -> None:
    picture = noise()
    tensor = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.inference_mode():
        added = net(tensor)[0].permute(1, 2, 0).numpy() * 127.5
    assert np.abs(added).max() > 20
    wanted = (resize(picture, 64, 64) + added).clip(0, 255)
    assert np.abs(Enlarger.load(folder).enlarge(picture) - wanted).max() < 0.51


def test_an_untrained_network_adds_nothing_to_lanczos(tmp_path: Path) -> None:
    enlarger = Enlarger.load(store(tmp_path, EnlargerNet(CONFIG)))
    assert np.array_equal(enlarger.enlarge(noise()), resize(noise(), 64, 64))


def test_alpha_is_enlarged_as_a_grey_picture(folder: Path) -> None:
    enlarger, picture = Enlarger.load(folder), noise(planes=4)
    found = enlarger.enlarge(picture)
    assert np.array_equal(found[..., :3], enlarger.enlarge(picture[..., :3]))
    grey = enlarger.enlarge(picture[..., [3, 3, 3]]).mean(axis=2)
    assert np.array_equal(found[..., 3], grey.round())


@pytest.mark.parametrize(
    ("side", "wanted", "takes"),
    [(16, (64, 64), True), (16, (16, 17), True), (16, (16, 16), False), (32, (64, 64), False)],
)
def test_it_takes_pictures_of_its_size_that_are_wanted_larger(
    folder: Path, side: int, wanted: tuple[int, int], takes: bool
) -> None:
    assert Enlarger.load(folder).takes(noise(side), *wanted) is takes


def test_files_and_edits_are_enlarged_by_it(folder: Path) -> None:
    enlarged = Enlarger.load(folder).enlarge(noise())
    work = Postprocessing(4, enlarger=folder)
    means = enlarged.reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
    for size in ((64, 64), (40, 48), (96, 96), (32, 32)):
        file = work.encode(noise(), size, "png", 100, MADE)
        assert isinstance(file, bytes)
        found = np.asarray(Image.open(BytesIO(file)))
        if size == (32, 32):
            assert np.abs(found - means).max() <= 0.5
        else:
            assert np.array_equal(found, resize(enlarged, *size))
    preview = work.encode(noise(), (64, 64), "png", 100, MADE, preview=True)
    assert preview == encode(resize(noise(), 64, 64), "png")
    canvas = np.zeros((64, 64, 4), np.uint8)
    canvas[:32, :, 3] = 255
    edit = work.blend(noise(), 64, 64, encode(canvas, "png"))
    assert isinstance(edit, np.ndarray)
    assert not edit[:32].any()
    assert np.array_equal(edit[32:], enlarged[32:])


@pytest.mark.parametrize("side", [12, 32])
def test_pictures_of_other_sizes_are_left_to_pillow(folder: Path, side: int) -> None:
    files = [
        Postprocessing(4, enlarger=one).encode(noise(side), (64, 64), "png", 100, MADE)
        for one in (folder, None)
    ]
    assert files[0] == files[1]


def test_what_is_wrong_with_a_folder_is_named(folder: Path, tmp_path: Path) -> None:
    path = folder / "enlarger.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(EnlargerUnusable, match=r"enlarger\.safetensors: is not the file"):
        Enlarger.load(folder)
    path.unlink()
    with pytest.raises(EnlargerUnusable, match=r"enlarger\.safetensors: No such file"):
        Enlarger.load(folder)
    store(folder, EnlargerNet(replace(CONFIG, side=20)))
    with pytest.raises(EnlargerUnusable, match=r"side is no multiple of 8"):
        Enlarger.load(folder)
    (folder / "model.json").write_text('{"layout": 1, "config": {}}')
    with pytest.raises(EnlargerUnusable, match=r"field config\.enlarger"):
        Enlarger.load(folder)
    with pytest.raises(EnlargerUnusable, match=r"model\.json: No such file"):
        Enlarger.load(tmp_path / "none")


def test_a_model_has_the_enlarger_of_its_weights_or_another(folder: Path, tmp_path: Path) -> None:
    own = {"weights": str(folder)}
    assert enlarger_folder(OWN, "masked", own) == folder
    assert enlarger_folder(NO_ENLARGER, "masked", own) is None
    assert enlarger_folder(str(folder), "paced", {}) == folder
    assert enlarger_folder(OWN, "paced", {}) is None
    assert enlarger_folder(OWN, "diffusers", {"weights": str(tmp_path / "none")}) is None
    manifest = json.loads((folder / "model.json").read_text())
    write_manifest(folder, manifest | {"files": {}})
    assert enlarger_folder(OWN, "masked", own) is None


@pytest.mark.skipif(
    not (SHIPPED / "enlarger.safetensors").exists(), reason="weights/emoji-2 has no enlarger"
)
def test_the_shipped_one_makes_blurred_edges_sharp() -> None:
    large = Image.new("RGB", (512, 512), (240, 240, 240))
    draw = ImageDraw.Draw(large)
    draw.ellipse((70, 90, 400, 420), fill=(200, 40, 40))
    draw.rectangle((200, 200, 330, 460), fill=(30, 60, 160))
    wanted = np.asarray(large, float)
    halved = large.resize((64, 64), Image.Resampling.BOX)
    small = np.asarray(halved.resize((128, 128), Image.Resampling.BICUBIC))
    ours, lanczos = Enlarger.load(SHIPPED).enlarge(small), resize(small, 512, 512)
    assert np.square(ours - wanted).mean() < 0.6 * np.square(lanczos - wanted).mean()
