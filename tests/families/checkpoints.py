"""Tiny checkpoints with random weights, in the format in which real ones are published.

Each has its real classes and a few thousand parameters, and draws 64 x 64 pixels of any content.
Some have their text parts too, see text_parts.py; prompts of the others are random tensors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from torch import nn

from tests.families import text_parts

EDGE = 64


@dataclass(frozen=True)
class Tiny:
    """How to make a checkpoint, and what its prompts look like."""

    make: Callable[[], dict[str, Any]]
    """Components by name; those that are not there are none."""
    text: Mapping[str, tuple[int, ...]]
    """Shape of each tensor of a prompt, by its name."""


def _quiet(module: nn.Module) -> nn.Module:
    """Every parameter set, and small: some classes leave theirs unset or at zero."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.08)
    for name, parameter in module.named_parameters():
        if "norm" in name and name.endswith("weight"):
            nn.init.normal_(parameter, mean=1.0, std=0.05)
        if name.endswith("gamma"):  # of video VAEs, which have many
            nn.init.normal_(parameter, mean=0.7, std=0.05)
        if name.startswith("decoder.conv_out"):  # so that pixels hardly reach black and white
            nn.init.normal_(parameter, std=0.02)
    return module.eval()


def vae(latent_channels: int = 4, **config: Any) -> nn.Module:
    """Eight pixels of each edge to a cell, as the real ones."""
    blocks = 4
    return _quiet(
        AutoencoderKL(
            block_out_channels=(8,) * blocks,
            down_block_types=("DownEncoderBlock2D",) * blocks,
            up_block_types=("UpDecoderBlock2D",) * blocks,
            latent_channels=latent_channels,
            norm_num_groups=2,
            sample_size=EDGE,
            **config,
        )
    )


def flow_vae(latent_channels: int = 4) -> nn.Module:
    return vae(
        latent_channels,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def flow(**config: Any) -> Any:
    return FlowMatchEulerDiscreteScheduler(**{"shift": 3.0, **config})


def shifted_flow() -> Any:
    return flow(use_dynamic_shifting=True)


UNET = {
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": 4,
    "norm_num_groups": 2,
}
SDXL = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "transformer_layers_per_block": (1, 1),
    "projection_class_embeddings_input_dim": 64,
    "cross_attention_dim": 16,
    "use_linear_projection": True,
}


def sd(**config: Any) -> dict[str, Any]:
    unet = diffusers.UNet2DConditionModel(**{**UNET, **config}, cross_attention_dim=16)
    return {
        "unet": _quiet(unet),
        "vae": vae(),
        "scheduler": DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
    }


def sdxl() -> dict[str, Any]:
    return {
        "unet": _quiet(diffusers.UNet2DConditionModel(**UNET, **SDXL)),
        "vae": vae(),
        "scheduler": EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            steps_offset=1,
            beta_schedule="scaled_linear",
            timestep_spacing="leading",
        ),
    }


def _control(base: Callable[[], dict[str, Any]], **config: Any) -> dict[str, Any]:
    parts = {k: v for k, v in UNET.items() if k not in ("sample_size", "out_channels")}
    del parts["up_block_types"]
    net = diffusers.ControlNetModel(
        **parts, **config, conditioning_embedding_out_channels=(4, 4, 8, 8)
    )
    return {**base(), "controlnet": _quiet(net)}


SD3 = {
    "sample_size": 8,
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 1,
    "attention_head_dim": 8,
    "num_attention_heads": 2,
    "caption_projection_dim": 16,
    "joint_attention_dim": 16,
    "pooled_projection_dim": 16,
    "pos_embed_max_size": 16,
}


def sd3() -> dict[str, Any]:
    transformer = diffusers.SD3Transformer2DModel(**SD3)
    return {"transformer": _quiet(transformer), "vae": flow_vae(16), "scheduler": flow()}


FLUX = {
    "patch_size": 1,
    "in_channels": 16,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 16,
    "pooled_projection_dim": 16,
    "axes_dims_rope": [4, 4, 8],
    "guidance_embeds": True,
}


def flux(**config: Any) -> dict[str, Any]:
    transformer = diffusers.FluxTransformer2DModel(**{**FLUX, **config})
    return {"transformer": _quiet(transformer), "vae": flow_vae(), "scheduler": shifted_flow()}


def flux_controlnet() -> dict[str, Any]:
    return {**flux(), "controlnet": _quiet(diffusers.FluxControlNetModel(**FLUX))}


def sd3_controlnet() -> dict[str, Any]:
    return {**sd3(), "controlnet": _quiet(diffusers.SD3ControlNetModel(**SD3))}


