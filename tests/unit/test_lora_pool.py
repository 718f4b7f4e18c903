"""Which LoRA files are taken, which stay in memory, and what a render may ask for."""

from __future__ import annotations

import gc
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import ref

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.decoder import RenderRejected
from engine.decoders.diffusers.loras import LoraPool, mixed
from engine.render import LoraUse
from engine.text import WeightsError
from tests.unit.lora_models import save_lora, sd3_pipe, unet_pipe

FILE = "pytorch_lora_weights.safetensors"
INK, OIL, WAX = LoraUse("ink"), LoraUse("oil"), LoraUse("wax")


@pytest.fixture(scope="module")
def pipe() -> Any:
    return unet_pipe()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    at = tmp_path_factory.mktemp("loras")
    seeds = {"ink": 0, "oil": 1, "wax": 2}
    return {name: save_lora(at / name, unet_pipe(), seed, ["to_q"]) for name, seed in seeds.items()}


def test_the_least_recently_used_that_no_render_has_goes(
    pipe: Any, folders: dict[str, Path]
) -> None:
    pool = LoraPool(pipe, "unet", folders, max_loaded=2)
    assert pool.loaded == ("ink", "oil")
    ink = pool.hold((INK,))
    assert pool.loaded == ("oil", "ink")
    oil = pool.hold((OIL,))
    assert pool.loaded == ("ink", "oil")
    del oil
    wax = pool.hold((WAX,))  # ink is older, but in use
    assert pool.loaded == ("ink", "wax")
    oil = pool.hold((OIL,))  # both are
    assert pool.loaded == ("ink", "wax", "oil")
    del wax
    both = pool.hold((OIL, INK))  # wax may go
    assert pool.loaded == ("ink", "oil")
    del ink, oil, both
    pool.hold((WAX,))
    assert pool.loaded == ("oil", "wax")


def test_room_is_made_when_the_renders_have_left(pipe: Any, folders: dict[str, Path]) -> None:
    pool = LoraPool(pipe, "unet", folders, max_loaded=1)
    ink, oil = pool.hold((INK,)), pool.hold((OIL,))
    layers = [ref(lora.weights[0].up) for hold in (ink, oil) for lora, _ in hold.loras]
    assert pool.loaded == ("ink", "oil")
    del ink, oil
    pool.hold((WAX,))
    assert pool.loaded == ("wax",)
    gc.collect()
    assert [each() for each in layers] == [None, None]


