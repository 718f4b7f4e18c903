"""LoRAs that change text encoders too: prompts are read as the stock pipeline reads them with
`set_adapters`, and drawn so."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from engine.decoders.diffusers.decoder import DiffusersDecoder
from engine.decoders.diffusers.prompts import DiffusersPromptEncoder
from engine.decoders.diffusers.table import ARCHITECTURES, CLASSES
from engine.prompt_encoder import PromptText
from engine.registry import create_prompt_encoder
from engine.render import LoraUse
from engine.text import WeightsError
from tests.families import kit
from tests.families.checkpoints import EDGE
from tests.families.kit import Case, draw_alone, folder, spec

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning"),  # stock only
]
PARTS = {
    "StableDiffusionPipeline": ("text_encoder",),
    "StableDiffusionXLPipeline": ("text_encoder", "text_encoder_2"),
    "StableDiffusion3Pipeline": ("text_encoder", "text_encoder_2"),
    "FluxPipeline": ("text_encoder",),
}
"""Which text encoders diffusers changes for each class."""
every_class = pytest.mark.parametrize("name", PARTS)
FILE = "pytorch_lora_weights.safetensors"
FOX = PromptText("two red foxes")
INK, OIL, WAX = LoraUse("ink", 0.5), LoraUse("oil", -1.0), LoraUse("wax")


def denoiser(name: str) -> str:
    return ARCHITECTURES[CLASSES[name].architecture].denoisers[0]


@functools.cache
def files(name: str) -> dict[str, Path]:
    """ink and oil change text encoders and the denoiser, wax the denoiser alone."""
    found = {}
    for seed, lora in enumerate(("ink", "oil", "wax")):
        pipe = kit.stock.__wrapped__(name, name)
        torch.manual_seed(seed)
        saved: dict[str, Any] = {}
        for part in (denoiser(name), *(PARTS[name] if lora != "wax" else ())):
            targets = ["q_proj", "v_proj", "out_proj"] if "text" in part else ["to_q", "to_v"]
            model = getattr(pipe, part)
            rank = 2 + seed
            config = LoraConfig(
                r=rank, lora_alpha=0.7, target_modules=targets, init_lora_weights=False
            )
            model.add_adapter(config, "made")
            saved[f"{part}_lora_layers"] = get_peft_model_state_dict(model, adapter_name="made")
            saved[f"{part}_lora_adapter_metadata"] = model.peft_config["made"].to_dict()
        found[lora] = kit.SCRATCH[0] / f"text-loras-{name}" / lora
        pipe.save_lora_weights(found[lora], **saved)
    return found


@functools.cache
def encoder(name: str) -> DiffusersPromptEncoder:
    made = create_prompt_encoder("diffusers", weights=folder(name), loras=files(name))
    assert isinstance(made, DiffusersPromptEncoder)
    return made


@functools.cache
def drawer(name: str) -> DiffusersDecoder:
    loras = {lora: str(path) for lora, path in files(name).items()}
    return DiffusersDecoder(folder(name), row_chunk=1, loras=loras)


def stock_with(name: str, loras: dict[str, Path], *uses: LoraUse) -> Any:
    pipe = kit.stock.__wrapped__(name, name)
    for lora, path in loras.items():
        pipe.load_lora_weights(path, adapter_name=lora, local_files_only=True)
    pipe.set_adapters([use.name for use in uses], [use.weight for use in uses])
    return pipe


def read_by(pipe: Any) -> dict[str, torch.Tensor]:
    """The prompt's tensors by their names in our conditioning."""
    encoded = ARCHITECTURES[CLASSES[type(pipe).__name__].architecture].encoded
    more = {} if "Flux" in type(pipe).__name__ else {"do_classifier_free_guidance": True}
    sd = {"device": "cpu", "num_images_per_prompt": 1} if "unet" in pipe.components else {}
    second = {"prompt_2": None} if "3Pipeline" in type(pipe).__name__ else {}
    third = {"prompt_3": None} if second else {}
    flux = {"prompt_2": None} if "Flux" in type(pipe).__name__ else {}
    with torch.inference_mode():
        answers = pipe.encode_prompt(FOX.prompt, **sd, **second, **third, **flux, **more)
    named = zip(encoded, answers, strict=True)
    return {part: rows[0] for part, rows in named if part and rows is not None}