def lcm() -> dict[str, Any]:
    unet = diffusers.UNet2DConditionModel(**UNET, cross_attention_dim=16, time_cond_proj_dim=16)
    scheduler = diffusers.LCMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
    )
    return {"unet": _quiet(unet), "vae": vae(), "scheduler": scheduler}


def bria() -> dict[str, Any]:
    transformer = diffusers.BriaTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=None,
        axes_dims_rope=[0, 4, 4],
    )
    return {"transformer": _quiet(transformer), "vae": vae(shift_factor=0), "scheduler": flow()}


def flux2(**config: Any) -> dict[str, Any]:
    transformer = diffusers.Flux2Transformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        timestep_guidance_channels=16,
        axes_dims_rope=[4, 4, 4, 4],
        **config,
    )
    blocks = 4
    autoencoder = diffusers.AutoencoderKLFlux2(
        block_out_channels=(8,) * blocks,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=2,
        sample_size=EDGE,
    )
    return {
        "transformer": _quiet(transformer),
        "vae": _quiet(autoencoder),
        "scheduler": shifted_flow(),
    }


def video_vae() -> nn.Module:
    return _quiet(
        diffusers.AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
            latents_mean=[0.0] * 4,
            latents_std=[1.0] * 4,
        )
    )


QWEN = {
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 4,
    "num_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 16,
    "axes_dims_rope": (8, 4, 4),
}


def qwen_image_controlnet() -> dict[str, Any]:
    return {**qwen_image(), "controlnet": _quiet(diffusers.QwenImageControlNetModel(**QWEN))}


def qwen_image() -> dict[str, Any]:
    transformer = diffusers.QwenImageTransformer2DModel(**QWEN)
    return {"transformer": _quiet(transformer), "vae": video_vae(), "scheduler": shifted_flow()}


def z_image() -> dict[str, Any]:
    transformer = diffusers.ZImageTransformer2DModel(
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        in_channels=4,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[8, 4, 4],
        axes_lens=[1024, 64, 64],
    )
    return {"transformer": _quiet(transformer), "vae": flow_vae(), "scheduler": flow()}


def sana() -> dict[str, Any]:
    transformer = diffusers.SanaTransformer2DModel(
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=4,
        num_cross_attention_heads=2,
        cross_attention_head_dim=4,
        cross_attention_dim=8,
        caption_channels=16,
        sample_size=2,
    )
    blocks = 6
    autoencoder = diffusers.AutoencoderDC(
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock",) * blocks,
        decoder_block_types=("ResBlock",) * blocks,
        encoder_block_out_channels=(8,) * blocks,
        decoder_block_out_channels=(8,) * blocks,
        encoder_qkv_multiscales=((),) * blocks,
        decoder_qkv_multiscales=((),) * blocks,
        encoder_layers_per_block=(1,) * blocks,
        decoder_layers_per_block=(1,) * blocks,
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
    )
    return {
        "transformer": _quiet(transformer),
        "vae": _quiet(autoencoder),
        "scheduler": flow(shift=7.0),
    }


def pixart() -> dict[str, Any]:
    transformer = diffusers.PixArtTransformer2DModel(
        sample_size=8,
        num_layers=1,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_channels=16,
        in_channels=4,
        cross_attention_dim=16,
        out_channels=8,
    )
    scheduler = diffusers.DPMSolverMultistepScheduler()
    return {"transformer": _quiet(transformer), "vae": vae(), "scheduler": scheduler}


def lumina2() -> dict[str, Any]:
    transformer = diffusers.Lumina2Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        hidden_size=16,
        num_layers=1,
        num_refiner_layers=1,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=16,
        axes_dim_rope=[4, 2, 2],
        cap_feat_dim=16,
    )
    return {"transformer": _quiet(transformer), "vae": flow_vae(), "scheduler": flow()}


def chroma() -> dict[str, Any]:
    transformer = diffusers.ChromaTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=[4, 4, 8],
        approximator_hidden_dim=16,
        approximator_layers=1,
        approximator_num_channels=16,
    )
    return {"transformer": _quiet(transformer), "vae": flow_vae(), "scheduler": flow()}


def cogview4() -> dict[str, Any]:
    transformer = diffusers.CogView4Transformer2DModel(
        patch_size=2,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        out_channels=4,
        text_embed_dim=16,
        time_embed_dim=8,
        condition_dim=4,
        sample_size=8,
    )
    scheduler = flow(
        base_shift=0.25,
        max_shift=0.75,
        base_image_seq_len=256,
        use_dynamic_shifting=True,
        time_shift_type="linear",
    )
    return {"transformer": _quiet(transformer), "vae": vae(), "scheduler": scheduler}