def test_loading_is_logged_with_its_time(
    pipe: Any, folders: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    seconds = iter((10.0, 10.25))
    with caplog.at_level(logging.INFO, "engine.decoders.diffusers.loras"):
        LoraPool(pipe, "unet", {"ink": folders["ink"]}, 4, clock=lambda: next(seconds))
    assert caplog.messages == ["LoRA ink loaded in 250 ms: 8 layers, 0.0 MB, 1 of 4 loaded"]


@pytest.mark.parametrize(
    ("loras", "says"),
    [
        ((INK, LoraUse("tar")), "there is no 'tar'; there are: ink, oil, wax"),
        ((INK, LoraUse("ink", 0.5)), "'ink' is named more than once"),
        ((LoraUse("ink", float("nan")),), "the weight of 'ink' must be between"),
        ((LoraUse("oil", -10.5),), "the weight of 'oil' must be between"),
        ((INK, OIL, WAX), "at most 2 in one render"),
    ],
)
def test_what_cannot_be_drawn_is_rejected_by_name(
    pipe: Any, folders: dict[str, Path], loras: tuple[LoraUse, ...], says: str
) -> None:
    pool = LoraPool(pipe, "unet", folders, max_loaded=2)
    for refuse in (pool.check, pool.hold):
        with pytest.raises(RenderRejected, match=says):
            refuse(loras)


def test_without_loras_only_renders_without_are_drawn(pipe: Any) -> None:
    pool = LoraPool(pipe, "unet", {})
    assert pool.hold(()).identity == ""
    with pytest.raises(RenderRejected, match="there are: none"):
        pool.check((INK,))


def test_the_identity_is_names_weights_and_the_bytes_of_the_files(
    pipe: Any, folders: dict[str, Path], tmp_path: Path
) -> None:
    pool = LoraPool(pipe, "unet", folders)
    both = pool.hold((OIL, LoraUse("ink", 1)))
    assert both.identity == pool.hold((INK, OIL)).identity
    names = [part.split(":")[0] for part in both.identity.split(",")]
    assert names == ["ink", "oil"]
    other = LoraPool(pipe, "unet", {"ink": folders["oil"]}).hold((INK,))
    others = [pool.hold((INK,)), pool.hold((LoraUse("ink", 0.5),)), pool.hold((OIL,)), other, both]
    assert len({hold.identity for hold in others}) == 5


def test_writing_over_a_file_changes_nothing_that_is_loaded(
    pipe: Any, folders: dict[str, Path], tmp_path: Path
) -> None:
    file = tmp_path / "ink.safetensors"
    shutil.copy(folders["ink"] / FILE, file)
    hold = LoraPool(pipe, "unet", {"ink": file}).hold((INK,))
    inputs = torch.ones(2, 4, 8, 8), torch.ones(2), torch.ones(2, 5, 24)
    with torch.no_grad(), mixed([(2, hold)]):
        before = pipe.unet(*inputs).sample
        with file.open("r+b") as opened:
            opened.seek(-4000, 2)
            opened.write(b"\x41" * 4000)
        torch.testing.assert_close(pipe.unet(*inputs).sample, before, rtol=0, atol=0)


def copied(folder: Path, to: Path, change: Callable[[str], str] = str, **more: Any) -> Path:
    to.mkdir()
    tensors = {change(key): value for key, value in load_file(folder / FILE).items()}
    save_file(tensors | more, to / FILE)
    return to


def test_files_that_are_not_loras_of_a_denoiser_are_refused_at_the_start(
    pipe: Any, folders: dict[str, Path], tmp_path: Path
) -> None:
    ink = folders["ink"]
    pickled = copied(ink, tmp_path / "pickled")
    (pickled / "optimizer.bin").write_bytes(b"")
    two = copied(ink, tmp_path / "two")
    shutil.copy(two / FILE, two / "other.safetensors")
    cut = copied(ink, tmp_path / "cut") / FILE
    cut.write_bytes(cut.read_bytes()[:-100])
    one = torch.zeros(1)
    other = copied(ink, tmp_path / "other", **{"text_encoders.clip_l.q_proj.lora_A.weight": one})
    text = copied(ink, tmp_path / "text", **{"text_encoder_2.q_proj.lora_A.weight": one})
    dora = copied(ink, tmp_path / "dora", **{"unet.mid_block.to_q.dora_scale": one})
    lokr = copied(ink, tmp_path / "lokr", **{"unet.mid_block.to_q.lokr_w1": one})
    (tmp_path / "bare.bin").write_bytes(b"")
    refused = {
        pickled: "optimizer.bin, a pickle",
        tmp_path / "bare.bin": "not a safetensors file",
        two: "must hold one safetensors file, not 2",
        tmp_path / "nowhere.safetensors": "cannot be read",
        tmp_path / "nowhere": "not a safetensors file",
        cut: "cannot be read",
        other: "also changes text_encoders.clip_l.q_proj.lora_A.weight, which",
        text: "also changes text_encoder_2, which diffusers does not do for StableDiffusionPip",
        dora: "is a DoRA, not a LoRA",
        lokr: "is a LoKr, not a LoRA",
    }
    for path, says in refused.items():
        with pytest.raises(WeightsError, match=f"^loras.ink: .*{says}"):
            LoraPool(pipe, "unet", {"ink": path})


def test_a_lora_of_another_model_is_refused_by_name(
    pipe: Any, folders: dict[str, Path], tmp_path: Path
) -> None:
    foreign = {
        "sd3": save_lora(tmp_path / "sd3", sd3_pipe(), 1),
        "wide": save_lora(tmp_path / "wide", unet_pipe(width=48), 1),
        "more": copied(folders["ink"], tmp_path / "more", **{"unet.conv_in.diff": torch.zeros(1)}),
        "prefix": copied(folders["ink"], tmp_path / "prefix", lambda key: f"other.{key}"),
    }
    for name, folder in foreign.items():
        says = f"^loras.{name} does not fit UNet2DConditionModel: it was made for another model$"
        with pytest.raises(WeightsError, match=says):
            LoraPool(pipe, "unet", {name: folder})
        pool = LoraPool(pipe, "unet", {"ink": folders["ink"], name: folder}, max_loaded=1)
        with pytest.raises(RenderRejected, match=says):
            pool.hold((LoraUse(name),))
        assert pool.hold((INK,)).loras


def test_pipelines_that_have_none_in_diffusers_are_named(folders: dict[str, Path]) -> None:
    class Bare:
        unet = None

    with pytest.raises(WeightsError, match="diffusers has none for Bare"):
        LoraPool(Bare(), "unet", folders)
