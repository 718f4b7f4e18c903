"""The masked family as one slow straight line: what the fast path must agree with, bit for bit.

Not a Decoder: no batch, no checkpoints, no previews. Tests read it; so should newcomers.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from engine.decoders.masked_model import MaskedModel
from engine.render import Checkpoint, Pixels, RenderSpec, Source
from engine.sampling import NOISE, TEMPERATURE


@torch.inference_mode()
def draw(model: MaskedModel, spec: RenderSpec) -> Pixels:
    """The picture of `spec`, uint8 [size, size, 3]."""
    config = model.transformer.config
    half = (config.levels - 1) / 2
    told = model.told(spec, torch.device("cpu"))
    codes, masked = torch.zeros(config.cells, config.channels), [True] * config.cells
    if spec.source is not None:
        codes, masked = _known(model, spec.source), spec.source.redraw.tolist()
    to_draw = sum(masked)

    for pass_no in range(1, spec.passes + 1):
        known = (codes - half) / half
        pair = torch.stack((known, known)), torch.tensor([masked, masked])
        both = model.fill(*pair, [told]).float()
        guided = spec.guidance * both[0] + (1 - spec.guidance) * both[1]
        log_probs = (guided / TEMPERATURE).log_softmax(dim=-1)

        key = np.array([spec.seed, pass_no], np.uint64)
        random = np.random.Generator(np.random.Philox(key=key))
        for_codes = random.random((config.cells, config.channels), dtype=np.float32)
        for_order = random.random(config.cells, dtype=np.float32)

        drawn = torch.zeros(config.cells, config.channels)
        score = {}
        for cell in range(config.cells):
            below = log_probs[cell].exp().cumsum(dim=-1) <= torch.tensor(for_codes[cell])[:, None]
            chosen = below.sum(dim=-1).clamp(max=config.levels - 1)
            drawn[cell] = chosen.float()
            if masked[cell]:
                sure = log_probs[cell].gather(1, chosen[:, None]).squeeze(1).sum()
                uniform = torch.tensor(for_order[cell]).clamp(1e-6, 1 - 1e-6)
                gumbel = -torch.log(-torch.log(uniform))
                score[cell] = float(sure + NOISE * (1 - pass_no / spec.passes) * gumbel)

        share = math.cos(math.pi / 2 * pass_no / spec.passes)
        stay = min(math.floor(to_draw * share), max(0, to_draw - pass_no))
        if pass_no == spec.passes:
            stay = 0
        surest = sorted(score, key=lambda cell: (-score[cell], cell))
        for cell in surest[: len(score) - stay]:
            codes[cell], masked[cell] = drawn[cell], False

    picture = model.codec.decoder(((codes - half) / half).unsqueeze(0))[0, :3]
    scaled = ((picture + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    pixels: Pixels = scaled.permute(1, 2, 0).contiguous().numpy()
    return pixels


def _known(model: MaskedModel, source: Source) -> Tensor:
    """The source as codes, float [cells, channels]; its tokens are believed."""
    config = model.transformer.config
    if source.tokens is not None:
        state = bytearray(Checkpoint.from_bytes(source.tokens).state)
        return torch.frombuffer(state, dtype=torch.uint8).view(config.cells, -1).float()
    picture = torch.tensor(source.pixels).permute(2, 0, 1).float() / 127.5 - 1
    return model.codec.encode(picture.unsqueeze(0))[0].float()
