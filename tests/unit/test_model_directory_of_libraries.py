"""Directories that diffusers itself writes: the bytes are those of the modules."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.decoders.diffusers.folder import PipelineFolder
from engine.decoders.diffusers.table import CLASSES
from engine.model_directory.component import LoadedBy
from engine.model_directory.json_file import ModelRefused
from engine.model_directory.known import KNOWN, read_known
from engine.model_directory.known_class import KnownClass
from engine.model_directory.reader import read_model
from engine.registry import create_decoder
from serve_app.__main__ import main
from serve_app.operate.checking import check_file
from tests.golden.janus_checkpoint import save_tiny

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of diffusers about its own dependencies
    import diffusers
    from diffusers import (
        AutoencoderKL,
        EulerDiscreteScheduler,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    from engine.decoders.diffusers.loading import load_decoder_side


pytestmark = pytest.mark.slow


def stored_bytes(module: torch.nn.Module) -> int:
    """Of what `save_pretrained` writes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())


def tiny_sdxl() -> Any:
    """The real classes of SDXL, two million parameters in half precision."""
    unet = UNet2DConditionModel(
        block_out_channels=(32, 64),
        sample_size=32,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        cross_attention_dim=64,
    )
    vae = AutoencoderKL(
        block_out_channels=[32, 32],
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
    )
    text = CLIPTextConfig(
        hidden_size=32,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=2,
        vocab_size=99,
    )
    return StableDiffusionXLPipeline(
        vae=vae.half(),
        unet=unet.half(),
        text_encoder=CLIPTextModel(text),
        text_encoder_2=CLIPTextModelWithProjection(text),
        tokenizer=None,
        tokenizer_2=None,
        scheduler=EulerDiscreteScheduler(),
    )


def test_bytes_are_those_of_the_modules(tmp_path: Path) -> None:
    pipeline = tiny_sdxl()
    pipeline.save_pretrained(tmp_path / "sdxl", max_shard_size="1MB")
    known = KnownClass("diffusers", "sdxl", "unet", step=8, rows=2)
    model = read_model(tmp_path / "sdxl", {"StableDiffusionXLPipeline": known})
    for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
        assert model.component(name).bytes == stored_bytes(getattr(pipeline, name))
    assert len(model.component("unet").files) > 1
    assert set(model.component("vae").bytes_by_dtype) == {"F16"}
    assert set(model.component("text_encoder").bytes_by_dtype) == {"F32"}
    assert model.bytes_loaded_by(LoadedBy.DECODER) == sum(
        stored_bytes(module) for module in (pipeline.unet, pipeline.vae)
    )
    assert (model.geometry.edge, model.geometry.tokens) == (64, 32 * 32)
    assert StableDiffusionXLPipeline.from_pretrained(
        tmp_path / "sdxl", local_files_only=True, use_safetensors=True
    )


def test_a_variant_is_loaded_as_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sdxl"
    tiny_sdxl().save_pretrained(path, variant="fp16")
    assert read_known(path).component("unet").variant == "fp16"
    cpu = torch.device("cpu")
    loaded = load_decoder_side(PipelineFolder.open(path), cpu, torch.float32)
    assert loaded.pipe.unet.dtype == torch.float32
    assert loaded.pipe.text_encoder is None
    weights = path / "unet/diffusion_pytorch_model.fp16.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ModelRefused, match=r"unet/.*fp16\.safetensors: is cut off"):
        load_decoder_side(PipelineFolder.open(path), cpu, torch.float32)


@pytest.mark.parametrize("family", ["diffusers", "janus"])
def test_a_decoder_is_made_of_what_is_added_to_a_config(family: str, tmp_path: Path) -> None:
    path, config = tmp_path / "tiny", tmp_path / "config.yaml"
    config.write_bytes(Path("configs/laptop.yaml").read_bytes())
    if family == "janus":
        path.mkdir()
        save_tiny(path)
    else:
        tiny_sdxl().save_pretrained(path)
    arguments = ["--to", str(config), "--memory-gib", "1"]
    assert main(["models", "add", str(path), *arguments]) == 0
    _, file = check_file(str(config))
    _, added = file.applications[0].args.each()
    decoder = create_decoder(added.model.family, **added.model.options)
    edge = read_known(path).geometry.edge
    assert decoder.picture_size == (edge, edge)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_loras_are_said_of_those_classes_that_read_them(name: str) -> None:
    if (
        name == "PRXPipeline"
    ):  # the pipeline reads a file's keys, its transformer takes none of them
        assert not hasattr(diffusers.PRXTransformer2DModel, "load_lora_adapter")
        reads = False
    else:
        reads = hasattr(getattr(diffusers, name), "lora_state_dict")
    assert KNOWN[name].abilities.lora is reads