def auraflow() -> dict[str, Any]:
    transformer = diffusers.AuraFlowTransformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_projection_dim=16,
        joint_attention_dim=16,
        out_channels=4,
        pos_embed_max_size=64,
    )
    return {"transformer": _quiet(transformer), "vae": vae(), "scheduler": flow()}


def krea2() -> dict[str, Any]:
    transformer = diffusers.Krea2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=16,
        timestep_embed_dim=8,
        text_hidden_dim=16,
        num_text_layers=3,
        text_num_attention_heads=2,
        text_num_key_value_heads=1,
        text_intermediate_size=16,
        num_layerwise_text_blocks=1,
        num_refiner_text_blocks=1,
        axes_dims_rope=(4, 2, 2),
    )
    return {"transformer": _quiet(transformer), "vae": video_vae(), "scheduler": shifted_flow()}


def ovis_image() -> dict[str, Any]:
    transformer = diffusers.OvisImageTransformer2DModel(
        patch_size=1,
        in_channels=16,
        out_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 4, 8),
    )
    return {"transformer": _quiet(transformer), "vae": flow_vae(), "scheduler": shifted_flow()}


def prx() -> dict[str, Any]:
    transformer = diffusers.PRXTransformer2DModel(
        patch_size=1,
        in_channels=4,
        context_in_dim=16,
        hidden_size=16,
        mlp_ratio=2.0,
        num_heads=2,
        depth=1,
        axes_dim=[4, 4],
    )
    return {"transformer": _quiet(transformer), "vae": flow_vae(), "scheduler": flow()}


def amused() -> dict[str, Any]:
    transformer = diffusers.UVit2DModel(
        hidden_size=16,
        use_bias=False,
        hidden_dropout=0.0,
        cond_embed_dim=16,
        micro_cond_encode_dim=2,
        micro_cond_embed_dim=10,
        encoder_hidden_size=16,
        vocab_size=32,
        codebook_size=32,
        in_channels=16,
        block_out_channels=16,
        num_res_blocks=1,
        downsample=False,
        upsample=False,
        block_num_heads=2,
        num_hidden_layers=1,
        num_attention_heads=2,
        attention_dropout=0.0,
        intermediate_size=16,
        layer_norm_eps=1e-06,
        ln_elementwise_affine=True,
        sample_size=8,
    )
    blocks = 4
    codec = diffusers.VQModel(
        act_fn="silu",
        block_out_channels=(8,) * blocks,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        latent_channels=8,
        layers_per_block=1,
        norm_num_groups=2,
        num_vq_embeddings=32,
        mid_block_add_attention=False,
        lookup_from_codebook=True,
    )
    scheduler = diffusers.AmusedScheduler(mask_token_id=31)
    return {"transformer": _quiet(transformer), "vqvae": _quiet(codec), "scheduler": scheduler}


WITH_TEXT: dict[str, Callable[[], dict[str, Any]]] = {
    "StableDiffusionPipeline": lambda: text_parts.clip("", hidden=16),
    "StableDiffusionXLPipeline": lambda: {
        **text_parts.clip("", hidden=8),
        **text_parts.clip("_2", hidden=8, projection=16),
    },
    "StableDiffusion3Pipeline": lambda: {
        **text_parts.clip("", hidden=8, projection=8),
        **text_parts.clip("_2", hidden=8, projection=8),
        **text_parts.t5("_3"),
    },
    "FluxPipeline": lambda: {**text_parts.clip("", hidden=16), **text_parts.t5("_2")},
    "PixArtSigmaPipeline": lambda: text_parts.t5(""),
    "ChromaPipeline": lambda: text_parts.t5(""),
    "ZImagePipeline": text_parts.qwen3,
    "AmusedPipeline": lambda: text_parts.clip("", hidden=16, projection=16),
    "QwenImageEditPipeline": text_parts.qwen_vl,
    "QwenImageEditPlusPipeline": text_parts.qwen_vl,
}
"""Text parts of the classes whose prompts are read in the tests."""


def _tiny(make: Callable[[], dict[str, Any]], *names: str, length: int = 9) -> Tiny:
    """With prompts of 16 channels."""
    shapes = {name: (16,) if "pooled" in name else (length, 16) for name in names}
    shapes = {name: (length,) if "mask" in name else shape for name, shape in shapes.items()}
    return Tiny(make, shapes)


