"""How the diffusers family reads prompts: by the pipeline's own `encode_prompt`, without the parts
that draw. The tensors are named as the pipeline's call takes them, without a batch dimension."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import torch
from PIL import Image
from torch import Tensor

from engine.decoders.device import device_of, dtype_of
from engine.decoders.diffusers.folder import PipelineFolder
from engine.decoders.diffusers.loading import load_text_side
from engine.decoders.diffusers.table import CLASSES, LORAS_LOADED
from engine.decoders.diffusers.text_loras import TextLoras
from engine.prompt_encoder import PromptText
from engine.render import Conditioning
from engine.tensors import from_torch

TOKENS_MAX = 3968
"""Of words and pictures together, which no tokenizer cuts. Qwen-Image's denoiser has 4096 positions
for them, and for half the cells of a picture's longer edge."""


class DiffusersPromptEncoder:
    """Options: as DiffusersDecoder. Each prompt is read alone, so that its tensors do not depend on
    the lengths of others. Where the family reads negative prompts there always is one, the
    pipeline's own where the request has none: a decoder needs it for guidance. Encoders that look
    at pictures are run only where there are some."""

    def __init__(
        self,
        weights: Path | str,
        *,
        threads: int = 0,
        device: str = "auto",
        dtype: str = "auto",
        loras: Mapping[str, str] | None = None,
        loras_loaded: int = LORAS_LOADED,
    ) -> None:
        """ModelRefused, UnknownPipeline or OSError naming what cannot be loaded."""
        if threads:
            torch.set_num_threads(threads)
        folder = PipelineFolder.open(Path(weights))
        self._device = device_of(device)
        kind = dtype_of(dtype, self._device)
        loaded = load_text_side(folder, self._device, kind)
        self.pipe = loaded.pipe
        self._loras = TextLoras(loaded.pipe, loras or {}, loras_loaded)
        self._architecture = folder.architecture
        self._row = CLASSES[folder.class_name]
        parts = [loaded.digest, str(kind), diffusers.__version__]
        digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        self.model = f"diffusers-prompts:{loaded.class_name}:{digest[:16]}"

    @torch.inference_mode()
    def encode(self, prompts: Sequence[PromptText]) -> list[Conditioning]:
        """See PromptEncoder."""
        if not self._architecture.negative and any(words.negative is not None for words in prompts):
            raise ValueError("negative_prompt must be left out: this model reads none")
        most = self._row.references_max if self._row.encoder_pixels else 0
        if any(len(words.pictures) > most for words in prompts):
            raise ValueError(f"pictures must be at most {most}: its text encoder sees no more")
        return [self._encoded(words) for words in prompts]

    def _encoded(self, words: PromptText) -> Conditioning:
        with self._loras.applied(words.loras) as drawn_with:
            found = self._read(words)
        tensors = {name: from_torch(value) for name, value in found.items()}
        plain = replace(words, loras=())
        reader = f"{self.model}:{drawn_with}" if drawn_with else self.model
        return Conditioning(tensors, plain.digest(reader))

    def _read(self, words: PromptText) -> Mapping[str, Tensor]:
        architecture = self._architecture
        if self._row.encoder_pixels and not words.pictures:
            return {}
        if not architecture.encoded:
            return _clip_states(self.pipe, words, self._device)
        if set(architecture.negative) & {*architecture.encoded}:
            negative = words.negative
            given = {} if negative is None else {"negative_prompt": negative}
            return self._call(words.prompt, {**given, "do_classifier_free_guidance": True})
        seen = self._seen(words)
        positive = self._call(words.prompt, seen)
        if not architecture.negative:
            return positive
        negatives = self._call(words.negative or "", seen)
        found = {**positive, **{f"negative_{name}": value for name, value in negatives.items()}}
        if seen:
            _refuse_long(found)
        return found

    def _seen(self, words: PromptText) -> dict[str, Any]:
        """Pictures as an argument of `encode_prompt`, scaled as in the pipeline's call."""
        if not words.pictures:
            return {}
        dimensions = vars(inspect.getmodule(type(self.pipe)))["calculate_dimensions"]
        seen: list[Image.Image] = []
        for pixels in words.pictures:
            picture = Image.fromarray(pixels.numpy())
            width, height, *_ = dimensions(self._row.encoder_pixels, picture.width / picture.height)
            seen.append(self.pipe.image_processor.resize(picture, height, width))
        return {"image": seen if self._row.references_max > 1 else seen[0]}

    def _call(self, prompt: str, more: Mapping[str, Any]) -> dict[str, Tensor]:
        """What `encode_prompt` makes of one prompt, by name. What it does not say by itself, such
        as a length, is as in the pipeline's call."""
        takes = inspect.signature(self.pipe.encode_prompt).parameters
        of_call = inspect.signature(self.pipe.__call__).parameters
        usual = {
            name: of_call[name].default
            for name in takes
            if name in of_call and of_call[name].default is not inspect.Parameter.empty
        }
        usual |= {"device": self._device, "do_classifier_free_guidance": False}
        arguments = {**usual, **more, "prompt": prompt, "num_images_per_prompt": 1}
        answers = self.pipe.encode_prompt(**{n: v for n, v in arguments.items() if n in takes})
        named = zip(self._architecture.encoded, answers, strict=True)
        return {name: rows[0] for name, rows in named if name and rows is not None}


def _refuse_long(found: Mapping[str, Tensor]) -> None:
    longest = max(len(tensor) for tensor in found.values())
    if longest > TOKENS_MAX:
        raise ValueError(
            f"prompt must be shorter: with the pictures it makes {longest} tokens, at most "
            f"{TOKENS_MAX} are read"
        )


def _clip_states(pipe: Any, words: PromptText, device: torch.device) -> dict[str, Tensor]:
    """Of aMUSEd, which encodes inside of its call: pooled and hidden states of both prompts."""
    found = {}
    for prefix, text in (("", words.prompt), ("negative_", words.negative or "")):
        ids = pipe.tokenizer(
            text,
            return_tensors="pt",
            padding="max_length",
            truncation=True,
            max_length=pipe.tokenizer.model_max_length,
        ).input_ids.to(device)
        out = pipe.text_encoder(ids, return_dict=True, output_hidden_states=True)
        found[f"{prefix}prompt_embeds"] = out.text_embeds[0]
        found[f"{prefix}encoder_hidden_states"] = out.hidden_states[-2][0]
    return found