@every_class
@pytest.mark.parametrize("uses", [(INK,), (INK, OIL), (INK, WAX)], ids=["one", "two", "with wax"])
def test_a_picture_is_the_stock_one_with_set_adapters(name: str, uses: tuple[LoraUse, ...]) -> None:
    """Read by the one process and drawn by the other, to the last bit."""
    (told,) = encoder(name).encode([PromptText(FOX.prompt, loras=uses)])
    wanted = spec(Case(name, name), 1, conditioning=told, guidance=4.0, loras=uses)
    found = draw_alone(drawer(name), wanted)
    picture = stock_with(name, files(name), *uses)(
        FOX.prompt,
        num_inference_steps=wanted.passes,
        generator=torch.Generator().manual_seed(wanted.seed),
        output_type="np",
        width=EDGE,
        height=EDGE,
        guidance_scale=4.0,
    ).images[0]
    np.testing.assert_array_equal(found, picture)


@every_class
def test_each_prompt_has_its_own_and_leaves_nothing_behind(name: str) -> None:
    mixes: list[tuple[LoraUse, ...]] = [(), (INK,), (), (OIL, INK), (WAX,)]
    told = encoder(name).encode([PromptText(FOX.prompt, loras=uses) for uses in mixes])
    plain = DiffusersPromptEncoder(folder(name)).encode([FOX])[0]
    assert [one.tensors == plain.tensors for one in told] == [True, False, True, False, True]
    assert [one.digest == plain.digest for one in told] == [True, False, True, False, True]
    assert told[1].digest != told[3].digest


def test_the_digest_is_of_files_and_weights(tmp_path: Path) -> None:
    name = "StableDiffusionPipeline"
    other = DiffusersPromptEncoder(folder(name), loras={"ink": str(files(name)["oil"])})
    asked = [PromptText(FOX.prompt, loras=(use,)) for use in (INK, LoraUse("ink", 0.6))]
    digests = [one.digest for one in (*encoder(name).encode(asked), *other.encode(asked))]
    assert len({*digests}) == 4


def test_the_layout_of_kohya_is_read_too(tmp_path: Path) -> None:
    name = "StableDiffusionXLPipeline"
    made: dict[str, torch.Tensor] = {}
    for key, tensor in load_file(files(name)["oil"] / FILE).items():
        part, _, path = key.partition(".")
        layer, _, side = path.removesuffix(".weight").rpartition(".")
        kohya = {"text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}.get(part, "lora_unet")
        if "text" in part:
            layer = "text_model." + layer.removeprefix("text_model.")
        names = {"lora_A": "lora_down", "lora.down": "lora_down", "lora_B": "lora_up"}
        stem = f"{kohya}_{layer.replace('.', '_')}"
        made[f"{stem}.{names[side]}.weight"] = tensor
        made[f"{stem}.alpha"] = torch.tensor(0.9)
    save_file(made, tmp_path / "kohya.safetensors")
    path = tmp_path / "kohya.safetensors"
    ours = DiffusersPromptEncoder(folder(name), loras={"ink": str(path)})
    (told,) = ours.encode([PromptText(FOX.prompt, loras=(INK,))])
    plain = ours.encode([FOX])[0]
    assert told.tensors != plain.tensors
    pipe = stock_with(name, {"ink": path}, INK)
    for part, wanted in read_by(pipe).items():
        np.testing.assert_array_equal(told.numpy(part), wanted.numpy())


def test_a_text_encoder_that_diffusers_does_not_change_is_refused_at_the_start(
    tmp_path: Path,
) -> None:
    name = "FluxPipeline"
    tensors = load_file(files(name)["ink"] / FILE)
    tensors |= {
        key.replace("text_encoder.", "text_encoder_2."): tensor.clone()
        for key, tensor in tensors.items()
        if key.startswith("text_encoder.")
    }
    save_file(tensors, tmp_path / FILE)
    for load in (DiffusersPromptEncoder, DiffusersDecoder):
        with pytest.raises(WeightsError, match=r"loras\.ink: .* also changes text_encoder_2"):
            load(folder(name), loras={"ink": str(tmp_path)})


def test_a_file_for_another_text_encoder_is_refused_at_the_start(tmp_path: Path) -> None:
    name = "StableDiffusionPipeline"
    other = files("StableDiffusion3Pipeline")["ink"]  # of another width
    tensors = {k: v for k, v in load_file(other / FILE).items() if k.startswith("text_encoder.")}
    save_file(tensors, tmp_path / FILE)
    with pytest.raises(WeightsError, match=r"loras\.ink does not fit CLIPTextModel"):
        DiffusersPromptEncoder(folder(name), loras={"ink": str(tmp_path)})
