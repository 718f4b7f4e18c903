"""The networks of a Janus checkpoint: language model, token head, VQ decoder."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import JanusForConditionalGeneration

from engine.decoders.janus.cache import RowCache, TokenPlaces
from engine.decoders.janus.folder import JanusFolder
from engine.render import Pixels
from engine.text import WeightsError


class JanusNetwork:
    """Loaded for drawing: what reads pictures is left out. Logits and pixels are float32."""

    def __init__(self, folder: JanusFolder, device: torch.device, dtype: torch.dtype) -> None:
        """WeightsError when weights are missing, OSError when a file cannot be read."""
        loaded, report = JanusForConditionalGeneration.from_pretrained(
            folder.path,
            local_files_only=True,
            use_safetensors=True,
            dtype=dtype,
            attn_implementation="sdpa",
            output_loading_info=True,
        )
        if missing := sorted(report["missing_keys"]):
            raise WeightsError(f"{folder.path}: tensors are missing: {', '.join(missing[:3])}")
        model = loaded.eval().to(device).model
        self.folder = folder
        self.device = device
        self.dtype = dtype
        self._language = model.language_model
        self._cache_name = _cache_name(model.language_model)
        self._head = model.generation_head
        self._quantizer = model.vqmodel.quantize.float()
        self._before_decoder = model.vqmodel.post_quant_conv.float()
        self._decoder = model.vqmodel.decoder.float()
        self._mean = torch.tensor(folder.mean, device=device)
        self._std = torch.tensor(folder.std, device=device)
        with torch.inference_mode():
            tokens = torch.arange(folder.codebook, device=device)
            drawn = loaded.prepare_embeddings_for_image_generation(tokens[None])[0]
            begin = self.words([folder.boi])
        self.embeddings = torch.cat((drawn, begin))
        """[codebook + 1, hidden]: what the language model reads for each image token; last, for the
        text token after which a picture begins."""

    @property
    def begin(self) -> int:
        """Index in `embeddings` of the token after which a picture begins."""
        return self.folder.codebook

    @property
    def vocabulary(self) -> int:
        """How many text tokens there are."""
        return int(self._language.config.vocab_size)

    def cache(self, rows: int, width: int) -> RowCache:
        """An empty cache of that many rows and at least that many positions."""
        config = self._language.config
        shape = (rows, config.num_key_value_heads, width, config.head_dim)
        return RowCache(config.num_hidden_layers, shape, self.dtype, self.device)

    def row_bytes(self, width: int) -> int:
        """Of one row of such a cache."""
        config = self._language.config
        values = config.num_hidden_layers * config.num_key_value_heads * width * config.head_dim
        return 2 * int(values) * self.dtype.itemsize

    def words(self, ids: Sequence[int]) -> Tensor:
        """What the language model reads for text tokens, [ids, hidden]."""
        table = self._language.get_input_embeddings()
        return cast(Tensor, table(torch.tensor(ids, dtype=torch.int64, device=self.device)))

    def read(self, embeddings: Tensor, places: TokenPlaces) -> Tensor:
        """Hidden states of these tokens, [tokens, hidden], each after those before it in its row;
        their keys and values are then in the cache."""
        read = self._language(
            inputs_embeds=embeddings[:, None],
            attention_mask=places.mask(self.dtype),
            position_ids=places.at[:, None],
            use_cache=True,
            **{self._cache_name: places},
        )
        return cast(Tensor, read.last_hidden_state[:, 0])

    def logits(self, hidden: Tensor) -> Tensor:
        """Of the next image token, float32 [tokens, codebook]."""
        return cast(Tensor, self._head(hidden)).float()

    @torch.inference_mode()
    def picture(self, tokens: Sequence[int]) -> Pixels:
        """uint8 [size, size, 3] of the first tokens of a grid. Below them goes on what is there,
        the more blurred the further away."""
        side, cells = self.folder.side, self.folder.cells
        grid = torch.zeros(1, cells, dtype=torch.int64, device=self.device)
        grid[0, : len(tokens)] = torch.tensor(tokens, device=self.device)
        latents = self._quantizer.get_codebook_entry(grid)  # [1, channels, side, side]
        if 0 < len(tokens) < cells:
            latents = continued(latents, len(tokens), rounds=side)
        values = self._decoder(self._before_decoder(latents))[0].permute(1, 2, 0)
        pixels = (values * self._std + self._mean) / self.folder.scale
        return cast(Pixels, pixels.round().clamp(0, 255).to(torch.uint8).cpu().numpy())


def continued(latents: Tensor, drawn: int, rounds: int) -> Tensor:
    """latents [1, channels, side, side], of which the first `drawn` cells hold: the others begin as
    the mean of those, then diffuse."""
    side = latents.shape[-1]
    holds = (torch.arange(side * side, device=latents.device) < drawn).view(side, side)
    mean = latents.flatten(2)[:, :, :drawn].mean(dim=-1)[..., None, None]
    spread = torch.where(holds, latents, mean)
    for _ in range(rounds):
        around = F.avg_pool2d(F.pad(spread, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        spread = torch.where(holds, latents, around)
    return spread


def _cache_name(model: torch.nn.Module) -> str:
    """transformers 5.24 renames `past_key_values`, and drops the old name in 5.40."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