EMBEDS, POOLED, MASK = "prompt_embeds", "pooled_prompt_embeds", "prompt_attention_mask"

TINY: dict[str, Tiny] = {
    "StableDiffusionPipeline": _tiny(sd, EMBEDS),
    "StableDiffusionInpaintPipeline": _tiny(lambda: sd(in_channels=9), EMBEDS),
    "StableDiffusionControlNetPipeline": _tiny(
        lambda: _control(sd, cross_attention_dim=16), EMBEDS
    ),
    "StableDiffusionXLPipeline": _tiny(sdxl, EMBEDS, POOLED),
    "StableDiffusionXLControlNetPipeline": _tiny(lambda: _control(sdxl, **SDXL), EMBEDS, POOLED),
    "LatentConsistencyModelPipeline": _tiny(lcm, EMBEDS),
    "StableDiffusion3Pipeline": _tiny(sd3, EMBEDS, POOLED),
    "StableDiffusion3ControlNetPipeline": _tiny(sd3_controlnet, EMBEDS, POOLED),
    "FluxPipeline": _tiny(flux, EMBEDS, POOLED),
    "FluxFillPipeline": _tiny(lambda: flux(in_channels=288, out_channels=16), EMBEDS, POOLED),
    "FluxControlPipeline": _tiny(lambda: flux(in_channels=32, out_channels=16), EMBEDS, POOLED),
    "FluxControlNetPipeline": _tiny(flux_controlnet, EMBEDS, POOLED),
    "QwenImageControlNetPipeline": _tiny(qwen_image_controlnet, EMBEDS, "prompt_embeds_mask"),
    "BriaPipeline": _tiny(bria, EMBEDS),
    "FluxKontextPipeline": _tiny(flux, EMBEDS, POOLED),
    "Flux2Pipeline": _tiny(flux2, EMBEDS),
    "Flux2KleinPipeline": _tiny(lambda: flux2(guidance_embeds=False), EMBEDS),
    "QwenImagePipeline": _tiny(qwen_image, EMBEDS, "prompt_embeds_mask"),
    "QwenImageEditPipeline": _tiny(qwen_image, EMBEDS, "prompt_embeds_mask"),
    "QwenImageEditPlusPipeline": _tiny(qwen_image, EMBEDS, "prompt_embeds_mask"),
    "ZImagePipeline": _tiny(z_image, EMBEDS),
    "SanaPipeline": _tiny(sana, EMBEDS, MASK),
    "PixArtSigmaPipeline": _tiny(pixart, EMBEDS, MASK),
    "PixArtAlphaPipeline": _tiny(pixart, EMBEDS, MASK),
    "Lumina2Pipeline": _tiny(lumina2, EMBEDS, MASK),
    "ChromaPipeline": _tiny(chroma, EMBEDS, MASK),
    "CogView4Pipeline": _tiny(cogview4, EMBEDS, length=16),
    "AuraFlowPipeline": _tiny(auraflow, EMBEDS, MASK),
    "Krea2Pipeline": Tiny(krea2, {EMBEDS: (9, 3, 16), "prompt_embeds_mask": (9,)}),
    "OvisImagePipeline": _tiny(ovis_image, EMBEDS),
    "PRXPipeline": _tiny(prx, EMBEDS, MASK),
    "AmusedPipeline": Tiny(amused, {EMBEDS: (16,), "encoder_hidden_states": (9, 16)}),
}


def save(name: str, folder: Path) -> Path:
    """Write the checkpoint of a class to `folder`, once."""
    if not (folder / "model_index.json").exists():
        with torch.random.fork_rng():
            torch.manual_seed(sum(map(ord, name)))
            parts = {**TINY[name].make(), **WITH_TEXT.get(name, dict)()}
        wanted = getattr(diffusers, name)
        processor = parts.pop("processor", None)
        absent = dict.fromkeys(wanted._get_signature_keys(wanted)[0] - parts.keys())
        more = {"requires_safety_checker": False} if "safety_checker" in absent else {}
        wanted(**parts, **absent, **more).save_pretrained(folder)
        if processor is not None:
            _save_processor(folder, processor, parts["tokenizer"])
    return folder


def _save_processor(folder: Path, processor: Any, tokenizer: Any) -> None:
    """By hand: to be made, the whole of it wants torchvision, for videos."""
    for part in (processor, tokenizer):
        part.save_pretrained(folder / "processor")
    index = json.loads((folder / "model_index.json").read_text())
    index["processor"] = ["transformers", "Qwen2VLProcessor"]
    (folder / "model_index.json").write_text(json.dumps(index))
